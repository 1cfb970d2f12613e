/* Values of options, besides those that all programs have. Each returns whether the text is one, and leaves nothing half
 * done that matters then. */
#ifndef BENCH_VALUES_H
#define BENCH_VALUES_H

#include "options.h"

bool parse_number(const char *text, double low, double high, double *value);

/* Seconds: a number with nothing, ms, s, m, h or d behind it. */
bool parse_duration(const char *text, double *seconds);

/* A share: "5%" or "0.05". */
bool parse_share(const char *text, double *share);

/* "5.6/h", or "5.6". */
bool parse_price(const char *text, double *price);

/* "15x15fps": streams and frames of each a second. */
bool parse_need(const char *text, int32_t *streams, double *fps);

/* Lists, with commas between. */
bool parse_integers(const char *text, int32_t low, int32_t high, integer_list *list);
bool parse_numbers(const char *text, double low, double high, number_list *list);
bool parse_sizes(const char *text, int32_t step, size_list *list); /* WxH, multiples of `step` */
/* One device, or several GPUs: what runs on two kinds of machine is two runs. */
bool parse_gpus(const char *text, device_list *list);
bool parse_precisions(const char *text, integer_list *list);
bool parse_scenarios(const char *text, uint32_t *bits);

#endif
