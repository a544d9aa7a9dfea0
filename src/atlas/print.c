/* The tables and the coloured text for a terminal. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/display.h"
#include "atlas/report.h"
#include "core/error.h"
#include "core/number.h"
#include "core/utf8.h"

#define MIN_WIDTH 72 /* of the table of both measures */
#define DEFAULT_WIDTH 80
#define NAME_COLUMNS 14 /* of a domain */
#define TOP_TOKENS 8

typedef struct printer {
    const mixt_report *report;
    const mixt_trace *trace;
    mixt_buffer *out;
    bool color;
    int width;
    int text_tokens;
    int text_domains; /* that text is shown of */
} printer;

static void wrapped(printer *p, const char *text)
{
    mixt_display_wrapped(p->out, text, p->width);
}

static void title(printer *p, const char *text)
{
    mixt_buffer_text(p->out, p->color ? "\n\033[1m" : "\n");
    wrapped(p, text);
    mixt_buffer_text(p->out, p->color ? "\033[0m" : "");
}

static void heading(printer *p, const char *format, ...) MIXT_PRINTF(2, 3);

static void heading(printer *p, const char *format, ...)
{
    char text[256]; /* nothing of the trace is in it but numbers */
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(text, sizeof text, format, arguments);
    va_end(arguments);
    title(p, text);
}

static void note(printer *p, const char *text)
{
    mixt_buffer_text(p->out, p->color ? "\033[2m" : "");
    wrapped(p, text);
    mixt_buffer_text(p->out, p->color ? "\033[0m" : "");
}

static const char *mark(const mixt_repetition *row)
{
    return mixt_repetition_is_above(row) ? "\xe2\x96\xb2" : " "; /* U+25B2 */
}

/* Layers that choose different numbers of experts. */
static bool uneven(const printer *p)
{
    return mixt_trace_least_chosen(p->trace) < p->trace->info.experts_per_token;
}

static void print_title(printer *p)
{
    const mixt_trace_info *info = &p->trace->info;
    mixt_buffer line = {0};
    mixt_buffer_text(&line, "Atlas of ");
    mixt_display_name(&line, info->model[0] != '\0' ? info->model : "a model without a name",
                      MIXT_DISPLAY_PLAIN);
    mixt_buffer_append(&line, "", 1);
    title(p, line.failed ? "" : line.data);
    p->out->failed |= line.failed;
    mixt_buffer_free(&line);
    mixt_buffer facts = {0};
    mixt_buffer_format(&facts, "%d layer%s with experts, ", info->layers,
                       info->layers == 1 ? "" : "s");
    if (uneven(p)) {
        mixt_buffer_format(&facts, "%d to ", mixt_trace_least_chosen(p->trace));
    }
    mixt_buffer_format(&facts, "%d of %d experts a token", info->experts_per_token, info->experts);
    mixt_trace_say_weightless(p->trace, &facts);
    if (info->router_select[0] != '\0') {
        mixt_buffer_text(&facts, ", chosen by ");
        mixt_display_name(&facts, info->router_select, MIXT_DISPLAY_PLAIN);
    }
    mixt_buffer_format(&facts, "; %llu tokens of %llu document%s in %d domain%s",
                       (unsigned long long)info->tokens, (unsigned long long)info->documents,
                       info->documents == 1 ? "" : "s", info->domains,
                       info->domains == 1 ? "" : "s");
    if (info->held_out[0] != '\0') {
        mixt_buffer_text(&facts, ". Mind that ");
        mixt_display_text(&facts, info->held_out, MIXT_DISPLAY_PLAIN);
    }
    mixt_buffer_append(&facts, "", 1);
    wrapped(p, facts.failed ? "" : facts.data);
    p->out->failed |= facts.failed;
    mixt_buffer_free(&facts);
}

/* Name of a row; false, with the row ended, where the domain has no tokens, which is said in the
 * first of several tables. */
