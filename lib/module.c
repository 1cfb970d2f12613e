#include "module.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The path of `name` in the folder of this library; false when that is unknown or too long. */
static bool find_beside(const char *name, char *path, size_t size) {
    Dl_info self;
    if (!dladdr((const void *)(uintptr_t)&find_beside, &self) || !self.dli_fname)
        return false;
    const char *slash = strrchr(self.dli_fname, '/');
    return slash && snprintf(path, size, "%.*s/%s", (int)(slash - self.dli_fname), self.dli_fname, name) < (int)size;
}

/* Whether the file ends before what its program headers say it has. The loader maps what they say and is ended by a signal
 * where there is nothing; that must not happen to a host whose disk was full while it was installed. */
static bool is_cut(int file) {
    struct stat about;
    ElfW(Ehdr) header;
    if (fstat(file, &about) || pread(file, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return false; /* the loader will say what that is */
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(ElfW(Phdr)))
        return false;
    for (int i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        off_t at = (off_t)(header.e_phoff + (size_t)i * sizeof segment);
        if (pread(file, &segment, sizeof segment, at) != (ssize_t)sizeof segment)
            return true;
        if (segment.p_type == PT_LOAD && segment.p_offset + segment.p_filesz > (uint64_t)about.st_size)
            return true;
    }
    return false;
}

static void *open_library(const char *path) {
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        const char *reason = dlerror();
        det_fail(DET_ERROR_NO_DEVICE, "the CUDA module cannot be opened: %s", reason ? reason : path);
    }
    return module;
}

static const char *named_module(void) {
    const char *path = secure_getenv("LIBDETECT_CUDA_MODULE");
    return path && *path ? path : NULL;
}

bool det_module_has_driver(void) {
    if (named_module())
        return true;
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver)
        dlclose(driver);
    return driver != NULL;
}

void *det_module_open(const char *name) {
    char beside[4096];
    const char *path = named_module();
    struct stat about;
    if (!path) {
        if (!find_beside(name, beside, sizeof beside) || lstat(beside, &about) != 0)
            return open_library(name);
        path = beside;
    }
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool cut = file >= 0 && is_cut(file);
    if (file >= 0)
        close(file);
    if (!cut)
        return open_library(path);
    det_fail(DET_ERROR_NO_DEVICE, "the CUDA module cannot be opened: %s: the file is cut short", path);
    return NULL;
}
