/* Cases of what reads and writes a cache: kv_write, attention, shift. */
#include "operator_cases.h"

#include "core/half.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* A cache as the pages of sequences. */

void case_prepare_pages(operator_case *c, case_pages pages)
{
    int64_t count = c->request.in[pages.cache].size[0] / MIXT_ATTENTION_BLOCK;
    c->request.in[pages.slot] = mixt_shape_integers(fixed(pages.sequences, count));
    c->request.in[pages.slot + 1] = mixt_shape_integers(by_token(c, 1, 0));
    c->differentiable = 0;
}

static void shuffle(int64_t count, int32_t *numbers)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t j = case_below(i + 1);
        numbers[i] = numbers[j];
        numbers[j] = (int32_t)i;
    }
}

/* Rows of a sequence in the batch: one each, and what is left to the fourth of them in the batch's
 * order, or to the last. */
static int64_t rows_of(const operator_case *c, int64_t sequences, int64_t place)
{
    int64_t most = sequences < c->tokens ? sequences : c->tokens;
    int64_t long_one = most > 4 ? 3 : most - 1;
    return place >= most ? 0 : place == long_one ? c->tokens - most + 1 : 1;
}

void case_fill_pages(operator_case *c, case_pages pages, int32_t *last)
{
    int64_t count = c->request.in[pages.slot].size[1], taken = 0, t = 0;
    int32_t order[64], page[64];
    bool filled[64 * MIXT_ATTENTION_BLOCK] = {false};
    assert(count <= 64 && pages.sequences <= 64);
    shuffle(pages.sequences, order);
    shuffle(count, page);
    for (int64_t place = 0; place < pages.sequences; place++) {
        int64_t rows = rows_of(c, pages.sequences, place), line = order[place] * count;
        int64_t spare = count - taken - (pages.sequences - place - 1);
        int64_t room = (spare < 3 + rows / 64 ? spare : 3 + rows / 64) * MIXT_ATTENTION_BLOCK;
        assert(room >= rows);
        int64_t length = rows + case_below(room - rows + 1);
        for (int64_t position = 0; position < length; position++) {
            if (position % MIXT_ATTENTION_BLOCK == 0) {
                c->integer[pages.slot][line + position / MIXT_ATTENTION_BLOCK] = page[taken++];
            }
            filled[mixt_cache_row(c->integer[pages.slot], count, order[place], position)] = true;
        }
        for (int64_t i = 0; i < rows; i++, t++) {
            c->integer[pages.slot + 1][t] = order[place];
            last[t] = (int32_t)(length - rows + i);
        }
    }
    assert(t == c->tokens);
    const mixt_shape *cache = &c->request.in[pages.cache];
    for (int64_t i = 0; i < cache->size[0] * cache->size[1]; i++) {
        if (!filled[i / cache->size[1]]) {
            c->value[pages.cache][i] = 1e30; /* of nobody */
        }
    }
}

int64_t case_row(const operator_case *c, int pages, int64_t t, int64_t position)
{
    const int32_t *table = c->integer[pages];
    return table == NULL ? position
                         : mixt_cache_row(table, c->request.in[pages].size[1],
                                          c->integer[pages + 1][t], position);
}

/* kv_write: {T, capacity, columns of k, C, columns of v or 0} */

static const int64_t kv_write_rows[][CASE_NUMBERS] = {
    {1, 1, 3, 4, 3}, {5, 8, 16, 9, 16}, {70, 70, 4, 99, 9}, {7, 9, 12, 30, 0}};

static void kv_write_prepare(operator_case *c)
{
    c->request.in[KV_WRITE_K] = by_token(c, 1, c->p[2]);
    c->request.in[KV_WRITE_SLOTS] = mixt_shape_integers(by_token(c, 1, 0));
    c->request.in[KV_WRITE_CACHE_K] = fixed(c->p[3], c->p[2]);
    if (c->p[4] > 0) {
        c->request.in[KV_WRITE_V] = by_token(c, 1, c->p[4]);
        c->request.in[KV_WRITE_CACHE_V] = fixed(c->p[3], c->p[4]);
    }
}

