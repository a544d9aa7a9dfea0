/* The attention of a block: grouped heads with what families add to them, or the latent form. */
#include "model/block.h"

/* k or v as a cache gives it back, where what is scored is to see that. */
static mixt_value_id rounded(mixt_builder *b, mixt_value_id x, int head_dim)
{
    const mixt_graph_options *g = &b->graph->options;
    mixt_attributes attributes = {.cache_type = g->cache_type, .head_dim = head_dim};
    return g->phase == MIXT_PHASE_SCORE && g->cache_type != MIXT_TYPE_F32
               ? BUILD(b, MIXT_OP_cache_round, attributes, {CACHE_ROUND_X, x})
               : x;
}

/* cap(scale q.k) over the keys that a row sees, softmax (with sinks), times v. */
static mixt_value_id attend(mixt_builder *b, int layer, mixt_attributes attributes,
                            const mixt_value_id qkv[3])
{
    const mixt_attention_options *a = &b->model->options.attention;
    const mixt_graph *g = b->graph;
    bool generate = g->options.phase == MIXT_PHASE_GENERATE;
    attributes.scale = mixt_rope_attention_scale(&b->model->options);
    attributes.soft_cap = a->soft_cap;
    attributes.window = generate ? 0 : g->options.window;
    attributes.positions = generate ? g->options.cache_capacity : 0;
    attributes.cache_type = generate ? g->options.cache_type : MIXT_TYPE_F32;
    mixt_value_id k = rounded(b, qkv[1], attributes.head_dim);
    mixt_value_id v = qkv[2] == qkv[1] ? k : rounded(b, qkv[2], attributes.value_dim);
    mixt_value_id first = mixt_model_layer_is_windowed(b->model, layer) ? g->first_windowed
                          : attributes.partial                          ? g->first_absorbed
                                                                        : g->first;
    return BUILD(b, MIXT_OP_attention, attributes, {ATTENTION_Q, qkv[0]}, {ATTENTION_K, k},
                 {ATTENTION_V, v}, {ATTENTION_FIRST, first}, {ATTENTION_LAST, g->last},
                 {ATTENTION_SINKS, mixt_build_weight(b, MIXT_SLOT_SINKS, layer)},
                 {ATTENTION_PAGES, g->pages}, {ATTENTION_SEQUENCE, g->sequence});
}

static mixt_value_id rotate(mixt_builder *b, mixt_value_id x, int heads, int head_dim)
{
    const mixt_rope_options *rope = &b->model->options.rope;
    mixt_attributes attributes = {.heads = heads,
                                  .head_dim = head_dim,
                                  .rope_dims = rope->dims,
                                  .interleaved = rope->interleaved};
    return BUILD(b, MIXT_OP_rope, attributes, {ROPE_X, x}, {ROPE_POSITIONS, b->graph->positions},
                 {ROPE_TABLE, b->graph->rope});
}

/* Columns [from, from + size) of each head. */
static mixt_value_id slice(mixt_builder *b, mixt_value_id x, int heads, int head_dim, int from,
                           int size)
{
    mixt_attributes attributes = {.heads = heads, .head_dim = head_dim, .from = from, .size = size};
    return BUILD(b, MIXT_OP_slice, attributes, {SLICE_X, x});
}

static mixt_value_id join(mixt_builder *b, mixt_value_id x, mixt_value_id y, int heads,
                          int head_dim)
{
    mixt_attributes attributes = {.heads = heads, .head_dim = head_dim};
    return BUILD(b, MIXT_OP_join, attributes, {JOIN_A, x}, {JOIN_B, y});
}

static mixt_value_id clamp(mixt_builder *b, mixt_value_id x)
{
    mixt_attributes attributes = {.limit = b->model->options.attention.clip};
    return attributes.limit > 0 ? BUILD(b, MIXT_OP_clamp, attributes, {CLAMP_X, x}) : x;
}

/* Rows of the token before, zeros at a document's start: of the batch, or of a cache that the rows
 * went into. */
static mixt_value_id shift(mixt_builder *b, mixt_value_id x)
{
    const mixt_graph *g = b->graph;
    bool generate = g->options.phase == MIXT_PHASE_GENERATE;
    mixt_attributes attributes = {.window = generate ? 0 : g->options.window};
    mixt_build_cache(b, MIXT_TYPE_F32, &x, NULL);
    return BUILD(b, MIXT_OP_shift, attributes, {SHIFT_SOURCE, x}, {SHIFT_FIRST, g->first},
                 {SHIFT_LAST, g->last}, {SHIFT_PAGES, g->pages}, {SHIFT_SEQUENCE, g->sequence});
}

