#include "chart.h"

#include "output.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 720, HEIGHT = 380, LEFT = 72, RIGHT = 24, TOP = 26, BOTTOM = 60, MOST_TICKS = 16 };

line *chart_line(chart *c, const char *name) {
    if (c->n_lines == CHART_MOST_SERIES)
        return NULL;
    line *l = &c->lines[c->n_lines++];
    snprintf(l->name, sizeof l->name, "%s", name);
    return l;
}

void line_add(line *l, double x, double y) {
    if (l == NULL || l->n == CHART_MOST_POINTS || !isfinite(x) || !isfinite(y))
        return;
    l->points[l->n++] = (point){.x = x, .y = y};
}

/* ----------------------------------------------------------------------------------------------------------- axes */

/* From a value to a place in pixels. */
typedef struct axis {
    double low, high;  /* values at the ends */
    double begin, end; /* pixels */
    bool logarithmic;
    double ticks[MOST_TICKS];
    int n_ticks;
} axis;

static double place(const axis *a, double value) {
    double share = a->logarithmic ? log(value / a->low) / log(a->high / a->low) : (value - a->low) / (a->high - a->low);
    return a->begin + share * (a->end - a->begin);
}

/* 1, 2 or 5 times a power of ten, so that about `wanted` of them fit into the range. */
static double nice_step(double range, int wanted) {
    double raw = range / wanted, power = pow(10, floor(log10(raw))), digit = raw / power;
    return (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10) * power;
}

static void linear_ticks(axis *a) {
    double step = nice_step(a->high - a->low, 6);
    a->low = floor(a->low / step + 1e-9) * step;
    a->high = ceil(a->high / step - 1e-9) * step;
    for (int i = 0; a->low + i * step <= a->high + step / 2 && a->n_ticks < MOST_TICKS; i++) {
        double at = a->low + i * step;
        a->ticks[a->n_ticks++] = fabs(at) < step / 1000 ? 0 : at;
    }
}

/* The ends go to 1, 2 or 5 times a power of ten; every one of them is a tick where there is room, else the powers. */
static void logarithmic_ticks(axis *a) {
    static const double digits[] = {1, 2, 5};
    int first = (int)floor(log10(a->low));
    double low = pow(10, first), high = HUGE_VAL;
    for (int power = first; high == HUGE_VAL; power++)
        for (int i = 0; i < 3 && high == HUGE_VAL; i++) {
            double at = digits[i] * pow(10, power);
            low = at <= a->low * 1.0001 ? at : low;
            high = at >= a->high * 0.9999 && at > low ? at : high;
        }
    bool sparse = log10(high / low) > 3;
    for (int power = first; pow(10, power) <= high * 1.0001; power++)
        for (int i = 0; i < (sparse ? 1 : 3) && a->n_ticks < MOST_TICKS; i++) {
            double at = digits[i] * pow(10, power);
            if (at >= low * 0.9999 && at <= high * 1.0001)
                a->ticks[a->n_ticks++] = at;
        }
    a->low = low;
    a->high = high;
}

static void ticks_at_points(axis *a, const chart *c) {
    for (size_t i = 0; i < c->n_lines; i++)
        for (size_t k = 0; k < c->lines[i].n && a->n_ticks < MOST_TICKS; k++) {
            bool known = false;
            for (int t = 0; t < a->n_ticks; t++)
                known = known || a->ticks[t] == c->lines[i].points[k].x;
            if (!known)
                a->ticks[a->n_ticks++] = c->lines[i].points[k].x;
        }
}

static void find_range(const chart *c, axis *x, axis *y) {
    x->low = y->low = HUGE_VAL;
    x->high = y->high = -HUGE_VAL;
    for (size_t i = 0; i < c->n_lines; i++)
        for (size_t k = 0; k < c->lines[i].n; k++) {
            const point *p = &c->lines[i].points[k];
            x->low = fmin(x->low, p->x);
            x->high = fmax(x->high, p->x);
            y->low = fmin(y->low, p->y);
            y->high = fmax(y->high, p->y);
        }
    for (size_t i = 0; i < c->n_markers; i++)
        x->high = fmax(x->high, c->markers[i].x);
}

static void widen(axis *a) {
    if (a->high > a->low)
        return;
    double by = a->low != 0 ? 0.5 * fabs(a->low) : 1;
    a->low -= a->logarithmic ? by / 2 : by;
    a->high += by;
}

