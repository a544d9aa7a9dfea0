/* A table as a figure that stands alone: lines over the layers or over what else is counted, heat
 * maps, or bars. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/page.h"
#include "atlas/table_figure.h"
#include "core/number.h"

#define POINTS_MOST 4096 /* of a line */
#define GAP 16
#define HEAD 58 /* above the first panel */

/* The page's colours on white, for print and for programs that know no variables. */
static const char style[] =
    "text{font:10.5px system-ui,'Segoe UI',Roboto,'Helvetica Neue','Noto Sans','Liberation Sans',"
    "Arial,sans-serif;fill:#5b636b}.title{font-size:15px;fill:#1f2429}.panel{font-size:12px;"
    "fill:#1f2429}.x{text-anchor:middle}.y,.n{text-anchor:end}.grid{stroke:#dcd8ce;stroke-width:1}"
    ".band{fill:#0a5a8a26;stroke:none}.whisker{stroke:#0a5a8a;stroke-width:2}.value,.dashed,"
    ".dotted{fill:none;stroke-linejoin:round}.value{stroke:#0a5a8a;stroke-width:2}.dashed{stroke:"
    "#1f2429;stroke-width:1.2;stroke-dasharray:5 4}.dotted{stroke:#8a5a00;stroke-width:1.6;"
    "stroke-dasharray:.1 4;stroke-linecap:round}.dot{fill:#0a5a8a;stroke:transparent;"
    "stroke-width:9}.bar{fill:#0a5a8a}";

bool mixt_panel_holds(const mixt_figure *figure, const mixt_panel *panel, uint64_t row)
{
    const mixt_table *table = figure->table;
    for (int c = 0; c < table->column_count; c++) {
        bool counts = table->columns[c].role == MIXT_ROLE_KEY && c != figure->x && c != figure->y;
        if (counts && mixt_table_value(table, row, c) != mixt_table_value(table, panel->first, c)) {
            return false;
        }
    }
    return true;
}

void mixt_panel_name(const mixt_figure *figure, const mixt_panel *panel, mixt_buffer *out)
{
    const mixt_table *table = figure->table;
    const char *gap = "";
    for (int c = 0; c < table->column_count; c++) {
        const mixt_column *column = &table->columns[c];
        if (column->role != MIXT_ROLE_KEY || c == figure->x || c == figure->y) {
            continue;
        }
        bool plain = column->kind == MIXT_COLUMN_WORD || column->kind == MIXT_COLUMN_DOMAIN;
        mixt_buffer_format(out, "%s%s%s", gap, plain ? "" : column->name, plain ? "" : " ");
        mixt_table_name(table, c, mixt_table_value(table, panel->first, c), MIXT_DISPLAY_HTML, out);
        gap = ", ";
    }
}

/* The n-th key column of a kind; -1. */
static int find_key(const mixt_table *table, int kind, int n)
{
    for (int c = 0; c < table->column_count; c++) {
        const mixt_column *column = &table->columns[c];
        if (column->role == MIXT_ROLE_KEY && column->kind == kind && n-- == 0) {
            return c;
        }
    }
    return -1;
}

static bool varies(const mixt_table *table, int column)
{
    double first = NAN;
    for (uint64_t row = 0; row < table->rows; row++) {
        double value = mixt_table_value(table, row, column);
        if (value >= 0 && !isnan(first) && value != first) {
            return true;
        }
        first = value >= 0 ? value : first;
    }
    return false;
}

