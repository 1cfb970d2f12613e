/* For libdetect.a alone. Debian's libjansson.a is not made for shared libraries, and the one thing in it that keeps
 * libdetect.a out of a plugin is that json_loadf, which nothing here calls, compares its argument with stdin.
 * cmake/merge.cmake gives it this instead. */
extern const void *const det_no_stdin;
const void *const det_no_stdin = 0;
