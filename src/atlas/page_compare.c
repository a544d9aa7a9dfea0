/* Two traces on one page: another precision, checkpoint or model beside the first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/page.h"
#include "atlas/page_encode.h"
#include "core/error.h"

/* Rows of mixt_page.agreement. */
enum { SAME_FIRST, LEVEL_FIRST, COMMON, LEVEL_COMMON, AGREEMENT_ROWS };

static bool is_same_text(const mixt_trace *a, const mixt_trace *b)
{
    return a->info.tokens == b->info.tokens && a->info.documents == b->info.documents &&
           memcmp(a->tokens, b->tokens, (size_t)a->info.tokens * sizeof *a->tokens) == 0 &&
           memcmp(a->document, b->document, (size_t)a->info.tokens * sizeof *a->document) == 0;
}

/* Experts that two rows have in common. */
static int common_of(const uint16_t *a, const uint16_t *b, int k)
{
    int common = 0;
    for (int c = 0; c < k; c++) {
        for (int d = 0; d < k && a[c] != MIXT_TRACE_NONE; d++) {
            common += a[c] == b[d];
        }
    }
    return common;
}

/* Chance that independent choices of both agree: sum over the experts of the two shares' product.
 */
static double level_of(const mixt_page *page, int layer, mixt_choice choice)
{
    int experts = page->trace->info.experts;
    double total[2] = {0, 0};
    double sum = 0;
    for (int e = -experts; e < experts; e++) { /* first the totals, then the products */
        double n[2] = {0, 0};
        int expert = e < 0 ? e + experts : e;
        for (int d = 0; d < page->trace->info.domains; d++) {
            n[0] += (double)mixt_counts_of(page->report->counts, layer, d, choice)[expert];
            n[1] += (double)mixt_counts_of(page->second_counts, layer, d, choice)[expert];
        }
        if (e < 0) {
            total[0] += n[0];
            total[1] += n[1];
        } else if (total[0] > 0 && total[1] > 0) {
            sum += n[0] / total[0] * (n[1] / total[1]);
        }
    }
    return sum;
}

static void agree(mixt_page *page, int layer)
{
    const mixt_trace *a = page->trace;
    const mixt_trace *b = page->second;
    int layers = a->info.layers;
    int k = a->info.experts_per_token;
    uint64_t both = 0; /* tokens with a first choice in both */
    uint64_t same = 0;
    uint64_t common = 0;
    uint64_t chosen = 0; /* experts of a and b, each token's larger set */
    for (uint64_t i = 0; i < a->info.tokens; i++) {
        const uint16_t *left = mixt_trace_experts(a, layer, i);
        const uint16_t *right = mixt_trace_experts(b, layer, i);
        bool first = left[0] != MIXT_TRACE_NONE && right[0] != MIXT_TRACE_NONE;
        int most = mixt_trace_set_size(a, layer, left);
        int other = mixt_trace_set_size(b, layer, right);
        both += first;
        same += first && left[0] == right[0];
        common += (uint64_t)common_of(left, right, k);
        chosen += (uint64_t)(most > other ? most : other);
    }
    double part = (double)chosen / (double)a->info.tokens; /* experts of a token */
    double *row = page->agreement + layer;
    row[SAME_FIRST * layers] = both > 0 ? (double)same / (double)both : NAN;
    row[LEVEL_FIRST * layers] = level_of(page, layer, MIXT_CHOICE_FIRST);
    row[COMMON * layers] = chosen > 0 ? (double)common / (double)chosen : NAN;
    row[LEVEL_COMMON * layers] = fmin(1, part * level_of(page, layer, MIXT_CHOICE_ANY));
}

mixt_status mixt_page_second(mixt_page *page, mixt_error *error)
{
    const mixt_trace *a = page->trace;
    const mixt_trace *b = page->options->second;
    if (b == NULL) {
        return MIXT_OK;
    }
    bool alike = a->info.domains == b->info.domains;
    for (int d = 0; d < a->info.domains && alike; d++) {
        alike = strcmp(a->domain_names[d], b->domain_names[d]) == 0;
    }
    if (!alike) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "page: the second trace has other domains than the first: trace both on "
                         "the same corpus");
    }
    page->second = b;
    page->second_counts = mixt_counts_create(b);
    page->same_text = is_same_text(a, b);
    page->same_shape = a->info.layers == b->info.layers && a->info.experts == b->info.experts &&
                       a->info.experts_per_token == b->info.experts_per_token;
    if (page->second_counts == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "page: no memory");
    }
    if (page->same_text && page->same_shape) {
        page->agreement = calloc((size_t)a->info.layers * AGREEMENT_ROWS, sizeof(double));
        if (page->agreement == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "page: no memory");
        }
        for (int layer = 0; layer < a->info.layers; layer++) {
            agree(page, layer);
        }
    }
    return MIXT_OK;
}

