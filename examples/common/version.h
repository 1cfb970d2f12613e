/* What --version says, of every program. */
#ifndef VERSION_H
#define VERSION_H

/* Prints two lines: the program's name and version; what the library was built from and with. */
void print_version(const char *program);

#endif
