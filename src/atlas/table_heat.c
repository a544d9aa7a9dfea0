/* Heat maps and bars of a table (atlas/table_figure.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/table_figure.h"
#include "core/number.h"

#define LEFT 96 /* for the names of rows */
#define MAP_WIDTH 760
#define COLORS 17 /* steps of the scale; the middle one is white where there are two sides */
#define LABELS_MOST 32
#define BARS_MOST 40

/* What a colour stands for. */
typedef enum scale_kind {
    SCALE_RATIO, /* value over level, from a quarter to four times */
    SCALE_SIDES, /* around 0 */
    SCALE_RISING /* from the least to the greatest */
} scale_kind;

typedef struct scale {
    scale_kind kind;
    double least, most;
} scale;

/* Values of one axis, rising. */
typedef struct axis {
    int column;
    int *values;
    int count;
} axis;

static int by_number(const void *a, const void *b)
{
    const int *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static bool read_axis(const mixt_figure *figure, int column, axis *made)
{
    const mixt_table *table = figure->table;
    int *values = calloc((size_t)table->rows + 1, sizeof *values);
    int count = 0, distinct = 0;
    if (values == NULL) {
        return false;
    }
    for (uint64_t row = 0; row < table->rows; row++) {
        double value = mixt_table_value(table, row, column);
        if (value >= 0 && value < 1e6 && (count == 0 || values[count - 1] != (int)value)) {
            values[count++] = (int)value;
        }
    }
    qsort(values, (size_t)count, sizeof *values, by_number);
    for (int i = 0; i < count; i++) {
        if (distinct == 0 || values[distinct - 1] != values[i]) {
            values[distinct++] = values[i];
        }
    }
    *made = (axis){column, values, distinct};
    return true;
}

static int place_of(const axis *along, double value)
{
    int key = value >= 0 && value < 1e6 ? (int)value : -1;
    const int *found =
        bsearch(&key, along->values, (size_t)along->count, sizeof *along->values, by_number);
    return found != NULL ? (int)(found - along->values) : -1;
}

static double cell_of(const mixt_figure *figure, uint64_t row)
{
    int value = mixt_table_find(figure->table, MIXT_ROLE_VALUE, 0);
    return mixt_table_value(figure->table, row, value);
}

static double level_of(const mixt_figure *figure, uint64_t row)
{
    return mixt_table_value(figure->table, row, mixt_table_level(figure->table, 0));
}

static scale find_scale(const mixt_figure *figure)
{
    bool leveled = true;
    double least = INFINITY, most = -INFINITY;
    for (uint64_t row = 0; row < figure->table->rows; row++) {
        double value = cell_of(figure, row);
        if (isfinite(value)) {
            leveled = leveled && value >= 0 && level_of(figure, row) > 0;
            least = fmin(least, value);
            most = fmax(most, value);
        }
    }
    if (leveled && most >= least) {
        return (scale){SCALE_RATIO, 0.25, 4};
    }
    if (least < 0) {
        double reach = fmax(-least, fabs(most));
        return (scale){SCALE_SIDES, -reach, reach};
    }
    return (scale){SCALE_RISING, most > 0 ? 0 : least, most};
}

/* Step of a row's colour; -1: none. */
static int color_of(const mixt_figure *figure, const scale *colors, uint64_t row)
{
    double value = cell_of(figure, row), part;
    if (!isfinite(value)) {
        return -1;
    }
    if (colors->kind == SCALE_RATIO) {
        double ratio = value / level_of(figure, row);
        part = ratio > 0 ? (log2(ratio) + 2) / 4 : 0;
    } else {
        double reach = colors->most - colors->least;
        part = reach > 0 ? (value - colors->least) / reach : 0.5;
    }
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    return (int)lround(part * (COLORS - 1));
}

/* White to blue; of two sides from orange over white, which also those tell apart who see no red
 * or no green. */
static void put_color(mixt_buffer *out, scale_kind kind, int step)
{
    static const int low[3] = {0xb3, 0x58, 0x06}, high[3] = {0x05, 0x3c, 0x66};
    double part = (double)step / (COLORS - 1);
    double side = kind == SCALE_RISING ? part : 2 * part - 1; /* -1 to 1 */
    const int *end = side < 0 ? low : high;
    double depth = fabs(side);
    mixt_buffer_format(out, "#%02x%02x%02x", (int)(250 + (end[0] - 250) * depth),
                       (int)(250 + (end[1] - 250) * depth), (int)(250 + (end[2] - 250) * depth));
}

static void put_name(const mixt_figure *figure, const axis *along, int place, mixt_buffer *out)
{
    mixt_buffer name = {0};
    mixt_table_name(figure->table, along->column, along->values[place], MIXT_DISPLAY_PLAIN, &name);
    mixt_buffer_append(&name, "", 1);
    if (!name.failed) { /* as much as fits, then escaped */
        mixt_buffer fit = {0};
        int columns = mixt_display_columns(name.data, name.length - 1);
        mixt_display_fit(&fit, name.data, columns < 14 ? columns : 14);
        mixt_buffer_append(&fit, "", 1);
        mixt_display_text(out, fit.failed ? "" : fit.data, MIXT_DISPLAY_HTML);
        out->failed |= fit.failed;
        mixt_buffer_free(&fit);
    }
    out->failed |= name.failed;
    mixt_buffer_free(&name);
}

typedef struct heat {
    mixt_figure *figure;
    scale scale;
    axis x, y;
    double width, height; /* of a cell */
} heat;

static void draw_labels(const heat *h, double top)
{
    mixt_buffer *out = h->figure->out;
    const mixt_column *columns = h->figure->table->columns;
    int every = (h->y.count + LABELS_MOST - 1) / LABELS_MOST;
    for (int i = 0; i < h->y.count; i += every) {
        mixt_buffer_format(out, "<text class=\"n\" x=\"%d\" y=\"%.1f\">", LEFT - 6,
                           top + (i + 0.5) * h->height + 3.5);
        put_name(h->figure, &h->y, i, out);
        mixt_buffer_text(out, "</text>");
    }
    double bottom = top + h->y.count * h->height;
    bool words = columns[h->x.column].kind == MIXT_COLUMN_DOMAIN;
    int fit = words ? (int)(h->x.count * h->width / 80) : LABELS_MOST / 2;
    every = (h->x.count + fit - 1) / (fit > 0 ? fit : 1);
    for (int i = 0; i<h->x.count; i += every> 0 ? every : 1) {
        mixt_buffer_format(out, "<text class=\"x\" x=\"%.1f\" y=\"%.1f\">",
                           LEFT + (i + 0.5) * h->width, bottom + 13);
        put_name(h->figure, &h->x, i, out);
        mixt_buffer_text(out, "</text>");
    }
    mixt_buffer_format(out,
                       "<text class=\"x\" x=\"%.0f\" y=\"%.0f\">%s</text><text class=\"n\" "
                       "x=\"%d\" y=\"%.0f\">%s</text>",
                       LEFT + h->x.count * h->width / 2, bottom + 27, columns[h->x.column].name,
                       LEFT - 6, top - 4, columns[h->y.column].name);
}

/* One path for each colour, so that tens of thousands of cells stay a small file. */
static void draw_cells(const heat *h, const mixt_panel *panel, double top)
{
    const mixt_table *table = h->figure->table;
    mixt_buffer paths[COLORS] = {0};
    for (uint64_t row = 0; row < table->rows; row++) {
        int x = place_of(&h->x, mixt_table_value(table, row, h->x.column));
        int y = place_of(&h->y, mixt_table_value(table, row, h->y.column));
        int step = color_of(h->figure, &h->scale, row);
        if (x >= 0 && y >= 0 && step >= 0 && mixt_panel_holds(h->figure, panel, row)) {
            mixt_buffer_format(&paths[step], "M%.6g %.6gh%.4gv%.4gh-%.4gz", LEFT + x * h->width,
                               top + y * h->height, h->width, h->height, h->width);
        }
    }
    for (int step = 0; step < COLORS; step++) {
        if (paths[step].length > 0) {
            mixt_buffer_text(h->figure->out, "<path fill=\"");
            put_color(h->figure->out, h->scale.kind, step);
            mixt_buffer_format(h->figure->out, "\" d=\"%s\"/>\n", paths[step].data);
        }
        h->figure->out->failed |= paths[step].failed;
        mixt_buffer_free(&paths[step]);
    }
}

static void put_number(mixt_buffer *out, const mixt_column *column, double value)
{
    bool share = column->kind == MIXT_COLUMN_SHARE;
    double shown = share ? 100 * value : value;
    mixt_buffer_format(out, "%.3g%s", shown, share ? " %" : "");
}

static void draw_scale(const heat *h)
{
    mixt_figure *figure = h->figure;
    mixt_buffer *out = figure->out;
    const mixt_column *value =
        &figure->table->columns[mixt_table_find(figure->table, MIXT_ROLE_VALUE, 0)];
    for (int step = 0; step < COLORS; step++) {
        mixt_buffer_format(out, "<rect x=\"%d\" y=\"34\" width=\"12\" height=\"12\" fill=\"",
                           LEFT + 150 + step * 12);
        put_color(out, h->scale.kind, step);
        mixt_buffer_text(out, "\"/>");
    }
    mixt_buffer_format(out, "<text class=\"n\" x=\"%d\" y=\"44\">%s: ", LEFT + 144, value->name);
    if (h->scale.kind == SCALE_RATIO) {
        mixt_buffer_text(out, "a quarter of its level");
    } else {
        put_number(out, value, h->scale.least);
    }
    mixt_buffer_format(out, "</text><text x=\"%d\" y=\"44\">", LEFT + 156 + COLORS * 12);
    if (h->scale.kind == SCALE_RATIO) {
        mixt_buffer_text(out, "four times, and more");
    } else {
        put_number(out, value, h->scale.most);
    }
    mixt_buffer_text(out, "</text>\n");
}

static double clip(double value, double least, double most)
{
    return value < least ? least : value > most ? most : value;
}

void mixt_figure_heat(mixt_figure *figure)
{
    heat h = {.figure = figure};
    if (mixt_table_find(figure->table, MIXT_ROLE_VALUE, 0) < 0) {
        return;
    }
    if (!read_axis(figure, figure->x, &h.x) || !read_axis(figure, figure->y, &h.y)) {
        figure->out->failed = true;
        free(h.x.values);
        return;
    }
    h.scale = find_scale(figure);
    h.width = clip(MAP_WIDTH / fmax(h.x.count, 1), 2, 40);
    h.height = clip(480 / fmax(h.y.count, 1), 2, 22);
    draw_scale(&h);
    for (int p = 0; p < figure->panel_count && !figure->out->failed; p++) {
        double top = figure->height + 18;
        mixt_buffer_format(figure->out, "<text class=\"panel\" x=\"%d\" y=\"%.0f\">", LEFT,
                           figure->height + 12);
        mixt_panel_name(figure, &figure->panels[p], figure->out);
        mixt_buffer_text(figure->out, "</text>");
        draw_labels(&h, top);
        draw_cells(&h, &figure->panels[p], top);
        figure->height = top + h.y.count * h.height + 44;
    }
    figure->width = LEFT + h.x.count * h.width + 24;
    free(h.x.values);
    free(h.y.values);
}

/* ---- bars */

#define BAR_LEFT 210
#define BAR_WIDTH 420
#define BAR_HEIGHT 18

typedef struct bars {
    mixt_figure *figure;
    double least, most;
    uint64_t rows[BARS_MOST];
    int count;
} bars;

static double x_of(const bars *b, double value)
{
    return BAR_LEFT + BAR_WIDTH * clip((value - b->least) / (b->most - b->least), 0, 1);
}

/* A row's number in the column of a role; NaN. */
static double number_of(const bars *b, int i, mixt_column_role role)
{
    const mixt_table *table = b->figure->table;
    return mixt_table_value(table, b->rows[i], mixt_table_find(table, role, 0));
}

static void label(const bars *b, int i, mixt_buffer *out)
{
    const mixt_table *table = b->figure->table;
    const char *gap = "";
    for (int c = 0; c < table->column_count; c++) {
        if (table->columns[c].role == MIXT_ROLE_KEY) {
            bool plain = table->columns[c].kind == MIXT_COLUMN_WORD ||
                         table->columns[c].kind == MIXT_COLUMN_DOMAIN ||
                         table->columns[c].kind == MIXT_COLUMN_TOKEN;
            mixt_buffer_format(out, "%s%s%s", gap, plain ? "" : table->columns[c].name,
                               plain ? "" : " ");
            mixt_table_name(table, c, mixt_table_value(table, b->rows[i], c), MIXT_DISPLAY_HTML,
                            out);
            gap = ", ";
        }
    }
}

static void draw_mark(const bars *b, const char *class, double value, double y)
{
    if (isfinite(value)) {
        mixt_buffer_format(b->figure->out, "<path class=\"%s\" d=\"M%.1f %.1fv%d\"/>", class,
                           x_of(b, value), y, BAR_HEIGHT - 2);
    }
}

static void draw_bar(const bars *b, int i, double y)
{
    mixt_buffer *out = b->figure->out;
    const mixt_table *table = b->figure->table;
    double value = number_of(b, i, MIXT_ROLE_VALUE);
    double low = number_of(b, i, MIXT_ROLE_LOW), high = number_of(b, i, MIXT_ROLE_HIGH);
    mixt_buffer_format(out, "<text class=\"n\" x=\"%d\" y=\"%.1f\">", BAR_LEFT - 6, y + 12);
    label(b, i, out);
    mixt_buffer_text(out, "</text>");
    if (isfinite(value)) {
        double from = x_of(b, fmin(fmax(0, b->least), value)), to = x_of(b, fmax(value, 0));
        mixt_buffer_format(out,
                           "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                           "height=\"%d\" opacity=\".75\"/>",
                           from, y + 3, fmax(to - from, 0.5), BAR_HEIGHT - 7);
        mixt_buffer_format(out, "<text x=\"%d\" y=\"%.1f\">", BAR_LEFT + BAR_WIDTH + 8, y + 12);
        put_number(out, &table->columns[mixt_table_find(table, MIXT_ROLE_VALUE, 0)], value);
        mixt_buffer_text(out, "</text>");
    }
    if (isfinite(low) && isfinite(high)) {
        mixt_buffer_format(out, "<path class=\"whisker\" d=\"M%.1f %.1fH%.1f\"/>", x_of(b, low),
                           y + 8.5, x_of(b, high));
    }
    draw_mark(b, "dashed", number_of(b, i, MIXT_ROLE_RANDOM), y);
    draw_mark(b, "dotted", number_of(b, i, MIXT_ROLE_USE), y);
    mixt_buffer_text(out, "\n");
}

void mixt_figure_bars(mixt_figure *figure)
{
    static const mixt_column_role shown[] = {MIXT_ROLE_VALUE, MIXT_ROLE_RANDOM, MIXT_ROLE_USE,
                                             MIXT_ROLE_LOW, MIXT_ROLE_HIGH};
    bars b = {.figure = figure};
    if (mixt_table_find(figure->table, MIXT_ROLE_VALUE, 0) < 0) {
        return;
    }
    b.count = mixt_table_tell(figure->table, BARS_MOST, b.rows);
    for (int i = 0; i < b.count; i++) {
        for (size_t r = 0; r < sizeof shown / sizeof *shown; r++) {
            double value = number_of(&b, i, shown[r]);
            b.least = fmin(b.least, isfinite(value) ? value : b.least);
            b.most = fmax(b.most, isfinite(value) ? value : b.most);
        }
    }
    b.most += b.most == b.least;
    for (int i = 0; i < b.count; i++) {
        draw_bar(&b, i, figure->height + i * BAR_HEIGHT);
    }
    figure->left_out = figure->table->rows - (uint64_t)b.count;
    figure->height += b.count * BAR_HEIGHT;
    figure->width = BAR_LEFT + BAR_WIDTH + 100;
}
