/* What the parts of the server share. examples/server/README.md says what it promises. */
#ifndef SERVER_H
#define SERVER_H

#include "budget.h"
#include "connections.h"
#include "engine.h"
#include "metrics.h"
#include "selftest.h"
#include "settings.h"

#include <microhttpd.h>

typedef struct server {
    settings given;
    budget memory;
    metrics counted;
    connections clients;
    engine *engine;
    selftest ready;
    struct MHD_Daemon *daemon;
    atomic_bool stopping; /* what was taken is finished, then it ends */
} server;

typedef struct request request;

/* A row of the table of routes.c. */
typedef struct route {
    const char *path;
    bool takes_picture; /* POST; the others GET and HEAD */
    /* Queues the answer of a request that has come in whole, or suspends the connection and is called once more when the
     * request's job is done. */
    enum MHD_Result (*answer)(request *asked);
} route;

typedef enum request_state { REQUEST_COMING_IN, REQUEST_WORKING, REQUEST_DONE } request_state;

/* One request, from its first line to its last byte of answer. */
struct request {
    server *server;
    struct MHD_Connection *connection;
    connection_record *client;
    const route *route;
    int path; /* its row, or that of everything else */
    request_state state;
    double begin_ms;
    size_t announced; /* bytes of body, 0 when not said */
    size_t swallowed; /* of a body that nobody wants */
    unsigned refusal; /* a status code that is decided before the body is whole; else 0 */
    const char *why;  /* of the refusal */
    body body;        /* moves to the job when it is whole */
    job job;
    readiness known; /* of /readyz */
};

/* routes.c */
const route *route_find(const char *path, int *row);
const char *route_name(int row); /* NULL behind the last, which is everything else */

/* respond.c: queue an answer. Each returns what the handler shall. */
enum MHD_Result respond(request *asked, unsigned code, const char *type, const void *data, size_t n_bytes,
                        enum MHD_ResponseMemoryMode mode);
enum MHD_Result respond_error(request *asked, unsigned code, const char *why);
/* Writes an answer past libmicrohttpd, which cannot answer before the body has ended, and has the connection closed. */
enum MHD_Result respond_and_cut(request *asked, unsigned code, const char *why);

/* http.c */
bool http_start(server *s);
int32_t http_port(const server *s);
/* Takes no more connections, finishes the requests that there are, and stops. */
void http_stop(server *s);

#endif
