/* PNG through libpng. */
#include "image_formats.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Everything that must survive libpng's jump out of an error lives here, in the frame of the function that calls the
 * one with setjmp: locals of the latter would be lost. */
typedef struct png_reader {
    png_structp png;
    png_infop info;
    const uint8_t *data;
    size_t n_bytes, at;
    char *error;
    jmp_buf escape;
} png_reader;

static void on_read_error(png_structp png, png_const_charp message) {
    png_reader *reader = png_get_error_ptr(png);
    image_fail(reader->error, "damaged PNG: %s", message);
    longjmp(reader->escape, 1);
}

static void ignore_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

static void read_bytes(png_structp png, png_bytep bytes, size_t n_bytes) {
    png_reader *reader = png_get_io_ptr(png);
    if (n_bytes > reader->n_bytes - reader->at) {
        image_fail(reader->error, "truncated PNG: ends after %zu bytes", reader->n_bytes);
        longjmp(reader->escape, 1);
    }
    memcpy(bytes, reader->data + reader->at, n_bytes);
    reader->at += n_bytes;
}

static bool read_png(png_reader *reader, const image_limits *limits, image *picture) {
    if (setjmp(reader->escape))
        return false;
    png_structp png = reader->png;
    png_set_read_fn(png, reader, read_bytes);
    /* image_allocate gives the better message; this only keeps libpng's own limit of a million out of the way. */
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    /* Chunks that do not change pixels are passed over, and none is taken for longer than the whole file: libpng would take
     * memory for whatever length a chunk claims, or for what its compressed text unpacks to. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_chunk_malloc_max(png, reader->n_bytes);
    png_read_info(png, reader->info);
    if (!image_allocate(picture, png_get_image_width(png, reader->info), png_get_image_height(png, reader->info),
                        limits, reader->error))
        return false;

    png_set_expand(png); /* palettes and 1, 2 and 4 bits */
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    int n_passes = png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    size_t row_bytes = 3 * (size_t)picture->width;
    if (png_get_rowbytes(png, reader->info) != row_bytes)
        return image_fail(reader->error, "libpng makes rows of %zu bytes, not %zu",
                          (size_t)png_get_rowbytes(png, reader->info), row_bytes);
    for (int pass = 0; pass < n_passes; pass++)
        for (int32_t y = 0; y < picture->height; y++)
            png_read_row(png, picture->pixels + (size_t)y * row_bytes, NULL);
    png_read_end(png, NULL);
    return true;
}

bool png_decode(const uint8_t *data, size_t n_bytes, const image_limits *limits, image *picture,
                char error[IMAGE_ERROR_SIZE]) {
    png_reader reader = {.data = data, .n_bytes = n_bytes, .error = error};
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_read_error, ignore_warning);
    if (reader.png != NULL)
        reader.info = png_create_info_struct(reader.png);
    bool ok = reader.info != NULL ? read_png(&reader, limits, picture)
                                  : image_fail(error, "cannot set libpng up: out of memory");
    png_destroy_read_struct(&reader.png, &reader.info, NULL);
    return ok;
}

/* In every PNG that is written: what libpng puts between the header and the pixels, tEXt with "Software" in it. */
#define MARK_KEY  "Software"
#define MARK_TEXT "libdetect"
#define MARK      "tEXt" MARK_KEY "\0" MARK_TEXT

bool image_is_marked(const char *path) {
    enum { SIGNATURE = 8, HEADER = 25, LENGTH = 4, MARK_AT = SIGNATURE + HEADER + LENGTH };
    char begin[MARK_AT + sizeof MARK - 1];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    bool whole = fread(begin, 1, sizeof begin, file) == sizeof begin;
    fclose(file);
    return whole && memcmp(begin + MARK_AT, MARK, sizeof MARK - 1) == 0;
}

typedef struct png_writer {
    png_structp png;
    png_infop info;
    char *error;
    jmp_buf escape;
} png_writer;

static void on_write_error(png_structp png, png_const_charp message) {
    png_writer *writer = png_get_error_ptr(png);
    image_fail(writer->error, "cannot write: %s", message);
    longjmp(writer->escape, 1);
}

/* In place of libpng's own, whose message does not say why. */
static void write_bytes(png_structp png, png_bytep bytes, size_t n_bytes) {
    if (fwrite(bytes, 1, n_bytes, png_get_io_ptr(png)) != n_bytes)
        png_error(png, strerror(errno));
}

static void flush_bytes(png_structp png) {
    if (fflush(png_get_io_ptr(png)) != 0)
        png_error(png, strerror(errno));
}

