/* Every open connection, so that those that take too long can be closed: libmicrohttpd's own timeout starts anew with
 * every byte, and a client that sends one a second would keep its place for ever. */
#ifndef CONNECTIONS_H
#define CONNECTIONS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef enum connection_phase {
    CONNECTION_WAITING,   /* for a request, or for the rest of its head */
    CONNECTION_RECEIVING, /* its body */
    CONNECTION_WORKING,   /* ours to finish: no limit but the job's own */
    CONNECTION_ANSWERING
} connection_phase;

typedef struct connection_record {
    int socket;
    bool fresh; /* has not yet asked anything */
    connection_phase phase;
    double since_ms;
    struct connection_record *next, *previous;
} connection_record;

typedef struct connections {
    pthread_mutex_t mutex;
    pthread_cond_t stop;
    pthread_t reaper;
    bool stopping;
    double limit_ms; /* of every phase but WORKING */
    connection_record *first;
    atomic_uint_fast64_t *n_closed; /* counts those closed for being slow */
} connections;

/* Starts the thread that looks after them. False after complaining. */
bool connections_open(connections *all, double limit_ms, atomic_uint_fast64_t *n_closed);
void connections_close(connections *all);

/* NULL without memory. */
connection_record *connections_add(connections *all, int socket);
void connections_remove(connections *all, connection_record *gone);
void connections_enter(connections *all, connection_record *client, connection_phase phase);

/* Whether one came less than `fresh_ms` ago and has asked nothing yet. */
bool connections_any_fresh(connections *all, double fresh_ms);

#endif
