/* What detect-server reads from strangers: a Content-Type's boundary, a multipart body, a picture's header, a query.
 *
 * The input is a Content-Type, a line of parameters, and the body, with zero bytes between. */
#include "multipart.h"
#include "probe.h"
#include "query.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* The field lies in the body and holds no delimiter of its own. */
static void check_found(const uint8_t *body, size_t n_bytes, const char *boundary, const uint8_t *part, size_t n_part) {
    char delimiter[MULTIPART_MAX_BOUNDARY + 5] = "\r\n--";
    strcat(delimiter, boundary);
    if (part < body || n_part > n_bytes || (size_t)(part - body) > n_bytes - n_part ||
        memmem(part, n_part, delimiter, strlen(delimiter)) != NULL)
        abort();
}

static void read_body(const char *type, const uint8_t *body, size_t n_bytes) {
    char boundary[MULTIPART_MAX_BOUNDARY + 1];
    const uint8_t *part = body;
    size_t n_part = n_bytes;
    if (multipart_boundary(type, boundary)) {
        if (strlen(boundary) == 0 || strlen(boundary) > MULTIPART_MAX_BOUNDARY)
            abort();
        if (multipart_find(body, n_bytes, boundary, "image", &part, &n_part) == MULTIPART_FOUND)
            check_found(body, n_bytes, boundary, part, n_part);
    }
    picture_claim claim = {0, 0};
    if (probe_picture(part, n_part, &claim) != PROBE_OK && (claim.width != 0 || claim.height != 0))
        abort();
}

/* name=value pairs with & between, as they come out of a URL. */
static void read_query(char *line) {
    static const char *const names[] = {"face", "cat", "dog"};
    const det_model_info model = {.class_names = names, .n_classes = 3};
    query asked;
    query_init(&asked);
    for (char *pair = strtok(line, "&"); pair != NULL; pair = strtok(NULL, "&")) {
        char error[QUERY_ERROR_SIZE] = "", *value = strchr(pair, '=');
        if (value != NULL)
            *value++ = '\0';
        if (query_set(&asked, &model, pair, value != NULL ? value : "", error) != (error[0] == '\0'))
            abort();
    }
    if (asked.thresholds.score > 1 || asked.thresholds.iou > 1)
        abort();
    query_free(&asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    /* A copy of its own for each, so that a sanitizer sees their ends. */
    const uint8_t *type_end = n_bytes > 0 ? memchr(data, 0, n_bytes) : NULL;
    size_t left = type_end != NULL ? n_bytes - (size_t)(type_end + 1 - data) : 0;
    const uint8_t *line_end = left > 0 ? memchr(type_end + 1, 0, left) : NULL;
    if (line_end == NULL)
        return 0;
    size_t n_body = n_bytes - (size_t)(line_end + 1 - data);
    char *type = strdup((const char *)data), *line = strdup((const char *)type_end + 1);
    uint8_t *body = malloc(n_body > 0 ? n_body : 1);
    if (type != NULL && line != NULL && body != NULL) {
        memcpy(body, line_end + 1, n_body);
        read_body(type, body, n_body);
        read_query(line);
    }
    free(type);
    free(line);
    free(body);
    return 0;
}