/* Both axes of a heat map, the first of lines, or none: bars. */
static void choose_axes(mixt_figure *figure)
{
    const mixt_table *table = figure->table;
    int layer = find_key(table, MIXT_COLUMN_LAYER, 0);
    int expert = find_key(table, MIXT_COLUMN_EXPERT, 0);
    int other = find_key(table, MIXT_COLUMN_EXPERT, 1);
    int domain = find_key(table, MIXT_COLUMN_DOMAIN, 0);
    int next = find_key(table, MIXT_COLUMN_DOMAIN, 1);
    int count = find_key(table, MIXT_COLUMN_COUNT, 0);
    figure->x = figure->y = -1;
    if (find_key(table, MIXT_COLUMN_TOKEN, 0) >= 0) {
        return;
    }
    if (expert >= 0 && other >= 0) {
        figure->y = expert;
        figure->x = other;
    } else if (domain >= 0 && next >= 0) {
        figure->y = domain;
        figure->x = next;
    } else if (expert >= 0 && layer >= 0 && varies(table, layer)) {
        figure->y = layer;
        figure->x = expert;
    } else if (expert >= 0 && domain >= 0) {
        figure->y = domain;
        figure->x = expert;
    } else if (count >= 0 && varies(table, count)) {
        figure->x = count;
    } else if (layer >= 0 && varies(table, layer)) {
        figure->x = layer;
    }
}

/* Whether a row has a place on the axes: what is over all layers or experts has none. */
static bool lies_on_axes(const mixt_figure *figure, uint64_t row)
{
    return mixt_table_value(figure->table, row, figure->x) >= 0 &&
           (figure->y < 0 || mixt_table_value(figure->table, row, figure->y) >= 0);
}

/* Panels in the order of their first rows; of too many the first, the last and some between. */
static bool find_panels(mixt_figure *figure, int most)
{
    mixt_panel *all = NULL;
    size_t capacity = 0, count = 0, last = 0;
    for (uint64_t row = 0; row < figure->table->rows; row++) {
        if (!lies_on_axes(figure, row)) {
            continue;
        }
        /* Rows of a panel lie together, or take turns over few panels. */
        size_t at = last;
        if (count == 0 || !mixt_panel_holds(figure, &all[at], row)) {
            at = 0;
            while (at < count && at < 4096 && !mixt_panel_holds(figure, &all[at], row)) {
                at++;
            }
        }
        if (at == 4096) {
            continue;
        }
        if (at == count) {
            if (!mixt_grow(&all, &capacity, count + 1, sizeof *all)) {
                free(all);
                return false;
            }
            all[count++] = (mixt_panel){.first = row};
        }
        all[at].rows++;
        last = at;
    }
    figure->panel_count = count < (size_t)most ? (int)count : most;
    figure->left_out = count - (size_t)figure->panel_count;
    for (int i = 0; i < figure->panel_count; i++) {
        size_t steps = (size_t)figure->panel_count - 1;
        size_t from = steps == 0 ? 0 : (size_t)i * (count - 1) / steps;
        figure->panels[i] = all[from];
    }
    free(all);
    return true;
}

/* ---- lines */

typedef struct lines {
    mixt_figure *figure;
    int group;
    int columns[5]; /* value, random, use, low, high; -1 */
    double factor;  /* of shares 100 */
    int *number;    /* [rows of a panel] */
    double *cells;  /* [5, rows of a panel] */
} lines;

static const int line_roles[5] = {MIXT_ROLE_VALUE, MIXT_ROLE_RANDOM, MIXT_ROLE_USE, MIXT_ROLE_LOW,
                                  MIXT_ROLE_HIGH};

/* The rows of a panel into `number` and `cells`; how many there are. */
static int take_rows(lines *l, const mixt_panel *panel)
{
    const mixt_table *table = l->figure->table;
    int count = 0;
    for (uint64_t row = 0; row < table->rows && count < POINTS_MOST; row++) {
        if (!lies_on_axes(l->figure, row) || !mixt_panel_holds(l->figure, panel, row)) {
            continue;
        }
        l->number[count] = (int)fmin(mixt_table_value(table, row, l->figure->x), 1e9);
        for (int i = 0; i < 5; i++) {
            double value = mixt_table_value(table, row, l->columns[i]) * l->factor;
            l->cells[i * POINTS_MOST + count] = isfinite(value) ? value : NAN;
        }
        count++;
    }
    return count;
}