static bool write_png(png_writer *writer, FILE *file, const image *picture) {
    enum { FAST_COMPRESSION = 3 }; /* half the time of the default for a few percent of size */
    if (setjmp(writer->escape))
        return false;
    png_structp png = writer->png;
    png_set_write_fn(png, file, write_bytes, flush_bytes);
    png_set_compression_level(png, FAST_COMPRESSION);
    png_set_IHDR(png, writer->info, (png_uint_32)picture->width, (png_uint_32)picture->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_text mark = {.compression = PNG_TEXT_COMPRESSION_NONE, .key = MARK_KEY, .text = MARK_TEXT};
    png_set_text(png, writer->info, &mark, 1);
    png_write_info(png, writer->info);
    for (int32_t y = 0; y < picture->height; y++)
        png_write_row(png, picture->pixels + (size_t)y * 3 * (size_t)picture->width);
    png_write_end(png, writer->info);
    png_write_flush(png);
    return true;
}

static bool write_stream(FILE *file, const image *picture, char error[IMAGE_ERROR_SIZE]) {
    png_writer writer = {.error = error};
    writer.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &writer, on_write_error, ignore_warning);
    if (writer.png != NULL)
        writer.info = png_create_info_struct(writer.png);
    bool ok = writer.info != NULL ? write_png(&writer, file, picture)
                                  : image_fail(error, "cannot set libpng up: out of memory");
    png_destroy_write_struct(&writer.png, &writer.info);
    return ok;
}

/* A file that is to become `path`. It has no name while it is written, so that nothing of it is left however the program
 * ends; where the file system or /proc cannot do that, a name of its own beside `path`. While there is such a name,
 * signals wait. */
typedef struct draft {
    FILE *file;
    char *name;    /* beside `path`, and no longer than a name may be */
    char link[32]; /* of a file without a name; "": it has the one above */
    sigset_t signals;
} draft;

static void hold_signals(draft *d) {
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGHUP);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &held, &d->signals);
}

static FILE *open_unnamed(draft *d, const char *folder) {
    int descriptor = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    snprintf(d->link, sizeof d->link, "/proc/self/fd/%d", descriptor);
    FILE *file = descriptor >= 0 && access(d->link, F_OK) == 0 ? fdopen(descriptor, "wb") : NULL;
    if (descriptor >= 0 && file == NULL)
        close(descriptor);
    return file;
}

static bool draft_open(draft *d, const char *path, char error[IMAGE_ERROR_SIZE]) {
    const char *slash = strrchr(path, '/');
    int n_folder = slash != NULL ? (int)(slash - path) + 1 : 0;
    size_t n_chars = (size_t)n_folder + 64;
    *d = (draft){.name = malloc(n_chars)};
    if (d->name == NULL)
        return image_fail(error, "out of memory for a name of %zu bytes", n_chars);
    snprintf(d->name, n_chars, "%.*s", n_folder, path);
    d->file = open_unnamed(d, n_folder > 0 ? d->name : ".");
    struct timespec now; /* in the name with the process, and exclusively: no file that happens to be there is lost */
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(d->name, n_chars, "%.*s.libdetect-%ld-%ld.part", n_folder, path, (long)getpid(), now.tv_nsec);
    if (d->file != NULL)
        return true;
    d->link[0] = '\0';
    hold_signals(d);
    d->file = fopen(d->name, "wbx");
    if (d->file != NULL)
        return true;
    image_fail(error, "cannot create: %s", strerror(errno));
    pthread_sigmask(SIG_SETMASK, &d->signals, NULL);
    free(d->name);
    return false;
}

/* Gives the file its name, when it is whole; else nothing is left of it. */
static bool draft_close(draft *d, const char *path, bool ok, char error[IMAGE_ERROR_SIZE]) {
    if (d->link[0] != '\0') {
        hold_signals(d);
        if (ok && linkat(AT_FDCWD, d->link, AT_FDCWD, d->name, AT_SYMLINK_FOLLOW) != 0)
            ok = image_fail(error, "cannot name: %s", strerror(errno));
    }
    if (fclose(d->file) != 0 && ok)
        ok = image_fail(error, "cannot write: %s", strerror(errno));
    if (ok && rename(d->name, path) != 0)
        ok = image_fail(error, "cannot rename: %s", strerror(errno));
    if (!ok)
        unlink(d->name);
    pthread_sigmask(SIG_SETMASK, &d->signals, NULL);
    free(d->name);
    return ok;
}

bool image_write_png(const char *path, const image *picture, char error[IMAGE_ERROR_SIZE]) {
    draft d;
    return draft_open(&d, path, error) && draft_close(&d, path, write_stream(d.file, picture, error), error);
}
