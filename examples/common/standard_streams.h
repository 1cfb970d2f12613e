/* A program may be started with standard streams closed. Their numbers would go to the next files opened, and results
 * end up in a picture. */
#ifndef STANDARD_STREAMS_H
#define STANDARD_STREAMS_H

/* Puts something in the place of closed standard streams that can only be used in the wrong direction, so that using
 * them fails. The first thing that main does. */
void fill_closed_streams(void);

#endif
