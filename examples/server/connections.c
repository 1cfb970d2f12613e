#include "connections.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

/* Bytes that have come but were not read yet: then it is this machine that is slow, not the client. */
static bool has_unread(const connection_record *client) {
    int n_bytes = 0;
    return ioctl(client->socket, FIONREAD, &n_bytes) == 0 && n_bytes > 0;
}

static bool is_slow(const connections *all, const connection_record *client, double now_ms) {
    enum { PATIENCE = 4 }; /* times the limit, whoever is to blame */
    double waited_ms = now_ms - client->since_ms;
    if (client->phase == CONNECTION_WORKING || waited_ms <= all->limit_ms)
        return false;
    return waited_ms > PATIENCE * all->limit_ms || !has_unread(client);
}

/* Shuts the slow ones down; libmicrohttpd then sees their end and closes them. A record leaves the list before its socket
 * is closed, so no other connection's socket can have the number. */
static void *reap(void *arguments) {
    enum { INTERVAL_MS = 250 };
    connections *all = arguments;
    pthread_mutex_lock(&all->mutex);
    while (!all->stopping) {
        double now_ms = clock_ms();
        for (connection_record *client = all->first; client != NULL; client = client->next) {
            if (!is_slow(all, client, now_ms))
                continue;
            shutdown(client->socket, SHUT_RDWR);
            client->since_ms = now_ms; /* once is enough */
            atomic_fetch_add(all->n_closed, 1);
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += INTERVAL_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&all->stop, &all->mutex, &until);
    }
    pthread_mutex_unlock(&all->mutex);
    return NULL;
}

bool connections_open(connections *all, double limit_ms, atomic_uint_fast64_t *n_closed) {
    *all = (connections){.limit_ms = limit_ms, .n_closed = n_closed};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&all->mutex, NULL);
    pthread_cond_init(&all->stop, &attributes);
    pthread_condattr_destroy(&attributes);
    int error = pthread_create(&all->reaper, NULL, reap, all);
    if (error != 0)
        complain("cannot start a thread: %s", strerror(error));
    return error == 0;
}

void connections_close(connections *all) {
    pthread_mutex_lock(&all->mutex);
    all->stopping = true;
    pthread_cond_signal(&all->stop);
    pthread_mutex_unlock(&all->mutex);
    pthread_join(all->reaper, NULL);
    pthread_cond_destroy(&all->stop);
    pthread_mutex_destroy(&all->mutex);
}

connection_record *connections_add(connections *all, int socket) {
    connection_record *client = calloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    *client = (connection_record){.socket = socket, .fresh = true, .since_ms = clock_ms()};
    pthread_mutex_lock(&all->mutex);
    client->next = all->first;
    if (all->first != NULL)
        all->first->previous = client;
    all->first = client;
    pthread_mutex_unlock(&all->mutex);
    return client;
}

void connections_remove(connections *all, connection_record *gone) {
    pthread_mutex_lock(&all->mutex);
    if (gone->next != NULL)
        gone->next->previous = gone->previous;
    if (gone->previous != NULL)
        gone->previous->next = gone->next;
    else
        all->first = gone->next;
    pthread_mutex_unlock(&all->mutex);
    free(gone);
}

void connections_enter(connections *all, connection_record *client, connection_phase phase) {
    pthread_mutex_lock(&all->mutex);
    client->fresh = false;
    client->phase = phase;
    client->since_ms = clock_ms();
    pthread_mutex_unlock(&all->mutex);
}

bool connections_any_fresh(connections *all, double fresh_ms) {
    double now_ms = clock_ms();
    bool any = false;
    pthread_mutex_lock(&all->mutex);
    for (connection_record *client = all->first; client != NULL && !any; client = client->next)
        any = client->fresh && now_ms - client->since_ms < fresh_ms;
    pthread_mutex_unlock(&all->mutex);
    return any;
}
