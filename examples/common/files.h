/* Which pictures to work on. */
#ifndef FILES_H
#define FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct file_list {
    char **paths;
    size_t n_paths, capacity;
} file_list;

/* Adds what an argument of the command line stands for: a directory's pictures, by their names' extensions, with those
 * of its subdirectories, in the order of their bytes and without hidden ones; anything else as it is, to be looked at
 * when it is read. False after complaining; what was found is added all the same. */
bool files_add(file_list *list, const char *argument);

void files_free(file_list *list);

#endif
