/* Repetition by layer, and how far domains differ: line charts with their tables. */
#include <math.h>
#include <stdlib.h>

#include "atlas/page.h"

static const char *const measure_names[] = {"The same first choice",
                                            "The sets of chosen experts meet"};

/* Columns [layers] of one row of numbers, in percent or as they are. */
typedef struct columns {
    double *value, *low, *high, *dashed, *dotted;
    double *memory;
} columns;

static bool columns_allocate(columns *c, int count)
{
    c->memory = calloc((size_t)count * 5, sizeof(double));
    c->value = c->memory;
    c->low = c->memory + count;
    c->high = c->memory + 2 * count;
    c->dashed = c->memory + 3 * count;
    c->dotted = c->memory + 4 * count;
    return c->memory != NULL;
}

static void widen(double *bottom, double *top, double value)
{
    *bottom = value < *bottom ? value : *bottom;
    *top = value > *top ? value : *top;
}

static void fill_repetition(const mixt_report *report, int domain, int which, columns *c)
{
    for (int layer = 0; layer < report->trace->info.layers; layer++) {
        const mixt_repetition *row = mixt_report_repetition(report, layer, domain, which);
        c->value[layer] = 100 * row->rate.value;
        bool bounded = mixt_repetition_has_interval(row);
        c->low[layer] = bounded ? 100 * row->rate.low : NAN;
        c->high[layer] = bounded ? 100 * row->rate.high : NAN;
        c->dashed[layer] = 100 * row->random;
        c->dotted[layer] = 100 * row->usage;
    }
}

/* One scale for all charts of a measure. */
static void repetition_scale(const mixt_report *report, int which, double *bottom, double *top)
{
    *bottom = 100;
    *top = 0;
    for (int layer = 0; layer < report->trace->info.layers; layer++) {
        for (int d = 0; d <= report->trace->info.domains; d++) {
            const mixt_repetition *row = mixt_report_repetition(report, layer, d, which);
            if (row->rate.pairs == 0) {
                continue;
            }
            widen(bottom, top, 100 * row->rate.value);
            widen(bottom, top, 100 * row->random);
            widen(bottom, top, 100 * row->usage);
            if (mixt_repetition_has_interval(row)) {
                widen(bottom, top, 100 * row->rate.low);
                widen(bottom, top, 100 * row->rate.high);
            }
        }
    }
    mixt_chart_scale(bottom, top);
}

static void repetition_chart(mixt_page *page, int domain, int which, columns *c,
                             const double scale[2])
{
    const mixt_trace *trace = page->trace;
    bool all = domain == trace->info.domains;
    fill_repetition(page->report, domain, which, c);
    mixt_chart chart = {.title = all ? measure_names[which] : trace->domain_names[domain],
                        .unit = " %",
                        .decimals = 1,
                        .small = !all,
                        .count = trace->info.layers,
                        .number = trace->layer_numbers,
                        .value = c->value,
                        .low = c->low,
                        .high = c->high,
                        .dashed = c->dashed,
                        .dashed_name = "random",
                        .dotted = c->dotted,
                        .dotted_name = "unequal use alone",
                        .bottom = scale[0],
                        .top = scale[1]};
    mixt_page_chart(page, &chart);
}

void mixt_page_legend(mixt_page *page, const char *value, const char *dashed, const char *dotted)
{
    mixt_buffer_format(page->out,
                       "<p class=\"legend\"><svg viewBox=\"0 0 28 12\" aria-hidden=\"true\"><path "
                       "class=\"band\" d=\"M0 1H28V11H0z\"/><path class=\"value\" d=\"M0 "
                       "6H28\"/></svg> %s <svg viewBox=\"0 0 28 12\" aria-hidden=\"true\"><path "
                       "class=\"dashed\" d=\"M0 6H28\"/></svg> %s <svg viewBox=\"0 0 28 12\" "
                       "aria-hidden=\"true\"><path class=\"dotted\" d=\"M0 6H28\"/></svg> %s</p>\n",
                       value, dashed, dotted);
}

