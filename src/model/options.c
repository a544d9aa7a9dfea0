/* Options of a model: defaults, what follows from the others, and which cannot work. */
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/number.h"
#include "model/model.h"

mixt_model_options mixt_model_options_default(void)
{
    return (mixt_model_options){
        .vocab_size = 4096,
        .context_length = 256,
        .layers = 4,
        .hidden_size = 192,
        .heads = 6,
        .kv_heads = 2,
        .head_dim = 32,
        .ffn_size = 384,
        .experts = 8,
        .experts_per_token = 2,
        .rope_theta = 10000.0,
        .norm_epsilon = 1e-5,
        .initializer_range = 0.02,
        .separator = -1,
        .router = {.score = MIXT_SCORE_SOFTMAX,
                   .renormalise = true,
                   .scale = 1.0,
                   .weights = MIXT_ROUTER_LEARNED,
                   .balance = MIXT_BALANCE_SWITCH,
                   .balance_coefficient = 0.3,
                   .z_coefficient = 0.001},
    };
}

static void fill_attention(mixt_model_options *o)
{
    mixt_attention_options *a = &o->attention;
    if (o->head_dim == 0 && o->heads > 0) {
        o->head_dim = o->hidden_size / o->heads;
    }
    if (o->kv_heads == 0 || a->latent_size > 0) {
        o->kv_heads = o->heads; /* one latent serves all heads, each with its own K and V of it */
    }
    if (a->latent_size == 0) {
        a->query_latent_size = a->position_dim = 0;
    }
    if (a->value_dim == 0) {
        a->value_dim = o->head_dim;
    }
    if (a->window == 0) {
        a->window_period = 0;
    } else if (a->window_period == 1) {
        a->window_period = 0;
    }
    if (a->scale == 0.0 && o->head_dim > 0) {
        a->scale = 1.0 / sqrt((double)o->head_dim);
    }
    if (o->rope.dims == 0) {
        o->rope.dims = a->latent_size > 0 ? a->position_dim : o->head_dim;
    }
    if (o->rope.kind == MIXT_ROPE_YARN) {
        o->rope.beta_fast = o->rope.beta_fast == 0 ? 32 : o->rope.beta_fast;
        o->rope.beta_slow = o->rope.beta_slow == 0 ? 1 : o->rope.beta_slow;
    }
}

int mixt_options_routed(const mixt_model_options *options)
{
    return options->experts + options->identity_experts + options->zero_experts;
}

/* Widths come unchecked: what no int holds is beyond every range. */
static int width_of(int count, int each)
{
    int64_t width = (int64_t)count * each;
    return width > INT_MAX || width < INT_MIN ? INT_MAX : (int)width;
}

void mixt_model_fill(mixt_model_options *options)
{
    fill_attention(options);
    if (options->experts == 0) {
        options->experts_per_token = 0;
        options->shared_experts = options->shared_ffn_size = 0;
        options->shared_gate = options->expert_bias = false;
        options->leading_dense_layers = options->layers;
        options->dense_ffn_size = options->ffn_size;
    } else if (options->dense_ffn_size == 0) {
        options->dense_ffn_size = width_of(options->experts_per_token, options->ffn_size);
    }
    options->moe_period =
        options->moe_period == 1 || options->experts == 0 ? 0 : options->moe_period;
    if (options->leading_dense_layers == 0 && options->moe_period == 0) {
        options->dense_bias = false;
    }
    if (options->shared_experts == 0) {
        options->shared_ffn_size = 0;
    } else if (options->shared_ffn_size == 0) {
        options->shared_ffn_size = width_of(options->shared_experts, options->ffn_size);
    }
    if (options->shared_ffn_size == 0) {
        options->shared_gate = false;
    }
    options->embedding_scale = options->embedding_scale == 0 ? 1 : options->embedding_scale;
    options->logit_scale = options->logit_scale == 0 ? 1 : options->logit_scale;
    options->router.scale = options->router.scale == 0 ? 1 : options->router.scale;
    if (options->experts > 0 &&
        (options->router.bias_rate > 0 || options->router.bias_update == MIXT_BIAS_QUANTILE)) {
        options->router.select_bias = true;
    }
    if (options->router.balance_groups == 1) {
        options->router.balance_groups = 0;
    }
    if (options->router.groups <= 1) {
        options->router.groups = options->router.groups_used = 0;
    }
}