static void kv_write_fill(operator_case *c)
{
    for (int64_t t = 0; t < c->tokens; t++) {
        c->integer[KV_WRITE_SLOTS][t] = (int32_t)(c->p[3] - 1 - t);
    }
}

static void kv_write_naive(const operator_case *c, double *const *in, int32_t *const *integers)
{
    (void)integers;
    static const struct {
        int from, cache;
    } sides[2] = {{KV_WRITE_K, KV_WRITE_CACHE_K}, {KV_WRITE_V, KV_WRITE_CACHE_V}};
    for (int side = 0; side < 2; side++) {
        int64_t n = c->request.in[sides[side].from].size[1];
        double *cache = in[sides[side].cache];
        for (int64_t i = 0; i < c->tokens * n; i++) {
            cache[c->integer[KV_WRITE_SLOTS][i / n] * n + i % n] = c->value[sides[side].from][i];
        }
    }
}

/* cache_round: {T, capacity, heads, head_dim, type} */

static const int64_t cache_round_rows[][CASE_NUMBERS] = {{1, 1, 1, 1, MIXT_TYPE_F16},
                                                         {5, 8, 3, 7, MIXT_TYPE_BF16},
                                                         {70, 70, 2, 300, MIXT_TYPE_F16},
                                                         {9, 9, 1, 5, MIXT_TYPE_F32}};

static void cache_round_prepare(operator_case *c)
{
    c->attributes.head_dim = (int)c->p[3];
    c->attributes.cache_type = (mixt_type)c->p[4];
    c->request.in[CACHE_ROUND_X] = by_token(c, 1, c->p[2] * c->p[3]);
}

static void cache_round_naive(const operator_case *c, double *const *out, int32_t *const *integers)
{
    (void)integers;
    for (int64_t i = 0; i < c->tokens * c->p[2] * c->p[3]; i++) {
        float x = (float)c->value[CACHE_ROUND_X][i];
        out[CACHE_ROUND_Y][i] = c->p[4] == MIXT_TYPE_F16    ? mixt_f16_value(mixt_f16_bits(x))
                                : c->p[4] == MIXT_TYPE_BF16 ? mixt_bf16_value(mixt_bf16_bits(x))
                                                            : c->value[CACHE_ROUND_X][i];
    }
}

/* attention: {T, capacity, heads, kv_heads, head_dim, window or 0, keys of the cache, documents,
 * value_dim or 0, flags, sequences whose pages the cache is or 0} */

enum {
    SOFT_CAP = 1,
    SINKS = 2,
    WIDE_VALUES = 4, /* v as wide as k */
};

#define SLIDING 4 /* documents: rows of sequences see their last 70 positions */