/* One convolution over two tokens: A x[t - 1] + B x[t] + b. */
static mixt_value_id convolve(mixt_builder *b, mixt_value_id x, const mixt_slot slots[3], int layer)
{
    mixt_value_id before = mixt_build_linear(b, shift(b, x), slots[0], MIXT_SLOT_COUNT, layer);
    return mixt_build_add(b, before, mixt_build_linear(b, x, slots[1], slots[2], layer));
}

/* Localized Filtering-based Attention: two convolutions, the sum with x normed (Yuan 2.0,
 * arXiv 2311.15786). */
static mixt_value_id filter(mixt_builder *b, mixt_value_id x, int layer)
{
    static const mixt_slot one[] = {MIXT_SLOT_FILTER_1_PREVIOUS, MIXT_SLOT_FILTER_1,
                                    MIXT_SLOT_FILTER_1_BIAS};
    static const mixt_slot two[] = {MIXT_SLOT_FILTER_2_PREVIOUS, MIXT_SLOT_FILTER_2,
                                    MIXT_SLOT_FILTER_2_BIAS};
    mixt_value_id y = convolve(b, convolve(b, x, one, layer), two, layer);
    return mixt_build_norm(b, mixt_build_add(b, y, x), MIXT_SLOT_FILTER_NORM, layer, 0);
}

/* Norm, clip and rotation of q or k [T, heads h]. */
static mixt_value_id prepare(mixt_builder *b, mixt_value_id x, int heads, mixt_slot norm, int layer)
{
    const mixt_model_options *o = &b->model->options;
    if (o->attention.qk_norm != MIXT_QK_NORM_NONE) {
        bool whole = o->attention.qk_norm == MIXT_QK_NORM_WHOLE;
        x = mixt_build_norm(b, x, norm, layer, whole ? 0 : o->head_dim);
    }
    return rotate(b, clamp(b, x), heads, o->head_dim);
}

static mixt_value_id grouped(mixt_builder *b, mixt_value_id x, int layer)
{
    const mixt_model_options *o = &b->model->options;
    int h = o->head_dim;
    mixt_value_id filtered = o->attention.filter ? filter(b, x, layer) : x;
    mixt_value_id q = mixt_build_linear(b, filtered, MIXT_SLOT_Q, MIXT_SLOT_Q_BIAS, layer);
    mixt_value_id k = mixt_build_linear(b, filtered, MIXT_SLOT_K, MIXT_SLOT_K_BIAS, layer);
    mixt_value_id v = mixt_build_linear(b, x, MIXT_SLOT_V, MIXT_SLOT_V_BIAS, layer);
    if (o->attention.mixed_qk) { /* [q | k] as heads of 2 h, each its own q and k */
        mixt_value_id both = join(b, q, k, 1, o->heads * h);
        q = slice(b, both, o->heads, 2 * h, 0, h);
        k = slice(b, both, o->heads, 2 * h, h, h);
    }
    q = prepare(b, q, o->heads, MIXT_SLOT_Q_NORM, layer);
    k = prepare(b, k, o->kv_heads, MIXT_SLOT_K_NORM, layer);
    v = clamp(b, v);
    mixt_build_cache(b, b->graph->options.cache_type, &k, &v);
    mixt_attributes attributes = {
        .heads = o->heads, .kv_heads = o->kv_heads, .head_dim = h, .value_dim = h};
    return attend(b, layer, attributes, (mixt_value_id[]){q, k, v});
}

/* Whether rows of prompts have another form of latent attention. */
static bool has_forms(const mixt_builder *b)
{
    return b->graph->first_expanded != MIXT_NO_VALUE;
}

/* A matrix for each head, for the rows of the absorbed form. */
static mixt_value_id by_head(mixt_builder *b, mixt_value_id x, mixt_slot slot, int layer)
{
    const mixt_graph *g = b->graph;
    mixt_attributes attributes = {.heads = b->model->options.heads, .partial = has_forms(b)};
    return BUILD(b, MIXT_OP_head_linear, attributes, {HEAD_LINEAR_X, x},
                 {HEAD_LINEAR_WEIGHT, mixt_build_weight(b, slot, layer)},
                 {HEAD_LINEAR_FIRST, g->first_absorbed},
                 {HEAD_LINEAR_LAST, has_forms(b) ? g->last : MIXT_NO_VALUE});
}