static void make_axes(const chart *c, axis *x, axis *y) {
    *x = (axis){.begin = LEFT, .end = WIDTH - RIGHT, .logarithmic = c->log_x};
    *y = (axis){.begin = HEIGHT - BOTTOM, .end = TOP, .logarithmic = c->log_y};
    find_range(c, x, y);
    x->logarithmic = x->logarithmic && x->low > 0;
    y->logarithmic = y->logarithmic && y->low > 0;
    if (c->from_zero && !y->logarithmic)
        y->low = 0;
    widen(x);
    widen(y);
    if (c->ticks_at_points)
        ticks_at_points(x, c);
    else if (x->logarithmic)
        logarithmic_ticks(x);
    else
        linear_ticks(x);
    if (y->logarithmic)
        logarithmic_ticks(y);
    else
        linear_ticks(y);
}

/* No more digits than tell ticks apart. */
static void write_number(FILE *file, double value) {
    double size = fabs(value);
    if (size >= 1e6 || (size > 0 && size < 1e-4))
        fprintf(file, "%.3g", value);
    else
        fprintf(file, "%.6g", round(value * 1e6) / 1e6);
}

static void write_axes(FILE *file, const chart *c, const axis *x, const axis *y) {
    for (int i = 0; i < y->n_ticks; i++) {
        double at = place(y, y->ticks[i]);
        fprintf(file, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, at,
                at);
        fprintf(file, "<text class=\"tick\" text-anchor=\"end\" x=\"%d\" y=\"%.1f\">", LEFT - 8, at + 4);
        write_number(file, y->ticks[i]);
        fputs("</text>", file);
    }
    for (int i = 0; i < x->n_ticks; i++) {
        double at = place(x, x->ticks[i]);
        fprintf(file, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", at, at, HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 5);
        fprintf(file, "<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">", at, HEIGHT - BOTTOM + 20);
        write_number(file, x->ticks[i]);
        fputs("</text>", file);
    }
    fprintf(file, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>", LEFT, WIDTH - RIGHT,
            HEIGHT - BOTTOM, HEIGHT - BOTTOM);
    fprintf(file, "<text class=\"title\" text-anchor=\"middle\" x=\"%d\" y=\"%d\">", (LEFT + WIDTH - RIGHT) / 2,
            HEIGHT - 14);
    write_escaped(file, c->x_title);
    fprintf(file, "</text><text class=\"title\" text-anchor=\"middle\" transform=\"translate(18 %d) rotate(-90)\">",
            (TOP + HEIGHT - BOTTOM) / 2);
    write_escaped(file, c->y_title);
    fputs("</text>\n", file);
}

/* ---------------------------------------------------------------------------------------------------------- lines */

static void write_path(FILE *file, const line *l, size_t series, bool area, const axis *x, const axis *y) {
    fprintf(file, "<path class=\"line s%zu%s%s\" d=\"", series, l->dashed ? " dashed" : "", area ? " area" : "");
    for (size_t i = 0; i < l->n; i++)
        fprintf(file, "%c%.1f %.1f", i == 0 ? 'M' : 'L', place(x, l->points[i].x), place(y, l->points[i].y));
    if (area)
        fprintf(file, "L%.1f %.1fL%.1f %.1fZ", place(x, l->points[l->n - 1].x), y->begin, place(x, l->points[0].x),
                y->begin);
    fputs("\"/>\n", file);
}

static void write_point(FILE *file, const point *p, size_t series, const axis *x, const axis *y) {
    double px = place(x, p->x), py = place(y, p->y);
    fprintf(file, "<circle class=\"point s%zu%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"><title>", series,
            p->marked ? " marked" : "", px, py, p->marked ? "6" : "4");
    write_escaped(file, p->label);
    fputs(p->label[0] != '\0' ? ": " : "", file);
    write_number(file, p->x);
    fputs(", ", file);
    write_number(file, p->y);
    fputs("</title></circle>", file);
    if (p->marked && p->label[0] != '\0') {
        bool right = px > (LEFT + WIDTH - RIGHT) * 0.72;
        fprintf(file, "<text class=\"label\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">", right ? "end" : "start",
                px + (right ? -9 : 9), py - 9 > TOP ? py - 9 : py + 18);
        write_escaped(file, p->label);
        fputs("</text>", file);
    }
    putc('\n', file);
}

static void write_markers(FILE *file, const chart *c, const axis *x) {
    for (size_t i = 0; i < c->n_markers; i++) {
        double at = place(x, c->markers[i].x);
        bool right = at > (LEFT + WIDTH - RIGHT) * 0.8;
        fprintf(file, "<line class=\"marker\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", at, at, TOP,
                HEIGHT - BOTTOM);
        fprintf(file, "<text class=\"label\" text-anchor=\"%s\" x=\"%.1f\" y=\"%zu\">", right ? "end" : "start",
                at + (right ? -5 : 5), TOP + 12 + 16 * i);
        write_escaped(file, c->markers[i].label);
        fputs("</text>\n", file);
    }
}

static void begin_figure(FILE *file, const char *id, const char *title, int height) {
    fprintf(file, "<figure id=\"%s\"><figcaption>", id);
    write_escaped(file, title);
    fprintf(file, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, height);
    write_escaped(file, title);
    fputs("\">\n", file);
}

static void end_figure(FILE *file, const char *const *names, size_t n, const char *note) {
    fputs("</svg>\n", file);
    if (n > 1) {
        fputs("<ul class=\"legend\">", file);
        for (size_t i = 0; i < n; i++) {
            fprintf(file, "<li><span class=\"swatch b%zu\"></span>", i);
            write_escaped(file, names[i]);
            fputs("</li>", file);
        }
        fputs("</ul>\n", file);
    }
    if (note != NULL) {
        fputs("<p class=\"note\">", file);
        write_escaped(file, note);
        fputs("</p>\n", file);
    }
    fputs("</figure>\n", file);
}

void chart_write(FILE *file, const chart *c) {
    axis x, y;
    size_t n_points = 0;
    const char *names[CHART_MOST_SERIES];
    for (size_t i = 0; i < c->n_lines; i++) {
        n_points += c->lines[i].n;
        names[i] = c->lines[i].name;
    }
    if (n_points == 0)
        return;
    make_axes(c, &x, &y);
    begin_figure(file, c->id, c->title, HEIGHT);
    write_axes(file, c, &x, &y);
    for (size_t i = 0; i < c->n_lines; i++) {
        if (!c->lines[i].loose && c->lines[i].n > 0)
            write_path(file, &c->lines[i], i, c->areas, &x, &y);
        for (size_t k = 0; !c->areas && k < c->lines[i].n; k++)
            write_point(file, &c->lines[i].points[k], i, &x, &y);
    }
    write_markers(file, c, &x);
    end_figure(file, names, c->n_lines, c->note);
}

/* ----------------------------------------------------------------------------------------------------------- bars */

static void write_bar(FILE *file, double value, size_t series, int y, int height, const axis *x) {
    enum { ROOM = 60 };
    double end = place(x, value);
    fprintf(file, "<rect class=\"bar b%zu\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>", series,
            (int)x->begin, y, fmax(end - x->begin, 1), height);
    fprintf(file, "<text class=\"tick\" x=\"%.1f\" y=\"%d\">%.*f</text>\n", end + 6, y + height - 3,
            value >= 100 ? 0
            : value >= 1 ? 2
                         : 4,
            value);
}

void bars_write(FILE *file, const bars *b) {
    enum { NAMES = 110, BAR = 16, GROUP = 46, ROOM = 60 };
    int height = TOP + GROUP * (int)b->n + BOTTOM - 12;
    axis x = {.begin = NAMES, .end = WIDTH - ROOM};
    for (size_t i = 0; i < b->n; i++)
        for (int k = 0; k < 2; k++)
            x.high = isfinite(b->values[i][k]) ? fmax(x.high, b->values[i][k]) : x.high;
    widen(&x);
    x.low = 0;
    linear_ticks(&x);
    begin_figure(file, b->id, b->title, height);
    for (int i = 0; i < x.n_ticks; i++) {
        double at = place(&x, x.ticks[i]);
        fprintf(file, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", at, at, TOP - 8,
                height - BOTTOM + 12);
        fprintf(file, "<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">", at, height - BOTTOM + 28);
        write_number(file, x.ticks[i]);
        fputs("</text>\n", file);
    }
    for (size_t i = 0; i < b->n; i++) {
        int y = TOP + GROUP * (int)i;
        fprintf(file, "<text class=\"name\" text-anchor=\"end\" x=\"%d\" y=\"%d\">", NAMES - 10, y + BAR + 5);
        write_escaped(file, b->names[i]);
        fputs("</text>", file);
        for (size_t k = 0; k < 2; k++)
            if (isfinite(b->values[i][k]))
                write_bar(file, b->values[i][k], k, y + (BAR + 2) * (int)k, BAR, &x);
    }
    fprintf(file, "<text class=\"title\" text-anchor=\"middle\" x=\"%d\" y=\"%d\">", (NAMES + WIDTH - ROOM) / 2,
            height - 12);
    write_escaped(file, b->x_title);
    fputs("</text>\n", file);
    end_figure(file, b->series, 2, b->note);
}
