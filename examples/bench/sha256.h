/* SHA-256, to say which file a figure belongs to. */
#ifndef BENCH_SHA256_H
#define BENCH_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_TEXT = 65 }; /* hexadecimal digits and an end */

void sha256_text(const void *data, size_t n_bytes, char text[SHA256_TEXT]);

/* Of a file. False when it cannot be read; the text is then empty. */
bool sha256_file(const char *path, char text[SHA256_TEXT], int64_t *n_bytes);

#endif
