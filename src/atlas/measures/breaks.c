/* Where two routers part: at which tokens, classes of tokens and places of a document. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/pairs.h"
#include "atlas/token_class.h"
#include "core/error.h"

#define LEAST_TOKENS 10 /* of an id that has a row */

enum { OF_ALL, OF_CLASS, OF_PLACE, OF_TOKEN };
static const char *const kinds[] = {"all", "class", "place", "token", NULL};
/* Tokens of a document before a place, and its name. */
static const uint64_t place_ends[] = {1, 4, 16, 64, 256, 1024, UINT64_MAX};
static const char *const places[] = {"1",      "2-4",      "5-16",  "17-64",
                                     "65-256", "257-1024", "later", NULL};
#define PLACES ((int)(sizeof place_ends / sizeof *place_ends))

enum {
    KIND,
    CLASS,
    PLACE,
    TOKEN,
    BROKEN,
    RANDOM,
    USE,
    LOW,
    HIGH,
    P,
    Q,
    LIFT,
    MARGIN,
    AT_BREAKS,
    SUPPORT,
    COLUMNS
};

static const mixt_column columns[] = {
    {.name = "of", .kind = MIXT_COLUMN_WORD, .role = MIXT_ROLE_KEY, .words = kinds},
    {.name = "class",
     .kind = MIXT_COLUMN_WORD,
     .role = MIXT_ROLE_KEY,
     .words = mixt_token_class_names},
    {.name = "place",
     .help = "in the document",
     .kind = MIXT_COLUMN_WORD,
     .role = MIXT_ROLE_KEY,
     .words = places},
    {.name = "token", .kind = MIXT_COLUMN_TOKEN, .role = MIXT_ROLE_KEY},
    {.name = "broken",
     .help = "experts of a token that the other does not have, mean over layers",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "if breaks fell on any token of their document",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "p", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P},
    {.name = "q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "lift",
     .help = "broken over use",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_EFFECT},
    {.name = "margin",
     .help = "of the first router: how far the last chosen logit lies above the next",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 1},
    {.name = "margin_at_breaks",
     .help = "the same where the sets differ",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 2},
    {.name = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};

/* Of one row of the table. */
typedef struct bin {
    double sum[MIXT_MEASURE_GROUPS], count[MIXT_MEASURE_GROUPS];
    double expected, variance; /* of the sum, where breaks change places within their document */
    double random;
    double margin, margins, margin_broken, margins_broken;
    /* of the document on its way: */
    uint64_t here;
    double drawn; /* tokens of it that are this bin's */
} bin;

typedef struct breaking {
    const mixt_measuring *m;
    float *broken;      /* [T]: mean over layers; NaN: no layer has both sets */
    float *random;      /* [T] likewise, its level */
    float *margins;     /* [T, 4]: sum and count of margins, and of those at breaks; or NULL */
    int32_t *bin_of_id; /* [vocabulary]: -1 without a row of its own */
    uint8_t *class_of;  /* [vocabulary] */
    bin *bins;          /* all, classes, places, ids */
    int ids;
    uint64_t *seen, stamp;
} breaking;

#define FIRST_CLASS 1
#define FIRST_PLACE (FIRST_CLASS + MIXT_CLASS_COUNT)
#define FIRST_ID (FIRST_PLACE + PLACES)

static int place_of(uint64_t in_document)
{
    int place = 0;
    while (in_document >= place_ends[place]) {
        place++;
    }
    return place;
}

/* Fills broken, random and margins of every token. */
static void read_tokens(breaking *b)
{
    const mixt_trace *trace = b->m->trace;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        double sum = 0, chance = 0;
        int layers = 0;
        for (int layer = 0; layer < trace->info.layers; layer++) {
            mixt_pair_sets sets = mixt_pair_compare(b->m, layer, i, b->seen, &b->stamp);
            if (sets.first == 0 || sets.second == 0) {
                continue;
            }
            int least = sets.first < sets.second ? sets.first : sets.second;
            double broken = 1 - mixt_pair_share(sets);
            sum += broken;
            chance += 1 - (double)least / (double)trace->info.experts;
            layers++;
            if (b->margins != NULL) {
                float margin =
                    mixt_trace_weight(trace->margins[(uint64_t)layer * trace->info.tokens + i]);
                float *to = b->margins + 4 * i;
                if (isfinite(margin)) {
                    to[0] += margin;
                    to[1]++;
                    to[2] += broken > 0 ? margin : 0;
                    to[3] += broken > 0;
                }
            }
        }
        b->broken[i] = layers > 0 ? (float)(sum / layers) : NAN;
        b->random[i] = layers > 0 ? (float)(chance / layers) : NAN;
    }
}