typedef struct range_row {
    const char *name;
    size_t offset;
    int low, high;
} range_row;

static const range_row ranges[] = {
    {"vocab_size", offsetof(mixt_model_options, vocab_size), 1, 1 << 24},
    {"context_length", offsetof(mixt_model_options, context_length), 1, 1 << 24},
    {"layers", offsetof(mixt_model_options, layers), 1, 4096},
    {"hidden_size", offsetof(mixt_model_options, hidden_size), 1, 1 << 20},
    {"heads", offsetof(mixt_model_options, heads), 1, 4096},
    {"kv_heads", offsetof(mixt_model_options, kv_heads), 1, 4096},
    {"head_dim", offsetof(mixt_model_options, head_dim), 2, 8192},
    {"ffn_size", offsetof(mixt_model_options, ffn_size), 1, 1 << 24},
    {"experts", offsetof(mixt_model_options, experts), 0, MIXT_EXPERTS_MAX},
    {"experts_per_token", offsetof(mixt_model_options, experts_per_token), 0, MIXT_EXPERTS_MAX},
    {"identity_experts", offsetof(mixt_model_options, identity_experts), 0, MIXT_EXPERTS_MAX},
    {"zero_experts", offsetof(mixt_model_options, zero_experts), 0, MIXT_EXPERTS_MAX},
    {"shared_experts", offsetof(mixt_model_options, shared_experts), 0, 256},
    {"shared_ffn_size", offsetof(mixt_model_options, shared_ffn_size), 0, 1 << 24},
    {"leading_dense_layers", offsetof(mixt_model_options, leading_dense_layers), 0, 4096},
    {"moe_period", offsetof(mixt_model_options, moe_period), 0, 4096},
    {"router segment", offsetof(mixt_model_options, router.segment), 0, 1 << 24},
    {"dense_ffn_size", offsetof(mixt_model_options, dense_ffn_size), 0, 1 << 28},
    {"activation", offsetof(mixt_model_options, activation), 0, 2},
    {"qk_norm", offsetof(mixt_model_options, attention.qk_norm), 0, 2},
    {"window", offsetof(mixt_model_options, attention.window), 0, 1 << 24},
    {"window_period", offsetof(mixt_model_options, attention.window_period), 0, 4096},
    {"latent_size", offsetof(mixt_model_options, attention.latent_size), 0, 1 << 16},
    {"query_latent_size", offsetof(mixt_model_options, attention.query_latent_size), 0, 1 << 16},
    {"position_dim", offsetof(mixt_model_options, attention.position_dim), 0, 4096},
    {"value_dim", offsetof(mixt_model_options, attention.value_dim), 1, 8192},
    {"rope dims", offsetof(mixt_model_options, rope.dims), 2, 8192},
};

/* What a test of one rule refuses: "place: text". */
#define REFUSE(condition, ...)                                                                     \
    do {                                                                                           \
        if (condition) {                                                                           \
            return refuse(place, error, __VA_ARGS__);                                              \
        }                                                                                          \
    } while (0)

