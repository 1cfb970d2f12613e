/* Concatenations and slices that cost nothing: a tensor can be a view of channels of another one. */
#ifndef DET_VIEWS_H
#define DET_VIEWS_H

#include "net.h"

/* A slice becomes a view of what it cuts, and what a concatenation joins becomes a view of the concatenation, wherever
 * the channels begin and end at multiples of `channel_multiple`; such nodes go. A concatenation keeps the inputs that
 * must be copied: unaligned ones, slices, and those that lie in another concatenation already. Chains of three max
 * pools side by side in one concatenation (SPPF), whose channels are aligned, become one node. Removed nodes are marked, not taken out. */
void det_make_views(det_net *net, int channel_multiple);

/* The tensor whose memory holds `tensor`, and (unless NULL) the channel where it begins there. */
det_tensor_id det_view_root(const det_net *net, det_tensor_id tensor, int *begin);

#endif
