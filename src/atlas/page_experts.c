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
    if (experts > EXPERTS_WITH_TITLES) { /* one path for all: the next step of its outline */
        mixt_buffer_format(page->out, "V%.1fH%.1f", BARS_BASE - height, slot * (expert + 1));
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
    if (!titles) {
        mixt_buffer_format(page->out, "<path class=\"all\" d=\"M0 %.0f", BARS_BASE);
    }
    for (int e = 0; e < experts; e++) {
        draw_bar(page, b, e);
    }
    double y = BARS_BASE - (BARS_BASE - BARS_TOP) / experts / b->top;
    if (!titles) {
        mixt_buffer_format(page->out, "V%.0fz\"/>", BARS_BASE);
    }
    mixt_buffer_format(page->out,
                       "<path class=\"base\" d=\"M0 %.1fH360\"/><path class=\"dashed\" d=\"M0 "
                       "%.1fH360\"/></svg></figure>\n",
                       BARS_BASE, y);
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
    int layer = page->report->key_layers[entry];
    const char *role = mixt_report_layer_role(page->report, layer);
    double top = layer_top(page, layer, choice);
    bool key = choice == MIXT_CHOICE_ANY; /* in print */
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
    if (any && (choice == MIXT_CHOICE_ANY || page->trace->info.experts <= EXPERTS_ALL_ROWS)) {
        proportion_table(page, layer, choice);
    } else if (!any) {
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
                       "Domains that were alike would show the same bars. <span "
                       "class=\"plain\">Here are the first, the "
                       "middle and the last layer.</span></p>\n"
                       "<div id=\"shares\" hidden></div>\n<div class=\"switch still\">\n",
                       experts <= 64 ? 1 : 2, 100.0 / experts);
    mixt_page_layer_choice(page, "pl", "Layer");
    if (choices > 1) {
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
    for (int i = 0; i < page->report->key_layer_count; i++) {
        for (int c = 0; c < choices; c++) {
            proportion_panel(page, i, order[c]);
        }
    }
    mixt_buffer_text(page->out, "</div></div>\n");
}

/* -- Load ----------------------------------------------------------------------------------- */

void mixt_page_load(mixt_page *page)
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
