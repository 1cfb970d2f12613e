/* Lines on standard error. */
#ifndef LOG_H
#define LOG_H

/* One line with "detect-server: " in front; control characters in it become '?'. Thread-safe. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
