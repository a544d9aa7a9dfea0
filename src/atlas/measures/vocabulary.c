/* What experts take, by ids of the vocabulary: how much of an id goes to one expert, and which ids
 * each expert takes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "atlas/statistics.h"
#include "core/error.h"

#define LEAST_OCCURRENCES 10 /* rarer ids stay out */
#define TOKENS_AN_EXPERT 5
#define DRAW_CHOICES ((double)((uint64_t)1 << 28)) /* draws * layers * tokens * k */
#define LEAST_DRAWS 4

static const char *const id_words[] = {"input", "next", "predicted", NULL};
enum { INPUT, NEXT, PREDICTED, KINDS };

/* Tokens by id, and room for the choices of one id. */
typedef struct by_id {
    const mixt_measuring *m;
    int parts;         /* groups of documents are dealt into so many */
    uint32_t *order;   /* [T] tokens that have an id, sorted by it */
    uint64_t *begin;   /* [vocab_size + 1] into order */
    uint32_t *count;   /* [E] */
    uint32_t *grouped; /* [parts, E] */
    uint16_t *touched; /* [E] */
} by_id;

static void release(by_id *b)
{
    free(b->order);
    free(b->begin);
    free(b->count);
    free(b->grouped);
    free(b->touched);
}

static mixt_status make(const mixt_measuring *m, int parts, by_id *b, mixt_error *error)
{
    size_t experts = (size_t)m->trace->info.experts;
    *b = (by_id){.m = m, .parts = parts};
    b->order = calloc(m->trace->info.tokens, sizeof *b->order);
    b->begin = calloc((size_t)m->trace->vocab_size + 2, sizeof *b->begin);
    b->count = calloc(experts, sizeof *b->count);
    b->grouped = calloc((size_t)parts * experts, sizeof *b->grouped);
    b->touched = calloc(experts, sizeof *b->touched);
    if (b->order == NULL || b->begin == NULL || b->count == NULL || b->grouped == NULL ||
        b->touched == NULL) {
        release(b);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "experts by id: no memory");
    }
    return MIXT_OK;
}

/* -1: none. */
static int32_t id_of(const mixt_trace *trace, int kind, uint64_t i)
{
    if (kind == INPUT) {
        return trace->tokens[i];
    }
    if (kind == PREDICTED) {
        return trace->predicted[i];
    }
    bool last = i + 1 == trace->info.tokens || trace->document[i + 1] != trace->document[i];
    return last ? -1 : trace->tokens[i + 1];
}

static void sort_tokens(by_id *b, int kind)
{
    const mixt_trace *trace = b->m->trace;
    memset(b->begin, 0, ((size_t)trace->vocab_size + 2) * sizeof *b->begin);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        int32_t id = id_of(trace, kind, i);
        if (id >= 0 && id < trace->vocab_size) {
            b->begin[id + 2]++;
        }
    }
    for (int id = 2; id <= trace->vocab_size; id++) {
        b->begin[id] += b->begin[id - 1];
    }
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        int32_t id = id_of(trace, kind, i);
        if (id >= 0 && id < trace->vocab_size) {
            b->order[b->begin[id + 1]++] = (uint32_t)i; /* begin[id + 1] ends as the id's end */
        }
    }
}

/* Choices of an id by the layer's rows [T, k] into count, and by parts of the documents into
 * grouped and `with` [parts] (not if NULL). Returns the tokens that have an expert; *found:
 * experts. */
static uint32_t count_id(by_id *b, int layer, const uint16_t *rows, int id, uint32_t *with,
                         int *found)
{
    const mixt_trace *trace = b->m->trace;
    size_t k = (size_t)trace->info.experts_per_token, experts = (size_t)trace->info.experts;
    uint32_t occurrences = 0;
    *found = 0;
    for (uint64_t at = b->begin[id]; at < b->begin[id + 1]; at++) {
        uint32_t token = b->order[at];
        const uint16_t *row = rows + token * k;
        size_t part = (size_t)(b->m->group[trace->document[token]] % b->parts);
        bool any = false;
        for (int c = 0; c < trace->chosen[layer]; c++) {
            if (row[c] == MIXT_TRACE_NONE) {
                continue;
            }
            any = true;
            if (b->count[row[c]]++ == 0) {
                b->touched[(*found)++] = row[c];
            }
            if (with != NULL) {
                b->grouped[part * experts + row[c]]++;
            }
        }
        occurrences += any;
        if (with != NULL) {
            with[part] += any;
        }
    }
    return occurrences;
}

