#include "study_chart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "terminal.h"

enum { WIDTH = 460, HEIGHT = 280, LEFT = 44, RIGHT = 450, TOP = 10, BOTTOM = 240, POINTS = 400 };
enum { COLORS = 8 };

typedef struct axes {
    double x_low, x_high, y_low, y_high;
} axes;

static double x_at(const axes *a, double x)
{
    return LEFT + (RIGHT - LEFT) * (x - a->x_low) / (a->x_high - a->x_low);
}

static double y_at(const axes *a, double y)
{
    double part = (y - a->y_low) / (a->y_high - a->y_low);
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    return BOTTOM - (BOTTOM - TOP) * part;
}

/* A round step that divides a range into about `parts`. */
static double step_of(double range, int parts)
{
    double raw = range / parts, magnitude = pow(10, floor(log10(raw))), lead = raw / magnitude;
    return magnitude * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

static void draw_axes(const axes *a, const char *x_name, FILE *stream)
{
    double step = step_of(a->y_high - a->y_low, 5);
    int digits = step < 0.00999 ? 3 : step < 0.0999 ? 2 : step < 0.999 ? 1 : 0;
    for (double y = step * ceil(a->y_low / step - 1e-9); y <= a->y_high + step * 1e-6; y += step) {
        fprintf(stream,
                "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"y\" x=\"%d\" y=\"%.1f\">%.*f"
                "</text>",
                LEFT, y_at(a, y), RIGHT, LEFT - 5, y_at(a, y) + 3.5, digits, y);
    }
    step = step_of(a->x_high - a->x_low, 5);
    for (double x = step * ceil(a->x_low / step - 1e-9); x <= a->x_high + step * 1e-6; x += step) {
        fprintf(stream, "<text class=\"x\" x=\"%.1f\" y=\"%d\">%.4g</text>", x_at(a, x),
                BOTTOM + 16, fabs(x) < step * 1e-6 ? 0 : x);
    }
    fprintf(stream, "<text class=\"x\" x=\"%d\" y=\"%d\">", (LEFT + RIGHT) / 2, HEIGHT - 4);
    study_page_text(stream, x_name);
    fputs("</text>", stream);
}

/* Colour and dashes of a cell. */
static void stroke(size_t cell, FILE *stream)
{
    static const char *const dashes[] = {"", "6 3", "2 3", "8 3 2 3"};
    fprintf(stream, " style=\"stroke:var(--c%zu)", cell % COLORS);
    const char *dash = dashes[cell / COLORS % 4];
    fprintf(stream, dash[0] != 0 ? ";stroke-dasharray:%s\"" : "%s\"", dash);
}

/* ---- curves */

/* The mean over the seeds that are finished; the number of points. */
static size_t mean_curve(const study *s, const study_cell *cell, double points[2 * POINTS])
{
    size_t count = 0;
    double runs = 0;
    for (size_t k = 0; k < s->seed_count; k++) {
        const study_run *run = &cell->runs[k];
        if (!run->finished || run->curve_count == 0) {
            continue;
        }
        if (runs == 0) {
            count = run->curve_count;
            memset(points, 0, 2 * POINTS * sizeof *points);
        }
        count = run->curve_count < count ? run->curve_count : count;
        for (size_t i = 0; i < count; i++) {
            points[2 * i] = run->curve[2 * i];
            points[2 * i + 1] += run->curve[2 * i + 1];
        }
        runs++;
    }
    for (size_t i = 0; i < count; i++) {
        points[2 * i + 1] /= runs;
    }
    return count;
}

/* Each point with its neighbours: a hundredth of the curve on both sides. */
static double smooth(const double *points, size_t count, size_t at)
{
    size_t reach = count / 60, from = at > reach ? at - reach : 0;
    size_t to = at + reach < count ? at + reach : count - 1;
    double sum = 0;
    for (size_t i = from; i <= to; i++) {
        sum += points[2 * i + 1];
    }
    return sum / (double)(to - from + 1);
}

/* The scale hides the first tenth, where all curves fall alike. */
static bool scale_curves(const study *s, bool flops, axes *a)
{
    double points[2 * POINTS];
    *a = (axes){0, 0, INFINITY, -INFINITY};
    for (size_t c = 0; c < s->cell_count; c++) {
        const study_cell *cell = &s->cells[c];
        size_t count = mean_curve(s, cell, points);
        for (size_t i = 0; i < count; i++) {
            double x = points[2 * i] * (flops ? cell->training_flops : 1);
            double y = smooth(points, count, i);
            a->x_high = x > a->x_high ? x : a->x_high;
            a->y_low = y < a->y_low ? y : a->y_low;
            a->y_high = y > a->y_high && 10 * i >= count ? y : a->y_high;
        }
    }
    if (!(a->x_high > 0) || !isfinite(a->y_low) || !isfinite(a->y_high)) {
        return false;
    }
    double room = a->y_high > a->y_low ? 0.04 * (a->y_high - a->y_low) : 0.1;
    a->y_low -= room;
    a->y_high += room;
    return true;
}

static void draw_curves(const study *s, bool flops, FILE *stream)
{
    double points[2 * POINTS];
    axes a;
    if (!scale_curves(s, flops, &a)) {
        return;
    }
    fprintf(stream,
            "<figure><figcaption>Training loss by %s</figcaption>\n<svg viewBox=\"0 0 %d %d\" "
            "role=\"img\" aria-label=\"Training loss of every cell by %s\">",
            flops ? "FLOPs" : "tokens", WIDTH, HEIGHT, flops ? "FLOPs" : "tokens");
    draw_axes(&a, flops ? "training FLOPs" : "tokens", stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        const study_cell *cell = &s->cells[c];
        size_t count = mean_curve(s, cell, points);
        if (count == 0) {
            continue;
        }
        fputs("<path class=\"curve\"", stream);
        stroke(c, stream);
        fputs(" d=\"", stream);
        for (size_t i = 0; i < count; i++) {
            double x = points[2 * i] * (flops ? cell->training_flops : 1);
            fprintf(stream, "%s%.1f %.1f", i == 0 ? "M" : " ", x_at(&a, x),
                    y_at(&a, smooth(points, count, i)));
        }
        fputs("\"><title>", stream);
        study_page_text(stream, cell->name);
        fputs("</title></path>", stream);
    }
    fputs("</svg></figure>\n", stream);
}

/* ---- points with intervals */

/* Final loss over the seconds that training took. */
static void draw_seconds(const study *s, FILE *stream)
{
    axes a = {0, 0, INFINITY, -INFINITY};
    for (size_t c = 0; c < s->cell_count; c++) {
        double x = study_mean(s, &s->cells[c], "seconds").mean;
        double y = study_mean(s, &s->cells[c], "loss").mean;
        if (isfinite(x) && isfinite(y)) {
            a.x_high = 1.08 * x > a.x_high ? 1.08 * x : a.x_high;
            a.y_low = y < a.y_low ? y : a.y_low;
            a.y_high = y > a.y_high ? y : a.y_high;
        }
    }
    if (!(a.x_high > 0) || !isfinite(a.y_low)) {
        return;
    }
    double room = a.y_high > a.y_low ? 0.08 * (a.y_high - a.y_low) : 0.1;
    a.y_low -= room;
    a.y_high += room;
    fprintf(stream,
            "<figure><figcaption>Held-out loss by seconds of training, on this machine"
            "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Held-out loss by "
            "seconds\">",
            WIDTH, HEIGHT);
    draw_axes(&a, "seconds in steps", stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        double x = study_mean(s, &s->cells[c], "seconds").mean;
        double y = study_mean(s, &s->cells[c], "loss").mean;
        if (isfinite(x) && isfinite(y)) {
            fprintf(stream,
                    "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" style=\"fill:var(--c%zu)\"><title>",
                    x_at(&a, x), y_at(&a, y), c % COLORS);
            study_page_text(stream, s->cells[c].name);
            fprintf(stream, ": %.4f after %.1f s</title></circle><text x=\"%.1f\" y=\"%.1f\">", y,
                    x, x_at(&a, x) + 6, y_at(&a, y) - 5);
            study_page_text(stream, s->cells[c].name);
            fputs("</text>", stream);
        }
    }
    fputs("</svg></figure>\n", stream);
}

/* A row for each cell: its difference to the baseline with the interval. */
static void draw_differences(const study *s, FILE *stream)
{
    enum { ROW = 20, NAMES = 190, NEAR = 50 };
    double low = 0, high = 0;
    int rows = 0;
    for (size_t c = 0; c < s->cell_count; c++) {
        study_estimate e = study_difference(s, &s->cells[c], "loss");
        if (e.count > 0) {
            double from = isfinite(e.low) ? e.low : e.mean, to = isfinite(e.high) ? e.high : e.mean;
            low = from < low ? from : low;
            high = to > high ? to : high;
            rows++;
        }
    }
    if (rows == 0 || !(high > low)) {
        return;
    }
    double scale = (WIDTH - NAMES - 20) / (high - low), zero = NAMES - low * scale;
    fprintf(stream,
            "<figure><figcaption>Held-out loss apart from the baseline, nats a token, with 95 %% "
            "intervals over the seeds</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" "
            "aria-label=\"Differences to the baseline\"><path class=\"zero\" d=\"M%.1f 0V%d\"/>",
            WIDTH, ROW * rows + 18, zero, ROW * rows);
    int at = 0;
    for (size_t c = 0; c < s->cell_count; c++) {
        study_estimate e = study_difference(s, &s->cells[c], "loss");
        if (e.count == 0) {
            continue;
        }
        double y = ROW * at++ + ROW / 2.0;
        fprintf(stream, "<text x=\"0\" y=\"%.1f\">", y + 3.5);
        study_page_text(stream, s->cells[c].name);
        fputs("</text>", stream);
        if (isfinite(e.low)) {
            fprintf(stream,
                    "<path class=\"reach\" style=\"stroke:var(--c%zu)\" d=\"M%.1f %.1fH%.1f\"/>",
                    c % COLORS, zero + e.low * scale, y, zero + e.high * scale);
        }
        fprintf(stream,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" style=\"fill:var(--c%zu)\"><title>%+.4f"
                "</title></circle>",
                zero + e.mean * scale, y, c % COLORS, e.mean);
    }
    fprintf(stream, "<text class=\"x\" x=\"%.1f\" y=\"%d\">0</text>", zero, ROW * rows + 14);
    if (zero - NAMES > NEAR) {
        fprintf(stream, "<text x=\"%d\" y=\"%d\">%+.4f</text>", NAMES, ROW * rows + 14, low);
    }
    if (WIDTH - 20 - zero > NEAR) {
        fprintf(stream, "<text class=\"y\" x=\"%d\" y=\"%d\">%+.4f</text>", WIDTH - 10,
                ROW * rows + 14, high);
    }
    fputs("</svg></figure>\n", stream);
}

static bool costs_differ(const study *s)
{
    double least = INFINITY, most = 0;
    for (size_t c = 0; c < s->cell_count; c++) {
        double cost = s->cells[c].training_flops;
        least = cost < least ? cost : least;
        most = cost > most ? cost : most;
    }
    return most > 1.02 * least;
}

void study_write_charts(const study *s, FILE *stream)
{
    fputs("<section id=\"curves\">\n<h2>Learning curves</h2>\n<ul class=\"legend\">\n", stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        fputs("<li><svg viewBox=\"0 0 28 10\" aria-hidden=\"true\"><path class=\"curve\"", stream);
        stroke(c, stream);
        fputs(" d=\"M0 5H28\"/></svg>", stream);
        study_page_text(stream, s->cells[c].name);
        fputs("</li>\n", stream);
    }
    fputs("</ul>\n<div class=\"pair\">\n", stream);
    draw_curves(s, false, stream);
    if (costs_differ(s)) {
        draw_curves(s, true, stream);
    }
    draw_seconds(s, stream);
    draw_differences(s, stream);
    fputs("</div>\n<p class=\"note\">Curves are means over the seeds, smoothed over a sixtieth of "
          "the run on both sides; the scale hides the first tenth.</p>\n</section>\n",
          stream);
}
