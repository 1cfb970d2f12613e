/* The vocabulary that the papers share. */
#ifndef DET_BLOCKS_H
#define DET_BLOCKS_H

#include "net.h"

/* Convolution with bias and activation, "same" padded. */
det_tensor_id det_conv_act(det_net *net, det_tensor_id x, const char *name, int c_out, int k, int stride, det_act act);
/* Depthwise convolution with bias and activation. */
det_tensor_id det_depthwise_act(det_net *net, det_tensor_id x, const char *name, int k, int stride, det_act act);

/* The blocks of YOLOv5, YOLOv8 and YOLO11, with SiLU; widths and depths are the checkpoint's. */
det_tensor_id det_yolo_conv(det_net *net, det_tensor_id x, const char *name, int k, int stride);
/* x + cv2(cv1(x)); without `shortcut`, or where channels change, no addition. */
det_tensor_id det_yolo_bottleneck(det_net *net, det_tensor_id x, const char *name, int k1, int k2, bool shortcut);
/* cv3([m(cv1(x)), cv2(x)]): bottlenecks on one half of the channels. */
det_tensor_id det_yolo_c3(det_net *net, det_tensor_id x, const char *name, int k1, bool shortcut);
/* Max pools of 5, 9 and 13 as three of 5 in a row, beside their input. */
det_tensor_id det_yolo_sppf(det_net *net, det_tensor_id x, const char *name);

int det_channels(const det_net *net, det_tensor_id x);

/* DamoFD's and SCRFD's neck (PAFPN): p[i] of three levels from c[i]; every convolution bare. */
void det_pafpn(det_net *net, const det_tensor_id c[DET_N_LEVELS], int width, det_tensor_id p[DET_N_LEVELS]);

/* DamoFD's and SCRFD's head: a tower per level, shared or not, then class, box and keypoint predictions. */
typedef struct det_scrfd_head {
    int width, n_convs;
    bool separable;  /* each convolution is a depthwise 3x3 and a 1x1 */
    int n_groups;    /* of GroupNorm after each convolution; 0: folded BatchNorm */
    bool shared;     /* the levels share their weights */
    bool scaled;     /* "bbox_head.scales.<level>.scale" multiplies the distances */
    int n_landmarks; /* 0 or 5 */
} det_scrfd_head;
void det_scrfd_detect(det_net *net, const det_tensor_id p[DET_N_LEVELS], const det_scrfd_head *head);

#endif
