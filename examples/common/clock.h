/* Time. */
#ifndef CLOCK_H
#define CLOCK_H

/* Milliseconds on a clock that never jumps. */
double clock_ms(void);

#endif
