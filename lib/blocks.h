/* The vocabulary that the papers share. */
#ifndef DET_BLOCKS_H
#define DET_BLOCKS_H

#include "net.h"

/* Convolution with bias and activation, "same" padded. */
det_tensor_id det_conv_act(det_net *net, det_tensor_id x, const char *name, int c_out, int k, int stride, det_act act);
/* Depthwise convolution with bias and activation. */
det_tensor_id det_depthwise_act(det_net *net, det_tensor_id x, const char *name, int k, int stride, det_act act);

/* DamoFD's and SCRFD's neck (PAFPN): p[i] of three levels from c[i]; every convolution bare. */
void det_pafpn(det_net *net, const det_tensor_id c[DET_N_LEVELS], int width, det_tensor_id p[DET_N_LEVELS]);

/* DamoFD's and SCRFD's head: a tower per level, shared or not, then class, box and keypoint predictions. */
typedef struct det_scrfd_head {
    int width, n_convs;
    bool separable;    /* each convolution is a depthwise 3x3 and a 1x1 */
    int n_groups;      /* of GroupNorm after each convolution; 0: folded BatchNorm */
    bool shared;       /* the levels share their weights */
    bool scaled;       /* "bbox_head.scales.<level>.scale" multiplies the distances */
    int n_landmarks;   /* 0 or 5 */
} det_scrfd_head;
void det_scrfd_detect(det_net *net, const det_tensor_id p[DET_N_LEVELS], const det_scrfd_head *head);

#endif