/* Rows of layers; four numbers for each measure. */
static void repetition_table(mixt_page *page, int domain)
{
    int measures = page->trace->info.experts_per_token > 1 ? 2 : 1;
    mixt_buffer_text(page->out, "<div class=\"scroll\"><table><caption>");
    mixt_page_name(page, domain < page->trace->info.domains ? page->trace->domain_names[domain]
                                                            : "All domains");
    mixt_buffer_text(page->out, ", % of pairs</caption><thead><tr><th scope=\"col\">Layer</th>");
    for (int w = 0; w < measures; w++) {
        mixt_buffer_format(page->out,
                           "<th scope=\"col\">%s</th><th scope=\"col\">95 %% interval</th><th "
                           "scope=\"col\">Unequal use</th><th scope=\"col\">Random</th>",
                           w == 0 ? "First" : "Sets");
    }
    mixt_buffer_text(page->out, "</tr></thead><tbody>\n");
    for (int layer = 0; layer < page->trace->info.layers; layer++) {
        mixt_buffer_format(page->out, "<tr><th scope=\"row\">%d</th>",
                           page->trace->layer_numbers[layer]);
        for (int w = 0; w < measures; w++) {
            const mixt_repetition *row = mixt_report_repetition(page->report, layer, domain, w);
            mixt_buffer_format(page->out, "<td>%s%.1f</td><td>",
                               mixt_repetition_is_above(row) ? "<b>\xe2\x96\xb2</b> " : "",
                               100 * row->rate.value);
            if (mixt_repetition_has_interval(row)) {
                mixt_buffer_format(page->out, "%.1f\xe2\x80\x93%.1f", 100 * row->rate.low,
                                   100 * row->rate.high);
            } else {
                mixt_buffer_text(page->out, "-");
            }
            mixt_buffer_format(page->out, "</td><td>%.1f</td><td>%.1f</td>", 100 * row->usage,
                               100 * row->random);
        }
        mixt_buffer_text(page->out, "</tr>\n");
    }
    mixt_buffer_text(page->out, "</tbody></table></div>\n");
}

static void repetition_domains(mixt_page *page, int which, columns *c, const double scale[2])
{
    mixt_buffer_format(page->out, "<h3>%s, by domain</h3>\n<div class=\"small\">\n",
                       measure_names[which]);
    for (int d = 0; d < page->trace->info.domains; d++) {
        if (!page->shows[d]) {
            continue;
        }
        mixt_buffer_text(page->out, "<figure><figcaption>");
        mixt_page_domain(page, d);
        mixt_buffer_text(page->out, mixt_report_repetition(page->report, 0, d, which)->single
                                        ? " \xe2\x80\xa0</figcaption>"
                                        : "</figcaption>");
        repetition_chart(page, d, which, c, scale);
        mixt_buffer_text(page->out, "</figure>\n");
    }
    mixt_buffer_text(page->out, "</div>\n");
}

void mixt_page_repetition(mixt_page *page)
{
    const mixt_trace_info *info = &page->trace->info;
    int measures = info->experts_per_token > 1 ? 2 : 1;
    columns c = {0};
    double scale[2][2];
    if (!columns_allocate(&c, info->layers)) {
        page->out->failed = true;
        return;
    }
    mixt_buffer_text(
        page->out,
        "<section id=\"repetition\">\n<h2>Repetition of consecutive tokens</h2>\n"
        "<p>How often a token goes to the expert of the token before it. Pairs never cross the "
        "border of a document. The dashed line is what uniform random choice would give, the "
        "dotted one what unequal use of the experts alone gives: two random tokens of the same "
        "domain. Only what rises above both is locality.</p>\n<div class=\"pair\">\n");
    for (int w = 0; w < measures; w++) {
        repetition_scale(page->report, w, &scale[w][0], &scale[w][1]);
        mixt_buffer_format(page->out, "<figure><figcaption>%s, %% of pairs</figcaption>\n",
                           measure_names[w]);
        repetition_chart(page, info->domains, w, &c, scale[w]);
        mixt_buffer_text(page->out, "</figure>\n");
    }
    mixt_buffer_text(page->out, "</div>\n");
    mixt_page_legend(page, "measured, 95 % interval for documents like these", "random",
                     "unequal use alone");
    for (int w = 0; w < measures; w++) {
        repetition_domains(page, w, &c, scale[w]);
    }
    if (mixt_report_repetition(page->report, 0, info->domains, 0)->single) {
        mixt_buffer_text(page->out, "<p class=\"note\">\xe2\x80\xa0: " MIXT_NOTE_SINGLE "</p>\n");
    }
    if (mixt_report_lacks_interval(page->report)) {
        mixt_buffer_text(page->out,
                         "<p class=\"note\">-, and a gap in the band: " MIXT_NOTE_NO_INTERVAL
                         "</p>\n");
    }
    mixt_buffer_text(page->out, "<details id=\"repetition-numbers\"><summary>The numbers"
                                "</summary>\n<p class=\"note\">\xe2\x96\xb2 the whole interval "
                                "lies above both levels.</p>\n");
    repetition_table(page, info->domains);
    for (int d = 0; d < info->domains; d++) {
        if (page->shows[d]) {
            repetition_table(page, d);
        }
    }
    mixt_buffer_text(page->out, "</details>\n</section>\n");
    free(c.memory);
}

