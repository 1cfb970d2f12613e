/* Values of options. Each returns whether the text is one, and leaves nothing half done that matters then. Decimal
 * points in every locale, for the program never leaves the C locale. */
#ifndef BENCH_PARSE_H
#define BENCH_PARSE_H

#include "options.h"

bool parse_integer(const char *text, int64_t low, int64_t high, int64_t *value);
bool parse_int32(const char *text, int32_t low, int32_t high, int32_t *value);
bool parse_number(const char *text, double low, double high, double *value);

/* Seconds: a number with nothing, ms, s, m, h or d behind it. */
bool parse_duration(const char *text, double *seconds);

/* A number of bytes, or of KiB, MiB or GiB with k, m or g behind it. */
bool parse_bytes(const char *text, int64_t *n_bytes);

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
bool parse_devices(const char *text, integer_list *kinds, integer_list *indices);
bool parse_precisions(const char *text, integer_list *list);
bool parse_scenarios(const char *text, uint32_t *bits);

#endif