/* Ids that occur often enough get rows, in rising order; every id its class. */
static void deal_bins(breaking *b)
{
    const mixt_trace *trace = b->m->trace;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        b->bin_of_id[trace->tokens[i]] += !isnan(b->broken[i]);
    }
    for (int id = 0; id < trace->vocab_size; id++) {
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(trace, id, &length);
        b->bin_of_id[id] = b->bin_of_id[id] >= LEAST_TOKENS ? FIRST_ID + b->ids++ : -1;
        b->class_of[id] = (uint8_t)mixt_token_class_of(bytes, length);
    }
}

/* The bins of a token: all, its class, its place, its id. Returns how many. */
static int bins_of(const breaking *b, uint64_t index, uint64_t in_document, int to[4])
{
    int32_t id = b->m->trace->tokens[index];
    to[0] = 0;
    to[1] = FIRST_CLASS + b->class_of[id];
    to[2] = FIRST_PLACE + place_of(in_document);
    to[3] = b->bin_of_id[id];
    return to[3] >= 0 ? 4 : 3;
}

/* Adds the tokens of a document to their bins. Returns how many, and their mean and variance. */
static double add_tokens(breaking *b, const mixt_unit_run *run, uint64_t number, double *mean,
                         double *variance)
{
    double sum = 0, squares = 0, count = 0;
    int group = b->m->group[number];
    for (uint64_t i = run->begin; i < run->end; i++) {
        int in[4], bins = bins_of(b, i, i - run->begin, in);
        if (isnan(b->broken[i])) {
            continue;
        }
        double value = (double)b->broken[i];
        sum += value;
        squares += value * value;
        count++;
        for (int j = 0; j < bins; j++) {
            bin *to = &b->bins[in[j]];
            to->drawn = to->here == number + 1 ? to->drawn + 1 : 1;
            to->here = number + 1;
            to->sum[group] += value;
            to->count[group]++;
            to->random += (double)b->random[i];
            if (b->margins != NULL) {
                const float *margins = b->margins + 4 * i;
                to->margin += (double)margins[0];
                to->margins += (double)margins[1];
                to->margin_broken += (double)margins[2];
                to->margins_broken += (double)margins[3];
            }
        }
    }
    *mean = count > 0 ? sum / count : 0;
    *variance = count > 1 ? fmax(squares - sum * *mean, 0) / count : 0;
    return count;
}

/* One document: its tokens, then what each bin of them would get if breaks changed places: the sum
 * of a sample without replacement. */
static void read_document(breaking *b, uint64_t number)
{
    const mixt_unit_run *run = &b->m->units->runs[number];
    double mean, variance, count = add_tokens(b, run, number, &mean, &variance);
    for (uint64_t i = run->begin; i < run->end; i++) {
        int in[4], bins = bins_of(b, i, i - run->begin, in);
        for (int j = 0; j < bins; j++) {
            bin *to = &b->bins[in[j]];
            if (to->here == number + 1 && to->drawn > 0) {
                double n = to->drawn;
                to->expected += n * mean;
                to->variance += count > 1 ? n * variance * (count - n) / (count - 1) : 0;
                to->drawn = 0;
            }
        }
    }
}

