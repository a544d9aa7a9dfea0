/* Shape rules and costs of kv_write, cache_round and attention. */
#include "ops/latent.h"

#include <math.h>

/* Bytes of a row of k or v. */
static double cached_bytes(const mixt_shape *shape)
{
    return (double)shape->size[1] * (shape->dtype == MIXT_ELEMENT_BYTE ? 1 : sizeof(float));
}

/* kv_write */

mixt_status mixt_kv_write_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape k = request->in[KV_WRITE_K], v = request->in[KV_WRITE_V];
    mixt_shape cache_k = request->in[KV_WRITE_CACHE_K], cache_v = request->in[KV_WRITE_CACHE_V];
    mixt_type type = request->attributes->cache_type;
    MIXT_TRY(mixt_expect_matrix(&k, "kv_write: k", error));
    MIXT_TRY(mixt_expect_cache(type, k.size[1], "kv_write", error));
    MIXT_TRY(mixt_expect(&request->in[KV_WRITE_SLOTS], mixt_shape_integers(mixt_shape_leading(k)),
                         "kv_write: slots", error));
    MIXT_TRY(mixt_expect(&cache_k, mixt_cache_shape(type, cache_k.size[0], k.size[1]),
                         "kv_write: cache_k", error));
    if (v.rank == 0 && cache_v.rank == 0) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_expect_matrix(&v, "kv_write: v", error));
    MIXT_TRY(mixt_expect(&v, mixt_shape_columns(k, v.size[1]), "kv_write: v", error));
    MIXT_TRY(mixt_expect_cache(type, v.size[1], "kv_write", error));
    return mixt_expect(&cache_v, mixt_cache_shape(type, cache_k.size[0], v.size[1]),
                       "kv_write: cache_v", error);
}

void mixt_kv_write_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, KV_WRITE_K) + mixt_in_values(request, KV_WRITE_V);
    double written =
        cached_bytes(&request->in[KV_WRITE_CACHE_K]) + cached_bytes(&request->in[KV_WRITE_CACHE_V]);
    *cost = (mixt_cost){0, 4 * values + written * (double)request->tokens, 0, 0};
}

/* cache_round */

mixt_status mixt_cache_round_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[CACHE_ROUND_X];
    int64_t n = request->attributes->head_dim;
    MIXT_TRY(mixt_expect_matrix(&x, "cache_round: x", error));
    if (n < 1 || x.size[1] % n != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "cache_round: heads of %lld do not divide rows of %lld", (long long)n,
                         (long long)x.size[1]);
    }
    MIXT_TRY(mixt_expect_cache(request->attributes->cache_type, n, "cache_round", error));
    request->out[CACHE_ROUND_Y] = x;
    return MIXT_OK;
}

void mixt_cache_round_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    *cost = (mixt_cost){0, 8 * mixt_in_values(request, CACHE_ROUND_X), 0, 0};
}

/* attention */

/* Rows of k or v, as many as `keys` has: the batch's own or a cache's. */
static mixt_shape key_shape(const mixt_shape *keys, mixt_type type, int64_t columns)
{
    mixt_shape shape = mixt_cache_shape(type, keys->size[0], columns);
    shape.per_token = keys->per_token;
    shape.multiple = keys->multiple;
    return shape;
}

