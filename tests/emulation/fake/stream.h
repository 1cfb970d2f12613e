/* Streams, events and graphs as the fake keeps them. */
#ifndef DET_FAKE_STREAM_H
#define DET_FAKE_STREAM_H

#include "fake.h"

#include <deque>
#include <set>

namespace fake {

/* What an event knows; work that will record it, or waits for it, keeps it alive. */
struct Moments {
    int64_t n_asked = 0, n_done = 0; /* records that were queued, and that the device came to */
    double ms = 0;                   /* when the last one was */
};

/* A piece of work: one step at a time, until it says that it is done. */
struct Work {
    std::string name;
    std::function<bool()> step;  /* true: done */
    std::function<bool()> ready; /* empty: always */
};

struct Node {
    std::string name;
    std::function<void()> run;
    std::vector<int> after; /* nodes of the same graph */
};

struct Graph {
    int device = 0;
    std::vector<Node> nodes;
};

struct Capture {
    CUstream_st *origin;
    cudaStreamCaptureMode mode;
    uint64_t thread, id;
    bool invalid = false;
    std::shared_ptr<Graph> graph;
    std::set<CUstream_st *> streams; /* that have joined */
};

double now_ms();
uint64_t this_thread();
void invalidate(CUstream_st *stream);
/* Adds a node after all that the stream has captured. */
void capture_node(CUstream_st *stream, const char *name, std::function<void()> run);
void start_work(CUstream_st *stream, Work work);
/* Runs streams until done() says so; `target` may be NULL. */
void run_until(const std::function<bool()> &done, CUstream_st *target);
void event_state(fake_cuda_state *state);

} // namespace fake

struct CUstream_st {
    int device;
    unsigned flags;
    int priority;
    std::deque<fake::Work> queue;
    std::shared_ptr<fake::Capture> capture;
    std::vector<int> frontier; /* nodes that the next one captured follows */
    bool destroyed;            /* work that was queued is still to be done */
};

struct CUevent_st {
    int device;
    unsigned flags;
    std::shared_ptr<fake::Moments> moments;
    std::shared_ptr<fake::Capture> capture; /* last recorded in this capture */
    std::vector<int> captured;              /* after these nodes */
};

struct CUgraph_st {
    std::shared_ptr<fake::Graph> graph;
};

struct CUgraphExec_st {
    std::shared_ptr<const fake::Graph> graph;
    std::shared_ptr<bool> running; /* a graph's launches follow one another, on whatever streams */
};

#endif
