/* JPEG through libjpeg or libjpeg-turbo. */
#include "image_formats.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

enum {
    /* A real progressive picture has about ten; each costs a pass over all coefficients, however few bytes it has. */
    MAX_SCANS = 200,
    EXIF_MARKER = JPEG_APP0 + 1,
    MAX_MARKER_BYTES = 0xffff
};

/* In the frame of the caller of the function with setjmp, as in image_png.c. */
typedef struct jpeg_reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    char *error;
    jmp_buf escape;
} jpeg_reader;

/* Where stored pixel (x, y) goes: byte `origin` + x * `step_x` + y * `step_y` of the upright picture. */
typedef struct placement {
    ptrdiff_t origin, step_x, step_y;
} placement;

static void on_error(j_common_ptr jpeg) {
    jpeg_reader *reader = jpeg->client_data;
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    image_fail(reader->error, "damaged JPEG: %s", message);
    longjmp(reader->escape, 1);
}

/* libjpeg calls it for warnings (level -1), after which it makes up pixels. All but those known to be harmless count as
 * errors: boxes of a picture that is half grey would be wrong without a word. */
static void on_message(j_common_ptr jpeg, int level) {
    if (level >= 0)
        return;
    switch (jpeg->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_EXTRANEOUS_DATA: /* many cameras pad before a marker */
    case JWRN_JFIF_MAJOR:
    case JWRN_NOT_SEQUENTIAL:
        break;
    default:
        on_error(jpeg);
    }
}

static void limit_scans(j_common_ptr jpeg) {
    int n_scans = ((j_decompress_ptr)jpeg)->input_scan_number;
    if (n_scans <= MAX_SCANS)
        return;
    jpeg_reader *reader = jpeg->client_data;
    image_fail(reader->error, "JPEG with more than %d scans", MAX_SCANS);
    longjmp(reader->escape, 1);
}

static int find_orientation(const struct jpeg_decompress_struct *jpeg) {
    for (jpeg_saved_marker_ptr marker = jpeg->marker_list; marker != NULL; marker = marker->next)
        if (marker->marker == EXIF_MARKER && marker->data_length >= 6 && memcmp(marker->data, "Exif\0\0", 6) == 0)
            return exif_orientation(marker->data, marker->data_length);
    return 1;
}

/* EXIF names the side of the upright picture that holds the stored first row and first column: 1 top left, 2 top
 * right, 3 bottom right, 4 bottom left, and 5 to 8 the same with rows and columns swapped. */
static placement place(int orientation, const image *upright) {
    static const bool from_right[9] = {[2] = true, [3] = true, [6] = true, [7] = true};
    static const bool from_bottom[9] = {[3] = true, [4] = true, [7] = true, [8] = true};
    ptrdiff_t row_bytes = 3 * (ptrdiff_t)upright->width;
    ptrdiff_t across = from_right[orientation] ? -3 : 3;
    ptrdiff_t down = from_bottom[orientation] ? -row_bytes : row_bytes;
    ptrdiff_t origin = (from_right[orientation] ? row_bytes - 3 : 0) +
                       (from_bottom[orientation] ? (upright->height - 1) * row_bytes : 0);
    bool swapped = orientation >= 5;
    return (placement){origin, swapped ? down : across, swapped ? across : down};
}

/* Ink to light. Adobe's files, which are nearly all, hold the inks inverted. */
static void cmyk_to_rgb(const JSAMPLE *cmyk, bool inverted, uint8_t rgb[3]) {
    unsigned black = inverted ? cmyk[3] : 255u - cmyk[3];
    for (int c = 0; c < 3; c++) {
        unsigned light = inverted ? cmyk[c] : 255u - cmyk[c];
        rgb[c] = (uint8_t)((light * black + 127) / 255);
    }
}

static void read_rows(struct jpeg_decompress_struct *jpeg, const placement *to, const image *picture) {
    JSAMPARRAY row = jpeg->mem->alloc_sarray((j_common_ptr)jpeg, JPOOL_IMAGE,
                                             jpeg->output_width * (JDIMENSION)jpeg->output_components, 1);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *pixel = picture->pixels + to->origin + (ptrdiff_t)jpeg->output_scanline * to->step_y;
        jpeg_read_scanlines(jpeg, row, 1);
        const JSAMPLE *from = row[0];
        for (JDIMENSION x = 0; x < jpeg->output_width; x++) {
            if (jpeg->out_color_space == JCS_CMYK)
                cmyk_to_rgb(from, jpeg->saw_Adobe_marker, pixel);
            else
                memcpy(pixel, from, 3);
            from += jpeg->output_components;
            pixel += to->step_x;
        }
    }
}

static bool read_jpeg(jpeg_reader *reader, const uint8_t *data, size_t n_bytes, const image_limits *limits,
                      image *picture) {
    if (setjmp(reader->escape))
        return false;
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &reader->progress;
    jpeg_mem_src(jpeg, data, n_bytes);
    jpeg_save_markers(jpeg, EXIF_MARKER, MAX_MARKER_BYTES);
    jpeg_read_header(jpeg, TRUE);

    bool is_cmyk = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    if (!is_cmyk && jpeg->num_components != 1 && jpeg->num_components != 3)
        return image_fail(reader->error, "JPEG with %d channels: only 1, 3 and 4 (CMYK) can be read",
                          jpeg->num_components);
    int orientation = find_orientation(jpeg);
    bool swapped = orientation >= 5;
    if (!image_allocate(picture, swapped ? jpeg->image_height : jpeg->image_width,
                        swapped ? jpeg->image_width : jpeg->image_height, limits, reader->error))
        return false;
    jpeg->out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(jpeg);
    placement to = place(orientation, picture);
    read_rows(jpeg, &to, picture);
    jpeg_finish_decompress(jpeg);
    return true;
}

bool jpeg_decode(const uint8_t *data, size_t n_bytes, const image_limits *limits, image *picture,
                 char error[IMAGE_ERROR_SIZE]) {
    jpeg_reader reader = {.error = error};
    reader.jpeg.err = jpeg_std_error(&reader.errors);
    reader.jpeg.client_data = &reader;
    reader.errors.error_exit = on_error;
    reader.errors.emit_message = on_message;
    reader.progress.progress_monitor = limit_scans;
    bool ok = read_jpeg(&reader, data, n_bytes, limits, picture);
    jpeg_destroy_decompress(&reader.jpeg);
    return ok;
}
