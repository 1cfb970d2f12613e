/* Text from outside (paths, class names), and messages. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdio.h>

/* What a program calls itself in front of its messages, such as "detect". Every program defines its own. */
extern const char program_name[];

/* Prints one line on stderr, with the program's name in front. Control characters in it become '?': a file's name must
 * not be able to steer the terminal. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints a text with control characters as '?'. Returns its width in characters. */
int print_clean(FILE *file, const char *text);

/* Bytes of the well-formed UTF-8 sequence at `text`: 1 to 4; 0 when it is malformed. A final 0 counts as one byte. */
size_t utf8_sequence(const char *text);

/* How many characters print_clean would print. */
int text_width(const char *text);

#endif