static const int64_t attention_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1, 1, 0, 0},
    {5, 10, 2, 1, 3, 5, 0, 0},
    {96, 128, 4, 2, 5, 32, 0, 1},
    {130, 130, 2, 2, 8, 130, 0, 0},
    {200, 300, 3, 1, 4, 100, 0, 1},
    {150, 150, 2, 1, 6, 150, 0, 2},
    {1, 4, 4, 2, 16, 0, 100, 0},
    {3, 4, 2, 1, 8, 0, 70, 0},
    {66, 66, 1, 1, 4, 0, 140, 0},
    {70, 70, 1, 1, 2, 70, 0, 3},
    {65, 100, 2, 2, 64, 100, 0, 0},
    {300, 300, 2, 1, 3, 300, 0, 1},
    {96, 128, 4, 2, 5, 32, 0, 1, 0, SOFT_CAP},
    {70, 70, 4, 2, 3, 70, 0, 3, 0, SINKS},
    {130, 130, 2, 1, 8, 130, 0, 1, 3, SOFT_CAP | SINKS},
    {3, 4, 4, 2, 8, 0, 70, 0, 5, SOFT_CAP | SINKS},
    {66, 66, 4, 2, 6, 66, 0, 0, 4, WIDE_VALUES},
    {9, 9, 2, 1, 576, 9, 0, 0, 512, WIDE_VALUES},
    {2, 9, 3, 1, 576, 0, 20, 0, 512, WIDE_VALUES | SINKS},
    {65, 65, 1, 1, 640, 65, 0, 0, 0, SOFT_CAP},
    {9, 9, 16, 2, 4, 9, 0, 1, 3, SINKS},
    {3, 4, 75, 1, 12, 0, 150, 0, 8, SOFT_CAP | WIDE_VALUES},
    {2, 2, 22, 2, 8, 0, 90, 0, 0, SINKS},
    {1, 1, 2, 2, 4, 0, 128, 0, 0, 0, 1},
    {7, 9, 6, 2, 5, 0, 1024, 0, 0, 0, 7},
    {150, 160, 4, 1, 6, 0, 1024, 0, 3, SINKS, 5},
    {90, 90, 2, 1, 8, 0, 2048, SLIDING, 0, SOFT_CAP, 9},
    {40, 64, 8, 1, 12, 0, 1024, SLIDING, 8, WIDE_VALUES | SINKS, 12},
    {81, 81, 75, 1, 12, 0, 768, 0, 8, WIDE_VALUES, 3},
    {40, 40, 6, 2, 64, 0, 640, SLIDING, 32, SINKS, 6},
    {12, 12, 4, 1, 96, 0, 640, 0, 64, WIDE_VALUES, 4},
    {30, 30, 2, 2, 32, 0, 512, 0, 0, SOFT_CAP, 3},
};

static void attention_prepare(operator_case *c)
{
    mixt_attributes *attributes = &c->attributes;
    attributes->heads = (int)c->p[2];
    attributes->kv_heads = (int)c->p[3];
    attributes->head_dim = (int)c->p[4];
    attributes->window = c->p[5];
    attributes->scale = 1 / sqrt((double)c->p[4]);
    attributes->value_dim = (int)c->p[8];
    attributes->soft_cap = (c->p[9] & SOFT_CAP) != 0 ? 1.5 : 0;
    int64_t values = c->p[8] > 0 && (c->p[9] & WIDE_VALUES) == 0 ? c->p[8] : c->p[4];
    c->request.in[ATTENTION_Q] = by_token(c, 1, c->p[2] * c->p[4]);
    c->request.in[ATTENTION_K] =
        c->p[5] > 0 ? by_token(c, 1, c->p[3] * c->p[4]) : fixed(c->p[6], c->p[3] * c->p[4]);
    c->request.in[ATTENTION_V] = c->request.in[ATTENTION_K];
    c->request.in[ATTENTION_V].size[1] = c->p[3] * values;
    c->request.in[ATTENTION_FIRST] = c->request.in[ATTENTION_LAST] =
        mixt_shape_integers(by_token(c, 1, 0));
    c->differentiable = SLOT(ATTENTION_Q) | SLOT(ATTENTION_K) | SLOT(ATTENTION_V);
    if (c->p[10] > 0) {
        case_prepare_pages(c, (case_pages){c->p[10], ATTENTION_PAGES, ATTENTION_K});
    }
    if ((c->p[9] & SINKS) != 0) {
        c->request.in[ATTENTION_SINKS] = fixed(c->p[2], 0);
        c->differentiable |= c->p[10] > 0 ? 0 : SLOT(ATTENTION_SINKS);
    }
    c->functional = SLOT(ATTENTION_Y) | SLOT(ATTENTION_LSE);
}

/* Documents: 1 borders at random, 2 a border every 50 rows and keys up to the border on the right
 * as well, 3 some rows see nothing. */