static bool row_name(printer *p, int domain, bool first)
{
    bool all = domain == p->trace->info.domains;
    if (!first && mixt_report_is_empty(p->report, domain)) {
        return false;
    }
    mixt_display_fit(p->out, all ? "all" : p->trace->domain_names[domain], NAME_COLUMNS);
    if (!mixt_report_is_empty(p->report, domain)) {
        return true;
    }
    mixt_buffer_text(p->out, " no tokens in this trace\n");
    return false;
}

/* Above the columns of layers [begin, end), each so wide. */
static void layer_heads(printer *p, int begin, int end, int columns)
{
    int before = columns / 8; /* spaces in front */
    mixt_buffer_format(p->out, "%*s", NAME_COLUMNS, "");
    for (int layer = begin; layer < end; layer++) {
        mixt_buffer_format(p->out, "%*slayer %-*d", before, "", columns - before - 6,
                           p->trace->layer_numbers[layer]);
    }
    mixt_buffer_text(p->out, "\n");
}

/* -- Repetition ----------------------------------------------------------------------------- */

static void summary_cell(printer *p, const mixt_repetition *row)
{
    mixt_buffer_format(p->out, "  %5.1f %s ", 100 * row->rate.value, mark(row));
    if (mixt_repetition_has_interval(row)) {
        mixt_buffer_format(p->out, "%5.1f \xe2\x80\x93%5.1f", 100 * row->rate.low,
                           100 * row->rate.high);
    } else {
        mixt_buffer_text(p->out, "      -     ");
    }
    mixt_buffer_format(p->out, "  %5.1f", 100 * row->usage);
}

/* The least and the greatest random level over layers and domains with pairs; the last row is over
 * all domains. They differ where tokens have different numbers of experts. */
static void random_range(const mixt_report *report, int first_domain, int which, double range[2])
{
    int domains = report->trace->info.domains;
    range[0] = range[1] = mixt_report_repetition(report, 0, domains, which)->random;
    for (int layer = 0; layer < report->trace->info.layers; layer++) {
        for (int d = first_domain; d <= domains; d++) {
            const mixt_repetition *row = mixt_report_repetition(report, layer, d, which);
            if (row->rate.pairs != 0) {
                range[0] = fmin(range[0], row->random);
                range[1] = fmax(range[1], row->random);
            }
        }
    }
}

static void note_intervals(printer *p)
{
    if (mixt_report_repetition(p->report, 0, p->trace->info.domains, 0)->single) {
        note(p, "\xe2\x80\xa0: " MIXT_NOTE_SINGLE);
    }
    if (mixt_report_lacks_interval(p->report)) {
        note(p, "-: " MIXT_NOTE_NO_INTERVAL);
    }
}

static void print_repetition_summary(printer *p)
{
    const mixt_report *report = p->report;
    int all = p->trace->info.domains;
    int measures = p->trace->info.experts_per_token > 1 ? 2 : 1;
    double range[2];
    random_range(report, all, MIXT_REPEAT_SETS, range);
    bool column = measures > 1 && range[0] != range[1]; /* the sets' level, layer by layer */
    const char *gap = column ? "" : " ";                /* makes room for it */
    heading(p, "Repetition of consecutive tokens, all domains (%% of pairs)");
    mixt_buffer_format(p->out, "         %-29s%s\n", "same first choice",
                       measures > 1 ? "sets of chosen experts meet" : "");
    mixt_buffer_text(p->out, "layer  ");
    for (int w = 0; w < measures; w++) {
        mixt_buffer_format(p->out, "  share   95 %% interval   use%s", gap);
    }
    mixt_buffer_text(p->out, column ? " random\n" : "\n");
    for (int layer = 0; layer < p->trace->info.layers; layer++) {
        mixt_buffer_format(p->out, "%5d  ", p->trace->layer_numbers[layer]);
        for (int w = 0; w < measures; w++) {
            summary_cell(p, mixt_report_repetition(report, layer, all, w));
        }
        if (column) {
            mixt_buffer_format(
                p->out, "  %5.1f",
                100 * mixt_report_repetition(report, layer, all, MIXT_REPEAT_SETS)->random);
        }
        mixt_buffer_text(p->out, "\n");
    }
    mixt_buffer_text(p->out, "random ");
    for (int w = 0; w < (column ? 1 : measures); w++) {
        mixt_buffer_format(p->out, "  %5.1f                      ",
                           100 * mixt_report_repetition(report, 0, all, w)->random);
    }
    mixt_buffer_text(p->out, "\n");
    note(p, "use: what unequal use of the experts alone gives, from random pairs of the same "
            "domain's tokens. \xe2\x96\xb2: the interval lies above both levels. Pairs never cross "
            "a document's border; intervals are about documents like these.");
    note_intervals(p);
    if (mixt_trace_has_dropped(p->trace)) {
        note(p, "Pairs are those where both tokens have a first choice, and those where both have "
                "an expert.");
    }
    if (column) {
        note(p, "random: as many experts as each token has, chosen uniformly.");
    }
}

