/* A dense model becomes a mixture: its MLPs are copied into experts, whole or cut into parts, the
 * router is new, and all else stays (Komatsuzaki et al. 2022, arXiv 2212.05055; parts: DeepSeekMoE,
 * arXiv 2401.06066; groups of parts with one row of the router: arXiv 2410.07524; units drawn anew:
 * arXiv 2502.19261). */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/random.h"
#include "model/parameters.h"

/* The units of an MLP are rows of gate and up and columns of down. Unit u of the dense MLP is the
 * shared expert's for u < shared; the rest is cut into `parts` of `size`, and expert e has part
 * e % parts of copy e / parts. */
typedef struct upcycle {
    const mixt_model *dense;
    mixt_model *model;
    const mixt_upcycle_options *options;
    int64_t hidden, width; /* of the dense model: d, units */
    int64_t shared, size;  /* units of the shared expert, and of another */
    int64_t experts, parts;
    double factor; /* on what comes out of an expert, so that the chosen ones sum up to an MLP */
    float *gate, *up, *down; /* of a layer: [width, d], [width, d], [d, width] */
} upcycle;

#define REFUSE(condition, ...)                                                                     \
    do {                                                                                           \
        if (condition) {                                                                           \
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "upcycle: " __VA_ARGS__);                 \
        }                                                                                          \
    } while (0)

/* ------------------------------------------------------------------------------------------ */
/* What fits                                                                                  */

/* All but the MLPs has to be the dense model's. */
static mixt_status check_rest(const mixt_model *dense, const mixt_model_options *options,
                              mixt_error *error)
{
    static const struct {
        const char *name;
        size_t offset;
    } rows[] = {
        {"vocab_size", offsetof(mixt_model_options, vocab_size)},
        {"layers", offsetof(mixt_model_options, layers)},
        {"hidden_size", offsetof(mixt_model_options, hidden_size)},
        {"heads", offsetof(mixt_model_options, heads)},
        {"kv_heads", offsetof(mixt_model_options, kv_heads)},
        {"head_dim", offsetof(mixt_model_options, head_dim)},
    };
    mixt_model_options like = *options;
    like.experts = like.identity_experts = like.zero_experts = 0;
    like.ffn_size = dense->options.ffn_size;
    like.router = dense->options.router;
    like.initializer_range = dense->options.initializer_range;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int has = *(const int *)(const void *)((const char *)&dense->options + rows[i].offset);
        int asked = *(const int *)(const void *)((const char *)options + rows[i].offset);
        REFUSE(has != asked, "%s is %d in the dense model and %d in the mixture", rows[i].name, has,
               asked);
    }
    bool fits = false;
    MIXT_TRY(mixt_model_compare(dense, &like, &fits, error));
    REFUSE(!fits, "but for its experts the mixture needs other tensors than the dense model has");
    return MIXT_OK;
}

/* Fills the sizes. */
static mixt_status check(upcycle *u, const mixt_model_options *o, mixt_error *error)
{
    const mixt_model_options *dense = &u->dense->options;
    const mixt_upcycle_options *chosen = u->options;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_upcycle_options, chosen, error));
    REFUSE(!(chosen->noise >= 0) || !(chosen->noise <= 1000), "noise %g is not in 0..1000",
           chosen->noise);
    REFUSE(!(chosen->reinit >= 0) || !(chosen->reinit <= 1), "reinit %g is not in 0..1",
           chosen->reinit);
    REFUSE(dense->experts > 0, "the model is a mixture already, of %d experts a layer",
           dense->experts);
    REFUSE(o->experts < 1, "a mixture needs experts");
    REFUSE(dense->dense_bias || o->expert_bias, "biases in the MLPs have no place in the experts");
    MIXT_TRY(check_rest(u->dense, o, error));
    *u = (upcycle){.dense = u->dense,
                   .options = chosen,
                   .hidden = dense->hidden_size,
                   .width = dense->ffn_size,
                   .shared = o->shared_ffn_size,
                   .size = o->ffn_size,
                   .experts = o->experts};
    int64_t rest = u->width - u->shared;
    bool some_dense = o->leading_dense_layers > 0 || o->moe_period > 0;
    REFUSE(some_dense && o->dense_ffn_size != u->width,
           "dense_ffn_size %d is not the dense model's width %lld", o->dense_ffn_size,
           (long long)u->width);
    REFUSE(rest < 1, "shared experts of width %lld leave nothing of %lld for the others",
           (long long)u->shared, (long long)u->width);
    REFUSE(rest % u->size != 0 && u->shared == 0,
           "ffn_size %lld does not divide %lld, the dense model's", (long long)u->size,
           (long long)rest);
    REFUSE(
        rest % u->size != 0,
        "ffn_size %lld does not divide %lld, the dense model's %lld less the shared experts' %lld",
        (long long)u->size, (long long)rest, (long long)u->width, (long long)u->shared);
    u->parts = rest / u->size;
    REFUSE(u->experts % u->parts != 0, "%d experts are no multiple of the %lld parts of an MLP",
           o->experts, (long long)u->parts);
    return MIXT_OK;
}

