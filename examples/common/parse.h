/* Values of options. Each returns whether the text is one, and sets nothing where it is not. Decimal points in every
 * locale, for the programs never leave the C locale. */
#ifndef PARSE_H
#define PARSE_H

#include <libdetect/detect.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Digits only: no sign, no blanks, no other base. */
bool parse_integer(const char *text, int64_t low, int64_t high, int64_t *value);
bool parse_int32(const char *text, int32_t low, int32_t high, int32_t *value);

/* 0 to 1. */
bool parse_fraction(const char *text, float *value);

/* A number of bytes, or of KiB, MiB or GiB with k, m or g behind it: 1 to `largest`. */
bool parse_bytes(const char *text, int64_t largest, int64_t *n_bytes);

/* WxH: multiples of `step` from there to 8192. */
bool parse_size(const char *text, int32_t step, int32_t *width, int32_t *height);

/* auto, fp32, tf32, fp16 or bf16. */
bool parse_precision(const char *text, int32_t *precision);

typedef struct device_choice {
    int32_t device, index; /* DET_DEVICE_* */
    char uuid[64];         /* such as GPU-8a3f...; "": by index */
} device_choice;

/* auto, cpu, cuda, cuda:N or cuda:UUID; of the second, up to `most` with commas between. */
bool parse_device(const char *text, device_choice *choice);
bool parse_devices(const char *list, int32_t most, device_choice *choices, int32_t *n);

/* Sets the options' device, which hold the choice from then on. */
void choose_device(det_context_options *options, const device_choice *choice);

#endif
