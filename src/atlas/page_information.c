/* What experts tell of domains and tokens, by layer: line charts with their tables. */
#include <math.h>
#include <stdlib.h>

#include "atlas/page.h"

static const char *const label_names[] = {"The domain", "The token\xe2\x80\x99s class", "The token",
                                          "The token before"};

/* Columns [layers] in percent of the expert's entropy. */
typedef struct columns {
    double *value, *low, *high, *dashed, *dotted;
} columns;

static double percent(const mixt_information *row, double bits)
{
    return 100 * mixt_information_share(row, bits);
}

static void fill(const mixt_report *report, int label, int which, columns *c)
{
    for (int layer = 0; layer < report->trace->info.layers; layer++) {
        const mixt_information *row = mixt_report_information(report, layer, label, which);
        bool level = row->shuffles > 0;
        bool bounded = mixt_information_has_interval(row);
        c->value[layer] = percent(row, row->bits);
        c->dashed[layer] = level ? percent(row, row->shuffled) : NAN;
        c->dotted[layer] = level ? percent(row, row->highest) : NAN;
        c->low[layer] = bounded ? percent(row, row->shuffled + row->low) : NAN;
        c->high[layer] = bounded ? percent(row, row->shuffled + row->high) : NAN;
    }
}

/* One scale from 0 for all labels, so that they compare. */
static void scale(const mixt_report *report, int which, double *bottom, double *top)
{
    *bottom = *top = 0;
    for (int i = 0; i < report->trace->info.layers * MIXT_LABEL_COUNT; i++) {
        const mixt_information *row =
            mixt_report_information(report, i / MIXT_LABEL_COUNT, i % MIXT_LABEL_COUNT, which);
        *top = fmax(*top, fmax(percent(row, row->bits), percent(row, row->highest)));
        if (mixt_information_has_interval(row)) {
            *top = fmax(*top, percent(row, row->shuffled + row->high));
        }
    }
    mixt_chart_scale(bottom, top);
}

static void label_figure(mixt_page *page, int label, columns *c, const double range[2])
{
    const mixt_trace *trace = page->trace;
    const mixt_information *mean =
        mixt_report_information(page->report, trace->info.layers, label, MIXT_TOLD_FIRST);
    mixt_buffer_format(page->out, "<figure><figcaption>%s, %% of H</figcaption>\n",
                       label_names[label]);
    if (mean->count == 0) {
        mixt_buffer_format(page->out, "<p class=\"note\">Not measured: %s.</p>\n", mean->absent);
    } else {
        fill(page->report, label, MIXT_TOLD_FIRST, c);
        mixt_chart chart = {.title = label_names[label],
                            .unit = " %",
                            .decimals = 1,
                            .count = trace->info.layers,
                            .number = trace->layer_numbers,
                            .value = c->value,
                            .low = c->low,
                            .high = c->high,
                            .dashed = c->dashed,
                            .dashed_name = "shuffled",
                            .dotted = c->dotted,
                            .dotted_name = "highest shuffle",
                            .bottom = range[0],
                            .top = range[1]};
        mixt_page_chart(page, &chart);
        if (mean->shuffles == 0) {
            mixt_buffer_format(page->out, "<p class=\"note\">No level: %s.</p>\n", mean->absent);
        }
    }
    mixt_buffer_text(page->out, "</figure>\n");
}

static void table_cells(mixt_page *page, const mixt_information *row)
{
    if (row->count == 0) {
        mixt_buffer_text(page->out, "<td>-</td><td>-</td><td>-</td><td>-</td><td>-</td>");
        return;
    }
    mixt_buffer_format(page->out, "<td>%.3f</td>", row->bits);
    if (row->shuffles == 0) {
        mixt_buffer_text(page->out, "<td>-</td><td>-</td><td>-</td><td>-</td>");
        return;
    }
    mixt_buffer_format(page->out, "<td>%.3f <span>\xc2\xb1%.3f</span></td><td>%s%.3f</td><td>",
                       row->shuffled, row->spread,
                       mixt_information_exceeds(row) ? "<b>\xe2\x96\xb2</b> " : "", row->excess);
    if (mixt_information_has_interval(row)) {
        mixt_buffer_format(page->out, "%.3f\xe2\x80\x93%.3f", row->low, row->high);
    } else {
        mixt_buffer_text(page->out, "-");
    }
    mixt_buffer_format(page->out, "</td><td>%.1f</td>", percent(row, row->excess));
}

