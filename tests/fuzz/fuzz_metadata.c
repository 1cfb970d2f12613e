/* Takes whatever it is given as the description of a complete network, the narrowest there is, and tries that. */
#include "make_model.h"
#include "try_model.h"

#include <stdio.h>

/* The text as a JSON string that holds exactly its bytes; those that are not UTF-8 are refused. */
static void add_quoted(text *header, const uint8_t *data, size_t n_bytes) {
    enum { ESCAPE_BYTES = 6 };
    char *quoted = malloc(ESCAPE_BYTES * n_bytes + 1), *end = quoted;
    if (!quoted)
        abort();
    for (size_t i = 0; i < n_bytes; i++) {
        if (data[i] < 0x20 || data[i] == '"' || data[i] == '\\')
            end += sprintf(end, "\\u%04x", data[i]);
        else
            *end++ = (char)data[i];
    }
    *end = '\0';
    text_add(header, "\"%s\"", quoted);
    free(quoted);
}

static bytes network; /* the narrowest, with an empty description */

static void make_network(void) {
    if (!network.data)
        network = make_model("yolov5-least", "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    enum { LENGTH_BYTES = 8, MAX_BYTES = 1 << 16 };
    static const char opening[] = "{\"__metadata__\":{\"libdetect\":";
    make_network();
    if (n_bytes > MAX_BYTES)
        return 0;
    /* The network's file has an empty description between `opening` and the rest. */
    const char *rest = (const char *)network.data + LENGTH_BYTES + strlen(opening) + 2;
    size_t header_bytes = (size_t)network.data[0] | (size_t)network.data[1] << 8 | (size_t)network.data[2] << 16;
    size_t rest_bytes = header_bytes - strlen(opening) - 2;
    text header = {0};
    text_add(&header, "%s", opening);
    add_quoted(&header, data, n_bytes);
    text_add(&header, "%.*s", (int)rest_bytes, rest);
    bytes file = model_file_from(header.chars, rest + rest_bytes, network.n - LENGTH_BYTES - header_bytes);
    try_model(file.data, file.n);
    bytes_free(&file);
    text_free(&header);
    return 0;
}

#ifdef DET_BUILD_FUZZERS
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Before the clock of the first try runs. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    make_network();
    return 0;
}
#endif
