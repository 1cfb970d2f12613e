/* How a picture is brought to the network's input size, as each family's authors do it. Pure. */
#ifndef DET_PLACEMENT_H
#define DET_PLACEMENT_H

#include "backend.h"

/* Of a w x h picture in a w_in x h_in input, by DET_RESIZE_*. */
det_placement det_place(int32_t resize, int w, int h, int w_in, int h_in);

#endif
