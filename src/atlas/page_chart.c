/* Line charts over the layers as SVG. Drawn 360 or 180 units wide, so that the lettering keeps its
 * size between a phone and a desk. */
#include <assert.h>
#include <math.h>

#include "atlas/page.h"

typedef struct frame {
    double left, right, top, bottom; /* of the plotting area */
    double width, height;
} frame;

static const frame wide = {36, 350, 12, 190, 360, 224};
static const frame narrow = {30, 174, 8, 92, 180, 112};

double mixt_chart_step(double bottom, double top)
{
    assert(top > bottom);
    double raw = (top - bottom) / 4;
    double magnitude = pow(10, floor(log10(raw)));
    double lead = raw / magnitude;
    return magnitude * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

void mixt_chart_scale(double *bottom, double *top)
{
    if (*bottom >= 0 && *bottom < 0.4 * *top) {
        *bottom = 0;
    }
    if (*top - *bottom < 1e-9) {
        *top = *bottom + 1;
    }
    double step = mixt_chart_step(*bottom, *top);
    *bottom = step * floor(*bottom / step + 1e-9);
    *top = step * ceil(*top / step - 1e-9);
}

static const frame *frame_of(const mixt_chart *chart)
{
    return chart->small ? &narrow : &wide;
}

static double x_of(const mixt_chart *chart, int i)
{
    const frame *f = frame_of(chart);
    double inset = chart->small ? 8 : 14;
    if (chart->count == 1) {
        return (f->left + f->right) / 2;
    }
    return f->left + inset + (f->right - f->left - 2 * inset) * i / (chart->count - 1);
}

static double y_of(const mixt_chart *chart, double value)
{
    const frame *f = frame_of(chart);
    double part = (value - chart->bottom) / (chart->top - chart->bottom);
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    return f->bottom - part * (f->bottom - f->top);
}

static const char *axis_of(const mixt_chart *chart)
{
    return chart->axis != NULL ? chart->axis : "layer";
}

static void draw_axes(mixt_buffer *out, const mixt_chart *chart)
{
    const frame *f = frame_of(chart);
    double step = mixt_chart_step(chart->bottom, chart->top);
    for (int i = 0; chart->bottom + i * step <= chart->top + step / 2; i++) {
        double value = chart->bottom + i * step;
        double y = y_of(chart, value);
        mixt_buffer_format(out, "<path class=\"grid\" d=\"M%.0f %.1fH%.0f\"/>", f->left, y,
                           f->right);
        mixt_buffer_format(out, "<text class=\"y\" x=\"%.0f\" y=\"%.1f\">%.*f</text>", f->left - 5,
                           y + 3.5, step < 0.999 ? (int)ceil(-log10(step) - 0.001) : 0, value);
    }
    int most = chart->small ? 5 : 12; /* labels that fit */
    int every = (chart->count + most - 1) / most;
    for (int i = 0; i < chart->count; i++) {
        if (i % every == 0) {
            mixt_buffer_format(out, "<text class=\"x\" x=\"%.1f\" y=\"%.0f\">%d</text>",
                               x_of(chart, i), f->bottom + (chart->small ? 13 : 16),
                               chart->number[i]);
        }
    }
    if (!chart->small) {
        mixt_buffer_format(out, "<text class=\"x\" x=\"%.0f\" y=\"%.0f\">%s</text>",
                           (f->left + f->right) / 2, f->height - 1, axis_of(chart));
    }
}

static void draw_line(mixt_buffer *out, const mixt_chart *chart, const char *name,
                      const double *value)
{
    const frame *f = frame_of(chart);
    if (value == NULL || (chart->count == 1 && isnan(value[0]))) {
        return;
    }
    if (chart->count == 1) { /* a level of a single layer crosses the chart */
        mixt_buffer_format(out, "<path class=\"%s\" d=\"M%.0f %.1fH%.0f\"/>", name, f->left,
                           y_of(chart, value[0]), f->right);
        return;
    }
    mixt_buffer_format(out, "<path class=\"%s\" d=\"", name);
    for (int i = 0; i < chart->count; i++) {
        if (!isnan(value[i])) {
            bool starts = i == 0 || isnan(value[i - 1]);
            mixt_buffer_format(out, "%s%.1f %.1f", starts ? "M" : " ", x_of(chart, i),
                               y_of(chart, value[i]));
        }
    }
    mixt_buffer_text(out, "\"/>");
}

/* Layers [begin, end) have an interval. */
static void draw_band_part(mixt_buffer *out, const mixt_chart *chart, int begin, int end)
{
    if (end - begin == 1) {
        mixt_buffer_format(out, "<path class=\"whisker\" d=\"M%.1f %.1fV%.1f\"/>",
                           x_of(chart, begin), y_of(chart, chart->low[begin]),
                           y_of(chart, chart->high[begin]));
        return;
    }
    mixt_buffer_text(out, "<path class=\"band\" d=\"M");
    for (int i = begin; i < end; i++) {
        mixt_buffer_format(out, "%.1f %.1f ", x_of(chart, i), y_of(chart, chart->high[i]));
    }
    for (int i = end - 1; i >= begin; i--) {
        mixt_buffer_format(out, "%.1f %.1f ", x_of(chart, i), y_of(chart, chart->low[i]));
    }
    mixt_buffer_text(out, "z\"/>");
}

static void draw_band(mixt_buffer *out, const mixt_chart *chart)
{
    int begin = 0;
    for (int i = 0; i <= chart->count; i++) {
        if (i == chart->count || isnan(chart->low[i])) {
            if (begin < i) {
                draw_band_part(out, chart, begin, i);
            }
            begin = i + 1;
        }
    }
}

/* "; " and a level at i behind its name, "-" where there is no number; nothing without the level.
 */
static void append_level(mixt_buffer *out, const mixt_chart *chart, const char *name,
                         const double *level, int i)
{
    if (level == NULL) {
        return;
    }
    if (isnan(level[i])) {
        mixt_buffer_format(out, "; %s -", name);
    } else {
        mixt_buffer_format(out, "; %s %.*f%s", name, chart->decimals, level[i], chart->unit);
    }
}

/* Dots that say their numbers when pointed at. */
static void draw_dots(mixt_buffer *out, const mixt_chart *chart)
{
    double radius = chart->small ? 1.8 : chart->count > 24 ? 2 : 3;
    for (int i = 0; i < chart->count; i++) {
        if (isnan(chart->value[i])) {
            continue;
        }
        mixt_buffer_format(out,
                           "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>%s %d: "
                           "%.*f%s",
                           x_of(chart, i), y_of(chart, chart->value[i]), radius, axis_of(chart),
                           chart->number[i], chart->decimals, chart->value[i], chart->unit);
        if (chart->low != NULL && !isnan(chart->low[i])) {
            mixt_buffer_format(out, " (%.*f to %.*f)", chart->decimals, chart->low[i],
                               chart->decimals, chart->high[i]);
        }
        append_level(out, chart, chart->dashed_name, chart->dashed, i);
        append_level(out, chart, chart->dotted_name, chart->dotted, i);
        mixt_buffer_text(out, "</title></circle>");
    }
}

void mixt_chart_draw(mixt_buffer *out, const mixt_chart *chart)
{
    assert(chart->count >= 1 && (chart->low == NULL) == (chart->high == NULL));
    assert(chart->value != NULL);
    draw_axes(out, chart);
    if (chart->low != NULL) {
        draw_band(out, chart);
    }
    draw_line(out, chart, "dotted", chart->dotted);
    draw_line(out, chart, "dashed", chart->dashed);
    if (chart->count > 1) {
        draw_line(out, chart, "value", chart->value);
    }
    draw_dots(out, chart);
}

/* The chart's numbers for the script's CSV: a row a layer; nothing where there is no number. */
static void append_numbers(mixt_page *page, const mixt_chart *chart)
{
    const double *columns[] = {chart->value, chart->low, chart->high, chart->dashed, chart->dotted};
    const char *names[] = {"value", "low", "high", chart->dashed_name, chart->dotted_name};
    mixt_buffer_format(page->out, " data-csv=\"%s", axis_of(chart));
    for (int c = 0; c < 5; c++) {
        if (columns[c] != NULL) {
            mixt_buffer_format(page->out, ",%s", names[c]);
        }
    }
    for (int i = 0; i < chart->count; i++) {
        mixt_buffer_format(page->out, ";%d", chart->number[i]);
        for (int c = 0; c < 5; c++) {
            mixt_buffer_text(page->out, columns[c] != NULL ? "," : "");
            if (columns[c] != NULL && !isnan(columns[c][i])) {
                mixt_buffer_format(page->out, "%.*f", chart->decimals + 2, columns[c][i]);
            }
        }
    }
    mixt_buffer_text(page->out, "\"");
}

void mixt_page_chart(mixt_page *page, const mixt_chart *chart)
{
    const frame *f = frame_of(chart);
    int id = page->next_id++;
    mixt_buffer_format(page->out,
                       "<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                       "aria-labelledby=\"t%d d%d\"",
                       f->width, f->height, id, id);
    append_numbers(page, chart);
    mixt_buffer_format(page->out, "><title id=\"t%d\">", id);
    mixt_page_name(page, chart->title);
    mixt_buffer_format(page->out, "</title><desc id=\"d%d\">By %s", id, axis_of(chart));
    for (int i = 0; i < chart->count; i++) {
        if (!isnan(chart->value[i])) {
            mixt_buffer_format(page->out, "; %d: %.*f%s", chart->number[i], chart->decimals,
                               chart->value[i], chart->unit);
        }
    }
    append_level(page->out, chart, chart->dashed_name, chart->dashed, 0);
    append_level(page->out, chart, chart->dotted_name, chart->dotted, 0);
    mixt_buffer_text(page->out, ".</desc>");
    mixt_chart_draw(page->out, chart);
    mixt_buffer_text(page->out, "</svg>\n");
}