static void domain_cell(printer *p, const mixt_repetition *row)
{
    double reach = fmax(row->rate.high - row->rate.value, row->rate.value - row->rate.low);
    double share = 100 * row->rate.value; /* 100.0 would touch the column before */
    mixt_buffer_format(p->out, "%5.*f\xc2\xb1", share < 99.95 ? 1 : 0, share);
    if (mixt_repetition_has_interval(row)) {
        mixt_buffer_format(p->out, "%-4.1f", 100 * reach);
    } else {
        mixt_buffer_text(p->out, "-   ");
    }
    mixt_buffer_format(p->out, "%s%5.1f", mark(row), 100 * row->usage);
}

/* Rows of domains, columns of layers, as many layers a block as fit. */
static void print_repetition_domains(printer *p, int which)
{
    const mixt_report *report = p->report;
    int layers = p->trace->info.layers;
    int domains = p->trace->info.domains;
    int block = (p->width - NAME_COLUMNS - 2) / 16; /* 2 for a dagger */
    block = block < 1 ? 1 : block;
    double range[2];
    char to[32] = "";
    random_range(report, 0, which, range);
    if (range[0] != range[1]) {
        mixt_format(to, sizeof to, " to %.1f", 100 * range[1]);
    }
    heading(p, "%s by domain (%% \xc2\xb1 interval, then use; random %.1f%s)",
            which == 0 ? "Same first choice" : "Sets meet", 100 * range[0], to);
    for (int begin = 0; begin < layers; begin += block) {
        int end = begin + block < layers ? begin + block : layers;
        layer_heads(p, begin, end, 16);
        for (int d = 0; d <= domains; d++) {
            if (!row_name(p, d, begin == 0)) {
                continue;
            }
            for (int layer = begin; layer < end; layer++) {
                const mixt_repetition *row = mixt_report_repetition(report, layer, d, which);
                domain_cell(p, row);
            }
            mixt_buffer_format(p->out, "%s\n",
                               mixt_report_repetition(report, 0, d, which)->single ? " \xe2\x80\xa0"
                                                                                   : "");
        }
    }
}

/* -- Proportions ---------------------------------------------------------------------------- */

/* One character for a share: full height at twice 1/E. */
static const char *bar_of(double share, int experts)
{
    static const char *const bars[] = {"\xe2\x96\x81", "\xe2\x96\x82", "\xe2\x96\x83",
                                       "\xe2\x96\x84", "\xe2\x96\x85", "\xe2\x96\x86",
                                       "\xe2\x96\x87", "\xe2\x96\x88"};
    if (share <= 0) {
        return "\xc2\xb7";
    }
    int height = (int)(share * experts / 2 * 8);
    return bars[height > 7 ? 7 : height];
}