static void attention_fill(operator_case *c)
{
    int64_t window = c->p[5], begin = 0;
    if (c->p[10] > 0) {
        int32_t *first = c->integer[ATTENTION_FIRST], *last = c->integer[ATTENTION_LAST];
        case_fill_pages(c, (case_pages){c->p[10], ATTENTION_PAGES, ATTENTION_K}, last);
        for (int64_t t = 0; t < c->tokens; t++) {
            first[t] = c->p[7] == SLIDING && last[t] >= 70 ? last[t] - 69 : 0;
        }
        return;
    }
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t key_of_row = window > 0 ? t : c->p[6] - c->tokens + t;
        if (window > 0 && t % window == 0) {
            begin = t;
        }
        if ((c->p[7] == 1 && case_below(20) == 0) || (c->p[7] == 2 && t % 50 == 0)) {
            begin = t;
        }
        c->integer[ATTENTION_FIRST][t] = (int32_t)begin;
        c->integer[ATTENTION_LAST][t] = (int32_t)key_of_row;
        if (c->p[7] == 2) {
            c->integer[ATTENTION_LAST][t] =
                (int32_t)(begin + 49 < c->tokens ? begin + 49 : c->tokens - 1);
        }
        if (c->p[7] == 3 && t % 5 == 3) {
            c->integer[ATTENTION_LAST][t] = (int32_t)begin - 1;
        }
    }
}

static void attention_naive_row(const operator_case *c, int64_t t, int64_t head, double *const *out)
{
    int64_t heads = c->p[2], kv_heads = c->p[3], n = c->p[4], kv = head / (heads / kv_heads);
    int64_t values = c->p[8] > 0 ? c->p[8] : n, v_row = c->request.in[ATTENTION_V].size[1];
    const double *q = c->value[ATTENTION_Q] + (t * heads + head) * n;
    double *y = out[ATTENTION_Y] + (t * heads + head) * values, sum = 0;
    for (int64_t p = c->integer[ATTENTION_FIRST][t]; p <= c->integer[ATTENTION_LAST][t]; p++) {
        int64_t s = case_row(c, ATTENTION_PAGES, t, p);
        const double *k = c->value[ATTENTION_K] + (s * kv_heads + kv) * n;
        const double *v = c->value[ATTENTION_V] + s * v_row + kv * (v_row / kv_heads);
        double score = c->attributes.scale * case_product(q, k, n);
        score = (c->p[9] & SOFT_CAP) != 0 ? 1.5 * tanh(score / 1.5) : score;
        sum += exp(score);
        for (int64_t i = 0; i < values; i++) {
            y[i] += exp(score) * v[i];
        }
    }
    sum += (c->p[9] & SINKS) != 0 ? exp(c->value[ATTENTION_SINKS][head]) : 0;
    for (int64_t i = 0; i < values && sum > 0; i++) {
        y[i] /= sum;
    }
    out[ATTENTION_LSE][t * heads + head] = sum > 0 ? log(sum) : 0;
}

static void attention_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        attention_naive_row(c, i / c->p[2], i % c->p[2], out);
    }
}

/* latent: {T, capacity, heads, latent, position, nope, value_dim, keys of the cache, every how many
 * rows one is another operator's or 0, soft cap or not, sequences whose pages the cache is or 0} */

static const int64_t latent_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 3, 2, 2, 4, 10, 0, 0},           {9, 12, 3, 10, 4, 6, 8, 70, 0, 0},
    {70, 70, 2, 33, 4, 5, 9, 1200, 3, 0},      {130, 140, 5, 16, 8, 8, 16, 130, 0, 1},
    {40, 64, 3, 28, 4, 12, 8, 1024, 4, 0, 12}, {150, 160, 2, 12, 2, 7, 6, 1024, 0, 1, 5},
    {9, 9, 4, 512, 64, 128, 128, 80, 2, 0},    {3, 3, 2, 520, 4, 8, 8, 64, 0, 0},
};

