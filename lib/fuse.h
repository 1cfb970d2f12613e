/* Rewrites a network into one with fewer passes over memory: net -> net. */
#ifndef DET_FUSE_H
#define DET_FUSE_H

#include "backend.h"

enum { DET_OP_REMOVED = DET_N_OPS }; /* a node that fusing has made needless; gone when det_fuse returns */

/* Activations join the operator before them, residual additions join their convolution, and a nearest upsampling joins
 * the addition that reads it. What a concatenation joins is written into it by those who make it, while it is at hand;
 * the concatenation keeps the inputs for which that cannot be, and goes when there are none. Tapped tensors keep their
 * values. With `residual_in_place`, a convolution whose residual nobody reads later writes over it: output and inputs[1]
 * are one tensor then. With `views`, concatenations and slices become views (views.h) instead. */
det_status det_fuse(det_net *net, const det_layout *layout);

#endif