/* Name of a row of shares; false, with the row ended, where there are none. */
static bool share_row_name(printer *p, int layer, int domain, mixt_choice choice, bool first)
{
    if (!row_name(p, domain, first)) {
        return false;
    }
    if (mixt_counts_total(p->report->counts, layer, domain, choice) != 0) {
        return true;
    }
    mixt_buffer_text(p->out, " no such choice at this layer\n");
    return false;
}

static void print_proportion_numbers(printer *p, int layer, mixt_choice choice)
{
    int experts = p->trace->info.experts;
    int block = (p->width - NAME_COLUMNS) / 6;
    for (int begin = 0; begin < experts; begin += block) {
        int end = begin + block < experts ? begin + block : experts;
        mixt_buffer_format(p->out, "%*s", NAME_COLUMNS, "expert ");
        for (int e = begin; e < end; e++) {
            mixt_buffer_format(p->out, "%6d", e);
        }
        mixt_buffer_text(p->out, "\n");
        for (int d = 0; d < p->trace->info.domains; d++) {
            if (!share_row_name(p, layer, d, choice, begin == 0)) {
                continue;
            }
            for (int e = begin; e < end; e++) {
                double share = mixt_counts_share(p->report->counts, layer, d, choice, e);
                mixt_buffer_format(p->out, "%6.1f", 100 * share);
            }
            mixt_buffer_text(p->out, "\n");
        }
    }
}

static void print_proportion_bars(printer *p, int layer, mixt_choice choice)
{
    int experts = p->trace->info.experts;
    int block = p->width - NAME_COLUMNS - 1;
    for (int d = 0; d < p->trace->info.domains; d++) {
        if (!share_row_name(p, layer, d, choice, true)) {
            continue;
        }
        for (int begin = 0; begin < experts; begin += block) {
            int end = begin + block < experts ? begin + block : experts;
            mixt_buffer_format(p->out, "%*s", begin == 0 ? 1 : NAME_COLUMNS + 1, "");
            for (int e = begin; e < end; e++) {
                double share = mixt_counts_share(p->report->counts, layer, d, choice, e);
                mixt_buffer_text(p->out, bar_of(share, experts));
            }
            mixt_buffer_text(p->out, "\n");
        }
    }
}

static void print_proportions(printer *p)
{
    static const char *const names[] = {"first choice", "second choice", "all choices"};
    static const mixt_choice order[] = {MIXT_CHOICE_ANY, MIXT_CHOICE_FIRST, MIXT_CHOICE_SECOND};
    int experts = p->trace->info.experts;
    int k = p->trace->info.experts_per_token;
    bool numbers = experts <= 16;
    heading(p, "Experts by domain (%% of a domain's choices; random 1/E = %.*f)",
            experts <= 64 ? 1 : 2, 100.0 / experts);
    for (int layer = 0; layer < p->trace->info.layers; layer++) {
        const char *role = mixt_report_layer_role(p->report, layer);
        int choices = p->trace->chosen[layer] > 1 && role[0] != '\0' ? 3 : 1;
        for (int c = 0; c < choices; c++) {
            mixt_buffer_format(p->out, "layer %d%s%s, %s\n", p->trace->layer_numbers[layer],
                               role[0] != '\0' ? ", the " : "", role,
                               names[k > 1 ? order[c] : MIXT_CHOICE_FIRST]);
            if (numbers) {
                print_proportion_numbers(p, layer, order[c]);
            } else {
                print_proportion_bars(p, layer, order[c]);
            }
        }
    }
    if (!numbers) {
        note(p, "One character an expert, from 0 on the left: a half-high bar is 1/E, a full one "
                "2/E or more, a dot none.");
    }
}