/* Are all parts of as many copies chosen, whatever the router says? Every token has to get its k
 * experts; the best k are whole copies where the logits of their parts are equal, which they are
 * not where something is drawn for each expert. */
static bool takes_whole_copies(const upcycle *u)
{
    const mixt_model_options *o = &u->model->options;
    const mixt_router_options *r = &o->router;
    bool drops = (mixt_router_needs(&u->model->router) & MIXT_GIVES_MORE) != 0 || r->capacity > 0 ||
                 r->evaluation_capacity > 0;
    bool best = (r->select == 0 && r->groups == 0) || o->experts_per_token == u->experts;
    bool equal = r->noise == MIXT_NOISE_NONE && r->weights != MIXT_ROUTER_REDRAWN;
    return mixt_options_routed(o) == o->experts && o->experts_per_token % u->parts == 0 && !drops &&
           (u->parts == 1 || (best && equal));
}

static bool is_renormalised(const mixt_model_options *o)
{
    return o->router.renormalise || o->router.score == MIXT_SCORE_TOP_K_SOFTMAX ||
           (o->router.score == MIXT_SCORE_SOFTMAX &&
            o->experts_per_token == mixt_options_routed(o));
}

/* The chosen parts sum up to experts_per_token / parts MLPs, each times its weight. The weights
 * that logits of 0 give decide, which are those of any logits where they are renormalised. */
static double factor_of(const upcycle *u)
{
    const mixt_model_options *o = &u->model->options;
    double weight = is_renormalised(o)                      ? 1.0 / o->experts_per_token
                    : o->router.score == MIXT_SCORE_SIGMOID ? 0.5
                                                            : 1.0 / mixt_options_routed(o);
    return (double)u->parts / (o->experts_per_token * weight * o->router.scale);
}

/* ------------------------------------------------------------------------------------------ */
/* Weights                                                                                    */

/* The values of a parameter of a layer, NULL: the model has none. */
static float *values_of(const upcycle *u, mixt_slot slot, int layer)
{
    int index = mixt_model_find(u->model, slot, layer);
    return index < 0 ? NULL : u->model->weights + u->model->parameters[index].offset;
}

static void read_dense(const upcycle *u, mixt_slot slot, int layer, float *to)
{
    int index = mixt_model_find(u->dense, slot, layer);
    assert(index >= 0);
    mixt_model_values(u->dense, index, 0, u->dense->parameters[index].count, to);
}

/* Units [first, first + count) of the dense MLP, what comes out times `factor`. */
typedef struct mlp {
    float *gate, *up, *down;
    int64_t first, count;
    double factor;
} mlp;

static void copy_units(const upcycle *u, const mlp *to)
{
    int64_t d = u->hidden;
    size_t bytes = (size_t)(to->count * d) * sizeof(float);
    memcpy(to->gate, u->gate + to->first * d, bytes);
    memcpy(to->up, u->up + to->first * d, bytes);
    for (int64_t row = 0; row < d; row++) {
        for (int64_t i = 0; i < to->count; i++) {
            to->down[row * to->count + i] =
                (float)(to->factor * (double)u->down[row * u->width + to->first + i]);
        }
    }
}

/* Mean and deviation of a dense matrix; the root mean square is that of both. */
typedef struct spread {
    double mean, deviation;
} spread;

static spread measure(const float *x, int64_t count)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += (double)x[i];
    }
    double mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++) {
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    }
    return (spread){mean, sqrt(squares / (double)count)};
}

/* A matrix of an expert [rows, columns] whose units are its rows, or its columns; `s` is that of
 * the dense one, times `factor` as it stands here. */