static void forget_id(by_id *b, int found, bool grouped)
{
    size_t experts = (size_t)b->m->trace->info.experts;
    for (int i = 0; i < found; i++) {
        b->count[b->touched[i]] = 0;
        for (int part = 0; grouped && part < b->parts; part++) {
            b->grouped[(size_t)part * experts + b->touched[i]] = 0;
        }
    }
}

/* -- vocabulary --------------------------------------------------------------------------- */

static const mixt_column layer_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "id",
     .help = "of the token itself, of the one behind it, or the model's likeliest for that",
     .kind = MIXT_COLUMN_WORD,
     .role = MIXT_ROLE_KEY,
     .words = id_words},
    {.name = "share",
     .help = "of an id's tokens, those that its most frequent expert has; mean over ids",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "of any one expert: k / E",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "the same when tokens change places within their documents",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "p",
     .help = "shuffles that reach it",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_P},
    {.name = "q", .help = "over all rows", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "excess",
     .help = "above the level of shuffles",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_EFFECT},
    {.name = "ids",
     .help = "with 10 tokens or more",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_SUPPORT},
    {.name = "tokens",
     .help = "of these ids",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_SUPPORT},
};
enum { LAYER, ID, SHARE, RANDOM, USE, LOW, HIGH, P, Q, EXCESS, IDS, TOKENS, COLUMNS };

typedef struct id_sum {
    double share, ids, tokens, choices;
    double without[MIXT_MEASURE_GROUPS]; /* the share without each group */
} id_sum;

static id_sum sum_ids(by_id *b, int layer, const uint16_t *rows, bool grouped)
{
    size_t experts = (size_t)b->m->trace->info.experts;
    id_sum sum = {0};
    double left[MIXT_MEASURE_GROUPS] = {0}; /* ids with tokens outside the group */
    for (int id = 0; id < b->m->trace->vocab_size; id++) {
        if (b->begin[id + 1] - b->begin[id] < LEAST_OCCURRENCES) {
            continue;
        }
        int found;
        uint32_t with[MIXT_MEASURE_GROUPS] = {0};
        uint32_t all = count_id(b, layer, rows, id, grouped ? with : NULL, &found);
        uint32_t most = 0, most_without[MIXT_MEASURE_GROUPS] = {0};
        for (int i = 0; i < found && all >= LEAST_OCCURRENCES; i++) {
            uint32_t n = b->count[b->touched[i]];
            most = n > most ? n : most;
            sum.choices += n;
            for (int g = 0; grouped && g < b->m->groups; g++) {
                uint32_t rest = n - b->grouped[(size_t)g * experts + b->touched[i]];
                most_without[g] = rest > most_without[g] ? rest : most_without[g];
            }
        }
        forget_id(b, found, grouped);
        if (all < LEAST_OCCURRENCES) {
            continue;
        }
        sum.ids++;
        sum.tokens += all;
        sum.share += (double)most / all;
        for (int g = 0; grouped && g < b->m->groups; g++) {
            left[g] += with[g] < all;
            sum.without[g] += with[g] < all ? (double)most_without[g] / (all - with[g]) : 0;
        }
    }
    sum.share = sum.ids > 0 ? sum.share / sum.ids : NAN;
    for (int g = 0; g < b->m->groups; g++) {
        sum.without[g] = left[g] > 0 ? sum.without[g] / left[g] : sum.share;
    }
    return sum;
}

static mixt_status add_layer(by_id *b, int layer, int kind, int draws, mixt_table *table,
                             uint16_t *rows, mixt_error *error)
{
    const mixt_measuring *m = b->m;
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure vocabulary: no memory");
    }
    id_sum sum = sum_ids(b, layer, mixt_trace_experts(m->trace, layer, 0), true);
    row[LAYER] = m->trace->layer_numbers[layer];
    row[ID] = kind;
    row[IDS] = sum.ids;
    row[TOKENS] = sum.tokens;
    if (sum.ids == 0) {
        return MIXT_OK;
    }
    double total = 0, reached = 0;
    for (int draw = 0; draw < draws; draw++) {
        MIXT_TRY(mixt_null_draw(m, layer, MIXT_NULL_DOCUMENT, (uint32_t)draw, rows, error));
        double share = sum_ids(b, layer, rows, false).share;
        total += share;
        reached += share >= sum.share;
    }
    mixt_span span = mixt_jackknife(sum.share, sum.without, m->groups, 0, 1);
    row[SHARE] = sum.share;
    row[RANDOM] = sum.choices / sum.tokens / m->trace->info.experts;
    row[USE] = total / draws;
    row[LOW] = span.low;
    row[HIGH] = span.high;
    row[P] = (1 + reached) / (1 + draws);
    row[EXCESS] = sum.share - row[USE];
    return MIXT_OK;
}