static void latent_prepare(operator_case *c)
{
    int64_t heads = c->p[2], size = c->p[3], position = c->p[4], nope = c->p[5];
    c->attributes.heads = (int)heads;
    c->attributes.head_dim = (int)(nope + position);
    c->attributes.value_dim = (int)c->p[6];
    c->attributes.scale = 1 / sqrt((double)(nope + position));
    c->attributes.soft_cap = c->p[9] != 0 ? 1.5 : 0;
    c->request.in[LATENT_Q] = by_token(c, 1, heads * (nope + position));
    c->request.in[LATENT_CACHE] = fixed(c->p[7], size + position);
    c->request.in[LATENT_K_UP] = mixt_shape_static(3, heads, size, nope);
    c->request.in[LATENT_V_UP] = mixt_shape_static(3, heads, c->p[6], size);
    c->request.in[LATENT_FIRST] = c->request.in[LATENT_LAST] =
        mixt_shape_integers(by_token(c, 1, 0));
    c->request.in[LATENT_OTHERS] = by_token(c, 1, heads * c->p[6]);
    if (c->p[10] > 0) {
        case_prepare_pages(c, (case_pages){c->p[10], LATENT_PAGES, LATENT_CACHE});
    }
    c->functional = SLOT(LATENT_Y);
}

static void latent_fill(operator_case *c)
{
    int32_t *first = c->integer[LATENT_FIRST], *last = c->integer[LATENT_LAST];
    if (c->p[10] > 0) {
        case_fill_pages(c, (case_pages){c->p[10], LATENT_PAGES, LATENT_CACHE}, last);
    }
    for (int64_t t = 0; t < c->tokens; t++) {
        last[t] = c->p[10] > 0 ? last[t] : (int32_t)(c->p[7] - c->tokens + t);
        first[t] = c->p[8] > 0 && t % c->p[8] == 0 ? last[t] + 1 : 0;
    }
}

/* A key's values of a head, [nope + position], or its value. */
static void latent_expand(const operator_case *c, int64_t head, const double *cell, double *k,
                          double *v)
{
    int64_t size = c->p[3], nope = c->p[5], values = c->p[6];
    const double *k_up = c->value[LATENT_K_UP] + head * size * nope;
    const double *v_up = c->value[LATENT_V_UP] + head * size * values;
    for (int64_t j = 0; j < nope; j++) {
        k[j] = 0;
        for (int64_t i = 0; i < size; i++) {
            k[j] += cell[i] * k_up[i * nope + j];
        }
    }
    for (int64_t j = 0; j < c->p[4]; j++) {
        k[nope + j] = cell[size + j];
    }
    for (int64_t j = 0; j < values; j++) {
        v[j] = case_product(cell, v_up + j * size, size);
    }
}

static void latent_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t heads = c->p[2], n = c->p[4] + c->p[5], values = c->p[6];
    for (int64_t i = 0; i < c->tokens * heads; i++) {
        int64_t t = i / heads, head = i % heads;
        int32_t first = c->integer[LATENT_FIRST][t], last = c->integer[LATENT_LAST][t];
        double *y = out[LATENT_Y] + i * values, sum = 0, k[256], v[256];
        for (int64_t p = first; p <= last; p++) {
            int64_t row = case_row(c, LATENT_PAGES, t, p);
            latent_expand(c, head, c->value[LATENT_CACHE] + row * (c->p[3] + c->p[4]), k, v);
            double score = c->attributes.scale * case_product(c->value[LATENT_Q] + i * n, k, n);
            score = c->p[9] != 0 ? 1.5 * tanh(score / 1.5) : score;
            sum += exp(score);
            for (int64_t j = 0; j < values; j++) {
                y[j] += exp(score) * v[j];
            }
        }
        for (int64_t j = 0; j < values; j++) {
            y[j] = first <= last ? y[j] / sum : c->value[LATENT_OTHERS][i * values + j];
        }
    }
}