static mixt_status refuse(const char *place, mixt_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static mixt_status refuse(const char *place, mixt_error *error, const char *format, ...)
{
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(text, sizeof text, format, arguments);
    va_end(arguments);
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: %s", place, text);
}

static bool positive(double x)
{
    return x > 0 && isfinite(x);
}

static mixt_status check_divisors(const mixt_model_options *o, const char *place, mixt_error *error)
{
    const mixt_rope_options *r = &o->rope;
    REFUSE(r->divisors != o->rope.dims / 2, "rope has factors for %d pairs, a head %d pairs",
           r->divisors, o->rope.dims / 2);
    REFUSE(r->divisors > MIXT_ROPE_PAIRS_MAX, "rope factors of %d pairs, more than %d", r->divisors,
           MIXT_ROPE_PAIRS_MAX);
    for (int i = 0; i < r->divisors; i++) {
        REFUSE(!positive((double)r->short_divisors[i]) || !positive((double)r->long_divisors[i]),
               "rope factor %d is not above 0", i);
    }
    REFUSE(!(r->factor >= 0) || !isfinite(r->factor) ||
               (r->attention_factor == 0 && r->factor > 1 && r->original_context < 2),
           "rope scaling needs an attention factor, or a factor and an original context");
    return MIXT_OK;
}

static mixt_status check_rope(const mixt_model_options *o, const char *place, mixt_error *error)
{
    const mixt_rope_options *r = &o->rope;
    int kind = (int)r->kind;
    REFUSE(kind < MIXT_ROPE_DEFAULT || kind > MIXT_ROPE_LONGROPE, "rope kind %d is not in 0..%d",
           kind, MIXT_ROPE_LONGROPE);
    bool own_original =
        kind == MIXT_ROPE_YARN || kind == MIXT_ROPE_LLAMA3 || kind == MIXT_ROPE_LONGROPE;
    REFUSE(kind == MIXT_ROPE_DEFAULT && r->factor != 0,
           "rope scaling factor %g without a kind of scaling", r->factor);
    REFUSE(own_original && r->original_context < 1, "rope scaling needs an original context");
    REFUSE(!(r->attention_factor >= 0) || !isfinite(r->attention_factor),
           "rope attention factor %g is out of range", r->attention_factor);
    if (kind == MIXT_ROPE_LONGROPE) {
        return check_divisors(o, place, error);
    }
    REFUSE(kind == MIXT_ROPE_LINEAR && !positive(r->factor),
           "rope scaling factor %g is not above 0", r->factor);
    REFUSE(kind > MIXT_ROPE_LINEAR && (!(r->factor >= 1) || !isfinite(r->factor)),
           "rope scaling factor %g is below 1", r->factor);
    REFUSE(kind == MIXT_ROPE_DYNAMIC && r->dims < 4, "dynamic rope scaling of %d values of a head",
           r->dims);
    REFUSE(kind == MIXT_ROPE_YARN &&
               (!positive(r->beta_fast) || !positive(r->beta_slow) || !(r->mscale >= 0) ||
                !(r->mscale_all_dim >= 0) || !isfinite(r->mscale) || !isfinite(r->mscale_all_dim)),
           "rope scaling needs betas above 0 and mscales of 0 or more");
    bool by_pair =
        kind == MIXT_ROPE_LLAMA3 || (kind == MIXT_ROPE_LINEAR && o->attention.latent_size > 0);
    REFUSE(by_pair && r->dims / 2 > MIXT_ROPE_PAIRS_MAX,
           "rope scaling of %d values of a head, more than %d", r->dims, 2 * MIXT_ROPE_PAIRS_MAX);
    REFUSE(kind == MIXT_ROPE_LLAMA3 &&
               (!positive(r->low_frequency_factor) || !positive(r->high_frequency_factor) ||
                r->high_frequency_factor < r->low_frequency_factor),
           "rope scaling needs a low and a high frequency factor above 0, low <= high");
    return MIXT_OK;
}

static mixt_status check_attention(const mixt_model_options *o, const char *place,
                                   mixt_error *error)
{
    const mixt_attention_options *a = &o->attention;
    REFUSE(o->heads % o->kv_heads != 0, "kv_heads %d does not divide heads %d", o->kv_heads,
           o->heads);
    REFUSE(a->latent_size == 0 && o->head_dim % 2 != 0, "head_dim %d is odd, RoPE needs pairs",
           o->head_dim);
    REFUSE(o->rope.dims % 2 != 0, "rope dims %d is odd, RoPE needs pairs", o->rope.dims);
    REFUSE(o->rope.dims > o->head_dim, "rope dims %d is more than head_dim %d", o->rope.dims,
           o->head_dim);
    REFUSE(!positive(a->scale), "attention scale must be above 0");
    REFUSE(!(a->soft_cap >= 0) || !isfinite(a->soft_cap) || !(a->clip >= 0) || !isfinite(a->clip),
           "attention soft_cap or clip is out of range");
    REFUSE(a->latent_size == 0 && a->value_dim != o->head_dim,
           "value_dim %d is not head_dim %d, which only latent attention has", a->value_dim,
           o->head_dim);
    if (a->latent_size > 0) {
        REFUSE(a->position_dim < 2 || a->position_dim >= o->head_dim,
               "position_dim %d is not in 2..%d", a->position_dim, o->head_dim - 1);
        REFUSE(o->rope.dims != a->position_dim, "rope dims %d is not position_dim %d", o->rope.dims,
               a->position_dim);
        REFUSE(a->filter || a->mixed_qk || a->qkv_bias || a->clip > 0 ||
                   a->qk_norm != MIXT_QK_NORM_NONE || a->window > 0,
               "latent attention has no filter, q/k norm, bias, clip or window");
    }
    REFUSE(a->mixed_qk && (o->kv_heads != o->heads || o->heads % 2 != 0),
           "mixed q and k need an even number of heads, as many for k as for q");
    REFUSE(a->filter && o->hidden_size % 2 != 0, "the filter halves hidden_size %d, which is odd",
           o->hidden_size);
    return check_rope(o, place, error);
}

/* Rows that products sum over. One token's row has to fit where quantised products share theirs
 * (ops/matrix.c), in the wider of its two records. */
static mixt_status check_widths(const mixt_model_options *o, const char *place, mixt_error *error)
{
    enum { WIDTH_MAX = 1 << 22 };
    bool dense = o->leading_dense_layers > 0 || o->moe_period > 0;
    int heads = width_of(o->heads, o->attention.value_dim);
    REFUSE(heads > WIDTH_MAX, "%d heads of %d values are longer than %d", o->heads,
           o->attention.value_dim, WIDTH_MAX);
    REFUSE(o->ffn_size > WIDTH_MAX, "ffn_size %d is longer than %d", o->ffn_size, WIDTH_MAX);
    REFUSE(o->shared_ffn_size > WIDTH_MAX, "shared_ffn_size %d is longer than %d",
           o->shared_ffn_size, WIDTH_MAX);
    REFUSE(dense && o->dense_ffn_size > WIDTH_MAX, "dense_ffn_size %d is longer than %d",
           o->dense_ffn_size, WIDTH_MAX);
    return MIXT_OK;
}

mixt_status mixt_model_check(mixt_model_options *options, const char *place, mixt_error *error)
{
    mixt_model_fill(options);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        int value = *(const int *)(const void *)((const char *)options + ranges[i].offset);
        REFUSE(value < ranges[i].low || value > ranges[i].high, "%s %d is not in %d..%d",
               ranges[i].name, value, ranges[i].low, ranges[i].high);
    }
    MIXT_TRY(check_attention(options, place, error));
    MIXT_TRY(check_widths(options, place, error));
    REFUSE(options->leading_dense_layers > options->layers,
           "leading_dense_layers %d is more than layers %d", options->leading_dense_layers,
           options->layers);
    REFUSE(options->experts > 0 && options->leading_dense_layers == options->layers,
           "leading_dense_layers %d leaves no layer with experts", options->leading_dense_layers);
    REFUSE(options->experts > 0 &&
               options->moe_period > options->layers - options->leading_dense_layers,
           "moe_period %d leaves no layer with experts of %d", options->moe_period,
           options->layers - options->leading_dense_layers);
    REFUSE(!(options->norm_epsilon > 0) || !(options->norm_epsilon < 1) ||
               !(options->rope_theta >= 1) || !isfinite(options->rope_theta) ||
               !(options->initializer_range >= 0) || !isfinite(options->initializer_range),
           "norm_epsilon, rope_theta or initializer_range is out of range");
    REFUSE(!isfinite(options->embedding_scale) || !isfinite(options->logit_scale),
           "embedding_scale or logit_scale is out of range");
    REFUSE(options->experts == 0 && mixt_options_routed(options) > 0,
           "identity_experts %d and zero_experts %d without experts", options->identity_experts,
           options->zero_experts);
    if (options->experts > 0) {
        mixt_router_spec spec = {.experts = mixt_options_routed(options),
                                 .chosen = options->experts_per_token,
                                 .options = options->router};
        mixt_error inner = MIXT_ERROR_INIT;
        mixt_status status = mixt_router_check(&spec, &inner);
        if (status != MIXT_OK) {
            return mixt_fail(error, status, "%s: %s", place, inner.message);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_model_check_file(mixt_model_options *options, const char *path, mixt_error *error)
{
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_check(options, path, &local);
    if (status == MIXT_OK) {
        return MIXT_OK;
    }
    status = status == MIXT_ERROR_ARGUMENT ? MIXT_ERROR_FORMAT : status;
    return mixt_fail(error, status, "%s", local.message);
}
