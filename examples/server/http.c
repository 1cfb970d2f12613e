/* libmicrohttpd: connections in, requests to their routes, and the end of it all. */
#include "server.h"

#include "clock.h"
#include "log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char too_long[] = "the body is longer than this server takes";

static size_t announced_bytes(struct MHD_Connection *connection) {
    const char *text = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (text == NULL)
        return 0;
    errno = 0;
    unsigned long long n = strtoull(text, NULL, 10); /* libmicrohttpd has refused what is no number */
    return errno != 0 || n > SIZE_MAX ? SIZE_MAX : (size_t)n;
}

static void refuse(request *asked, unsigned code, const char *why) {
    body_free(&asked->body, &asked->server->memory);
    asked->refusal = code;
    asked->why = why;
}

/* A refusal waits for the end of a body up to this long, so that the client sees the answer and the connection goes on. */
static size_t bearable_bytes(const server *s) {
    return 2 * s->given.max_body_bytes;
}

/* What the head alone tells. */
static void check_head(request *asked, const char *method) {
    bool reads = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    bool posts = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    if (asked->announced > asked->server->given.max_body_bytes)
        refuse(asked, MHD_HTTP_CONTENT_TOO_LARGE, too_long);
    else if (asked->route == NULL)
        refuse(asked, MHD_HTTP_NOT_FOUND, "there is nothing here: see /docs");
    else if (asked->route->takes_picture ? !posts : !reads)
        refuse(asked, MHD_HTTP_METHOD_NOT_ALLOWED,
               asked->route->takes_picture ? "POST a picture" : "only GET and HEAD");
}

static connection_record *client_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

static enum MHD_Result begin_request(server *s, struct MHD_Connection *connection, const char *path, const char *method,
                                     void **state) {
    request *asked = calloc(1, sizeof *asked);
    connection_record *client = client_of(connection);
    if (asked == NULL || client == NULL) {
        free(asked);
        return MHD_NO;
    }
    *asked = (request){.server = s,
                       .connection = connection,
                       .client = client,
                       .begin_ms = clock_ms(),
                       .announced = announced_bytes(connection)};
    asked->route = route_find(path, &asked->path);
    *state = asked;
    atomic_fetch_add(&s->counted.requests, 1);
    connections_enter(&s->clients, client, CONNECTION_RECEIVING);
    check_head(asked, method);
    bool waits = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) != NULL;
    if (asked->refusal != 0 && (waits || asked->announced > bearable_bytes(s)))
        return respond_error(asked, asked->refusal, asked->why);
    return MHD_YES;
}

static enum MHD_Result receive(request *asked, const void *data, size_t n_bytes) {
    server *s = asked->server;
    atomic_fetch_add(&s->counted.received_bytes, n_bytes);
    if (asked->refusal == 0 && asked->route->takes_picture) {
        switch (body_append(&asked->body, &s->memory, data, n_bytes, asked->announced, s->given.max_body_bytes)) {
        case BODY_OK:
            return MHD_YES;
        case BODY_TOO_LARGE:
            refuse(asked, MHD_HTTP_CONTENT_TOO_LARGE, too_long);
            break;
        case BODY_NO_MEMORY:
            refuse(asked, MHD_HTTP_SERVICE_UNAVAILABLE, "too much is going on");
            break;
        }
    }
    asked->swallowed += n_bytes;
    if (asked->swallowed <= bearable_bytes(s))
        return MHD_YES;
    return respond_and_cut(asked, MHD_HTTP_CONTENT_TOO_LARGE, too_long);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *data, size_t *n_bytes, void **state) {
    (void)version;
    request *asked = *state;
    if (asked == NULL)
        return begin_request(context, connection, path, method, state);
    if (*n_bytes > 0) {
        size_t n = *n_bytes;
        *n_bytes = 0;
        return receive(asked, data, n);
    }
    if (asked->refusal != 0)
        return respond_error(asked, asked->refusal, asked->why);
    return asked->route->answer(asked);
}