/* shift: {T, capacity, d, window or 0, rows of the cache, sequences whose pages it is or 0} */

static const int64_t shift_rows[][CASE_NUMBERS] = {{1, 1, 3, 1, 0},       {96, 128, 5, 32, 0},
                                                   {130, 130, 9, 130, 0}, {5, 7, 4, 0, 40},
                                                   {9, 9, 3, 0, 640, 5},  {70, 80, 5, 0, 768, 3}};

static void shift_prepare(operator_case *c)
{
    c->attributes.window = c->p[3];
    c->request.in[SHIFT_SOURCE] = c->p[3] > 0 ? by_token(c, 1, c->p[2]) : fixed(c->p[4], c->p[2]);
    c->request.in[SHIFT_FIRST] = c->request.in[SHIFT_LAST] = mixt_shape_integers(by_token(c, 1, 0));
    c->differentiable = SLOT(SHIFT_SOURCE);
    if (c->p[5] > 0) {
        case_prepare_pages(c, (case_pages){c->p[5], SHIFT_PAGES, SHIFT_SOURCE});
    }
    c->functional = SLOT(SHIFT_Y);
}

/* Borders of documents at random; every seventh row has the one before as its last, so that two
 * rows have one source, and every tenth has a first before its sequence. */
static void shift_fill(operator_case *c)
{
    int64_t window = c->p[3], begin = 0;
    if (c->p[5] > 0) {
        case_fill_pages(c, (case_pages){c->p[5], SHIFT_PAGES, SHIFT_SOURCE},
                        c->integer[SHIFT_LAST]);
        memset(c->integer[SHIFT_FIRST], 0, (size_t)c->tokens * sizeof(int32_t));
        return;
    }
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t at = window > 0 ? t : c->p[4] - c->tokens + t;
        begin = case_below(8) == 0 || (window > 0 && t % window == 0) ? at : begin;
        c->integer[SHIFT_FIRST][t] = (int32_t)(t % 10 == 9 ? 0 : begin);
        c->integer[SHIFT_LAST][t] = (int32_t)(t % 7 == 6 ? at - 1 : at);
    }
}

static void shift_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t least = c->p[3] > 0 ? t / c->p[3] * c->p[3] : 0;
        least = c->integer[SHIFT_FIRST][t] > least ? c->integer[SHIFT_FIRST][t] : least;
        for (int64_t i = 0; i < c->p[2] && c->integer[SHIFT_LAST][t] > least; i++) {
            int64_t row = case_row(c, SHIFT_PAGES, t, c->integer[SHIFT_LAST][t] - 1);
            out[SHIFT_Y][t * c->p[2] + i] = c->value[SHIFT_SOURCE][row * c->p[2] + i];
        }
    }
}

const operator_subject shift_subject = {MIXT_OP_shift,
                                        TABLE(shift),
                                        2e-7,
                                        shift_prepare,
                                        shift_fill,
                                        shift_naive,
                                        SLOT(SHIFT_SOURCE) | SLOT(SHIFT_PAGES),
                                        0};

const operator_subject cache_round_subject = {
    MIXT_OP_cache_round, TABLE(cache_round),  6e-8, cache_round_prepare, NULL,
    cache_round_naive,   SLOT(CACHE_ROUND_X), 0};

const operator_subject kv_write_subject = {MIXT_OP_kv_write, TABLE(kv_write), 0, kv_write_prepare,
                                           kv_write_fill,    kv_write_naive,  0, 0};

const operator_subject attention_subject = {
    MIXT_OP_attention,     TABLE(attention),     2e-5,
    attention_prepare,     attention_fill,       attention_naive,
    SLOT(ATTENTION_PAGES), SLOT(ATTENTION_SINKS)};

const operator_subject latent_subject = {
    MIXT_OP_latent, TABLE(latent),      2e-5, latent_prepare, latent_fill,
    latent_naive,   SLOT(LATENT_PAGES), 0};