static mixt_status fill_layers(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace_info *info = &m->trace->info;
    double choices = (double)info->tokens * info->layers * info->experts_per_token;
    int draws = (int)fmin(m->shuffles, fmax(LEAST_DRAWS, DRAW_CHOICES / choices));
    by_id b;
    MIXT_TRY(make(m, m->groups, &b, error));
    uint16_t *rows = calloc(info->tokens * (uint64_t)info->experts_per_token, sizeof *rows);
    mixt_status status = rows != NULL
                             ? MIXT_OK
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "measure vocabulary: no memory");
    for (int kind = 0; kind < KINDS && status == MIXT_OK; kind++) {
        if (kind == PREDICTED && m->trace->predicted == NULL) {
            mixt_buffer_text(&table->note, "The trace has no predicted ids. ");
            continue;
        }
        sort_tokens(&b, kind);
        for (int layer = 0; layer < info->layers && status == MIXT_OK; layer++) {
            status = add_layer(&b, layer, kind, draws, table, rows, error);
        }
    }
    if (status == MIXT_OK) {
        status = mixt_table_discover(table, error);
    }
    table->draws = draws;
    free(rows);
    release(&b);
    return status;
}

const mixt_measure_type mixt_measure_vocabulary = {
    .info = {.name = "vocabulary",
             .title = "How much of an id goes to one expert",
             .source = "vocabulary specialisation of OLMoE, 2409.02060",
             .about = "Of the tokens of an id (the input, the next, the predicted one), the part "
                      "that the expert has which has most of them; mean over ids.",
             .traces = 1},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = layer_columns,
    .column_count = COLUMNS,
    .fill = fill_layers,
};

/* -- tokens ------------------------------------------------------------------------------- */

static const mixt_column token_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "expert", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "token", .kind = MIXT_COLUMN_TOKEN, .role = MIXT_ROLE_KEY},
    {.name = "share",
     .help =
         "of the id's tokens, those that have the expert, in the half of the documents that did "
         "not pick the id",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random", .help = "k / E", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "of all tokens of that half",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE},
    {.name = "low",
     .help = "Wilson's: of this text's tokens, as if they did not hang together",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "lift",
     .help = "share by that of all tokens",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_EFFECT},
    {.name = "tokens",
     .help = "of the id, there",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_SUPPORT},
};
enum {
    T_LAYER,
    T_EXPERT,
    T_TOKEN,
    T_SHARE,
    T_RANDOM,
    T_USE,
    T_LOW,
    T_HIGH,
    T_LIFT,
    T_TOKENS,
    T_COLUMNS
};

/* An id of an expert: its place is by the half that picks, the numbers are the other half's. */
typedef struct taken {
    int32_t token;
    double place;
    uint32_t with, tokens;
} taken;

/* Into best [TOKENS_AN_EXPERT] by the place, which is `token` -1 where there is none. */
static void rank(taken *best, const taken *one)
{
    int place = TOKENS_AN_EXPERT;
    while (place > 0 && (best[place - 1].token < 0 || best[place - 1].place < one->place)) {
        place--;
    }
    if (place < TOKENS_AN_EXPERT) {
        memmove(best + place + 1, best + place,
                (size_t)(TOKENS_AN_EXPERT - 1 - place) * sizeof *best);
        best[place] = *one;
    }
}

/* used [E]: tokens that have the expert in the half that picks, of `tokens`. best [E,
 * TOKENS_AN_EXPERT]. */
static void rank_ids(by_id *b, int layer, const uint64_t *used, uint64_t tokens, taken *best)
{
    const uint32_t *judge = b->grouped + (size_t)(b->parts - 1) * (size_t)b->m->trace->info.experts;
    for (int id = 0; id < b->m->trace->vocab_size; id++) {
        if (b->begin[id + 1] - b->begin[id] < LEAST_OCCURRENCES) {
            continue;
        }
        int found;
        uint32_t with[2] = {0};
        count_id(b, layer, mixt_trace_experts(b->m->trace, layer, 0), id, with, &found);
        uint32_t all = with[0], judged = with[b->parts - 1];
        bool enough = all >= LEAST_OCCURRENCES && judged >= LEAST_OCCURRENCES;
        for (int i = 0; i < found && enough; i++) {
            size_t e = b->touched[i];
            taken one = {.token = id, .with = judge[e], .tokens = judged};
            if ((double)b->grouped[e] / all > (double)used[e] / (double)tokens) {
                double high;
                mixt_wilson(b->grouped[e], all, &one.place, &high);
                rank(best + e * TOKENS_AN_EXPERT, &one);
            }
        }
        forget_id(b, found, true);
    }
}