/* Rows of layers and their mean; five numbers for each way to choose. */
static void label_table(mixt_page *page, int label)
{
    const mixt_trace *trace = page->trace;
    int measures = trace->info.experts_per_token > 1 ? MIXT_TOLD_COUNT : 1;
    mixt_buffer_format(page->out,
                       "<div class=\"scroll\"><table><caption>%s, bits</caption><thead><tr><th "
                       "scope=\"col\">Layer</th>",
                       label_names[label]);
    for (int which = 0; which < measures; which++) {
        mixt_buffer_format(page->out,
                           "<th scope=\"col\">%s</th><th scope=\"col\">Shuffled</th><th "
                           "scope=\"col\">Excess</th><th scope=\"col\">95 %% interval</th><th "
                           "scope=\"col\">%% of H</th>",
                           which == MIXT_TOLD_FIRST ? "First choice" : "All choices");
    }
    mixt_buffer_text(page->out, "</tr></thead><tbody>\n");
    for (int layer = 0; layer <= trace->info.layers; layer++) {
        if (layer < trace->info.layers) {
            mixt_buffer_format(page->out, "<tr><th scope=\"row\">%d</th>",
                               trace->layer_numbers[layer]);
        } else {
            mixt_buffer_text(page->out, "<tr><th scope=\"row\">mean</th>");
        }
        for (int which = 0; which < measures; which++) {
            table_cells(page, mixt_report_information(page->report, layer, label, which));
        }
        mixt_buffer_text(page->out, "</tr>\n");
    }
    mixt_buffer_text(page->out, "</tbody></table></div>\n");
}

static void class_note(mixt_page *page)
{
    const char *gap = "<p class=\"note\">Classes, % of the tokens: ";
    for (int c = 0; c < MIXT_CLASS_COUNT; c++) {
        if (page->report->class_share[c] > 0) {
            mixt_buffer_format(page->out, "%s%s %.1f", gap, mixt_token_class_name(c),
                               100 * page->report->class_share[c]);
            gap = ", ";
        }
    }
    mixt_buffer_text(page->out, ".</p>\n");
}

void mixt_page_information(mixt_page *page)
{
    size_t layers = (size_t)page->trace->info.layers;
    double *memory = calloc(layers * 5, sizeof *memory);
    double range[2];
    if (memory == NULL) {
        page->out->failed = true;
        return;
    }
    columns c = {memory, memory + layers, memory + 2 * layers, memory + 3 * layers,
                 memory + 4 * layers};
    scale(page->report, MIXT_TOLD_FIRST, &range[0], &range[1]);
    mixt_buffer_text(
        page->out,
        "<section id=\"information\">\n<h2>What experts tell</h2>\n"
        "<p>Mutual information of a token\xe2\x80\x99s first expert with its domain, its kind, the "
        "token itself and the token before it, as a part of the expert\xe2\x80\x99s entropy H. "
        "The dashed line is the mean where labels are shuffled, the dotted one the highest "
        "shuffle: domains are dealt anew to whole documents, the others to the tokens within each "
        "document, so that what rises above is what the token tells beyond its document.</p>\n"
        "<div class=\"pair\">\n");
    for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
        label_figure(page, label, &c, range);
    }
    mixt_buffer_text(page->out, "</div>\n");
    mixt_page_legend(page, "measured, 95 % interval of the excess", "shuffled", "highest shuffle");
    class_note(page);
    mixt_buffer_text(page->out, "<details id=\"information-numbers\"><summary>The numbers"
                                "</summary>\n<p class=\"note\">\xe2\x96\xb2 above every shuffle, "
                                "with the whole interval above 0.</p>\n");
    for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
        label_table(page, label);
    }
    mixt_buffer_text(page->out, "</details>\n</section>\n");
    free(memory);
}