static void print_distances(printer *p)
{
    int layers = p->trace->info.layers;
    int block = (p->width - NAME_COLUMNS) / 13;
    if (p->trace->info.domains < 2) {
        return;
    }
    heading(p, "How far domains differ (distance from their mean | by chance, 95th percentile)");
    for (int begin = 0; begin < layers; begin += block) {
        int end = begin + block < layers ? begin + block : layers;
        layer_heads(p, begin, end, 13);
        for (int d = 0; d < p->trace->info.domains; d++) {
            if (!row_name(p, d, begin == 0)) {
                continue;
            }
            for (int layer = begin; layer < end; layer++) {
                const mixt_distance *row = mixt_report_distance(p->report, layer, d);
                if (mixt_counts_total(p->report->counts, layer, d, MIXT_CHOICE_ANY) == 0) {
                    mixt_buffer_text(p->out, "  no choices ");
                    continue;
                }
                if (!row->leveled) {
                    mixt_buffer_format(p->out, " %.3f|  -   ", row->value);
                    continue;
                }
                mixt_buffer_format(p->out, " %.3f|%.3f%s", row->value, row->high,
                                   mixt_distance_exceeds_chance(row) ? "\xe2\x96\xb2" : " ");
            }
            mixt_buffer_text(p->out, "\n");
        }
    }
    note(p, "Total variation: the part of its choices that a domain would have to move to other "
            "experts. By chance: the same distance between random halves of each domain's own "
            "documents, scaled to the whole.");
    if (mixt_report_lacks_level(p->report)) {
        note(p, "-: " MIXT_NOTE_NO_LEVEL);
    }
}

static void print_load(printer *p)
{
    const mixt_trace *trace = p->trace;
    bool choices = uneven(p);
    bool dropped = mixt_trace_has_dropped(trace);
    heading(p, "Load of the experts, all domains");
    mixt_buffer_text(p->out, "                   never\n");
    mixt_buffer_format(p->out, "layer  max/mean  chosen first  exp(entropy)/E%s%s\n",
                       choices ? "  choices" : "", dropped ? "  dropped (%)" : "");
    for (int layer = 0; layer < trace->info.layers; layer++) {
        const mixt_load *load = &p->report->load[layer];
        mixt_buffer_format(p->out, "%5d  %8.2f  %6d %5d  %14.3f", trace->layer_numbers[layer],
                           load->max_over_mean, load->dead, load->never_first, load->effective);
        if (choices) {
            mixt_buffer_format(p->out, "  %7d", trace->chosen[layer]);
        }
        if (dropped) {
            mixt_buffer_format(p->out, "  %8llu (%5.1f)", (unsigned long long)trace->dropped[layer],
                               100 * mixt_trace_dropped_share(trace, layer));
        }
        mixt_buffer_text(p->out, "\n");
    }
    mixt_buffer_text(p->out, "even       1.00       0     0           1.000\n");
    note(p, "max/mean: choices of the most used expert over the mean. never chosen, never first: "
            "experts that no token of this trace chose at all, or as its first. exp(entropy)/E: "
            "the part of the experts in effect use.");
    if (dropped) {
        note(p, "dropped: choices without an expert (a capacity that was full, tokens that no "
                "expert chose), and how many of 100 they are. All shares are of the choices that "
                "were made.");
    }
}

/* -- What experts tell ---------------------------------------------------------------------- */

/* Rows of one layer, or of the mean. */
static void print_told_layer(printer *p, int layer, int which)
{
    static const char *const names[] = {"domain", "token's class", "token", "token before"};
    const mixt_information *first = NULL; /* any that is there */
    for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
        const mixt_information *row = mixt_report_information(p->report, layer, label, which);
        first = first == NULL && row->count != 0 ? row : first;
    }
    if (layer == p->trace->info.layers) {
        mixt_buffer_text(p->out, "mean of all layers");
    } else {
        mixt_buffer_format(p->out, "layer %d, the %s", p->trace->layer_numbers[layer],
                           mixt_report_layer_role(p->report, layer));
    }
    if (first != NULL) {
        mixt_buffer_format(p->out, ": H %.3f", first->entropy);
    }
    mixt_buffer_text(p->out, "\n");
    for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
        const mixt_information *row = mixt_report_information(p->report, layer, label, which);
        mixt_buffer_format(p->out, "  %-13s", names[label]);
        if (row->count == 0) {
            mixt_buffer_format(p->out, "     - (%s)\n", row->absent);
            continue;
        }
        mixt_buffer_format(p->out, " %6.3f", row->bits);
        if (row->shuffles == 0) {
            mixt_buffer_text(p->out, "      -\n");
            continue;
        }
        mixt_buffer_format(p->out, " %6.3f\xc2\xb1%.3f %6.3f", row->shuffled, row->spread,
                           row->excess);
        if (mixt_information_has_interval(row)) {
            mixt_buffer_format(p->out, "  %6.3f \xe2\x80\x93%6.3f", row->low, row->high);
        } else {
            mixt_buffer_text(p->out, "        -      ");
        }
        mixt_buffer_format(p->out, "  %5.1f%s\n", 100 * mixt_information_share(row, row->excess),
                           mixt_information_exceeds(row) ? " \xe2\x96\xb2" : "");
    }
}

