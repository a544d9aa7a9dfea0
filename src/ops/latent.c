/* Shape rule and cost of latent, and the choice between the two forms of latent attention. */
#include "ops/latent.h"

#define TILE_KEYS 512 /* of many rows */
/* Reals of workspace for each row of the plan, of which a group of heads takes what it can. */
#define REALS_OF_ROW ((int64_t)16 << 10)

bool mixt_latent_expands(const mixt_latent_sizes *s, int64_t before, int64_t rows)
{
    if (rows < MIXT_LATENT_ROWS) {
        return false;
    }
    double nope = (double)(s->head_dim - s->position), v = (double)s->value_dim;
    double size = (double)s->size, position = (double)s->position;
    double pairs = (double)rows * (double)before + (double)rows * (double)(rows + 1) / 2;
    double absorbed = (double)rows * size * (nope + v) + pairs * (2 * size + position);
    double expanded = (double)(before + rows) * size * (nope + v) + pairs * (nope + position + v);
    return expanded < absorbed;
}

/* Reals of one head: its matrices, a tile of keys and values, what is carried from tile to tile of
 * all rows, and logarithms of sums. */
static int64_t head_reals(const mixt_latent_sizes *s, int64_t keys, int64_t capacity)
{
    int64_t blocks = mixt_divide_up(capacity, MIXT_ATTENTION_BLOCK);
    return s->size * (s->head_dim - s->position + s->value_dim) +
           keys * (s->head_dim + s->value_dim) + blocks * mixt_attention_carry(s->value_dim) +
           capacity + mixt_gemm_list_reals(2);
}

mixt_latent_tile mixt_latent_tile_of(const mixt_latent_sizes *s, int64_t capacity)
{
    int64_t keys = capacity < MIXT_ATTENTION_BLOCK ? MIXT_ATTENTION_BLOCK : TILE_KEYS;
    int64_t room = REALS_OF_ROW * capacity - keys * (s->size + s->position);
    int64_t heads = mixt_least(room / head_reals(s, keys, capacity), s->heads);
    return (mixt_latent_tile){keys, mixt_most(heads, 1)};
}

mixt_status mixt_latent_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape q = request->in[LATENT_Q], cache = request->in[LATENT_CACHE];
    mixt_shape k_up = request->in[LATENT_K_UP], v_up = request->in[LATENT_V_UP];
    int64_t heads = attributes->heads, head_dim = attributes->head_dim;
    int64_t values = attributes->value_dim;
    MIXT_TRY(mixt_expect_matrix(&q, "latent: q", error));
    if (heads < 1 || head_dim < 1 || head_dim > MIXT_ATTENTION_HEAD_MAX || values < 1 ||
        values > head_dim || k_up.rank != 3 || k_up.size[2] < 1 || k_up.size[2] > head_dim) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "latent: %lld heads of %lld with values of %lld are not possible",
                         (long long)heads, (long long)head_dim, (long long)values);
    }
    mixt_latent_sizes sizes = {heads, k_up.size[1], head_dim - k_up.size[2], head_dim, values};
    int64_t row = sizes.size + sizes.position;
    mixt_type type = attributes->cache_type;
    MIXT_TRY(mixt_expect(&q, mixt_shape_tokens(request->capacity, 1, heads * head_dim), "latent: q",
                         error));
    MIXT_TRY(mixt_expect_cache(type, row, "latent", error));
    MIXT_TRY(
        mixt_expect(&cache, mixt_cache_shape(type, cache.size[0], row), "latent: cache", error));
    MIXT_TRY(mixt_expect(&k_up, mixt_shape_static(3, heads, sizes.size, k_up.size[2]),
                         "latent: k_up", error));
    MIXT_TRY(
        mixt_expect(&v_up, mixt_shape_static(3, heads, values, sizes.size), "latent: v_up", error));
    mixt_shape rows = mixt_shape_integers(mixt_shape_leading(q));
    MIXT_TRY(mixt_expect(&request->in[LATENT_FIRST], rows, "latent: first", error));
    MIXT_TRY(mixt_expect(&request->in[LATENT_LAST], rows, "latent: last", error));
    MIXT_TRY(mixt_expect(&request->in[LATENT_OTHERS], mixt_shape_columns(q, heads * values),
                         "latent: others", error));
    MIXT_TRY(
        mixt_expect_pages(request, LATENT_PAGES, LATENT_SEQUENCE, LATENT_CACHE, "latent", error));
    request->out[LATENT_Y] = request->in[LATENT_OTHERS];
    mixt_latent_tile tile = mixt_latent_tile_of(&sizes, request->capacity);
    request->forward_workspace =
        tile.heads * head_reals(&sizes, tile.keys, request->capacity) + tile.keys * row;
    return MIXT_OK;
}

/* Of as few tokens as are never expanded nothing; of more a prompt that all of it is. */
void mixt_latent_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    const mixt_attributes *attributes = request->attributes;
    const mixt_shape *k_up = &request->in[LATENT_K_UP], *cache = &request->in[LATENT_CACHE];
    double tokens = (double)request->tokens, heads = attributes->heads;
    double keys =
        attributes->positions > 0 ? (double)attributes->positions : (double)cache->size[0];
    double bytes = 8 * mixt_out_values(request, LATENT_Y);
    if (request->tokens < MIXT_LATENT_ROWS) {
        *cost = (mixt_cost){0, bytes, 0, 0};
        return;
    }
    double matrices = (double)k_up->size[1] * (double)(k_up->size[2] + attributes->value_dim);
    double pairs = tokens * keys;
    double row = (double)cache->size[1] * (cache->dtype == MIXT_ELEMENT_BYTE ? 1 : sizeof(float));
    *cost = (mixt_cost){
        2 * heads * keys * matrices +
            2 * heads * pairs * (attributes->head_dim + attributes->value_dim) + 5 * heads * pairs,
        bytes + keys * row + 4 * mixt_in_values(request, LATENT_Q) +
            mixt_in_bytes(request, LATENT_K_UP) + mixt_in_bytes(request, LATENT_V_UP),
        0, 0};
}
