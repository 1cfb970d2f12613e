#include "measurement.h"

enum { LEAST_WARM_UPS = 3 };

void measurement_free(measurement *m) {
    samples_free(&m->latency_ms);
    samples_free(&m->waiting_ms);
    *m = (measurement){0};
}

double measurement_throughput(const measurement *m) {
    return statistics_median(m->throughputs, (size_t)m->n_repeats);
}

/* Closes a repeat whose latencies begin at `first`. */
static void end_repeat(measurement *m, size_t first, double pictures, double seconds) {
    m->medians_ms[m->n_repeats] = statistics_median(m->latency_ms.values + first, m->latency_ms.n - first);
    m->throughputs[m->n_repeats] = seconds > 0 ? pictures / seconds : 0;
    m->measured_s += seconds;
    m->n_repeats++;
}

/* --------------------------------------------------------------------------------------------------------- turns */

/* Serves the next request; its time in ms, or a negative number when it failed. */
static double serve_once(timebase *time, const target *what, int64_t *number) {
    double begin = timebase_now(time);
    if (!what->serve(what->self, 0, (*number)++))
        return -1;
    return 1e3 * (timebase_now(time) - begin);
}

static bool warm_up(timebase *time, const target *what, double seconds, int64_t *number, measurement *m) {
    double begin = timebase_now(time);
    do {
        double ms = serve_once(time, what, number);
        if (ms < 0)
            return false;
        if (m->n_warm_ups++ == 0)
            m->first_ms = ms;
        m->warm_up_s = timebase_now(time) - begin;
    } while (m->n_warm_ups < LEAST_WARM_UPS || m->warm_up_s < seconds);
    return true;
}

/* Room for the requests of a repeat, so that none of them waits for memory: twice as many as the last warm-ups tell. */
static void reserve(const turns_plan *plan, measurement *m) {
    double rate = m->warm_up_s > 0 ? m->n_warm_ups / m->warm_up_s : 0;
    double expected = 2 * plan->repeats * (plan->seconds * rate + plan->least);
    static const double most = 1 << 24;
    samples_reserve(&m->latency_ms, (size_t)(expected < most ? expected : most));
}

bool measure_turns(timebase *time, const target *what, const turns_plan *plan, measurement *m) {
    int64_t number = 0;
    *m = (measurement){0};
    if (!warm_up(time, what, plan->warm_up_s, &number, m))
        return false;
    reserve(plan, m);
    for (int repeat = 0; repeat < plan->repeats; repeat++) {
        size_t first = m->latency_ms.n;
        if (repeat > 0 && serve_once(time, what, &number) < 0)
            return false;
        double begin = timebase_now(time), elapsed;
        do {
            double ms = serve_once(time, what, &number);
            if (ms < 0)
                return false;
            samples_add(&m->latency_ms, ms);
            if (plan->counted != NULL && !plan->counted(plan->counted_data))
                return false;
            elapsed = timebase_now(time) - begin;
        } while (m->latency_ms.n - first < (size_t)plan->least || elapsed < plan->seconds);
        end_repeat(m, first, (double)plan->batch * (double)(m->latency_ms.n - first), elapsed);
    }
    return !m->latency_ms.failed;
}

/* --------------------------------------------------------------------------------------------------------- loops */

/* Which part of the period a request belongs to. The last part ends with the period's last request. */
static int part_of(const request_log *log, const request *r, int n_repeats, bool by_due) {
    double length = log->end - log->begin, at = (by_due ? r->due : r->ended) - log->begin;
    int part = length > 0 ? (int)(at / length * n_repeats) : 0;
    return part < 0 ? 0 : part < n_repeats ? part : n_repeats - 1;
}

bool measurement_from_log(const request_log *log, int n_repeats, int batch, bool by_due, measurement *m) {
    *m = (measurement){0};
    double part_s = (log->end - log->begin) / n_repeats;
    for (int repeat = 0; repeat < n_repeats; repeat++) {
        size_t first = m->latency_ms.n;
        for (size_t i = 0; i < log->n; i++) {
            const request *r = &log->requests[i];
            if (part_of(log, r, n_repeats, by_due) != repeat)
                continue;
            samples_add(&m->latency_ms, 1e3 * (r->ended - r->due));
            samples_add(&m->waiting_ms, 1e3 * (r->started - r->due));
        }
        end_repeat(m, first, (double)batch * (double)(m->latency_ms.n - first), part_s);
    }
    return !m->latency_ms.failed && !m->waiting_ms.failed;
}