/* Why a measure or a level is not there, once. */
static void note_absent(printer *p)
{
    int layers = p->trace->info.layers;
    for (int label = 0; label < MIXT_LABEL_COUNT; label++) {
        const mixt_information *row = mixt_report_information(p->report, layers, label, 0);
        if (row->absent != NULL && row->count != 0) {
            char text[160]; /* ours */
            mixt_format(text, sizeof text, "-: of the %s no level, since %s.",
                        mixt_label_name(label), row->absent);
            note(p, text);
        }
    }
}

static void print_classes(printer *p)
{
    mixt_buffer text = {0};
    const char *gap = "Classes, % of the tokens: ";
    for (int c = 0; c < MIXT_CLASS_COUNT; c++) {
        if (p->report->class_share[c] > 0) {
            mixt_buffer_format(&text, "%s%s %.1f", gap, mixt_token_class_name(c),
                               100 * p->report->class_share[c]);
            gap = ", ";
        }
    }
    mixt_buffer_append(&text, ".", 2);
    note(p, text.failed ? "" : text.data);
    p->out->failed |= text.failed;
    mixt_buffer_free(&text);
}

static void print_told(printer *p)
{
    static const char *const names[] = {"first choice", "all choices"};
    const mixt_report *report = p->report;
    int measures = p->trace->info.experts_per_token > 1 ? MIXT_TOLD_COUNT : 1;
    for (int which = 0; which < measures; which++) {
        heading(p, "What the expert tells of its token, %s (mutual information, bits)",
                names[which]);
        mixt_buffer_text(p->out, "                  bits  shuffled    excess    95 % interval   "
                                 "% of H\n");
        for (int i = 0; i < report->key_layer_count; i++) {
            print_told_layer(p, report->key_layers[i], which);
        }
        print_told_layer(p, p->trace->info.layers, which);
    }
    note(p, "H: entropy of the expert, all there is to tell. shuffled: the same bits where domains "
            "are dealt anew to whole documents, and the others to the tokens within each document; "
            "mean and spread. excess: bits above that, and what part of H it is. \xe2\x96\xb2: "
            "above every shuffle, with the whole interval above 0.");
    note_absent(p);
    print_classes(p);
}

/* -- Tokens --------------------------------------------------------------------------------- */