/* Least and greatest of what the panels show; false where there is nothing. */
static bool find_scale(lines *l, double *bottom, double *top)
{
    double least = INFINITY, most = -INFINITY;
    for (int p = 0; p < l->figure->panel_count; p++) {
        int count = take_rows(l, &l->figure->panels[p]);
        for (int i = 0; i < 5 * count; i++) {
            double value = l->cells[i / count * POINTS_MOST + i % count];
            least = fmin(least, isnan(value) ? least : value);
            most = fmax(most, isnan(value) ? most : value);
        }
    }
    *bottom = least;
    *top = most;
    if (most < least) {
        return false;
    }
    mixt_chart_scale(bottom, top);
    return true;
}

static void draw_panel(lines *l, const mixt_panel *panel, int place, double bottom, double top)
{
    mixt_figure *figure = l->figure;
    const mixt_column *columns = figure->table->columns;
    int count = take_rows(l, panel);
    double x = GAP + place % 3 * (MIXT_CHART_WIDTH + GAP);
    double y = figure->height + place / 3 * (MIXT_CHART_HEIGHT + GAP + 20.0);
    bool banded = l->columns[3] >= 0 && l->columns[4] >= 0;
    mixt_chart chart = {
        .axis = columns[figure->x].name,
        .unit = l->factor > 1 ? " %" : "",
        .decimals = mixt_table_decimals(fmax(fabs(bottom), fabs(top))),
        .count = count,
        .number = l->number,
        .value = l->cells,
        .dashed = l->cells + POINTS_MOST,
        .dashed_name = "random",
        .dotted = l->cells + 2 * POINTS_MOST,
        .dotted_name = "use",
        .low = banded ? l->cells + 3 * POINTS_MOST : NULL,
        .high = banded ? l->cells + 4 * POINTS_MOST : NULL,
        .bottom = bottom,
        .top = top,
    };
    mixt_buffer_format(figure->out, "<g transform=\"translate(%.0f %.0f)\"><text class=\"panel\">",
                       x, y + 12);
    mixt_buffer_format(figure->out, "%s", columns[l->columns[0]].name);
    mixt_buffer_text(figure->out, l->factor > 1 ? ", %: " : ": ");
    mixt_panel_name(figure, panel, figure->out);
    mixt_buffer_text(figure->out, "</text><g transform=\"translate(0 8)\">");
    mixt_chart_draw(figure->out, &chart);
    mixt_buffer_text(figure->out, "</g></g>\n");
}

/* The panels of one value below each other's, as many in a row as fit. */
static void draw_group(lines *l, int *place)
{
    const mixt_table *table = l->figure->table;
    double bottom, top;
    for (int i = 0; i < 5; i++) {
        l->columns[i] = mixt_table_find(table, line_roles[i], l->group);
    }
    if (l->columns[0] < 0) {
        return;
    }
    l->factor = table->columns[l->columns[0]].kind == MIXT_COLUMN_SHARE ? 100 : 1;
    if (!find_scale(l, &bottom, &top)) {
        return;
    }
    for (int p = 0; p < l->figure->panel_count; p++) {
        draw_panel(l, &l->figure->panels[p], (*place)++, bottom, top);
    }
}

static void legend(mixt_figure *figure)
{
    static const struct {
        int role;
        const char *line, *text;
    } samples[] = {{MIXT_ROLE_VALUE, "value", "measured"},
                   {MIXT_ROLE_RANDOM, "dashed", "random choices"},
                   {MIXT_ROLE_USE, "dotted", "unequal use alone"}};
    double x = GAP;
    for (int i = 0; i < 3; i++) {
        bool has = false;
        for (int c = 0; c < figure->table->column_count; c++) {
            has |= figure->table->columns[c].role == samples[i].role;
        }
        if (has) {
            mixt_buffer_format(figure->out,
                               "<path class=\"%s\" d=\"M%.0f 40h26\"/><text x=\"%.0f\" "
                               "y=\"44\">%s</text>",
                               samples[i].line, x, x + 32, samples[i].text);
            x += 150;
        }
    }
    if (mixt_table_find(figure->table, MIXT_ROLE_LOW, 0) >= 0) {
        mixt_buffer_format(figure->out,
                           "<path class=\"band\" d=\"M%.0f 35h26v10h-26z\"/><text x=\"%.0f\" "
                           "y=\"44\">95 %% interval</text>",
                           x, x + 32);
    }
}

