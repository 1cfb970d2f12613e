#include "make_image.h"

#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

static void *must(void *pointer) {
    if (pointer == NULL) {
        fputs("image_test: out of memory\n", stderr);
        exit(1);
    }
    return pointer;
}

void palette_colour(int i, uint8_t rgb[3]) {
    for (int c = 0; c < 3; c++)
        rgb[c] = i == 4 || i - 1 == c ? 255 : i > 4 ? (uint8_t)(i * (c + 3)) : 0;
}

static void append_bytes(png_structp png, png_bytep bytes, size_t n_bytes) {
    blob *out = png_get_io_ptr(png);
    out->data = must(realloc(out->data, out->n_bytes + n_bytes));
    memcpy(out->data + out->n_bytes, bytes, n_bytes);
    out->n_bytes += n_bytes;
}

static void flush_nothing(png_structp png) {
    (void)png;
}

blob make_png(png_kind kind, uint32_t width, uint32_t height, const uint8_t *rows) {
    blob out = {0};
    png_structp png = must(png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL));
    png_infop info = must(png_create_info_struct(png));
    png_set_write_fn(png, &out, append_bytes, flush_nothing);
    png_set_IHDR(png, info, width, height, kind.bit_depth, kind.colour_type,
                 kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (kind.colour_type == PNG_COLOR_TYPE_PALETTE) {
        png_color palette[256];
        int n_colours = 1 << kind.bit_depth;
        for (int i = 0; i < n_colours; i++) {
            uint8_t rgb[3];
            palette_colour(i, rgb);
            palette[i] = (png_color){rgb[0], rgb[1], rgb[2]};
        }
        png_set_PLTE(png, info, palette, n_colours);
    }
    if (kind.transparent) {
        const png_byte alphas[2] = {0, 128};
        const png_color_16 value = {.red = 0, .green = 0, .blue = 0, .gray = 0};
        bool is_palette = kind.colour_type == PNG_COLOR_TYPE_PALETTE;
        png_set_tRNS(png, info, is_palette ? alphas : NULL, is_palette ? 2 : 0, is_palette ? NULL : &value);
    }
    png_write_info(png, info);
    size_t row_bytes = png_get_rowbytes(png, info);
    int n_passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < n_passes; pass++)
        for (uint32_t y = 0; y < height; y++)
            png_write_row(png, rows + y * row_bytes);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return out;
}

blob make_jpeg(jpeg_kind kind, uint32_t width, uint32_t height, const uint8_t *rows) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long n_bytes = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &n_bytes);
    jpeg.image_width = width;
    jpeg.image_height = height;
    jpeg.input_components = kind.n_channels;
    jpeg.in_color_space = (J_COLOR_SPACE)kind.in_space;
    jpeg_set_defaults(&jpeg);
    jpeg_set_colorspace(&jpeg, (J_COLOR_SPACE)kind.file_space);
    jpeg_set_quality(&jpeg, 100, TRUE);
    jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;
    if (kind.n_channels == 4)
        jpeg.comp_info[3].h_samp_factor = jpeg.comp_info[3].v_samp_factor = 1;
    if (kind.without_adobe)
        jpeg.write_Adobe_marker = FALSE;
    if (kind.progressive)
        jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    if (kind.app1 != NULL)
        jpeg_write_marker(&jpeg, JPEG_APP0 + 1, kind.app1, kind.app1_bytes);
    while (jpeg.next_scanline < height) {
        JSAMPLE *row = (JSAMPLE *)rows + (size_t)jpeg.next_scanline * width * (size_t)kind.n_channels;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return (blob){data, n_bytes};
}

uint32_t png_checksum(const uint8_t *data, size_t n_bytes) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}
