#define _POSIX_C_SOURCE 200809L

#include "frames.h"

#include "clock.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Room for what waits, for the frame being read and for the one being worked on. */
enum { N_WAITING = 4, N_FRAMES = N_WAITING + 2 };

struct frames {
    const char *path;
    frame_layout layout;
    frame_limits limits;
    int fd;
    pthread_t reader;
    bool reading; /* there is a reader to join */
    bool ok;      /* the reader's verdict, once it has been joined */

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    frame waiting[N_WAITING]; /* the oldest first */
    int n_waiting;
    uint8_t *spare[N_FRAMES];
    int n_spare;
    uint8_t *taken; /* the frame that the caller has */
    int64_t n_dropped;
    bool ended, stopping;
};

/* One frame, whole. 1, or 0 at the end, or -1 after complaining. */
static int read_frame(frames *source, uint8_t *bytes, int64_t number) {
    size_t n = 0, n_bytes = source->layout.n_bytes;
    while (n < n_bytes) {
        ssize_t n_read = read(source->fd, bytes + n, n_bytes - n);
        if (n_read > 0)
            n += (size_t)n_read;
        else if (n_read == 0 && n == 0)
            return 0;
        else if (n_read == 0 || errno != EINTR) {
            if (n_read == 0)
                complain("%s: ends inside frame %" PRId64 ", after %zu of %zu bytes", source->path, number, n, n_bytes);
            else
                complain("%s: cannot read: %s", source->path, strerror(errno));
            return -1;
        }
    }
    return 1;
}

/* All of these with the mutex held. */

static void drop_oldest(frames *source) {
    source->spare[source->n_spare++] = source->waiting[0].bytes;
    source->n_waiting--;
    memmove(source->waiting, source->waiting + 1, (size_t)source->n_waiting * sizeof *source->waiting);
    source->n_dropped++;
}

static bool may_drop(const frames *source) {
    return source->limits.drop || source->limits.max_latency_ms > 0;
}

/* Where nothing may be dropped, a full line makes the reader wait, and the pipe's writer with it. */
static void make_room(frames *source) {
    int most = source->limits.drop ? 1 : N_WAITING;
    while (may_drop(source) && source->n_waiting >= most)
        drop_oldest(source);
    while (source->n_waiting == N_WAITING && !source->stopping)
        pthread_cond_wait(&source->changed, &source->mutex);
}

static void *read_frames(void *context) {
    frames *source = context;
    int64_t number = 0;
    pthread_mutex_lock(&source->mutex);
    while (!source->stopping) {
        uint8_t *bytes = source->spare[--source->n_spare];
        pthread_mutex_unlock(&source->mutex);
        int outcome = read_frame(source, bytes, number);
        pthread_mutex_lock(&source->mutex);
        if (outcome <= 0) {
            source->spare[source->n_spare++] = bytes;
            source->ok = outcome == 0;
            break;
        }
        make_room(source);
        if (source->stopping) {
            source->spare[source->n_spare++] = bytes;
            break;
        }
        source->waiting[source->n_waiting++] = (frame){number++, clock_ms(), bytes};
        pthread_cond_broadcast(&source->changed);
    }
    source->ended = true;
    pthread_cond_broadcast(&source->changed);
    pthread_mutex_unlock(&source->mutex);
    return NULL;
}

bool frames_next(frames *source, frame *next) {
    pthread_mutex_lock(&source->mutex);
    if (source->taken != NULL)
        source->spare[source->n_spare++] = source->taken;
    source->taken = NULL;
    for (;;) {
        while (source->n_waiting == 0 && !source->ended)
            pthread_cond_wait(&source->changed, &source->mutex);
        double limit_ms = source->limits.max_latency_ms;
        if (source->n_waiting == 0 || limit_ms == 0 || clock_ms() - source->waiting[0].read_ms <= limit_ms)
            break;
        drop_oldest(source);
    }
    bool any = source->n_waiting > 0;
    if (any) {
        *next = source->waiting[0];
        source->taken = next->bytes;
        source->n_waiting--;
        memmove(source->waiting, source->waiting + 1, (size_t)source->n_waiting * sizeof *source->waiting);
    }
    pthread_cond_broadcast(&source->changed);
    pthread_mutex_unlock(&source->mutex);
    return any;
}

int64_t frames_dropped(frames *source) {
    pthread_mutex_lock(&source->mutex);
    int64_t n = source->n_dropped;
    pthread_mutex_unlock(&source->mutex);
    return n;
}

static bool start(frames *source) {
    for (int i = 0; i < N_FRAMES; i++) {
        source->spare[source->n_spare] = malloc(source->layout.n_bytes);
        if (source->spare[source->n_spare] == NULL) {
            complain("out of memory for frames of %zu bytes", source->layout.n_bytes);
            return false;
        }
        source->n_spare++;
    }
    source->fd = strcmp(source->path, "-") == 0 ? STDIN_FILENO : open(source->path, O_RDONLY | O_CLOEXEC);
    if (source->fd < 0) {
        complain("%s: cannot open: %s", source->path, strerror(errno));
        return false;
    }
    int error = pthread_create(&source->reader, NULL, read_frames, source);
    if (error != 0)
        complain("cannot start a thread: %s", strerror(error));
    source->reading = error == 0;
    return source->reading;
}

frames *frames_open(const char *path, const frame_layout *layout, const frame_limits *limits) {
    frames *source = calloc(1, sizeof *source);
    if (source == NULL) {
        complain("out of memory");
        return NULL;
    }
    source->path = path;
    source->layout = *layout;
    source->limits = *limits;
    source->fd = -1;
    source->ok = true;
    pthread_mutex_init(&source->mutex, NULL);
    pthread_cond_init(&source->changed, NULL);
    if (start(source))
        return source;
    frames_close(source);
    return NULL;
}

bool frames_close(frames *source) {
    if (source == NULL)
        return true;
    pthread_mutex_lock(&source->mutex);
    source->stopping = true;
    pthread_cond_broadcast(&source->changed);
    bool ended = source->ended;
    pthread_mutex_unlock(&source->mutex);
    /* A reader that is inside read() cannot be woken: it is left behind, with what it uses, by a program that ends. */
    if (source->reading && !ended) {
        pthread_detach(source->reader);
        return true;
    }
    if (source->reading)
        pthread_join(source->reader, NULL);
    bool ok = source->ok;
    if (source->fd > STDIN_FILENO)
        close(source->fd);
    for (int i = 0; i < source->n_spare; i++)
        free(source->spare[i]);
    for (int i = 0; i < source->n_waiting; i++)
        free(source->waiting[i].bytes);
    free(source->taken);
    pthread_cond_destroy(&source->changed);
    pthread_mutex_destroy(&source->mutex);
    free(source);
    return ok;
}
