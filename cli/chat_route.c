/* /route: which experts computed the last answer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"

typedef struct layer_use {
    int experts;
    size_t tokens, choices;
    size_t *load; /* [experts] choices of each */
    size_t pairs, repeated;
} layer_use;

/* The model's number of the layer that is the i-th with experts. */
static int layer_number(const mixt_model_options *options, int place)
{
    int period = options->moe_period > 1 ? options->moe_period : 1;
    return options->leading_dense_layers + (place + 1) * period - 1;
}

static void count_layer(const generation_state *generation, int layer, layer_use *use)
{
    size_t chosen = (size_t)generation->chosen;
    size_t stride = (size_t)generation->moe_layers * chosen;
    memset(use->load, 0, (size_t)use->experts * sizeof *use->load);
    use->tokens = generation->routed;
    use->choices = use->pairs = use->repeated = 0;
    for (size_t i = 0; i < generation->routed; i++) {
        const int32_t *ids = generation->routes + i * stride + (size_t)layer * chosen;
        for (size_t j = 0; j < chosen; j++) {
            if (ids[j] >= 0 && ids[j] < use->experts) {
                use->load[ids[j]]++;
                use->choices++;
            }
        }
        if (i > 0 && ids[0] >= 0 && ids[-(ptrdiff_t)stride] >= 0) {
            use->pairs++;
            use->repeated += ids[0] == ids[-(ptrdiff_t)stride];
        }
    }
}

static double share(size_t part, size_t whole)
{
    return whole > 0 ? 100 * (double)part / (double)whole : 0;
}

/* Standard deviation of an expert's share, in percent, where each token draws its experts evenly
 * and by itself: a token has it or not, with probability k / E. */
static double random_spread(const layer_use *use)
{
    double tokens = (double)use->tokens, k = tokens > 0 ? (double)use->choices / tokens : 0;
    double p = k / use->experts;
    return k > 0 && p < 1 ? 100 * sqrt(tokens * p * (1 - p)) / (double)use->choices : 0;
}

/* Every expert in a column. */
static void print_columns(FILE *stream, const layer_use *use)
{
    for (int i = 0; i < use->experts; i++) {
        fprintf(stream, " %5.1f", share(use->load[i], use->choices));
    }
}

/* Those used most, and how many are not used. */
static void print_busiest(FILE *stream, const layer_use *use, int most)
{
    size_t below = SIZE_MAX;
    int shown = 0, unused = 0;
    for (int i = 0; i < use->experts; i++) {
        unused += use->load[i] == 0;
    }
    while (shown < most) {
        size_t next = 0;
        for (int i = 0; i < use->experts; i++) {
            next = use->load[i] < below && use->load[i] > next ? use->load[i] : next;
        }
        for (int i = 0; next > 0 && i < use->experts && shown < most; i++) {
            if (use->load[i] == next) {
                fprintf(stream, "  %3d: %4.1f", i, share(next, use->choices));
                shown++;
            }
        }
        if (next == 0) {
            break;
        }
        below = next;
    }
    fprintf(stream, "%*s  %4d", 11 * (most - shown), "", unused);
}

/* `most` 0: each expert has a column. */
static void print_head(FILE *stream, const layer_use *use, int most)
{
    double even = 100. / use->experts;
    fprintf(stream,
            "experts of the last answer: %zu token%s; load in %% of the choices, at random %.1f "
            "+- %.1f;\nrepeated: first choices that are the ones before, at random %.1f %%\n",
            use->tokens, plural(use->tokens), even, random_spread(use), even);
    fputs("layer  repeated", stream);
    for (int i = 0; most == 0 && i < use->experts; i++) {
        fprintf(stream, " %5d", i);
    }
    if (most > 0) {
        fprintf(stream, "  %-*s  unused", 11 * most - 2, "expert: load, the busiest ones");
    }
    fputc('\n', stream);
}

void chat_print_routes(const chat_state *chat, FILE *stream)
{
    enum { COLUMN = 6, LEFT = 15, BUSY = 11, LEAST = 3 };
    const generation_state *generation = &chat->generation;
    mixt_model_info info;
    mixt_model_describe(chat->model, &info);
    const mixt_model_options *options = &info.options;
    layer_use use = {.experts =
                         options->experts + options->identity_experts + options->zero_experts};
    if (generation->moe_layers == 0) {
        fputs("the model has no experts\n", stream);
        return;
    }
    if (generation->routed == 0) {
        fputs("there is no answer yet\n", stream);
        return;
    }
    use.load = calloc((size_t)use.experts + 1, sizeof *use.load);
    if (use.load == NULL) {
        fputs("out of memory\n", stream);
        return;
    }
    int width = terminal_width(stream);
    int most = (width - LEFT - 8) / BUSY;
    most = LEFT + COLUMN * use.experts < width ? 0 : most < LEAST ? LEAST : most;
    for (int i = 0; i < generation->moe_layers; i++) {
        count_layer(generation, i, &use);
        if (i == 0) {
            print_head(stream, &use, most);
        }
        fprintf(stream, "%5d  %6.1f %%", layer_number(options, i), share(use.repeated, use.pairs));
        if (most > 0) {
            print_busiest(stream, &use, most);
        } else {
            print_columns(stream, &use);
        }
        fputc('\n', stream);
    }
    free(use.load);
}