static void completed(void *context, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode how) {
    (void)connection;
    (void)how;
    server *s = context;
    request *asked = *state;
    if (asked == NULL)
        return;
    connections_enter(&s->clients, asked->client, CONNECTION_WAITING);
    body_free(&asked->body, &s->memory);
    job_free(s->engine, &asked->job);
    free(asked);
    *state = NULL;
    atomic_fetch_sub(&s->counted.requests, 1);
}

static void connected(void *context, struct MHD_Connection *connection, void **record,
                      enum MHD_ConnectionNotificationCode what) {
    server *s = context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *record = info != NULL ? connections_add(&s->clients, info->connect_fd) : NULL;
        atomic_fetch_add(&s->counted.connections, 1);
        return;
    }
    atomic_fetch_sub(&s->counted.connections, 1);
    if (*record != NULL)
        connections_remove(&s->clients, *record);
    *record = NULL;
}

static void log_line(void *context, const char *format, va_list arguments) {
    char line[512];
    vsnprintf(line, sizeof line, format, arguments);
    line[strcspn(line, "\n")] = '\0';
    if (((server *)context)->given.verbose)
        complain("%s", line);
}

/* An address by its digits: names are not looked up. */
static bool find_address(const settings *given, struct sockaddr_storage *found) {
    char port[8];
    snprintf(port, sizeof port, "%d", (int)given->port);
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int error = getaddrinfo(given->address, port, &hints, &list);
    if (error != 0) {
        complain("--address '%s': %s", given->address, gai_strerror(error));
        return false;
    }
    memcpy(found, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return true;
}

bool http_start(server *s) {
    enum { CONNECTION_MEMORY = 32768 };
    struct sockaddr_storage address;
    if (!find_address(&s->given, &address))
        return false;
    /* poll, not epoll: libmicrohttpd uses the latter by edges, and under load now and then a thread sleeps over one. */
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_ITC;
    if (address.ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    unsigned n_threads = (unsigned)s->given.http_threads;
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, s, MHD_OPTION_EXTERNAL_LOGGER, log_line, s, MHD_OPTION_SOCK_ADDR,
        (struct sockaddr *)&address, MHD_OPTION_NOTIFY_COMPLETED, completed, s, MHD_OPTION_NOTIFY_CONNECTION, connected,
        s, MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->given.max_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(s->given.receive_ms / 1e3) + 1,
        MHD_OPTION_THREAD_POOL_SIZE, n_threads > 1 ? n_threads : 0, MHD_OPTION_END);
    if (s->daemon == NULL)
        complain("cannot listen on %s, port %d: %s", s->given.address, (int)s->given.port, strerror(errno));
    return s->daemon != NULL;
}

int32_t http_port(const server *s) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_LISTEN_FD);
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (info == NULL || getsockname(info->listen_fd, (struct sockaddr *)&address, &length) != 0)
        return s->given.port;
    return address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port)
                                         : ntohs(((struct sockaddr_in *)&address)->sin_port);
}

/* Those whom the kernel has let in already are clients like the others. */
static void take_waiting(server *s, int listening) {
    struct sockaddr_storage address;
    for (;;) {
        socklen_t length = sizeof address;
        int fd = accept4(listening, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EINTR)
            continue;
        if (fd < 0 || MHD_add_connection(s->daemon, fd, (struct sockaddr *)&address, length) != MHD_YES)
            return;
    }
}

void http_stop(server *s) {
    static const double FRESH_MS = 500;
    atomic_store(&s->stopping, true);
    int listening = MHD_quiesce_daemon(s->daemon);
    if (listening >= 0) {
        take_waiting(s, listening);
        close(listening);
    }
    /* Every phase of a request has its limit, so this ends. */
    while (atomic_load(&s->counted.requests) > 0 || connections_any_fresh(&s->clients, FRESH_MS))
        usleep(10000);
    MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
}
