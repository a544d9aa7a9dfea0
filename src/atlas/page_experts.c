/* Experts by domain (Mixtral paper, figure 7) and the load of the experts by layer. */
#include <math.h>
#include <stdlib.h>

#include "atlas/page.h"

#define BARS_WIDTH 360.0
#define BARS_TOP 4.0
#define BARS_BASE 84.0
#define EXPERTS_WITH_TITLES 16 /* up to here each bar has its own title and colour */
#define EXPERTS_ALL_ROWS 64    /* up to here those that nobody chose have rows of tables too */

static const char *const choice_names[] = {"First choice", "Second choice", "All choices"};

/* Largest share over the domains, at least 2/E: one scale for a layer's bars. */
static double layer_top(const mixt_page *page, int layer, mixt_choice choice)
{
    const mixt_report *report = page->report;
    double top = 2.0 / report->trace->info.experts;
    for (int d = 0; d < report->trace->info.domains; d++) {
        for (int e = 0; e < report->trace->info.experts && page->shows[d]; e++) {
            top = fmax(top, mixt_counts_share(report->counts, layer, d, choice, e));
        }
    }
    return top;
}

typedef struct bars {
    int layer, domain;
    mixt_choice choice;
    double top; /* share at full height */
} bars;

static double share_of(const mixt_page *page, const bars *b, int expert)
{
    return mixt_counts_share(page->report->counts, b->layer, b->domain, b->choice, expert);
}

static void draw_bar(mixt_page *page, const bars *b, int expert)
{
    int experts = page->trace->info.experts;
    double slot = BARS_WIDTH / experts;
    double width = fmin(slot * 0.74, 30);
    double share = share_of(page, b, expert);
    double height = (BARS_BASE - BARS_TOP) * share / b->top;
    double x = slot * expert + (slot - width) / 2;
    if (experts > EXPERTS_WITH_TITLES) { /* one path for all: a part of it */
        if (share == 0) {
            return;
        }
        mixt_buffer_format(page->out, "M%.1f %.0fv%.1fh%.1fv%.1fz", x, BARS_BASE, -height, width,
                           height);
        return;
    }
    mixt_buffer_format(page->out,
                       "<rect data-e=\"%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
                       "<title>expert %d: %.1f %% (random %.1f %%)</title></rect>",
                       expert, x, BARS_BASE - height, width, height, expert, 100 * share,
                       100.0 / experts);
    mixt_buffer_format(page->out, "<text class=\"x\" x=\"%.1f\" y=\"96\">%d</text>",
                       slot * (expert + 0.5), expert);
}

static void draw_bars(mixt_page *page, const bars *b)
{
    int experts = page->trace->info.experts;
    int most = 0;
    for (int e = 1; e < experts; e++) {
        most = share_of(page, b, e) > share_of(page, b, most) ? e : most;
    }
    mixt_buffer_text(page->out, "<figure><figcaption><b>");
    mixt_page_domain(page, b->domain);
    mixt_buffer_format(page->out, "</b> <span>most: expert %d, %.1f %%</span></figcaption>", most,
                       100 * share_of(page, b, most));
    bool titles = experts <= EXPERTS_WITH_TITLES;
    mixt_buffer_format(
        page->out,
        "<svg class=\"bars\" viewBox=\"0 0 360 %d\" role=\"img\" aria-label=\"Shares "
        "of %d experts, layer %d; the most used is %d\">",
        titles ? 100 : 86, experts, page->trace->layer_numbers[b->layer], most);
    mixt_buffer_text(page->out, titles ? "" : "<path class=\"all\" d=\"");
    for (int e = 0; e < experts; e++) {
        draw_bar(page, b, e);
    }
    double y = BARS_BASE - (BARS_BASE - BARS_TOP) / experts / b->top;
    mixt_buffer_format(page->out,
                       "%s<path class=\"base\" d=\"M0 %.1fH360\"/><path class=\"dashed\" d=\"M0 "
                       "%.1fH360\"/></svg></figure>\n",
                       titles ? "" : "\"/>", BARS_BASE, y);
}

/* A row of the table; false, without it, where the expert is one of many that nobody chose. */
static bool proportion_row(mixt_page *page, int layer, mixt_choice choice, int expert)
{
    const mixt_counts *counts = page->report->counts;
    bool chosen = page->trace->info.experts <= EXPERTS_ALL_ROWS;
    for (int d = 0; d < page->trace->info.domains && !chosen; d++) {
        chosen = page->shows[d] && mixt_counts_share(counts, layer, d, choice, expert) > 0;
    }
    if (!chosen) {
        return false;
    }
    mixt_buffer_format(page->out, "<tr><th scope=\"row\">%d</th>", expert);
    for (int d = 0; d < page->trace->info.domains; d++) {
        if (!page->shows[d]) {
            continue;
        }
        if (mixt_counts_total(counts, layer, d, choice) == 0) {
            mixt_buffer_text(page->out, "<td>\xe2\x80\x93</td>");
            continue;
        }
        mixt_buffer_format(page->out, "<td>%.1f</td>",
                           100 * mixt_counts_share(counts, layer, d, choice, expert));
    }
    mixt_buffer_text(page->out, "</tr>\n");
    return true;
}

