/* What a study draws: curves, points and rows, each as what is inside of an SVG. */
#include "study_chart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "terminal.h"

enum { WIDTH = STUDY_FIGURE_WIDTH, HEIGHT = 280, LEFT = 44, RIGHT = 450, TOP = 10, BOTTOM = 240 };
enum { POINTS = 400, COLORS = 8 };

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

/* Around what is to be drawn; false: there is nothing. */
static bool give_room(axes *a, double part)
{
    if (!(a->x_high > a->x_low) || !isfinite(a->y_low) || !isfinite(a->y_high)) {
        return false;
    }
    double room = a->y_high > a->y_low ? part * (a->y_high - a->y_low) : 0.1;
    a->y_low -= room;
    a->y_high += room;
    return true;
}

/* `x_step`: the least step of x. */
static void draw_axes(const axes *a, const char *x_name, double x_step, FILE *stream)
{
    double step = step_of(a->y_high - a->y_low, 5);
    int digits = step < 0.00999 ? 3 : step < 0.0999 ? 2 : step < 0.999 ? 1 : 0;
    for (double y = step * ceil(a->y_low / step - 1e-9); y <= a->y_high + step * 1e-6; y += step) {
        fprintf(stream,
                "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"y\" x=\"%d\" y=\"%.1f\">%.*f"
                "</text>",
                LEFT, y_at(a, y), RIGHT, LEFT - 5, y_at(a, y) + 3.5, digits,
                fabs(y) < step * 1e-6 ? 0 : y);
    }
    step = step_of(a->x_high - a->x_low, 5);
    step = step < x_step ? x_step : step;
    for (double x = step * ceil(a->x_low / step - 1e-9); x <= a->x_high + step * 1e-6; x += step) {
        fprintf(stream, "<text class=\"x\" x=\"%.1f\" y=\"%d\">%.4g</text>", x_at(a, x),
                BOTTOM + 16, fabs(x) < step * 1e-6 ? 0 : x);
    }
    fprintf(stream, "<text class=\"x\" x=\"%d\" y=\"%d\">", (LEFT + RIGHT) / 2, HEIGHT - 4);
    study_page_text(stream, x_name);
    fputs("</text>", stream);
}

void study_chart_stroke(size_t cell, FILE *stream)
{
    static const char *const dashes[] = {"", "6 3", "2 3", "8 3 2 3"};
    fprintf(stream, " style=\"stroke:var(--c%zu)", cell % COLORS);
    const char *dash = dashes[cell / COLORS % 4];
    fprintf(stream, dash[0] != 0 ? ";stroke-dasharray:%s\"" : "%s\"", dash);
}

double study_chart_width(const char *name)
{
    return 5.5 * (double)strlen(name);
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

/* Each point with its neighbours: a sixtieth of the curve on both sides. */
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
    return give_room(a, 0.04);
}

/* A line of a cell through its points. */
static void begin_curve(size_t cell, FILE *stream)
{
    fputs("<path class=\"curve\"", stream);
    study_chart_stroke(cell, stream);
    fputs(" d=\"", stream);
}

static void end_curve(const study_cell *cell, FILE *stream)
{
    fputs("\"><title>", stream);
    study_page_text(stream, cell->name);
    fputs("</title></path>", stream);
}

static int draw_curves(const study *s, bool flops, FILE *stream)
{
    double points[2 * POINTS];
    axes a;
    if (!scale_curves(s, flops, &a)) {
        return 0;
    }
    draw_axes(&a, flops ? "training FLOPs" : "tokens", 0, stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        const study_cell *cell = &s->cells[c];
        size_t count = mean_curve(s, cell, points);
        if (count == 0) {
            continue;
        }
        begin_curve(c, stream);
        for (size_t i = 0; i < count; i++) {
            double x = points[2 * i] * (flops ? cell->training_flops : 1);
            fprintf(stream, "%s%.1f %.1f", i == 0 ? "M" : " ", x_at(&a, x),
                    y_at(&a, smooth(points, count, i)));
        }
        end_curve(cell, stream);
    }
    return HEIGHT;
}