static mixt_status print_top_tokens(printer *p, mixt_error *error)
{
    int experts = p->trace->info.experts;
    int layer = mixt_trace_middle_layer(p->trace);
    mixt_top_token *rows = calloc((size_t)experts * TOP_TOKENS, sizeof *rows);
    if (rows == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory");
    }
    mixt_status status = mixt_top_tokens(p->trace, layer, TOP_TOKENS, rows, error);
    heading(p,
            "Tokens that each expert takes first, layer %d (%% of the token's occurrences; random "
            "%.1f)",
            p->trace->layer_numbers[layer], 100.0 / experts);
    for (int e = 0; e < experts && status == MIXT_OK; e++) {
        mixt_buffer_format(p->out, "%5d ", e);
        int column = 6;
        for (int i = 0; i < TOP_TOKENS && rows[e * TOP_TOKENS + i].token >= 0; i++) {
            const mixt_top_token *top = &rows[e * TOP_TOKENS + i];
            size_t length;
            const uint8_t *bytes = mixt_trace_token_bytes(p->trace, top->token, &length);
            mixt_buffer token = {0};
            mixt_display_bytes(&token, bytes, length < 64 ? length : 64, MIXT_DISPLAY_VISIBLE);
            mixt_buffer_format(&token, " %.0f", 100 * top->share);
            int columns = mixt_display_columns(token.data, token.length);
            if (!token.failed && column + 2 + columns <= p->width) {
                mixt_buffer_text(p->out, "  ");
                mixt_buffer_append(p->out, token.data, strlen(token.data));
                column += 2 + columns;
            }
            p->out->failed |= token.failed;
            mixt_buffer_free(&token);
        }
        mixt_buffer_text(p->out, column == 6 ? "  none often enough\n" : "\n");
    }
    free(rows);
    return status;
}

/* Eight hues that stay apart for colour-blind eyes, then the same underlined, bold, italic. */
static void start_expert(printer *p, int expert)
{
    static const int hues[] = {117, 215, 115, 229, 182, 75, 180, 252};
    static const char *const styles[] = {"", "4;", "1;", "3;"};
    mixt_buffer_format(p->out, "\033[%s30;48;5;%dm", styles[expert / 8 % 4], hues[expert % 8]);
}

/* U+2080 and so on; U+208B, a minus, for no expert. */
static void append_subscript(mixt_buffer *out, int number)
{
    char digits[12];
    if (number == MIXT_TRACE_NONE) {
        mixt_buffer_text(out, "\xe2\x82\x8b");
        return;
    }
    snprintf(digits, sizeof digits, "%d", number);
    for (const char *d = digits; *d != '\0'; d++) {
        mixt_buffer_format(out, "\xe2\x82%c", 0x80 + (*d - '0'));
    }
}

/* Tokens of one excerpt, each coloured by its first expert, or without colour with the expert's
 * number behind it. */
static void print_excerpt(printer *p, int layer, uint64_t begin, uint64_t count)
{
    int column = 0;
    for (uint64_t i = begin; i < begin + count; i++) {
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(p->trace, p->trace->tokens[i], &length);
        int expert = mixt_trace_experts(p->trace, layer, i)[0];
        mixt_buffer token = {0};
        mixt_display_bytes(&token, bytes, length < 64 ? length : 64,
                           p->color ? MIXT_DISPLAY_PLAIN : MIXT_DISPLAY_VISIBLE);
        if (!p->color) {
            append_subscript(&token, expert);
        }
        int columns = mixt_display_columns(token.data, token.length);
        if (column > 0 && column + columns > p->width) {
            mixt_buffer_text(p->out, "\n");
            column = 0;
        }
        bool colored = p->color && expert != MIXT_TRACE_NONE;
        if (colored) {
            start_expert(p, expert);
        }
        mixt_buffer_append(p->out, token.data, token.length);
        mixt_buffer_text(p->out, colored ? "\033[0m" : "");
        column += columns;
        p->out->failed = p->out->failed || token.failed;
        mixt_buffer_free(&token);
    }
    mixt_buffer_text(p->out, "\n");
}

static void print_text(printer *p)
{
    int layer = mixt_trace_middle_layer(p->trace);
    const char *how = p->color ? "" : " (the number behind a token)";
    if (mixt_trace_has_dropped(p->trace)) {
        how = p->color ? " (no colour: none)" : " (the number behind a token; \xe2\x82\x8b: none)";
    }
    heading(p, "Text by first expert, layer %d%s", p->trace->layer_numbers[layer], how);
    for (int e = 0; e < p->trace->info.experts && e < 64 && p->color; e++) {
        start_expert(p, e);
        mixt_buffer_format(p->out, " %d \033[0m%s", e, (e + 1) % 16 == 0 ? "\n" : "");
    }
    mixt_buffer_text(p->out, p->color ? "\n" : "");
    int shown = 0;
    for (int d = 0; d < p->trace->info.domains && shown < p->text_domains; d++) {
        uint64_t begin;
        uint64_t count;
        mixt_report_excerpt(p->report, d, (uint64_t)p->text_tokens, &begin, &count);
        if (count != 0) {
            shown++;
            mixt_display_name(p->out, p->trace->domain_names[d], MIXT_DISPLAY_PLAIN);
            mixt_buffer_text(p->out, ":\n");
            print_excerpt(p, layer, begin, count);
        }
    }
}

