/* The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "frames.h"
#include "image_io.h"
#include "parse.h"

/* What the tool's exit status says; also what functions return that can end it. */
enum {
    EXIT_DONE = 0,
    EXIT_PICTURES = 1, /* some pictures failed, or output could not be written */
    EXIT_USAGE = 2,
    EXIT_MODEL = 3 /* the model or the device cannot be used */
};

/* The commands, as bits. */
enum { COMMAND_DETECT = 1, COMMAND_INFO = 2, COMMAND_MODELS = 4 };

typedef enum output_format { FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV } output_format;

/* Texts belong to argv or the environment. */
typedef struct options {
    int command;       /* COMMAND_* */
    const char *model; /* NULL: none given */
    device_choice device;
    det_context_options context; /* as given, the library's defaults for the rest */
    det_thresholds thresholds;   /* without the classes */
    const char *classes;         /* --classes, as given; NULL: all */
    output_format format;
    const char *draw_directory; /* NULL: draw nothing */
    image_limits limits;
    bool is_video; /* the one path is a pipe of frames */
    frame_layout layout;
    bool drop;
    int32_t max_latency_ms; /* 0: none */
    bool layers, verbose;
    bool help, version; /* print that, and no more */
    char *const *paths;
    int n_paths;
} options;

/* Reads the command line. Returns EXIT_DONE, or EXIT_USAGE after saying what is wrong. */
int options_parse(int argc, char **argv, options *parsed);

#endif