static void proportion_table(mixt_page *page, int layer, mixt_choice choice)
{
    int experts = page->trace->info.experts;
    int left_out = 0;
    mixt_buffer_format(page->out,
                       "<details><summary>The numbers</summary><div class=\"scroll\"><table>"
                       "<caption>Layer %d, %s, %%; random %.*f</caption><thead><tr><th "
                       "scope=\"col\">Expert</th>",
                       page->trace->layer_numbers[layer], choice_names[choice],
                       experts <= 64 ? 1 : 2, 100.0 / experts);
    mixt_page_domain_heads(page);
    for (int e = 0; e < experts; e++) {
        left_out += !proportion_row(page, layer, choice, e);
    }
    mixt_buffer_text(page->out, "</tbody></table></div>");
    if (left_out > 0) {
        mixt_buffer_format(page->out, "<p class=\"note\">Without %d experts that nobody chose.</p>",
                           left_out);
    }
    mixt_buffer_text(page->out, "</details>\n");
}

static void proportion_panel(mixt_page *page, int entry, mixt_choice choice)
{
    int layer = page->layers[entry];
    const char *role = mixt_report_layer_role(page->report, layer);
    double top = layer_top(page, layer, choice);
    bool key = role[0] != '\0' && choice == MIXT_CHOICE_ANY;
    mixt_buffer_format(page->out,
                       "<div class=\"panel l%d c%d%s\"><h4>Layer %d%s%s, %s</h4>\n"
                       "<div class=\"wide\">\n",
                       entry, (int)choice, key ? " key" : "", page->trace->layer_numbers[layer],
                       role[0] != '\0' ? ", the " : "", role,
                       page->trace->info.experts_per_token > 1
                           ? (choice == MIXT_CHOICE_FIRST    ? "first choice"
                              : choice == MIXT_CHOICE_SECOND ? "second choice"
                                                             : "all choices")
                           : "the choice");
    bool any = false;
    for (int d = 0; d < page->trace->info.domains; d++) {
        if (page->shows[d] && mixt_counts_total(page->report->counts, layer, d, choice) != 0) {
            draw_bars(page, &(bars){layer, d, choice, top});
            any = true;
        }
    }
    mixt_buffer_text(page->out, "</div>\n");
    if (any) {
        proportion_table(page, layer, choice);
    } else {
        mixt_buffer_text(page->out, "<p class=\"note\">No such choice at this layer.</p>\n");
    }
    mixt_buffer_text(page->out, "</div>\n");
}

void mixt_page_proportions(mixt_page *page)
{
    static const mixt_choice order[] = {MIXT_CHOICE_ANY, MIXT_CHOICE_FIRST, MIXT_CHOICE_SECOND};
    int experts = page->trace->info.experts;
    int choices = page->trace->info.experts_per_token > 1 ? 3 : 1;
    mixt_buffer_format(page->out,
                       "<h3>Experts by domain</h3>\n<p>The part of a domain\xe2\x80\x99s choices "
                       "that each expert gets. The dashed line is 1/E = %.*f %%, even use. "
                       "Domains that were alike would show the same bars.</p>\n"
                       "<div class=\"switch\">\n",
                       experts <= 64 ? 1 : 2, 100.0 / experts);
    mixt_page_layer_choice(page, "pl", "Layer", page->layers, page->layer_count, page->start);
    if (choices > 1) {
        mixt_buffer_text(page->out, page->layer_count > 6 ? "<br>" : "");
        mixt_buffer_text(page->out, "<span class=\"group\">Choice</span>");
    }
    for (int i = 0; i < choices && choices > 1; i++) {
        mixt_buffer_format(page->out,
                           "<input type=\"radio\" name=\"pc\" id=\"pc%d\"%s><label for=\"pc%d\">"
                           "%s</label>\n",
                           (int)order[i], i == 0 ? " checked" : "", (int)order[i],
                           order[i] == MIXT_CHOICE_ANY     ? "all"
                           : order[i] == MIXT_CHOICE_FIRST ? "first"
                                                           : "second");
    }
    mixt_buffer_text(page->out, "<div class=\"panels\">\n");
    for (int i = 0; i < page->layer_count; i++) {
        for (int c = 0; c < choices; c++) {
            proportion_panel(page, i, order[c]);
        }
    }
    mixt_buffer_text(page->out, "</div></div>\n");
}

/* -- Load ----------------------------------------------------------------------------------- */

#define LOAD_LEFT 30.0
#define LOAD_RIGHT 268.0

