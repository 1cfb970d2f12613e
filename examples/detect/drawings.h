/* The directory that drawn pictures are saved in. */
#ifndef DRAWINGS_H
#define DRAWINGS_H

#include "files.h"
#include "image_io.h"

#include <sys/types.h>

typedef struct file_id {
    dev_t device;
    ino_t inode;
    bool used;
} file_id;

typedef struct drawings {
    const char *directory;
    file_id *protected; /* a hash set: the run's inputs, and what it has written */
    size_t capacity;    /* a power of two, more than twice the files it will ever hold */
} drawings;

/* Creates the directory if needed. False after complaining. */
bool drawings_open(drawings *set, const char *directory, const file_list *inputs);

/* Saves a picture as NAME.png, after its input's name. Where that would replace an input, the drawing of another input
 * or a file that is no drawing, it becomes NAME-2.png, NAME-3.png, ...; drawings of earlier runs are replaced. False
 * after complaining. */
bool drawings_save(drawings *set, const char *input, const image *picture);

void drawings_close(drawings *set);

#endif