void mixt_page_second_free(mixt_page *page)
{
    mixt_counts_free(page->second_counts);
    free(page->agreement);
}

void mixt_page_agreement_data(const mixt_page *page, mixt_buffer *out)
{
    static const char *const keys[] = {"first", "firstLevel", "sets", "setsLevel"};
    if (page->agreement == NULL) {
        return;
    }
    int layers = page->trace->info.layers;
    mixt_buffer_text(out, ",\"agreement\":{");
    for (int row = 0; row < AGREEMENT_ROWS; row++) {
        mixt_buffer_format(out, "%s\"%s\":[", row > 0 ? "," : "", keys[row]);
        for (int layer = 0; layer < layers; layer++) {
            double value = page->agreement[row * layers + layer];
            mixt_buffer_text(out, layer > 0 ? "," : "");
            mixt_buffer_format(out, isnan(value) ? "null" : "%.4f", value);
        }
        mixt_buffer_text(out, "]");
    }
    mixt_buffer_text(out, "}");
}

static void agreement_chart(mixt_page *page, const char *title, int row, double *memory)
{
    int layers = page->trace->info.layers;
    double bottom = 0;
    double top = 0;
    double random = row == SAME_FIRST
                        ? 1.0 / page->trace->info.experts
                        : (double)page->trace->info.experts_per_token / page->trace->info.experts;
    for (int layer = 0; layer < layers; layer++) {
        memory[layer] = 100 * page->agreement[row * layers + layer];
        memory[layers + layer] = 100 * page->agreement[(row + 1) * layers + layer];
        memory[2 * layers + layer] = 100 * random;
        top = fmax(top, fmax(memory[layer], memory[layers + layer]));
    }
    mixt_chart_scale(&bottom, &top);
    mixt_buffer_format(page->out, "<figure><figcaption>%s, %%</figcaption>\n", title);
    mixt_page_chart(page, &(mixt_chart){.title = title,
                                        .unit = " %",
                                        .decimals = 1,
                                        .count = layers,
                                        .number = page->trace->layer_numbers,
                                        .value = memory,
                                        .dashed = memory + 2 * layers,
                                        .dashed_name = "random",
                                        .dotted = memory + layers,
                                        .dotted_name = "independent choices",
                                        .bottom = bottom,
                                        .top = top});
    mixt_buffer_text(page->out, "</figure>\n");
}

void mixt_page_agreement(mixt_page *page)
{
    if (page->second == NULL) {
        return;
    }
    mixt_buffer_text(page->out, "<section id=\"agreement\">\n<h2>Beside ");
    mixt_page_name(page, page->second->info.model[0] != '\0' ? page->second->info.model
                                                             : "the second trace");
    mixt_buffer_text(page->out, "</h2>\n");
    if (page->agreement == NULL) {
        mixt_buffer_format(page->out,
                           "<p>The two traces are %s, so no token of one is held against the same "
                           "token of the other. The map shows both.</p>\n</section>\n",
                           page->same_text ? "of models of different shape" : "of different texts");
        return;
    }
    double *memory = calloc((size_t)page->trace->info.layers * 3, sizeof *memory);
    if (memory == NULL) {
        page->out->failed = true;
        return;
    }
    mixt_buffer_text(page->out,
                     "<p>Both traces are of the same tokens: how often both choose the same "
                     "experts. Experts of two models that were trained apart have nothing but "
                     "their numbers in common; between precisions or checkpoints of one model this "
                     "is what changed.</p>\n<div class=\"pair\">\n");
    agreement_chart(page, "The same first choice", SAME_FIRST, memory);
    if (page->trace->info.experts_per_token > 1) {
        agreement_chart(page, "Experts that both choose, of a token\xe2\x80\x99s", COMMON, memory);
    }
    mixt_buffer_text(page->out, "</div>\n");
    mixt_page_legend(page, "of all tokens", "random", "independent choices, used as unequally");
    mixt_buffer_text(page->out, "</section>\n");
    free(memory);
}
