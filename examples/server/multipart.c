#include "multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    MAX_PARTS = 64,
    MAX_HEADER_BYTES = 8192, /* of one part */
    MAX_NAME = 63
};

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Copies a token or a quoted string that ends before `end`. Returns where it stopped, or NULL when it is too long or its
 * closing quote is missing. */
static const char *copy_value(const char *at, const char *end, char *value, size_t size) {
    bool quoted = at < end && *at == '"';
    size_t n = 0;
    for (at += quoted; at < end; at++) {
        if (quoted ? *at == '"' : (*at == ';' || is_blank(*at)))
            break;
        if (quoted && *at == '\\' && at + 1 < end)
            at++;
        if (n + 1 >= size)
            return NULL;
        value[n++] = *at;
    }
    value[n] = '\0';
    if (!quoted)
        return at;
    return at < end ? at + 1 : NULL;
}

/* Copies the value of parameter `name` in a header such as `form-data; name="image"; filename="a.jpg"`. */
static bool find_parameter(const char *header, size_t length, const char *name, char *value, size_t size) {
    const char *at = header, *end = header + length;
    size_t name_length = strlen(name);
    at = memchr(at, ';', (size_t)(end - at));
    while (at != NULL && at < end) {
        while (at < end && (*at == ';' || is_blank(*at)))
            at++;
        const char *equals = memchr(at, '=', (size_t)(end - at));
        if (equals == NULL)
            return false;
        bool wanted = (size_t)(equals - at) == name_length && strncasecmp(at, name, name_length) == 0;
        char skipped[1024];
        at = copy_value(equals + 1, end, wanted ? value : skipped, wanted ? size : sizeof skipped);
        if (wanted)
            return at != NULL;
    }
    return false;
}

bool multipart_boundary(const char *content_type, char boundary[MULTIPART_MAX_BOUNDARY + 1]) {
    static const char allowed[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'()+_,-./:=? ";
    if (!find_parameter(content_type, strlen(content_type), "boundary", boundary, MULTIPART_MAX_BOUNDARY + 1))
        return false;
    size_t length = strlen(boundary);
    return length > 0 && boundary[strspn(boundary, allowed)] == '\0' && boundary[length - 1] != ' ';
}

/* The headers of a part, up to and without the empty line. */
static bool is_field(const char *headers, size_t length, const char *field) {
    static const char key[] = "content-disposition:";
    const char *at = headers, *end = headers + length;
    while (at < end) {
        const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (line_end == NULL)
            line_end = end;
        if ((size_t)(line_end - at) >= sizeof key - 1 && strncasecmp(at, key, sizeof key - 1) == 0) {
            char name[MAX_NAME + 1];
            return find_parameter(at, (size_t)(line_end - at), "name", name, sizeof name) && strcmp(name, field) == 0;
        }
        at = line_end + (line_end < end ? 2 : 0);
    }
    return false;
}

/* What follows a delimiter: blanks and a line's end, then a part. Returns where that part begins, or NULL. */
static const uint8_t *skip_line_end(const uint8_t *at, const uint8_t *end) {
    while (at < end && is_blank((char)*at))
        at++;
    return end - at >= 2 && at[0] == '\r' && at[1] == '\n' ? at + 2 : NULL;
}

static const uint8_t *find(const uint8_t *at, const uint8_t *end, const char *text, size_t length) {
    return memmem(at, (size_t)(end - at), text, length);
}

/* The end of a part's headers, which is where its empty line begins; NULL when there is none within the limit. */
static const uint8_t *find_headers_end(const uint8_t *at, const uint8_t *end) {
    if (end - at > MAX_HEADER_BYTES)
        end = at + MAX_HEADER_BYTES;
    if (end - at >= 2 && at[0] == '\r' && at[1] == '\n')
        return at - 2; /* no headers: the delimiter's own line end is followed by the empty line */
    return find(at, end, "\r\n\r\n", 4);
}

multipart_result multipart_find(const uint8_t *body, size_t n_bytes, const char *boundary, const char *field,
                                const uint8_t **data, size_t *n_data_bytes) {
    if (n_bytes == 0) /* then `body` may be NULL */
        return MULTIPART_MALFORMED;
    char delimiter[MULTIPART_MAX_BOUNDARY + 5];
    size_t length = (size_t)snprintf(delimiter, sizeof delimiter, "\r\n--%s", boundary);
    const uint8_t *end = body + n_bytes, *at;
    /* The first delimiter may stand at the very beginning, without a line end before it. */
    if (n_bytes >= length - 2 && memcmp(body, delimiter + 2, length - 2) == 0)
        at = body + length - 2;
    else if ((at = find(body, end, delimiter, length)) != NULL)
        at += length;
    else
        return MULTIPART_MALFORMED;

    bool found = false;
    for (int i = 0; i <= MAX_PARTS; i++) {
        if (end - at >= 2 && at[0] == '-' && at[1] == '-')
            return found ? MULTIPART_FOUND : MULTIPART_ABSENT;
        const uint8_t *headers = skip_line_end(at, end);
        const uint8_t *headers_end = headers != NULL ? find_headers_end(headers, end) : NULL;
        const uint8_t *part = headers_end != NULL ? headers_end + 4 : NULL;
        const uint8_t *part_end = part != NULL ? find(part, end, delimiter, length) : NULL;
        if (part_end == NULL)
            return MULTIPART_MALFORMED;
        if (headers_end > headers && is_field((const char *)headers, (size_t)(headers_end - headers), field)) {
            if (found)
                return MULTIPART_REPEATED;
            found = true;
            *data = part;
            *n_data_bytes = (size_t)(part_end - part);
        }
        at = part_end + length;
    }
    return MULTIPART_MALFORMED;
}