static void draw_lines(mixt_figure *figure)
{
    lines l = {.figure = figure,
               .number = calloc(POINTS_MOST, sizeof(int)),
               .cells = calloc(5 * POINTS_MOST, sizeof(double))};
    int groups = 0, place = 0;
    for (int c = 0; c < figure->table->column_count; c++) {
        int group = figure->table->columns[c].group;
        groups = group >= groups ? group + 1 : groups;
    }
    if (l.number == NULL || l.cells == NULL) {
        figure->out->failed = true;
    }
    legend(figure);
    for (l.group = 0; l.group < groups && !figure->out->failed; l.group++) {
        draw_group(&l, &place);
    }
    figure->width = GAP + (place < 3 ? place : 3) * (MIXT_CHART_WIDTH + GAP);
    figure->height += (place + 2) / 3 * (MIXT_CHART_HEIGHT + GAP + 20.0);
    free(l.number);
    free(l.cells);
}

/* How many value groups a table has: lines have a panel for each. */
static int count_values(const mixt_table *table)
{
    int values = 0;
    for (int c = 0; c < table->column_count; c++) {
        values += table->columns[c].role == MIXT_ROLE_VALUE;
    }
    return values > 0 ? values : 1;
}

static void draw(mixt_figure *figure)
{
    int values = count_values(figure->table);
    int most = figure->y >= 0 ? MIXT_FIGURE_PANELS / 2 : MIXT_FIGURE_PANELS / values;
    if (figure->x >= 0 && !find_panels(figure, most > 0 ? most : 1)) {
        figure->out->failed = true;
    } else if (figure->x < 0) {
        mixt_figure_bars(figure);
    } else if (figure->y >= 0) {
        mixt_figure_heat(figure);
    } else {
        draw_lines(figure);
    }
}

/* ---- the whole */

static void put_all(const mixt_figure *figure, mixt_buffer *out)
{
    const mixt_measure_info *info = figure->table->measure;
    double width = fmax(figure->width, 640);
    mixt_buffer_format(out,
                       "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                       "viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-labelledby=\"title about\">"
                       "<title id=\"title\">",
                       width, figure->height + 28, width, figure->height + 28);
    mixt_display_text(out, info->title, MIXT_DISPLAY_HTML);
    mixt_buffer_text(out, "</title><desc id=\"about\">");
    mixt_display_text(out, info->about, MIXT_DISPLAY_HTML);
    mixt_buffer_format(out,
                       "</desc><style>%s</style><rect width=\"%.0f\" height=\"%.0f\" "
                       "fill=\"#fff\"/><text class=\"title\" x=\"%d\" y=\"24\">",
                       style, width, figure->height + 28, GAP);
    mixt_display_text(out, info->title, MIXT_DISPLAY_HTML);
    if (figure->table->subject[0] != '\0') {
        mixt_buffer_text(out, " \xc2\xb7 ");
        mixt_display_name(out, figure->table->subject, MIXT_DISPLAY_HTML);
    }
    mixt_buffer_text(out, "</text>\n");
    if (figure->out->length > 0) {
        mixt_buffer_append(out, figure->out->data, figure->out->length);
    }
    mixt_buffer_format(out, "<text x=\"%d\" y=\"%.0f\">", GAP, figure->height + 16);
    if (figure->left_out > 0) {
        mixt_buffer_format(out, "%llu more like these are in the table. ",
                           (unsigned long long)figure->left_out);
    }
    mixt_display_text(out, info->source, MIXT_DISPLAY_HTML);
    mixt_buffer_text(out, "</text></svg>\n");
}

void mixt_table_figure(const mixt_table *table, mixt_buffer *out)
{
    mixt_buffer inside = {0};
    mixt_figure figure = {.table = table, .out = &inside, .height = HEAD};
    choose_axes(&figure);
    draw(&figure);
    put_all(&figure, out);
    out->failed |= inside.failed;
    mixt_buffer_free(&inside);
}