typedef struct disturbed {
    float *values;
    int64_t rows, columns;
    bool by_column;
    spread s;
    double factor;
    mixt_random_key key;
    uint64_t from; /* number of its first value among the draws of the key */
} disturbed;

/* Draws the units anew for which anew[unit] is set, and adds noise to the others. */
static void disturb(const upcycle *u, const disturbed *m, const bool *anew)
{
    double size = sqrt(m->s.mean * m->s.mean + m->s.deviation * m->s.deviation);
    double noise = u->options->noise * size * m->factor;
    for (int64_t i = 0; i < m->rows * m->columns; i++) {
        bool fresh = anew[m->by_column ? i % m->columns : i / m->columns];
        if (fresh || noise > 0) {
            double draw = mixt_random_normal(&m->key, m->from + (uint64_t)i);
            m->values[i] = fresh ? (float)(m->factor * (m->s.mean + m->s.deviation * draw))
                                 : (float)((double)m->values[i] + noise * draw);
        }
    }
}

/* Noise and fresh units of an expert. Which units is drawn of a key of (layer, expert), values of
 * one of the parameter. */
static void disturb_expert(const upcycle *u, int layer, int64_t expert, const mlp *to, bool *anew)
{
    uint32_t number = (uint32_t)(layer * MIXT_EXPERTS_MAX + (int)expert);
    mixt_random_key units = {u->options->seed, MIXT_RANDOM_UPCYCLE, UINT32_C(1) << 31 | number};
    int64_t d = u->hidden, fresh = (int64_t)floor(u->options->reinit * (double)u->size + 0.5);
    for (int64_t i = 0; i < u->size; i++) {
        anew[i] = mixt_random_permute(&units, (uint64_t)i, (uint64_t)u->size) < (uint64_t)fresh;
    }
    struct {
        mixt_slot slot;
        float *values;
        const float *dense;
        bool down;
    } matrices[] = {{MIXT_SLOT_EXPERT_GATE, to->gate, u->gate, false},
                    {MIXT_SLOT_EXPERT_UP, to->up, u->up, false},
                    {MIXT_SLOT_EXPERT_DOWN, to->down, u->down, true}};
    for (int i = 0; i < 3; i++) {
        bool down = matrices[i].down;
        int index = mixt_model_find(u->model, matrices[i].slot, layer);
        disturbed m = {.values = matrices[i].values,
                       .rows = down ? d : u->size,
                       .columns = down ? u->size : d,
                       .by_column = down,
                       .s = measure(matrices[i].dense, u->width * d),
                       .factor = down ? u->factor : 1,
                       .key = {u->options->seed, MIXT_RANDOM_UPCYCLE, (uint32_t)index},
                       .from = (uint64_t)(expert * u->size * d)};
        disturb(u, &m, anew);
    }
}

/* Rows of the router: one for each copy, for all its parts, where whole copies are chosen so; else
 * one for each expert. Logits of the parts of a copy are equal then, so that the best k are whole
 * copies: ties go to the lowest id. */
static void draw_router(const upcycle *u, int layer)
{
    int index = mixt_model_find(u->model, MIXT_SLOT_ROUTER, layer);
    if (index < 0) { /* another layer decides for this one */
        return;
    }
    const mixt_parameter *p = &u->model->parameters[index];
    mixt_random_key key = {u->options->seed, MIXT_RANDOM_INIT, (uint32_t)index};
    int64_t d = u->hidden, group = takes_whole_copies(u) ? u->parts : 1;
    for (int64_t row = 0; row < p->size[0]; row++) {
        for (int64_t i = 0; i < d; i++) {
            double draw = mixt_random_normal(&key, (uint64_t)(row / group * d + i));
            u->model->weights[p->offset + (size_t)(row * d + i)] =
                (float)(u->model->options.initializer_range * draw);
        }
    }
}

