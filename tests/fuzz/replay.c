/* Runs a fuzz target over every file of the folders it is given, where libFuzzer is not at hand. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static int replay(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    static uint8_t data[1 << 20];
    size_t n_bytes = fread(data, 1, sizeof data, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, n_bytes);
    return 1;
}

static int replay_folder(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        fprintf(stderr, "%s cannot be opened\n", path);
        exit(2);
    }
    int n_files = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        n_files += entry->d_name[0] != '.' && replay(path, entry->d_name);
    closedir(folder);
    return n_files;
}

int main(int argc, char **argv) {
    int n_files = 0;
    for (int i = 1; i < argc; i++)
        n_files += replay_folder(argv[i]);
    printf("%d files\n", n_files);
    return n_files == 0;
}