static mixt_status put_bin(const breaking *b, mixt_table *table, int kind, int index, int key,
                           mixt_error *error)
{
    const bin *from = &b->bins[index];
    double sum = 0, count = 0, without[MIXT_MEASURE_GROUPS];
    int groups = 0;
    for (int g = 0; g < b->m->groups; g++) {
        sum += from->sum[g];
        count += from->count[g];
    }
    if (count == 0) {
        return MIXT_OK;
    }
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure breaks: no memory");
    }
    for (int g = 0; g < b->m->groups; g++) {
        if (from->count[g] > 0 && from->count[g] < count) {
            without[groups++] = (sum - from->sum[g]) / (count - from->count[g]);
        }
    }
    row[KIND] = kind;
    row[CLASS] = kind == OF_CLASS ? key : kind == OF_TOKEN ? b->class_of[key] : -1;
    row[PLACE] = kind == OF_PLACE ? key : -1;
    row[TOKEN] = kind == OF_TOKEN ? (double)key : (double)NAN;
    row[BROKEN] = sum / count;
    row[RANDOM] = from->random / count;
    row[USE] = from->expected / count;
    mixt_span span = mixt_jackknife(row[BROKEN], without, groups, 0, 1);
    row[LOW] = span.low;
    row[HIGH] = span.high;
    if (from->variance > 0 && kind != OF_ALL) {
        row[P] = 0.5 * erfc((sum - from->expected) / sqrt(2 * from->variance));
    }
    row[LIFT] = from->expected > 0 ? sum / from->expected : NAN;
    row[MARGIN] = from->margins > 0 ? from->margin / from->margins : NAN;
    row[AT_BREAKS] = from->margins_broken > 0 ? from->margin_broken / from->margins_broken : NAN;
    row[SUPPORT] = count;
    return MIXT_OK;
}

static mixt_status put_bins(const breaking *b, mixt_table *table, mixt_error *error)
{
    const mixt_trace *trace = b->m->trace;
    double kept = 0;
    MIXT_TRY(put_bin(b, table, OF_ALL, 0, -1, error));
    for (int i = 0; i < MIXT_CLASS_COUNT; i++) {
        MIXT_TRY(put_bin(b, table, OF_CLASS, FIRST_CLASS + i, i, error));
    }
    for (int i = 0; i < PLACES; i++) {
        MIXT_TRY(put_bin(b, table, OF_PLACE, FIRST_PLACE + i, i, error));
    }
    for (int id = 0; id < trace->vocab_size; id++) {
        if (b->bin_of_id[id] >= 0) {
            MIXT_TRY(put_bin(b, table, OF_TOKEN, b->bin_of_id[id], id, error));
            kept += mixt_table_value(table, table->rows - 1, SUPPORT);
        }
    }
    mixt_buffer_format(&table->note,
                       "Ids that occur fewer than %d times have no row of their own: %.1f%% of the "
                       "tokens.",
                       LEAST_TOKENS,
                       trace->info.tokens > 0 ? 100 * (1 - kept / (double)trace->info.tokens) : 0);
    return mixt_table_discover(table, error);
}

static mixt_status fill_opened(breaking *b, mixt_table *table, mixt_error *error)
{
    read_tokens(b);
    deal_bins(b);
    b->bins = calloc((size_t)(FIRST_ID + b->ids), sizeof *b->bins);
    if (b->bins == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure breaks: no memory");
    }
    for (uint64_t d = 0; d < b->m->units->run_count; d++) {
        read_document(b, d);
    }
    return put_bins(b, table, error);
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    MIXT_TRY(mixt_pair_check(m, "breaks", true, error));
    size_t tokens = (size_t)m->trace->info.tokens, ids = (size_t)m->trace->vocab_size;
    bool margins = m->trace->margins != NULL;
    breaking b = {.m = m};
    b.broken = calloc(tokens + 1, sizeof *b.broken);
    b.random = calloc(tokens + 1, sizeof *b.random);
    b.margins = margins ? calloc(tokens + 1, 4 * sizeof *b.margins) : NULL;
    b.bin_of_id = calloc(ids + 1, sizeof *b.bin_of_id);
    b.class_of = calloc(ids + 1, sizeof *b.class_of);
    b.seen = calloc((size_t)m->trace->info.experts, sizeof *b.seen);
    mixt_status status = b.broken == NULL || b.random == NULL || (margins && b.margins == NULL) ||
                                 b.bin_of_id == NULL || b.class_of == NULL || b.seen == NULL
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "measure breaks: no memory")
                             : fill_opened(&b, table, error);
    free(b.broken);
    free(b.random);
    free(b.margins);
    free(b.bin_of_id);
    free(b.class_of);
    free(b.seen);
    free(b.bins);
    return status;
}

const mixt_measure_type mixt_measure_breaks = {
    .info = {.name = "breaks",
             .title = "Where two routers part",
             .source = "VSRAQ, 2606.05688",
             .about = "The ids, classes of tokens and places in the document at which a token's "
                      "experts differ, beside what their documents would give any token.",
             .traces = 2},
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
