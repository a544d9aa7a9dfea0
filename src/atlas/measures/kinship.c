/* How alike two routers divide a text, whatever numbers their experts have, and however many. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/pairs.h"
#include "core/error.h"

/* First choices of two traces: how often a of the first met b of the second. */
typedef struct meeting {
    size_t rows, columns;
    uint64_t *count; /* [rows, columns] */
    uint64_t *row, *column;
} meeting;

typedef struct kin {
    const mixt_measuring *m;
    mixt_table *table;
    meeting all, part;
    uint16_t *drawn; /* [tokens, k] of the first trace */
} kin;

static bool open_meeting(const mixt_measuring *m, meeting *met)
{
    met->rows = (size_t)m->traces[0]->info.experts;
    met->columns = (size_t)m->traces[1]->info.experts;
    met->count = calloc(met->rows * met->columns, sizeof *met->count);
    met->row = calloc(met->rows, sizeof *met->row);
    met->column = calloc(met->columns, sizeof *met->column);
    return met->count != NULL && met->row != NULL && met->column != NULL;
}

static void close_meeting(meeting *met)
{
    free(met->count);
    free(met->row);
    free(met->column);
}

/* Counts the tokens of all groups but `without` (-1: of all). `rows`: first trace's experts [T, k].
 */
static void count_meetings(const kin *k, int layer, const uint16_t *rows, int without, meeting *met)
{
    const mixt_trace *a = k->m->traces[0], *b = k->m->traces[1];
    size_t step = (size_t)a->info.experts_per_token;
    memset(met->count, 0, met->rows * met->columns * sizeof *met->count);
    for (uint64_t i = 0; i < a->info.tokens; i++) {
        uint16_t x = rows[i * step], y = *mixt_trace_experts(b, layer, i);
        if (x != MIXT_TRACE_NONE && y != MIXT_TRACE_NONE &&
            k->m->group[a->document[i]] != without) {
            met->count[x * met->columns + y]++;
        }
    }
}

/* Mutual information in bits; NaN without tokens. *least: the smaller of the two entropies. */
static double information_of(const meeting *met, double *least, double *tokens)
{
    double total = 0, met_bits = 0, row_bits = 0, column_bits = 0;
    memset(met->row, 0, met->rows * sizeof *met->row);
    memset(met->column, 0, met->columns * sizeof *met->column);
    for (size_t i = 0; i < met->rows * met->columns; i++) {
        double count = (double)met->count[i];
        met->row[i / met->columns] += met->count[i];
        met->column[i % met->columns] += met->count[i];
        met_bits += count > 0 ? count * log2(count) : 0;
        total += count;
    }
    for (size_t i = 0; i < met->rows; i++) {
        row_bits += met->row[i] > 0 ? (double)met->row[i] * log2((double)met->row[i]) : 0;
    }
    for (size_t i = 0; i < met->columns; i++) {
        column_bits +=
            met->column[i] > 0 ? (double)met->column[i] * log2((double)met->column[i]) : 0;
    }
    *tokens = total;
    *least = log2(total) - fmax(row_bits, column_bits) / total;
    return total > 0 ? fmax((met_bits - row_bits - column_bits) / total + log2(total), 0) : NAN;
}

enum { LAYER, BITS, USE, LOW, HIGH, P, Q, SHARE, TOKENS, COLUMNS };

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "information",
     .help = "what the first choice of one router tells of the other's",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "use", .unit = "bits", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_USE},
    {.name = "low", .unit = "bits", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .unit = "bits", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "p", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P},
    {.name = "q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "share",
     .help = "of what it could tell, beyond the level: 1, the same division; 0, as unrelated",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_EFFECT},
    {.name = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};

static mixt_status fill_layer(kin *k, int layer, double *draws, mixt_error *error)
{
    const mixt_measuring *m = k->m;
    const uint16_t *rows = mixt_trace_experts(m->trace, layer, 0);
    double *row = mixt_table_append(k->table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure kinship: no memory");
    }
    double least, tokens, without[MIXT_MEASURE_GROUPS], unused[2];
    count_meetings(k, layer, rows, -1, &k->all);
    row[LAYER] = m->trace->layer_numbers[layer];
    row[BITS] = information_of(&k->all, &least, &tokens);
    row[TOKENS] = tokens;
    int groups = 0;
    for (int g = 0; g < m->groups; g++) {
        count_meetings(k, layer, rows, g, &k->part);
        without[groups] = information_of(&k->part, &unused[0], &unused[1]);
        groups += !isnan(without[groups]);
    }
    mixt_span span = mixt_jackknife(row[BITS], without, groups, 0, INFINITY);
    row[LOW] = span.low;
    row[HIGH] = span.high;
    for (int i = 0; i < m->shuffles; i++) {
        MIXT_TRY(mixt_null_draw(m, layer, MIXT_NULL_DOMAIN, (uint32_t)i, k->drawn, error));
        count_meetings(k, layer, k->drawn, -1, &k->part);
        draws[i] = information_of(&k->part, &unused[0], &unused[1]);
    }
    row[USE] = mixt_draws_mean(draws, m->shuffles);
    row[P] = isnan(row[BITS]) ? NAN : mixt_draws_p(draws, m->shuffles, row[BITS]);
    if (least > row[USE]) {
        row[SHARE] = (row[BITS] - row[USE]) / (least - row[USE]);
    }
    return MIXT_OK;
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    MIXT_TRY(mixt_pair_check(m, "kinship", false, error));
    kin k = {.m = m, .table = table};
    size_t rows = (size_t)m->trace->info.tokens * (size_t)m->trace->info.experts_per_token;
    double *draws = calloc((size_t)m->shuffles, sizeof *draws);
    k.drawn = malloc((rows + 1) * sizeof *k.drawn);
    bool opened = open_meeting(m, &k.all);
    opened = open_meeting(m, &k.part) && opened;
    mixt_status status = MIXT_OK;
    if (!opened || draws == NULL || k.drawn == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure kinship: no memory");
    }
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        status = fill_layer(&k, layer, draws, error);
    }
    if (status == MIXT_OK) {
        status = mixt_table_discover(table, error);
    }
    table->draws = m->shuffles;
    close_meeting(&k.all);
    close_meeting(&k.part);
    free(draws);
    free(k.drawn);
    return status;
}

const mixt_measure_type mixt_measure_kinship = {
    .info = {.name = "kinship",
             .title = "How alike two routers divide the text",
             .source = "mutual information of two partitions: Vinh, Epps & Bailey 2010",
             .about = "What the first choice of one router tells of the other's, whatever numbers "
                      "experts have: for models with other experts, or trained apart.",
             .traces = 2},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
