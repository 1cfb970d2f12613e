/* The parameters of POST /infer: score, iou and classes. */
#ifndef QUERY_H
#define QUERY_H

#include <libdetect/detect.h>

#include <stdbool.h>

enum { QUERY_ERROR_SIZE = 160 };

typedef struct query {
    det_thresholds thresholds;
    uint8_t *class_enabled; /* what thresholds.class_enabled points to; NULL: all classes */
} query;

/* The model's defaults. */
void query_init(query *asked);

/* Takes one parameter. False with `error` written (one line about the caller's own words, fit to be sent back) when the
 * name is unknown, came before, or its value is wrong. */
bool query_set(query *asked, const det_model_info *model, const char *name, const char *value,
               char error[QUERY_ERROR_SIZE]);

void query_free(query *asked);

#endif