/* q of the latent form [T, heads head_dim]: through a latent of its own, or by one matrix. */
static mixt_value_id latent_query(mixt_builder *b, mixt_value_id x, int layer)
{
    if (b->model->options.attention.query_latent_size == 0) {
        return mixt_build_linear(b, x, MIXT_SLOT_Q, MIXT_SLOT_COUNT, layer);
    }
    mixt_value_id q = mixt_build_linear(b, x, MIXT_SLOT_Q_DOWN, MIXT_SLOT_COUNT, layer);
    q = mixt_build_norm(b, q, MIXT_SLOT_Q_DOWN_NORM, layer, 0);
    return mixt_build_linear(b, q, MIXT_SLOT_Q_UP, MIXT_SLOT_COUNT, layer);
}

/* The expanded form over the cache of latents, for rows that have it; of the others `absorbed`. */
static mixt_value_id expand(mixt_builder *b, int layer, mixt_value_id q, mixt_value_id cache,
                            mixt_value_id absorbed)
{
    const mixt_model_options *o = &b->model->options;
    const mixt_graph *g = b->graph;
    mixt_attributes attributes = {.scale = mixt_rope_attention_scale(o),
                                  .heads = o->heads,
                                  .head_dim = o->head_dim,
                                  .value_dim = o->attention.value_dim,
                                  .soft_cap = o->attention.soft_cap,
                                  .cache_type = g->options.cache_type,
                                  .positions = g->options.cache_capacity};
    return BUILD(b, MIXT_OP_latent, attributes, {LATENT_Q, q}, {LATENT_CACHE, cache},
                 {LATENT_K_UP, mixt_build_weight(b, MIXT_SLOT_K_UP, layer)},
                 {LATENT_V_UP, mixt_build_weight(b, MIXT_SLOT_V_UP, layer)},
                 {LATENT_FIRST, g->first_expanded}, {LATENT_LAST, g->last},
                 {LATENT_OTHERS, absorbed}, {LATENT_PAGES, g->pages},
                 {LATENT_SEQUENCE, g->sequence});
}

/* Multi-head latent attention (arXiv 2405.04434) in its absorbed form: all heads share one key, the
 * latent with a rotated part behind it, whose beginning is the value. A head's key matrix turns its
 * query into the latent's space, its value matrix turns the sum of latents into its output. A head
 * of q is a part without RoPE (nope) and one with it (rope). In generation rows that are fed many
 * at once may have the expanded form instead (ops/latent.h). */
static mixt_value_id latent(mixt_builder *b, mixt_value_id x, int layer)
{
    const mixt_model_options *o = &b->model->options;
    int heads = o->heads, size = o->attention.latent_size, rope = o->attention.position_dim;
    int nope = o->head_dim - rope;
    mixt_value_id q = latent_query(b, x, layer);
    mixt_value_id q_rope = rotate(b, slice(b, q, heads, o->head_dim, nope, rope), heads, rope);
    mixt_value_id q_nope = slice(b, q, heads, o->head_dim, 0, nope);
    mixt_value_id q_latent = by_head(b, q_nope, MIXT_SLOT_K_UP, layer);
    q = join(b, q_latent, q_rope, heads, size);
    mixt_value_id kv = mixt_build_linear(b, x, MIXT_SLOT_KV_DOWN, MIXT_SLOT_COUNT, layer);
    mixt_value_id k =
        mixt_build_norm(b, slice(b, kv, 1, size + rope, 0, size), MIXT_SLOT_KV_DOWN_NORM, layer, 0);
    k = join(b, k, rotate(b, slice(b, kv, 1, size + rope, size, rope), 1, rope), 1, size);
    mixt_build_cache(b, b->graph->options.cache_type, &k, NULL);
    mixt_attributes attributes = {.heads = heads,
                                  .kv_heads = 1,
                                  .head_dim = size + rope,
                                  .value_dim = size,
                                  .partial = has_forms(b)};
    mixt_value_id y = attend(b, layer, attributes, (mixt_value_id[]){q, k, k});
    y = by_head(b, y, MIXT_SLOT_V_UP, layer);
    return has_forms(b) ? expand(b, layer, join(b, q_nope, q_rope, heads, nope), k, y) : y;
}

mixt_value_id mixt_build_attention(mixt_builder *b, mixt_value_id x, int layer)
{
    mixt_value_id y =
        b->model->options.attention.latent_size > 0 ? latent(b, x, layer) : grouped(b, x, layer);
    return mixt_build_linear(b, y, MIXT_SLOT_O, MIXT_SLOT_O_BIAS, layer);
}