/* Cells of one layer: darker is more of the layer's choices, full at twice the mean. */
static void load_row(mixt_page *page, int layer, double y, double height, const double *share)
{
    int experts = page->trace->info.experts;
    double slot = (LOAD_RIGHT - LOAD_LEFT) / experts;
    double gap = slot > 6 ? 1 : 0;
    const mixt_load *load = &page->report->load[layer];
    mixt_buffer_format(page->out, "<text class=\"y\" x=\"%.0f\" y=\"%.1f\">%d</text>",
                       LOAD_LEFT - 6, y + height / 2 + 3.5, page->trace->layer_numbers[layer]);
    for (int e = 0; e < experts; e++) {
        double part = fmin(share[e] * experts / 2, 1);
        mixt_buffer_format(page->out,
                           "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                           "fill-opacity=\"%.2f\"",
                           LOAD_LEFT + slot * e, y, slot - gap, height - 1, part);
        if (experts <= 64) {
            mixt_buffer_format(page->out,
                               "><title>layer %d, expert %d: %.2f times the mean</title>"
                               "</rect>",
                               page->trace->layer_numbers[layer], e, share[e] * experts);
        } else {
            mixt_buffer_text(page->out, "/>");
        }
    }
    mixt_buffer_format(page->out,
                       "<text class=\"n\" x=\"310\" y=\"%.1f\">%.2f</text><text class=\"n\" "
                       "x=\"354\" y=\"%.1f\">%.3f</text>",
                       y + height / 2 + 3.5, load->max_over_mean, y + height / 2 + 3.5,
                       load->effective);
}

static void load_table(mixt_page *page)
{
    const mixt_trace *trace = page->trace;
    bool choices = mixt_trace_least_chosen(trace) < trace->info.experts_per_token;
    bool dropped = mixt_trace_has_dropped(trace);
    mixt_buffer_text(page->out,
                     "<details><summary>The numbers</summary><div class=\"scroll\"><table>"
                     "<caption>Load of the experts</caption><thead><tr><th scope=\"col\">Layer</th>"
                     "<th scope=\"col\">Most used over mean</th><th scope=\"col\">Experts never "
                     "chosen</th><th scope=\"col\">Experts never first</th><th scope=\"col\">"
                     "exp(entropy) / E</th>");
    mixt_buffer_text(page->out, choices ? "<th scope=\"col\">Choices of a token</th>" : "");
    mixt_buffer_text(page->out, dropped ? "<th scope=\"col\">Dropped choices</th>" : "");
    mixt_buffer_text(page->out, "</tr></thead><tbody>\n");
    for (int layer = 0; layer < trace->info.layers; layer++) {
        const mixt_load *load = &page->report->load[layer];
        mixt_buffer_format(
            page->out,
            "<tr><th scope=\"row\">%d</th><td>%.2f</td><td>%d</td><td>%d</td><td>%.3f</td>",
            trace->layer_numbers[layer], load->max_over_mean, load->dead, load->never_first,
            load->effective);
        if (choices) {
            mixt_buffer_format(page->out, "<td>%d</td>", trace->chosen[layer]);
        }
        if (dropped) {
            mixt_buffer_text(page->out, "<td>");
            mixt_page_count(page, trace->dropped[layer]);
            mixt_buffer_format(page->out, " <span>(%.1f %%)</span></td>",
                               100 * mixt_trace_dropped_share(trace, layer));
        }
        mixt_buffer_text(page->out, "</tr>\n");
    }
    mixt_buffer_text(page->out, "</tbody></table></div></details>\n");
}

void mixt_page_load(mixt_page *page)
{
    int layers = page->trace->info.layers;
    int experts = page->trace->info.experts;
    bool cells = (int64_t)layers * experts <= 12000; /* else only the key layers are drawn */
    int rows = cells ? layers : page->report->key_layer_count;
    double height = rows <= 12 ? 20 : 14;
    double *share = calloc((size_t)experts, sizeof *share);
    if (share == NULL) {
        page->out->failed = true;
        return;
    }
    mixt_buffer_text(
        page->out,
        "<section id=\"load\">\n<h2>Load of the experts</h2>\n<p>The part of a layer\xe2\x80\x99s "
        "choices that each expert gets, over all domains: an empty cell is never chosen, a full "
        "one gets twice the mean or more. Beside it the most used expert over the mean, and the "
        "experts in effect use, exp(entropy) / E; both are 1 when the load is even.</p>\n"
        "<figure class=\"load\">\n");
    mixt_buffer_format(
        page->out,
        "<svg class=\"heat\" viewBox=\"0 0 360 %.0f\" role=\"img\" aria-label=\"Load "
        "of %d experts at %d layers; the numbers are in the table below\">"
        "<text class=\"y\" x=\"%.0f\" y=\"11\">layer</text><text class=\"x\" "
        "x=\"%.0f\" y=\"11\">expert 0 to %d</text><text class=\"n\" x=\"310\" "
        "y=\"11\">max/mean</text><text class=\"n\" x=\"354\" y=\"11\">in use</text>",
        18 + rows * height, experts, rows, LOAD_LEFT - 4, (LOAD_LEFT + LOAD_RIGHT) / 2 - 10,
        experts - 1);
    for (int i = 0; i < rows; i++) {
        int layer = cells ? i : page->report->key_layers[i];
        mixt_load_of(page->report->counts, layer, share);
        load_row(page, layer, 18 + i * height, height, share);
    }
    mixt_buffer_text(page->out, "</svg></figure>\n");
    load_table(page);
    mixt_buffer_text(page->out, "</section>\n");
    free(share);
}
