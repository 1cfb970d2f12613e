/* What there is to ask for. */
#include "server.h"

#include "answer.h"
#include "clock.h"
#include "multipart.h"
#include "pages.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static enum MHD_Result answer_page(request *asked, const page *shown, const char *type) {
    return respond(asked, MHD_HTTP_OK, type, shown->data, shown->n_bytes, MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result answer_index(request *asked) {
    return answer_page(asked, &page_index, "text/html; charset=utf-8");
}

static enum MHD_Result answer_docs(request *asked) {
    return answer_page(asked, &page_docs, "text/html; charset=utf-8");
}

static enum MHD_Result answer_openapi(request *asked) {
    return answer_page(asked, &page_openapi, "application/json");
}

/* The process lives and answers; whether it detects is /readyz's to say. */
static enum MHD_Result answer_healthz(request *asked) {
    static const char text[] = "{\"status\":\"ok\"}";
    return respond(asked, MHD_HTTP_OK, "application/json", text, sizeof text - 1, MHD_RESPMEM_PERSISTENT);
}

/* Hands the request's job on. The connection sleeps until its `done` wakes it: nothing may touch the request here after
 * that, for it may be answered already. */
static enum MHD_Result start_job(request *asked, void (*submit)(engine *, job *)) {
    asked->state = REQUEST_WORKING;
    asked->job.owner = asked;
    connections_enter(&asked->server->clients, asked->client, CONNECTION_WORKING);
    MHD_suspend_connection(asked->connection);
    submit(asked->server->engine, &asked->job);
    return MHD_YES;
}

static void wake(request *asked) {
    asked->state = REQUEST_DONE;
    MHD_resume_connection(asked->connection);
}

static enum MHD_Result respond_readiness(request *asked, readiness known) {
    static const char text[] = "{\"status\":\"ready\"}";
    if (known == READY && !atomic_load(&asked->server->stopping))
        return respond(asked, MHD_HTTP_OK, "application/json", text, sizeof text - 1, MHD_RESPMEM_PERSISTENT);
    return respond_error(asked, MHD_HTTP_SERVICE_UNAVAILABLE, known == READY ? "stopping" : "the self-test failed");
}

static void readiness_done(job *finished) {
    request *asked = finished->owner;
    asked->known = selftest_end(&asked->server->ready, finished);
    wake(asked);
}

static enum MHD_Result answer_readyz(request *asked) {
    if (asked->state == REQUEST_DONE)
        return respond_readiness(asked, asked->known);
    readiness known = selftest_begin(&asked->server->ready, &asked->job);
    if (known != READY_UNKNOWN)
        return respond_readiness(asked, known);
    asked->job.done = readiness_done;
    return start_job(asked, engine_submit_picture);
}

static enum MHD_Result answer_metrics(request *asked) {
    server *s = asked->server;
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *file = open_memstream(&text, &n_bytes);
    if (file == NULL)
        return respond_error(asked, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory");
    metrics_print(&s->counted, route_name, file);
    metrics_print_number(file, "detect_memory_bytes", "gauge", "Bodies and pictures that are held now.",
                         (double)atomic_load(&s->memory.used));
    engine_print_metrics(s->engine, file);
    if (fclose(file) != 0) {
        free(text);
        return respond_error(asked, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory");
    }
    return respond(asked, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, n_bytes,
                   MHD_RESPMEM_MUST_FREE);
}

static bool is_type(const char *header, const char *type) {
    size_t length = strlen(type);
    return strncasecmp(header, type, length) == 0 && (header[length] == '\0' || strchr("; \t", header[length]) != NULL);
}

/* Finds the picture in the body. Returns 0, or the code of a refusal with *why written. */
static unsigned locate_picture(request *asked, const char **why) {
    const char *type = MHD_lookup_connection_value(asked->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    job *work = &asked->job;
    work->data = asked->body.data;
    work->n_bytes = asked->body.n_bytes;
    if (type != NULL && is_type(type, "multipart/form-data")) {
        char boundary[MULTIPART_MAX_BOUNDARY + 1];
        multipart_result found = MULTIPART_MALFORMED;
        if (multipart_boundary(type, boundary))
            found =
                multipart_find(asked->body.data, asked->body.n_bytes, boundary, "image", &work->data, &work->n_bytes);
        *why = found == MULTIPART_ABSENT     ? "there is no field 'image'"
               : found == MULTIPART_REPEATED ? "there is more than one field 'image'"
                                             : "the multipart body is damaged";
        return found == MULTIPART_FOUND ? 0 : MHD_HTTP_BAD_REQUEST;
    }
    *why = "send multipart/form-data, image/jpeg, image/png or application/octet-stream";
    if (type != NULL && !is_type(type, "image/jpeg") && !is_type(type, "image/png") &&
        !is_type(type, "application/octet-stream"))
        return MHD_HTTP_UNSUPPORTED_MEDIA_TYPE;
    *why = "the body is empty";
    return work->n_bytes == 0 ? MHD_HTTP_BAD_REQUEST : 0;
}

typedef struct query_reader {
    query *asked;
    const det_model_info *model;
    char error[QUERY_ERROR_SIZE];
} query_reader;

static enum MHD_Result read_parameter(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
    (void)kind;
    query_reader *reader = context;
    bool ok = query_set(reader->asked, reader->model, name, value != NULL ? value : "", reader->error);
    return ok ? MHD_YES : MHD_NO;
}

static enum MHD_Result respond_objects(request *asked) {
    server *s = asked->server;
    char *text = answer_objects(engine_model(s->engine), &asked->job);
    if (text == NULL)
        return respond_error(asked, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory");
    atomic_fetch_add(&s->counted.pictures, 1);
    atomic_fetch_add(&s->counted.objects, (uint_fast64_t)asked->job.n_objects);
    histogram_add(&s->counted.request_time, clock_ms() - asked->begin_ms);
    histogram_add(&s->counted.inference_time, asked->job.inference_ms);
    return respond(asked, MHD_HTTP_OK, "application/json", text, strlen(text), MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result respond_outcome(request *asked) {
    const char *error = asked->job.error;
    switch (asked->job.outcome) {
    case OUTCOME_OK:
        return respond_objects(asked);
    case OUTCOME_NOT_A_PICTURE:
        return respond_error(asked, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "neither a JPEG nor a PNG picture");
    case OUTCOME_DAMAGED:
        return respond_error(asked, MHD_HTTP_BAD_REQUEST, error[0] != '\0' ? error : "the picture is damaged");
    case OUTCOME_TOO_LARGE:
        return respond_error(asked, MHD_HTTP_CONTENT_TOO_LARGE, "the picture has more pixels than this server takes");
    case OUTCOME_BUSY:
        return respond_error(asked, MHD_HTTP_SERVICE_UNAVAILABLE, "too much is going on");
    case OUTCOME_LATE:
        return respond_error(asked, MHD_HTTP_SERVICE_UNAVAILABLE, "not done in time");
    case OUTCOME_FAILED:
        break;
    }
    return respond_error(asked, MHD_HTTP_INTERNAL_SERVER_ERROR, "detection failed");
}

static void picture_done(job *finished) {
    wake(finished->owner);
}

static enum MHD_Result answer_infer(request *asked) {
    if (asked->state == REQUEST_DONE)
        return respond_outcome(asked);
    server *s = asked->server;
    job *work = &asked->job;
    const char *why;
    unsigned refusal = locate_picture(asked, &why);
    if (refusal != 0)
        return respond_error(asked, refusal, why);
    query_init(&work->asked);
    query_reader reader = {.asked = &work->asked, .model = engine_model(s->engine)};
    MHD_get_connection_values(asked->connection, MHD_GET_ARGUMENT_KIND, read_parameter, &reader);
    if (reader.error[0] != '\0')
        return respond_error(asked, MHD_HTTP_BAD_REQUEST, reader.error);
    work->body = asked->body;
    asked->body = (body){0};
    work->deadline_ms = clock_ms() + s->given.answer_ms;
    work->done = picture_done;
    return start_job(asked, engine_submit);
}

static const route routes[] = {
    {"/", false, answer_index},          {"/docs", false, answer_docs},     {"/openapi.json", false, answer_openapi},
    {"/healthz", false, answer_healthz}, {"/readyz", false, answer_readyz}, {"/metrics", false, answer_metrics},
    {"/infer", true, answer_infer},      {"/predict", true, answer_infer},
};
enum { N_ROUTES = sizeof routes / sizeof routes[0] };
_Static_assert((int)N_ROUTES < (int)METRICS_MAX_PATHS, "the table of answers is too short");

const route *route_find(const char *path, int *row) {
    for (*row = 0; *row < N_ROUTES; ++*row)
        if (strcmp(path, routes[*row].path) == 0)
            return &routes[*row];
    return NULL;
}

const char *route_name(int row) {
    return row < N_ROUTES ? routes[row].path : row == N_ROUTES ? "other" : NULL;
}