mixt_status mixt_attention_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape q = request->in[ATTENTION_Q];
    mixt_shape k = request->in[ATTENTION_K];
    mixt_shape v = request->in[ATTENTION_V];
    int64_t heads = attributes->heads, kv_heads = attributes->kv_heads, n = attributes->head_dim;
    int64_t values = mixt_attention_value_dim(attributes);
    if (heads < 1 || kv_heads < 1 || n < 1 || heads % kv_heads != 0 || attributes->window < 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "attention: %lld heads on %lld kv heads of %lld are not possible",
                         (long long)heads, (long long)kv_heads, (long long)n);
    }
    if (attributes->value_dim < 0 || values > n) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "attention: value_dim %lld of heads of %lld is not possible",
                         (long long)values, (long long)n);
    }
    if (!(attributes->soft_cap >= 0 && isfinite(attributes->soft_cap))) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "attention: soft_cap %g is not 0 or more",
                         attributes->soft_cap);
    }
    if (attributes->window > 0 && attributes->cache_type != MIXT_TYPE_F32) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "attention: the batch's own keys are in no short type");
    }
    if (n > MIXT_ATTENTION_HEAD_MAX) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "attention: head_dim %lld is more than %d",
                         (long long)n, MIXT_ATTENTION_HEAD_MAX);
    }
    MIXT_TRY(mixt_expect_matrix(&q, "attention: q", error));
    mixt_type type = attributes->cache_type;
    MIXT_TRY(mixt_expect_cache(type, n, "attention", error));
    MIXT_TRY(mixt_expect_cache(type, values, "attention", error));
    MIXT_TRY(
        mixt_expect(&q, mixt_shape_tokens(request->capacity, 1, heads * n), "attention: q", error));
    mixt_shape keys = attributes->window > 0 ? mixt_shape_tokens(request->capacity, 1, 1) : k;
    mixt_shape all = key_shape(&keys, type, kv_heads * n);
    MIXT_TRY(mixt_expect(&k, all, "attention: k", error));
    bool wide = v.rank == 2 && v.size[1] == all.size[1];
    MIXT_TRY(mixt_expect(&v, wide ? all : key_shape(&keys, type, kv_heads * values), "attention: v",
                         error));
    mixt_shape rows = mixt_shape_integers(mixt_shape_leading(q));
    MIXT_TRY(mixt_expect(&request->in[ATTENTION_FIRST], rows, "attention: first", error));
    MIXT_TRY(mixt_expect(&request->in[ATTENTION_LAST], rows, "attention: last", error));
    if (request->in[ATTENTION_SINKS].rank != 0) {
        MIXT_TRY(mixt_expect(&request->in[ATTENTION_SINKS], mixt_shape_static(1, heads, 0, 0),
                             "attention: sinks", error));
    }
    MIXT_TRY(mixt_expect_pages(request, ATTENTION_PAGES, ATTENTION_SEQUENCE, ATTENTION_K,
                               "attention", error));
    request->out[ATTENTION_Y] = mixt_shape_columns(q, heads * values);
    request->out[ATTENTION_LSE] = mixt_shape_columns(q, heads);
    /* two lists of blocks of rows where they are of a cache's sequences */
    int64_t parts = mixt_attention_parts(&k, &request->in[ATTENTION_PAGES]);
    request->forward_workspace =
        attributes->window > 0 ? 0
                               : MIXT_ATTENTION_LIST_REALS * request->capacity +
                                     mixt_attention_room(attributes, parts, request->capacity);
    /* delta, and for each chunk of rows its part of the sinks' gradient */
    request->backward_workspace =
        q.size[0] * heads + mixt_divide_up(q.size[0], MIXT_SUM_ROWS) * heads;
    return MIXT_OK;
}

/* Counts the causal half of a window's keys; with a cache, all that a sequence may have. */
void mixt_attention_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    const mixt_attributes *attributes = request->attributes;
    int64_t tokens = request->tokens;
    int64_t keys =
        attributes->positions > 0 ? attributes->positions : request->in[ATTENTION_K].size[0];
    double pairs = (double)tokens * (double)keys;
    if (attributes->partial && tokens >= MIXT_LATENT_ROWS) { /* a prompt is latent's */
        *cost = (mixt_cost){0, 0, 0, 0};
        return;
    }
    if (attributes->window > 0) {
        double window = (double)attributes->window, rest = (double)(tokens % attributes->window);
        double whole = (double)(tokens / attributes->window);
        pairs = (whole * window * (window + 1) + rest * (rest + 1)) / 2;
    }
    double scores = 2 * pairs * attributes->heads * attributes->head_dim;
    double sums = 2 * pairs * attributes->heads * (double)mixt_attention_value_dim(attributes);
    double softmax = (attributes->soft_cap > 0 ? 10 : 5) * pairs * attributes->heads;
    const mixt_shape *k = &request->in[ATTENTION_K], *v = &request->in[ATTENTION_V];
    int64_t rows = attributes->positions > 0 ? attributes->positions : mixt_rows(k, tokens);
    double bytes =
        4 * (mixt_in_values(request, ATTENTION_Q) + mixt_out_values(request, ATTENTION_Y)) +
        (double)rows * (cached_bytes(k) + cached_bytes(v));
    *cost =
        (mixt_cost){scores + sums + softmax, bytes, 3 * scores + 2 * sums + 2 * softmax, 2 * bytes};
}
