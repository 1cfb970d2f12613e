/* The files of this folder, built in (see embed.cmake). */
#ifndef PAGES_H
#define PAGES_H

#include <stddef.h>

typedef struct page {
    const unsigned char *data;
    size_t n_bytes;
} page;

extern const page page_index, page_docs, page_openapi;

#endif