int study_draw_curves(const study *s, FILE *stream)
{
    return draw_curves(s, false, stream);
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

int study_draw_curves_by_flops(const study *s, FILE *stream)
{
    return costs_differ(s) ? draw_curves(s, true, stream) : 0;
}

/* ---- by layer */

/* Mean of a cell in a layer; # in the pattern stands for its number. */
static double layer_mean(const study *s, const study_cell *cell, const char *pattern, size_t layer)
{
    char name[120], number[24];
    const char *at = strchr(pattern, '#');
    snprintf(number, sizeof number, "%zu", layer);
    snprintf(name, sizeof name, "%.*s%s%s", (int)(at - pattern), pattern, number, at + 1);
    return study_mean(s, cell, name).mean;
}

/* Layers from the first on of which the cell has the number. */
static size_t layer_count(const study *s, const study_cell *cell, const char *pattern)
{
    size_t count = 0;
    while (count < 1000 && isfinite(layer_mean(s, cell, pattern, count))) {
        count++;
    }
    return count;
}

static bool scale_layers(const study *s, const char *pattern, const char *chance, axes *a)
{
    *a = (axes){0, 0, 0, -INFINITY};
    for (size_t c = 0; c < s->cell_count; c++) {
        size_t count = layer_count(s, &s->cells[c], pattern);
        for (size_t i = 0; i < count; i++) {
            double y = layer_mean(s, &s->cells[c], pattern, i);
            double level = chance != NULL ? layer_mean(s, &s->cells[c], chance, i) : 0;
            a->x_high = (double)i > a->x_high ? (double)i : a->x_high;
            a->y_low = y < a->y_low ? y : a->y_low;
            a->y_high = y > a->y_high ? y : a->y_high;
            a->y_high = level > a->y_high ? level : a->y_high;
        }
    }
    return give_room(a, 0.04);
}

/* What chance gives, where it does not hang on the cell; else nothing. */
static void draw_chance(const study *s, const char *chance, const axes *a, FILE *stream)
{
    double level = NAN;
    for (size_t c = 0; c < s->cell_count; c++) {
        double y = layer_mean(s, &s->cells[c], chance, 0);
        if (isfinite(y) && isfinite(level) && fabs(y - level) > 1e-9) {
            return;
        }
        level = isfinite(y) ? y : level;
    }
    if (isfinite(level)) {
        fprintf(stream,
                "<path class=\"zero\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\">chance</text>",
                LEFT, y_at(a, level), RIGHT, LEFT + 4, y_at(a, level) - 3);
    }
}

static int draw_layers(const study *s, const char *pattern, const char *chance, FILE *stream)
{
    axes a;
    if (!scale_layers(s, pattern, chance, &a)) {
        return 0;
    }
    draw_axes(&a, "layer with experts, from 0", 1, stream);
    if (chance != NULL) {
        draw_chance(s, chance, &a, stream);
    }
    for (size_t c = 0; c < s->cell_count; c++) {
        size_t count = layer_count(s, &s->cells[c], pattern);
        if (count == 0) {
            continue;
        }
        begin_curve(c, stream);
        for (size_t i = 0; i < count; i++) {
            fprintf(stream, "%s%.1f %.1f", i == 0 ? "M" : " ", x_at(&a, (double)i),
                    y_at(&a, layer_mean(s, &s->cells[c], pattern, i)));
        }
        end_curve(&s->cells[c], stream);
    }
    return HEIGHT;
}

int study_draw_repetition(const study *s, FILE *stream)
{
    return draw_layers(s, "routing.layer.#.repetition_first",
                       "routing.layer.#.repetition_first_chance", stream);
}

int study_draw_token(const study *s, FILE *stream)
{
    return draw_layers(s, "atlas.information.token.first.layers.#.excess", NULL, stream);
}

int study_draw_domain(const study *s, FILE *stream)
{
    return draw_layers(s, "atlas.information.domain.first.layers.#.excess", NULL, stream);
}

int study_draw_class(const study *s, FILE *stream)
{
    return draw_layers(s, "atlas.information.class.first.layers.#.excess", NULL, stream);
}

/* ---- points with intervals */

static double seconds_of(const study *s, const study_cell *cell)
{
    return study_mean(s, cell, "seconds").mean;
}

static double flops_of(const study *s, const study_cell *cell)
{
    bool finished = isfinite(study_mean(s, cell, "loss").mean);
    (void)s;
    return finished ? cell->training_flops * cell->steps * cell->tokens_per_step : NAN;
}

/* Held-out loss of the cells, with its standard error, over what they cost. */
static int draw_points(const study *s, double (*cost)(const study *, const study_cell *),
                       const char *x_name, FILE *stream)
{
    axes a = {0, 0, INFINITY, -INFINITY};
    for (size_t c = 0; c < s->cell_count; c++) {
        study_estimate loss = study_mean(s, &s->cells[c], "loss");
        double x = cost(s, &s->cells[c]), error = isfinite(loss.error) ? loss.error : 0;
        if (isfinite(x) && isfinite(loss.mean)) {
            a.x_high = 1.12 * x > a.x_high ? 1.12 * x : a.x_high;
            a.y_low = loss.mean - error < a.y_low ? loss.mean - error : a.y_low;
            a.y_high = loss.mean + error > a.y_high ? loss.mean + error : a.y_high;
        }
    }
    if (!give_room(&a, 0.08)) {
        return 0;
    }
    draw_axes(&a, x_name, 0, stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        study_estimate loss = study_mean(s, &s->cells[c], "loss");
        double x = cost(s, &s->cells[c]), y = loss.mean;
        if (!isfinite(x) || !isfinite(y)) {
            continue;
        }
        if (isfinite(loss.error)) {
            fprintf(stream,
                    "<path class=\"reach\" style=\"stroke:var(--c%zu)\" d=\"M%.1f %.1fV%.1f\"/>",
                    c % COLORS, x_at(&a, x), y_at(&a, y - loss.error), y_at(&a, y + loss.error));
        }
        fprintf(stream,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" style=\"fill:var(--c%zu)\"><title>",
                x_at(&a, x), y_at(&a, y), c % COLORS);
        study_page_text(stream, s->cells[c].name);
        /* a name that would leave the figure stands on the other side */
        bool left = x_at(&a, x) + 6 + study_chart_width(s->cells[c].name) > WIDTH;
        fprintf(stream, ": %.4f at %.4g</title></circle><text%s x=\"%.1f\" y=\"%.1f\">", y, x,
                left ? " class=\"y\"" : "", x_at(&a, x) + (left ? -6 : 6), y_at(&a, y) - 5);
        study_page_text(stream, s->cells[c].name);
        fputs("</text>", stream);
    }
    return HEIGHT;
}

int study_draw_loss_by_flops(const study *s, FILE *stream)
{
    return costs_differ(s) ? draw_points(s, flops_of, "training FLOPs", stream) : 0;
}

int study_draw_loss_by_seconds(const study *s, FILE *stream)
{
    return draw_points(s, seconds_of, "seconds in steps", stream);
}

/* A row for each cell: its difference to the baseline with the interval. */
int study_draw_differences(const study *s, FILE *stream)
{
    enum { ROW = 20, NEAR = 50 };
    double low = 0, high = 0;
    int rows = 0, names = 190;
    for (size_t c = 0; c < s->cell_count; c++) {
        study_estimate e = study_difference(s, &s->cells[c], "loss");
        if (e.count > 0) {
            double from = isfinite(e.low) ? e.low : e.mean, to = isfinite(e.high) ? e.high : e.mean;
            low = from < low ? from : low;
            high = to > high ? to : high;
            int width = (int)study_chart_width(s->cells[c].name) + 8;
            names = width > names ? width : names;
            rows++;
        }
    }
    if (rows == 0 || !(high > low)) {
        return 0;
    }
    names = names < WIDTH - 120 ? names : WIDTH - 120;
    double scale = (WIDTH - names - 20) / (high - low), zero = names - low * scale;
    fprintf(stream, "<path class=\"zero\" d=\"M%.1f 0V%d\"/>", zero, ROW * rows);
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
    if (zero - names > NEAR) {
        fprintf(stream, "<text x=\"%d\" y=\"%d\">%+.4f</text>", names, ROW * rows + 14, low);
    }
    if (WIDTH - 20 - zero > NEAR) {
        fprintf(stream, "<text class=\"y\" x=\"%d\" y=\"%d\">%+.4f</text>", WIDTH - 10,
                ROW * rows + 14, high);
    }
    return ROW * rows + 18;
}