/* A clause of the verdict as a sentence. */
static void print_sentence(printer *p, const char *clause)
{
    mixt_buffer text = {0};
    mixt_buffer_format(&text, "%c%s.", mixt_ascii_upper(clause[0]),
                       clause[0] != '\0' ? clause + 1 : "");
    mixt_buffer_append(&text, "", 1);
    wrapped(p, text.failed ? "" : text.data);
    p->out->failed |= text.failed;
    mixt_buffer_free(&text);
}

static void print_words(printer *p)
{
    print_sentence(p, p->report->verdict.repetition);
    mixt_buffer_text(p->out, "\n");
    print_sentence(p, p->report->verdict.domains);
}

static void print_verdict(printer *p)
{
    title(p, "In words");
    print_sentence(p, p->report->verdict.headline);
    mixt_buffer_text(p->out, "\n");
    print_words(p);
    mixt_buffer_text(p->out, "\n");
    print_sentence(p, p->report->verdict.information);
}

/* Every table, text, and what they say. */
static mixt_status print_all(printer *p, mixt_error *error)
{
    print_title(p);
    print_repetition_summary(p);
    print_repetition_domains(p, MIXT_REPEAT_FIRST);
    if (p->trace->info.experts_per_token > 1) {
        print_repetition_domains(p, MIXT_REPEAT_SETS);
    }
    print_proportions(p);
    print_distances(p);
    print_load(p);
    print_told(p);
    mixt_status status = print_top_tokens(p, error);
    if (status == MIXT_OK && p->text_tokens > 0) {
        print_text(p);
    }
    print_verdict(p);
    return status;
}

static void print_short(printer *p)
{
    print_repetition_summary(p);
    if (p->text_tokens > 0) {
        p->text_domains = 4;
        print_text(p);
    }
}

mixt_status mixt_atlas_print(const mixt_trace *trace, const mixt_atlas_options *options,
                             FILE *stream, mixt_error *error)
{
    mixt_report *report;
    mixt_buffer out = {0};
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_atlas_options, options, error));
    bool informed = options->part == MIXT_ATLAS_ALL || options->part == MIXT_ATLAS_JSON;
    mixt_status status = mixt_report_create(trace, informed, &report, error);
    if (status != MIXT_OK) {
        return status;
    }
    int width = options->width <= 0 ? DEFAULT_WIDTH : options->width;
    printer p = {.report = report,
                 .trace = trace,
                 .out = &out,
                 .color = options->color,
                 .width = width < MIN_WIDTH ? MIN_WIDTH : width,
                 .text_tokens = options->text_tokens,
                 .text_domains = trace->info.domains};
    if (options->part == MIXT_ATLAS_SHORT) {
        print_short(&p);
    } else if (options->part == MIXT_ATLAS_WORDS) {
        print_words(&p);
    } else if (options->part == MIXT_ATLAS_JSON) {
        mixt_report_json(report, &out);
    } else {
        status = print_all(&p, error);
    }
    if (status == MIXT_OK && out.failed) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory");
    }
    if (status == MIXT_OK &&
        (fwrite(out.data, 1, out.length, stream) != out.length || fflush(stream) != 0)) {
        status = mixt_fail(error, MIXT_ERROR_IO, "atlas: cannot write the tables");
    }
    mixt_buffer_free(&out);
    mixt_report_free(report);
    return status;
}