/* used [parts, E], tokens [parts]; returns the choices of the half that judges. */
static uint64_t count_use(const by_id *b, int layer, uint64_t *used, uint64_t *tokens)
{
    const mixt_trace *trace = b->m->trace;
    size_t experts = (size_t)trace->info.experts;
    uint64_t choices = 0;
    memset(used, 0, (size_t)b->parts * experts * sizeof *used);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        int part = b->m->group[trace->document[i]] % b->parts;
        tokens[part] += mixt_trace_set_size(trace, layer, row) != 0;
        for (int c = 0; c < trace->chosen[layer]; c++) {
            if (row[c] != MIXT_TRACE_NONE) {
                used[(size_t)part * experts + row[c]]++;
                choices += part == b->parts - 1;
            }
        }
    }
    return choices;
}

static mixt_status add_tokens(by_id *b, int layer, uint64_t *used, taken *best, mixt_table *table,
                              mixt_error *error)
{
    const mixt_trace *trace = b->m->trace;
    size_t experts = (size_t)trace->info.experts;
    uint64_t tokens[2] = {0}, choices = count_use(b, layer, used, tokens);
    const uint64_t *judged = used + (size_t)(b->parts - 1) * experts;
    double all = (double)tokens[b->parts - 1];
    for (size_t i = 0; i < experts * TOKENS_AN_EXPERT; i++) {
        best[i].token = -1;
    }
    rank_ids(b, layer, used, tokens[0], best);
    for (size_t i = 0; i < experts * TOKENS_AN_EXPERT; i++) {
        if (best[i].token < 0) {
            continue;
        }
        double *row = mixt_table_append(table);
        if (row == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "measure tokens: no memory");
        }
        row[T_LAYER] = trace->layer_numbers[layer];
        row[T_EXPERT] = (double)(i / TOKENS_AN_EXPERT);
        row[T_TOKEN] = best[i].token;
        row[T_SHARE] = (double)best[i].with / best[i].tokens;
        row[T_RANDOM] = (double)choices / all / (double)experts;
        row[T_USE] = (double)judged[i / TOKENS_AN_EXPERT] / all;
        mixt_wilson(best[i].with, best[i].tokens, &row[T_LOW], &row[T_HIGH]);
        row[T_LIFT] = row[T_USE] > 0 ? row[T_SHARE] / row[T_USE] : NAN;
        row[T_TOKENS] = best[i].tokens;
    }
    return MIXT_OK;
}

static mixt_status fill_tokens(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    size_t experts = (size_t)m->trace->info.experts;
    by_id b;
    MIXT_TRY(make(m, m->groups < 2 ? 1 : 2, &b, error));
    uint64_t *used = calloc((size_t)b.parts * experts, sizeof *used);
    taken *best = calloc(experts * TOKENS_AN_EXPERT, sizeof *best);
    mixt_status status = used != NULL && best != NULL
                             ? MIXT_OK
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "measure tokens: no memory");
    if (status == MIXT_OK) {
        sort_tokens(&b, INPUT);
    }
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        status = add_tokens(&b, layer, used, best, table, error);
    }
    mixt_buffer_format(&table->note,
                       "Up to %d ids an expert, with %d tokens or more in each half of the "
                       "documents%s. ",
                       TOKENS_AN_EXPERT, LEAST_OCCURRENCES,
                       m->groups < 2 ? "; of one document they are picked where they are counted, "
                                       "and look surer than they are"
                                     : ", which one half picks and the other counts");
    free(used);
    free(best);
    release(&b);
    return status;
}

const mixt_measure_type mixt_measure_tokens = {
    .info = {.name = "tokens",
             .title = "The ids that each expert takes",
             .source = "tables of OLMoE, 2409.02060; Wilson 1927",
             .about =
                 "Ids of which an expert has more than it has of all tokens by one half of the "
                 "documents, the surest first, as the other half has them.",
             .traces = 1},
    .columns = token_columns,
    .column_count = T_COLUMNS,
    .fill = fill_tokens,
};
