#include "log.h"

#include <stdarg.h>
#include <stdio.h>

void complain(const char *format, ...) {
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (char *c = line; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "detect-server: %s\n", line); /* one call: lines of threads do not mix */
}
