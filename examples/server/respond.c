#include "server.h"

#include "answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Seconds after which a client that was sent away may try again. */
#define RETRY_AFTER "1"

static const char *allowed_methods(const request *asked) {
    return asked->route != NULL && asked->route->takes_picture ? "POST" : "GET, HEAD";
}

static void add_headers(struct MHD_Response *response, const request *asked, unsigned code, const char *type) {
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (strncmp(type, "text/html", 9) == 0)
        MHD_add_response_header(response, "Content-Security-Policy",
                                "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                                "img-src blob: data:; media-src blob:; connect-src 'self'; frame-ancestors 'none'");
    if (code == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, RETRY_AFTER);
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allowed_methods(asked));
    if (atomic_load(&asked->server->stopping))
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
}

enum MHD_Result respond(request *asked, unsigned code, const char *type, const void *data, size_t n_bytes,
                        enum MHD_ResponseMemoryMode mode) {
    /* The older call of two that do the same; it takes what it frees or copies as if it wrote to it. */
    struct MHD_Response *response = MHD_create_response_from_buffer(n_bytes, (void *)(uintptr_t)data, mode);
    if (response == NULL) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free((void *)(uintptr_t)data);
        return MHD_NO;
    }
    add_headers(response, asked, code, type);
    connections_enter(&asked->server->clients, asked->client, CONNECTION_ANSWERING);
    metrics_count_answer(&asked->server->counted, asked->path, code);
    enum MHD_Result queued = MHD_queue_response(asked->connection, code, response);
    MHD_destroy_response(response);
    return queued;
}

enum MHD_Result respond_error(request *asked, unsigned code, const char *why) {
    char *text = answer_error(why);
    if (text == NULL)
        return MHD_NO;
    return respond(asked, code, "application/json", text, strlen(text), MHD_RESPMEM_MUST_FREE);
}

enum MHD_Result respond_and_cut(request *asked, unsigned code, const char *why) {
    char *text = answer_error(why), whole[512];
    if (text == NULL)
        return MHD_NO;
    int n = snprintf(whole, sizeof whole,
                     "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                     "Cache-Control: no-store\r\nConnection: close\r\n\r\n%s",
                     code, MHD_get_reason_phrase_for(code), strlen(text), text);
    free(text);
    /* Nothing else has been written for this request, but perhaps a whole "100 Continue". */
    if (n > 0 && (size_t)n < sizeof whole &&
        send(asked->client->socket, whole, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n) {
        shutdown(asked->client->socket, SHUT_WR);
        metrics_count_answer(&asked->server->counted, asked->path, code);
    }
    return MHD_NO;
}
