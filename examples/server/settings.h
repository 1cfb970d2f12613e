/* The command line of the server. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "parse.h"

enum { MAX_DEVICES = 16 };

typedef struct settings {
    const char *model;    /* NULL: what find_model finds */
    const char *address;  /* numeric, IPv4 or IPv6 */
    int32_t port;         /* 0: any that is free */
    int32_t http_threads; /* that talk to clients */
    int32_t decoders;     /* threads that decode pictures; 0: one per core */

    det_context_options context; /* of every detector, but for its device */
    device_choice devices[MAX_DEVICES];
    int32_t n_devices;
    int32_t n_contexts; /* on each; 0: the library's choice */
    int32_t delay_us;   /* a picture waits this long for others to share its batch */

    int32_t max_connections;
    int32_t max_queue;       /* pictures that are decoded, wait or run */
    size_t max_body_bytes;   /* of one request */
    size_t max_memory_bytes; /* of all bodies and pictures together */
    int64_t max_pixels;      /* of one picture */
    int32_t max_side;
    int32_t max_objects;
    double receive_ms; /* for a whole request to come in, or for an answer to be taken */
    double answer_ms;  /* from a whole request to its answer */
    bool help, version, verbose;
} settings;

/* Reads the command line. False after saying what is wrong. */
bool settings_parse(int argc, char **argv, settings *given);

void settings_help(void);

#endif
