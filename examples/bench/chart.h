/* Charts as inline SVG: no script, no font and no picture from elsewhere; colours from the page's style sheet. */
#ifndef BENCH_CHART_H
#define BENCH_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CHART_MOST_SERIES = 8, CHART_MOST_POINTS = 64, CHART_TEXT = 96 };

typedef struct point {
    double x, y;
    bool marked;                /* drawn larger */
    char label[CHART_TEXT / 2]; /* beside it when it is marked; as a tooltip otherwise */
} point;

typedef struct line {
    char name[CHART_TEXT];
    point points[CHART_MOST_POINTS];
    size_t n;
    bool loose; /* points alone, no line between them */
    bool dashed;
} line;

/* An x that is marked by an upright line. */
typedef struct marker {
    double x;
    char label[CHART_TEXT / 2];
} marker;

typedef struct chart {
    const char *id, *title, *x_title, *y_title, *note; /* note: NULL for none */
    bool log_x, log_y;
    bool ticks_at_points; /* x ticks where the points are, not at round numbers */
    bool from_zero;       /* y begins at 0 */
    bool areas;           /* lines are outlines of areas above 0 */
    line lines[CHART_MOST_SERIES];
    size_t n_lines;
    marker markers[4];
    size_t n_markers;
} chart;

/* A new line, or NULL when there are enough. */
line *chart_line(chart *c, const char *name);
void line_add(line *l, double x, double y);

/* Nothing when no line has a point. */
void chart_write(FILE *file, const chart *c);

/* Horizontal bars in groups, such as a stage alone and in the pipeline. */
typedef struct bars {
    const char *id, *title, *x_title, *note;
    const char *series[2];
    const char *names[16];
    double values[16][2]; /* NaN: none */
    size_t n;
} bars;

void bars_write(FILE *file, const bars *b);

#endif
