#include "analysis.h"

#include "statistics.h"

#include <math.h>

size_t analysis_knee(const double *throughputs, size_t n, double share) {
    double best = statistics_max(throughputs, n);
    size_t knee = 0;
    while (knee + 1 < n && throughputs[knee] < share * best)
        knee++;
    return knee;
}

static bool dominates(const choice *a, const choice *b) {
    bool no_worse = a->throughput >= b->throughput && a->latency <= b->latency && a->memory <= b->memory &&
                    a->quality >= b->quality;
    bool better =
        a->throughput > b->throughput || a->latency < b->latency || a->memory < b->memory || a->quality > b->quality;
    return no_worse && better;
}

void analysis_pareto(choice *choices, size_t n) {
    for (size_t i = 0; i < n; i++) {
        choices[i].on_front = choices[i].usable;
        for (size_t k = 0; k < n && choices[i].on_front; k++)
            choices[i].on_front = !(choices[k].usable && dominates(&choices[k], &choices[i]));
    }
}

double analysis_cost_per_1000(double price_per_hour, double throughput) {
    return price_per_hour / 3600 / throughput * 1000;
}

monthly analysis_monthly(double price_per_hour, double throughput, double daily) {
    double machines = ceil(daily / (throughput * 86400));
    return (monthly){
        .busy = daily * 365 / 12 / 1000 * analysis_cost_per_1000(price_per_hour, throughput),
        .machines = machines,
        .always = machines * price_per_hour * ANALYSIS_MONTH_HOURS,
    };
}

double analysis_little(double callers, double requests_per_second, double mean_seconds) {
    return requests_per_second * mean_seconds / callers;
}

double analysis_efficiency(double throughput, double n, double base_throughput, double n_base) {
    return throughput / base_throughput / (n / n_base);
}

const char *analysis_verdict_name(verdict v) {
    static const char *const names[] = {"same", "better", "worse", "uncertain"};
    return names[v];
}

verdict analysis_compare(repeats base, repeats fresh, bool more_is_better, double limit, double *change) {
    *change = statistics_median(fresh.values, fresh.n) / statistics_median(base.values, base.n) - 1;
    if (fabs(*change) <= limit)
        return VERDICT_SAME;
    bool above = statistics_min(fresh.values, fresh.n) > statistics_max(base.values, base.n);
    bool below = statistics_max(fresh.values, fresh.n) < statistics_min(base.values, base.n);
    if (!above && !below)
        return VERDICT_UNCERTAIN;
    return above == more_is_better ? VERDICT_BETTER : VERDICT_WORSE;
}

double analysis_growth(const double *values, size_t n) {
    size_t quarter = n / 4;
    if (quarter == 0)
        return 0;
    return statistics_mean(values + n - quarter, quarter) - statistics_mean(values + quarter, quarter);
}

double analysis_roof(double macs, double bytes, double peak_macs_per_s, double bytes_per_s) {
    double compute = peak_macs_per_s > 0 ? macs / peak_macs_per_s : 0;
    double transfer = bytes_per_s > 0 ? bytes / bytes_per_s : 0;
    return compute > transfer ? compute : transfer;
}