static void distance_table(mixt_page *page)
{
    const mixt_trace_info *info = &page->trace->info;
    mixt_buffer_text(page->out,
                     "<details><summary>The numbers</summary>\n<div class=\"scroll\"><table>"
                     "<caption>Distance from the mean (95th percentile by chance)</caption>"
                     "<thead><tr><th scope=\"col\">Layer</th>");
    mixt_page_domain_heads(page);
    for (int layer = 0; layer < info->layers; layer++) {
        mixt_buffer_format(page->out, "<tr><th scope=\"row\">%d</th>",
                           page->trace->layer_numbers[layer]);
        for (int d = 0; d < info->domains; d++) {
            const mixt_distance *row = mixt_report_distance(page->report, layer, d);
            if (!page->shows[d]) {
                continue;
            }
            if (mixt_counts_total(page->report->counts, layer, d, MIXT_CHOICE_ANY) == 0) {
                mixt_buffer_text(page->out, "<td>\xe2\x80\x93</td>");
                continue;
            }
            if (!row->leveled) {
                mixt_buffer_format(page->out, "<td>%.3f <span>(-)</span></td>", row->value);
                continue;
            }
            mixt_buffer_format(page->out, "<td>%.3f <span>(%.3f)</span></td>", row->value,
                               row->high);
        }
        mixt_buffer_text(page->out, "</tr>\n");
    }
    mixt_buffer_text(page->out, "</tbody></table></div></details>\n");
}

void mixt_page_distance(mixt_page *page)
{
    const mixt_trace_info *info = &page->trace->info;
    columns c = {0};
    double bottom = 0;
    double top = 0;
    if (info->domains < 2) {
        return;
    }
    if (!columns_allocate(&c, info->layers)) {
        page->out->failed = true;
        return;
    }
    for (int i = 0; i < info->layers * info->domains; i++) {
        widen(&bottom, &top, page->report->distance[i].value);
        widen(&bottom, &top, page->report->distance[i].high);
    }
    mixt_chart_scale(&bottom, &top);
    mixt_buffer_text(
        page->out,
        "<h3>How far domains differ</h3>\n<p>The part of its choices that a domain would have to "
        "move to other experts to match the mean of all domains (total variation distance). The "
        "dashed line is the same distance between random halves of the domain\xe2\x80\x99s own "
        "documents, scaled to the whole: chance; the dotted one its 95th percentile.</p>\n"
        "<div class=\"small\">\n");
    for (int d = 0; d < info->domains; d++) {
        if (!page->shows[d]) {
            continue;
        }
        for (int layer = 0; layer < info->layers; layer++) {
            const mixt_distance *row = mixt_report_distance(page->report, layer, d);
            c.value[layer] = row->value;
            c.dashed[layer] = row->leveled ? row->level : NAN;
            c.dotted[layer] = row->leveled ? row->high : NAN;
        }
        mixt_chart chart = {.title = page->trace->domain_names[d],
                            .unit = "",
                            .decimals = 3,
                            .small = true,
                            .count = info->layers,
                            .number = page->trace->layer_numbers,
                            .value = c.value,
                            .dashed = c.dashed,
                            .dashed_name = "by chance",
                            .dotted = c.dotted,
                            .dotted_name = "its 95th percentile",
                            .bottom = bottom,
                            .top = top};
        mixt_buffer_text(page->out, "<figure><figcaption>");
        mixt_page_domain(page, d);
        mixt_buffer_text(page->out, "</figcaption>");
        mixt_page_chart(page, &chart);
        mixt_buffer_text(page->out, "</figure>\n");
    }
    mixt_buffer_text(page->out, "</div>\n");
    if (mixt_report_lacks_level(page->report)) {
        mixt_buffer_text(
            page->out, "<p class=\"note\">-, and a gap in the lines: " MIXT_NOTE_NO_LEVEL "</p>\n");
    }
    distance_table(page);
    free(c.memory);
}
