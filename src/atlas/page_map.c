/* Layers x experts: the map that print and readers without scripts see, the places where the script
 * draws its own, and the first lines, which say what the model does. */
#include <math.h>
#include <stdlib.h>

#include "atlas/page.h"

#define MAP_LEFT 30.0
#define MAP_RIGHT 900.0
#define MAP_WIDTH 960.0
#define MAP_LEVELS 6    /* shades: each is one path, however many cells have it */
#define MAP_FULL 3.0    /* times the mean: the darkest shade */
#define MAP_CELLS 65536 /* of more, only the key layers are drawn */

/* Shade of a cell from its load over the mean, 0 where it is empty. */
static int shade_of(double load)
{
    int shade = (int)ceil(load * MAP_LEVELS / MAP_FULL);
    return shade > MAP_LEVELS ? MAP_LEVELS : shade;
}

typedef struct map {
    const mixt_trace *trace;
    const mixt_counts *counts;
    int rows;           /* drawn */
    const int *layers;  /* of these; NULL: all */
    double row, column; /* of a cell, in the drawing's units */
    double *share;      /* [rows, E] */
} map;

static int layer_of(const map *m, int row)
{
    return m->layers == NULL ? row : m->layers[row];
}

/* The cells of one shade. */
static void draw_shade(mixt_page *page, const map *m, int shade)
{
    int experts = m->trace->info.experts;
    mixt_buffer_format(page->out, "<path class=\"q%d\" d=\"", shade);
    for (int row = 0; row < m->rows; row++) {
        for (int e = 0; e < experts; e++) {
            double load = m->share[row * experts + e] * experts;
            if (shade_of(load) != shade) {
                continue;
            }
            int begin = e; /* neighbours of the same shade are one piece */
            while (e + 1 < experts &&
                   shade_of(m->share[row * experts + e + 1] * experts) == shade) {
                e++;
            }
            mixt_buffer_format(page->out, "M%.1f %.1fh%.1fv%.1fH%.1fz",
                               MAP_LEFT + begin * m->column, 16 + row * m->row,
                               (e + 1 - begin) * m->column, m->row - 1,
                               MAP_LEFT + begin * m->column);
        }
    }
    mixt_buffer_text(page->out, "\"/>");
}

/* Experts that no token chose first: a dot in the middle of the cell. */
static void draw_never_first(mixt_page *page, const map *m)
{
    mixt_buffer_text(page->out, "<path class=\"never\" d=\"");
    for (int row = 0; row < m->rows; row++) {
        for (int e = 0; e < m->trace->info.experts; e++) {
            uint64_t first = 0;
            for (int d = 0; d < m->trace->info.domains; d++) {
                first += mixt_counts_of(m->counts, layer_of(m, row), d, MIXT_CHOICE_FIRST)[e];
            }
            if (first == 0 && m->share[row * m->trace->info.experts + e] > 0) {
                mixt_buffer_format(page->out, "M%.1f %.1fh0", MAP_LEFT + (e + 0.5) * m->column,
                                   16 + (row + 0.45) * m->row);
            }
        }
    }
    mixt_buffer_text(page->out, "\"/>");
}

static void draw_lettering(mixt_page *page, const map *m)
{
    int experts = m->trace->info.experts;
    int every = (m->rows + 63) / 64;
    int step = experts <= 16 ? 1 : experts <= 64 ? 8 : experts <= 256 ? 16 : (experts + 15) / 16;
    mixt_buffer_format(page->out, "<text class=\"y\" x=\"%.0f\" y=\"11\">layer</text>",
                       MAP_LEFT - 4);
    for (int e = 0; e < experts; e += step) {
        mixt_buffer_format(page->out, "<text class=\"x\" x=\"%.1f\" y=\"11\">%d</text>",
                           MAP_LEFT + (e + 0.5) * m->column, e);
    }
    mixt_buffer_format(page->out, "<text class=\"n\" x=\"%.0f\" y=\"11\">in use</text>", MAP_WIDTH);
    for (int row = 0; row < m->rows; row++) {
        int layer = layer_of(m, row);
        double y = 16 + (row + 0.5) * m->row + 3.5;
        if (row % every == 0) {
            mixt_buffer_format(page->out, "<text class=\"y\" x=\"%.0f\" y=\"%.1f\">%d</text>",
                               MAP_LEFT - 4, y, m->trace->layer_numbers[layer]);
            mixt_buffer_format(page->out, "<text class=\"n\" x=\"%.0f\" y=\"%.1f\">%.0f %%</text>",
                               MAP_WIDTH, y, 100 * mixt_load_of(m->counts, layer, NULL).effective);
        }
    }
}

static void draw_map(mixt_page *page, const mixt_trace *trace, const mixt_counts *counts)
{
    const mixt_report *report = page->report;
    int experts = trace->info.experts;
    bool all = (int64_t)trace->info.layers * experts <= MAP_CELLS;
    const int one[] = {0};
    map m = {.trace = trace, .counts = counts, .rows = trace->info.layers};
    if (!all) {
        m.rows = trace == page->trace ? report->key_layer_count : 1;
        m.layers = trace == page->trace ? report->key_layers : one;
    }
    m.row = m.rows <= 24 ? 18 : 13;
    m.column = (MAP_RIGHT - MAP_LEFT) / experts;
    m.share = calloc((size_t)m.rows * (size_t)experts, sizeof *m.share);
    if (m.share == NULL) {
        page->out->failed = true;
        return;
    }
    for (int row = 0; row < m.rows; row++) {
        mixt_load_of(counts, layer_of(&m, row), m.share + row * experts);
    }
    mixt_buffer_format(page->out,
                       "<figure class=\"load\"><figcaption><b>Load</b> <span>of %d experts at %d "
                       "layers%s</span></figcaption>\n<div class=\"scroll\"><svg class=\"heat\" "
                       "viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"Load of %d experts at "
                       "%d layers; the numbers are in the table below\">",
                       experts, trace->info.layers, all ? "" : ", of which some are drawn",
                       MAP_WIDTH, 16 + m.rows * m.row, experts, trace->info.layers);
    for (int shade = 1; shade <= MAP_LEVELS; shade++) {
        draw_shade(page, &m, shade);
    }
    draw_never_first(page, &m);
    draw_lettering(page, &m);
    mixt_buffer_text(page->out, "</svg></div></figure>\n");
    free(m.share);
}

