/* The bitmap font of the labels. */
#ifndef FONT_H
#define FONT_H

#include <stdbool.h>

/* Of a character's cell, in pixels. Its last column is blank; capitals and digits leave the two lowest rows blank. */
enum { FONT_WIDTH = 6, FONT_HEIGHT = 9 };

/* Whether a pixel of a character is set; x below FONT_WIDTH, y below FONT_HEIGHT. ASCII 32 to 126; '?' for others. */
bool font_pixel(char character, int x, int y);

#endif