static void make_layer(const upcycle *u, int layer, bool *anew)
{
    read_dense(u, MIXT_SLOT_DENSE_GATE, layer, u->gate);
    read_dense(u, MIXT_SLOT_DENSE_UP, layer, u->up);
    read_dense(u, MIXT_SLOT_DENSE_DOWN, layer, u->down);
    float *gate = values_of(u, MIXT_SLOT_EXPERT_GATE, layer);
    float *up = values_of(u, MIXT_SLOT_EXPERT_UP, layer);
    float *down = values_of(u, MIXT_SLOT_EXPERT_DOWN, layer);
    int64_t each = u->size * u->hidden;
    for (int64_t e = 0; e < u->experts; e++) {
        mlp to = {gate + e * each, up + e * each,
                  down + e * each, u->shared + e % u->parts * u->size,
                  u->size,         u->factor};
        copy_units(u, &to);
        if (u->options->noise > 0 || u->options->reinit > 0) {
            disturb_expert(u, layer, e, &to, anew);
        }
    }
    if (u->shared > 0) { /* its gate begins at 0, so that its sigmoid is a half */
        mlp to = {values_of(u, MIXT_SLOT_SHARED_GATE, layer),
                  values_of(u, MIXT_SLOT_SHARED_UP, layer),
                  values_of(u, MIXT_SLOT_SHARED_DOWN, layer),
                  0,
                  u->shared,
                  u->model->options.shared_gate ? 2 : 1};
        copy_units(u, &to);
    }
    draw_router(u, layer);
}

/* What is not an MLP's, and the MLPs of layers that stay dense. */
static void copy_rest(const upcycle *u)
{
    for (int i = 0; i < u->model->parameter_count; i++) {
        const mixt_parameter *p = &u->model->parameters[i];
        int64_t part = mixt_slot_part(p->slot);
        if (part != MIXT_PART_ROUTER && part != MIXT_PART_EXPERTS && part != MIXT_PART_SHARED) {
            int index = mixt_model_find(u->dense, p->slot, p->layer);
            assert(index >= 0 && u->dense->parameters[index].count == p->count);
            mixt_model_values(u->dense, index, 0, p->count, u->model->weights + p->offset);
        }
    }
}

static void remark(const upcycle *u)
{
    const mixt_upcycle_options *chosen = u->options;
    const char *why = chosen->noise > 0 || chosen->reinit > 0 ? "experts were changed at random"
                      : mixt_options_routed(&u->model->options) > u->experts
                          ? "zero-computation experts may be chosen"
                      : !takes_whole_copies(u) ? "the chosen experts are not all parts of an MLP"
                      : !is_renormalised(&u->model->options)
                          ? "the weights of the chosen experts do not sum up to a constant"
                          : NULL;
    char part[60] = "";
    if (u->parts > 1) {
        snprintf(part, sizeof part, ", each one of %lld parts of it", (long long)u->parts);
    }
    mixt_remark(&u->model->remarks,
                "upcycled: experts of the dense model's MLP%s; before the first step %s%s%s", part,
                why == NULL ? "it computes what that does" : "it does not compute what that does (",
                why == NULL ? "" : why, why == NULL ? "" : ")");
}

mixt_status mixt_model_upcycle(const mixt_model *dense, const mixt_model_options *options,
                               const mixt_upcycle_options *chosen, mixt_model **model,
                               mixt_error *error)
{
    *model = NULL;
    mixt_model_options checked = *options;
    upcycle u = {.dense = dense, .options = chosen};
    if (checked.leading_dense_layers == dense->options.layers) {
        checked.leading_dense_layers = 0; /* as the dense model's options say it */
    }
    mixt_model_fill(&checked);
    MIXT_TRY(check(&u, &checked, error));
    MIXT_TRY(mixt_model_allocate(&checked, NULL, "upcycle", &u.model, error));
    u.factor = factor_of(&u);
    size_t matrix = (size_t)(u.width * u.hidden);
    u.gate = calloc(3 * matrix, sizeof *u.gate);
    bool *anew = calloc((size_t)u.size, sizeof *anew);
    mixt_status status = u.gate == NULL || anew == NULL
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "upcycle: no memory")
                             : MIXT_OK;
    if (status == MIXT_OK) {
        u.up = u.gate + matrix;
        u.down = u.up + matrix;
        copy_rest(&u);
        for (int layer = 0; layer < checked.layers; layer++) {
            if (mixt_model_layer_is_moe(u.model, layer)) {
                make_layer(&u, layer, anew);
            }
        }
        remark(&u);
        status = mixt_model_intact(dense, error);
    }
    free(u.gate);
    free(anew);
    if (status != MIXT_OK) {
        mixt_model_free(u.model);
        return status;
    }
    *model = u.model;
    return MIXT_OK;
}