void mixt_page_map(mixt_page *page)
{
    mixt_buffer_text(page->out, "<section id=\"map\">\n<h2>Layers and experts</h2>\n"
                                "<div id=\"explore\" hidden></div>\n<div class=\"still\">\n"
                                "<p>Each row is a layer, each cell one of its experts: the darker, "
                                "the more of the layer\xe2\x80\x99s choices it gets, over all "
                                "domains. Six shades, each of half the even part; the darkest is "
                                "two and a half times the even part and more. White is never "
                                "chosen, a dot is never chosen first. In use: exp(entropy) / E, "
                                "100 % when the load is even.</p>\n");
    draw_map(page, page->trace, page->report->counts);
    if (page->second != NULL) {
        mixt_buffer_text(page->out, "<h3>");
        mixt_page_name(page, page->second->info.model);
        mixt_buffer_text(page->out, "</h3>\n");
        draw_map(page, page->second, page->second_counts);
    }
    mixt_buffer_text(page->out, "</div>\n");
    mixt_page_load(page);
    mixt_buffer_text(page->out, "</section>\n");
}

/* The busiest expert of all layers, beside what an even load would give. */
static void busiest(mixt_page *page)
{
    const mixt_report *report = page->report;
    int experts = page->trace->info.experts;
    double *share = calloc((size_t)experts, sizeof *share);
    double most = 0;
    int layer = 0;
    int expert = 0;
    if (share == NULL) {
        page->out->failed = true;
        return;
    }
    for (int l = 0; l < page->trace->info.layers; l++) {
        mixt_load_of(report->counts, l, share);
        for (int e = 0; e < experts; e++) {
            if (share[e] * experts > most) {
                most = share[e] * experts;
                layer = l;
                expert = e;
            }
        }
    }
    mixt_buffer_format(page->out,
                       " The busiest of all is expert %d at layer %d, which gets %.1f times an "
                       "even part.",
                       expert, page->trace->layer_numbers[layer], most);
    free(share);
}

/* The domain that is furthest from the mean of all, over the layers. */
static void furthest(mixt_page *page)
{
    int layers = page->trace->info.layers;
    int found = -1;
    double most = 0;
    for (int d = 0; d < page->trace->info.domains && page->shown_count > 1; d++) {
        double sum = 0;
        for (int layer = 0; layer < layers; layer++) {
            sum += mixt_report_distance(page->report, layer, d)->value / layers;
        }
        if (page->shows[d] && sum > most) {
            most = sum;
            found = d;
        }
    }
    if (found >= 0) {
        mixt_buffer_text(page->out, "<p>The text that is routed least like the others is ");
        mixt_page_domain(page, found);
        mixt_buffer_format(page->out,
                           ": %.0f %% of its choices would have to go to other experts to make it "
                           "like the mean of all %d domains.</p>\n",
                           100 * most, page->shown_count);
    }
}

void mixt_page_words(mixt_page *page)
{
    const mixt_trace_info *info = &page->trace->info;
    const mixt_report *report = page->report;
    int least = mixt_trace_least_chosen(page->trace);
    uint64_t dead = 0;
    uint64_t never = 0;
    double effective = 0;
    for (int layer = 0; layer < info->layers; layer++) {
        dead += (uint64_t)report->load[layer].dead;
        never += (uint64_t)report->load[layer].never_first;
        effective += report->load[layer].effective / info->layers;
    }
    mixt_buffer_text(page->out, "<p class=\"lede\">Each token of a text goes through ");
    if (least < info->experts_per_token) {
        mixt_buffer_format(page->out, "%d to ", least);
    }
    mixt_buffer_format(page->out, "%d of %d experts at ", info->experts_per_token, info->experts);
    if (info->layers > 1) {
        mixt_buffer_format(page->out, "each of %d layers.", info->layers);
    } else {
        mixt_buffer_text(page->out, "one layer.");
    }
    mixt_buffer_format(page->out,
                       " On this text a layer uses them as if %.0f of them shared the work "
                       "evenly.</p>\n<p>",
                       effective * info->experts);
    uint64_t all = (uint64_t)info->layers * (uint64_t)info->experts;
    if (never == 0) {
        mixt_buffer_text(page->out, "Each of the ");
        mixt_page_count(page, all);
        mixt_buffer_text(page->out, " experts is some token\xe2\x80\x99s first choice.");
    } else {
        mixt_buffer_text(page->out, "Of all ");
        mixt_page_count(page, all);
        mixt_buffer_text(page->out, " experts ");
        mixt_page_count(page, never);
        mixt_buffer_text(page->out, " are no token\xe2\x80\x99s first choice, and ");
        mixt_page_count(page, dead);
        mixt_buffer_text(page->out, " of these are never chosen.");
    }
    busiest(page);
    mixt_buffer_text(page->out, "</p>\n");
    furthest(page);
}
