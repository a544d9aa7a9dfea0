/* Writes GGUF files of real models' shapes with random weights: for measuring speed where the
 * checkpoints themselves are not at hand. Blocks are random bits under fixed scales, so that
 * activations stay finite; texts and routing are random.
 *
 *   real_shapes [--sparse] NAME MIX FILE [LAYERS [CONTEXT]]
 *
 * NAME: a row of `shapes`. MIX: Q4_K_M, Q8_0, ... (quant/mix.h), or a type that no mix is named
 * after (IQ2_XXS, NVFP4, ...): all matrices of the layers, and Q6_K outside. LAYERS, CONTEXT:
 * others than the model's. --sparse: routed experts are holes in the file, zeros that take no room
 * and that no disk reads: for models that fit no disk at hand (Grok-1's 314B parameters). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/gguf.h"
#include "quant/mix.h"

typedef enum qk_norm { QK_NONE, QK_WHOLE, QK_HEAD } qk_norm;

typedef struct shape {
    const char *name, *arch;
    int layers, hidden, heads, kv_heads, head_dim, vocab, context;
    int experts, chosen, ffn, shared, dense_layers, dense_ffn;
    float theta, epsilon;
    struct {
        int size, position, value; /* of the cached row, of v's heads */
        int query;                 /* rank of q; 0: one matrix */
    } latent;                      /* multi-head latent attention */
    float scale;                   /* of the experts' weights; 0: 1 */
    qk_norm qk;
    bool qkv_bias, shared_gate, tied, post_norms, sigmoid;
} shape;

/* mixtral: 8 of 32 layers */
static const shape shapes[] = {
    {"olmoe", "olmoe", 16, 2048, 16, 16, 128, 50304, 4096, .experts = 64, .chosen = 8, .ffn = 1024,
     .theta = 1e4F, .epsilon = 1e-5F, .qk = QK_WHOLE},
    {"qwen2moe", "qwen2moe", 24, 2048, 16, 16, 128, 151936, 8192, .experts = 60, .chosen = 4,
     .ffn = 1408, .shared = 5632, .theta = 1e6F, .epsilon = 1e-6F, .qkv_bias = true,
     .shared_gate = true},
    {"qwen3moe", "qwen3moe", 48, 2048, 32, 4, 128, 151936, 40960, .experts = 128, .chosen = 8,
     .ffn = 768, .theta = 1e6F, .epsilon = 1e-6F, .qk = QK_HEAD},
    {"deepseek", "deepseek", 28, 2048, 16, 16, 128, 102400, 4096, .experts = 64, .chosen = 6,
     .ffn = 1408, .shared = 2816, .dense_layers = 1, .dense_ffn = 10944, .theta = 1e4F,
     .epsilon = 1e-6F},
    {"deepseek2", "deepseek2", 27, 2048, 16, 1, 192, 102400, 32768, .experts = 64, .chosen = 6,
     .ffn = 1408, .shared = 2816, .dense_layers = 1, .dense_ffn = 10944, .theta = 1e4F,
     .epsilon = 1e-6F, .latent = {512, 64, 128, 0}}, /* V2-Lite, without YaRN */
    {"glm4.7-flash",
     "deepseek2",
     47,
     2048,
     20,
     1,
     256,
     154880,
     202752,
     .experts = 64,
     .chosen = 4,
     .ffn = 1536,
     .shared = 1536,
     .dense_layers = 1,
     .dense_ffn = 10240,
     .theta = 1e6F,
     .epsilon = 1e-5F,
     .latent = {512, 64, 256, 768},
     .scale = 1.8F,
     .sigmoid = true},
    {"mixtral", "llama", 8, 4096, 32, 8, 128, 32000, 32768, .experts = 8, .chosen = 2, .ffn = 14336,
     .theta = 1e6F, .epsilon = 1e-5F},
    {"skywork", "skywork", 52, 4608, 36, 36, 128, 65532, 8192, .experts = 16, .chosen = 2,
     .ffn = 12288, .theta = 1e4F, .epsilon = 1e-6F},
    {"grok", "grok", 64, 6144, 48, 8, 128, 131072, 8192, .experts = 8, .chosen = 2, .ffn = 32768,
     .theta = 1e4F, .epsilon = 1e-5F, .tied = true, .post_norms = true},
};

#define RANDOM_BYTES (32 << 20)

/* Of embeddings, in the quantised types 256 times what other weights have: a token stays what it is
 * through all layers. With less, attention to the same past soon makes all tokens one and routers
 * choose the same experts for them; with this the experts of tokens are independent draws. */
#define EMBEDDING 5.12F

typedef struct tensor {
    char name[64];
    mixt_type type;
    int rank;
    int64_t size[4];
    float value; /* F32: all values, or for matrices the amplitude; quantised types know two, about
                    0.02 and EMBEDDING */
} tensor;

typedef struct plan {
    const shape *s;
    const mixt_mix *mix; /* NULL: all of `type` */
    mixt_type type;
    tensor *list;
    int count;
    int layer;
    bool sparse;
} plan;

static uint64_t state = 0x9E3779B97F4A7C15U;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* MIXT_TYPE_COUNT: there is none of that name. */
static mixt_type type_by_name(const char *name)
{
    int type = 0;
    while (type < MIXT_TYPE_COUNT && strcmp(mixt_type_info((mixt_type)type)->name, name) != 0) {
        type++;
    }
    return (mixt_type)type;
}

static mixt_type type_of_matrix(const plan *p, const mixt_mix_request *request)
{
    const bool outside = request->place == MIXT_PLACE_EMBED || request->place == MIXT_PLACE_OUTPUT;
    return p->mix != NULL ? mixt_mix_type(p->mix, request) : outside ? MIXT_TYPE_Q6_K : p->type;
}

static void add(plan *p, const char *name, mixt_place place, int rank, const int64_t *size)
{
    tensor *t = &p->list[p->count++];
    const char *dot = p->layer < 0 ? "" : "blk.";
    char number[16] = "";
    if (p->layer >= 0) {
        snprintf(number, sizeof number, "%d.", p->layer);
    }
    snprintf(t->name, sizeof t->name, "%s%s%s", dot, number, name);
    t->rank = rank;
    for (int i = 0; i < rank; i++) {
        t->size[i] = size[i];
    }
    mixt_mix_request request = {.place = place,
                                .layer = p->layer,
                                .layers = p->s->layers,
                                .experts = p->s->experts,
                                .head_group = p->s->heads / p->s->kv_heads,
                                .columns = size[0]};
    bool plain = rank == 1 || strstr(name, "ffn_gate_inp") != NULL;
    t->type = plain ? MIXT_TYPE_F32 : type_of_matrix(p, &request);
    t->value = place == MIXT_PLACE_EMBED ? EMBEDDING
               : rank > 1                ? 0.02F
               : strstr(name, "bias")    ? 0.0F
                                         : 1.0F;
}

#define MATRIX(name, place, ...) add(p, name, MIXT_PLACE_##place, 2, (int64_t[]){__VA_ARGS__})
#define STACK(name, place, ...) add(p, name, MIXT_PLACE_##place, 3, (int64_t[]){__VA_ARGS__})
#define VECTOR(name, n) add(p, name, MIXT_PLACE_OTHER, 1, (int64_t[]){n})

static void plan_latent(plan *p)
{
    const shape *s = p->s;
    int64_t d = s->hidden, heads = s->heads;
    if (s->latent.query > 0) {
        MATRIX("attn_q_a.weight", OTHER, d, s->latent.query);
        VECTOR("attn_q_a_norm.weight", s->latent.query);
        MATRIX("attn_q_b.weight", OTHER, s->latent.query, heads * s->head_dim);
    } else {
        MATRIX("attn_q.weight", OTHER, d, heads * s->head_dim);
    }
    MATRIX("attn_kv_a_mqa.weight", OTHER, d, s->latent.size + s->latent.position);
    VECTOR("attn_kv_a_norm.weight", s->latent.size);
    STACK("attn_k_b.weight", OTHER, s->head_dim - s->latent.position, s->latent.size, heads);
    STACK("attn_v_b.weight", OTHER, s->latent.size, s->latent.value, heads);
    MATRIX("attn_output.weight", ATTENTION_OUTPUT, heads * s->latent.value, d);
}

static void plan_layer(plan *p)
{
    const shape *s = p->s;
    int64_t d = s->hidden, q = (int64_t)s->heads * s->head_dim;
    int64_t kv = (int64_t)s->kv_heads * s->head_dim;
    VECTOR("attn_norm.weight", d);
    if (s->latent.size > 0) {
        plan_latent(p);
    } else {
        MATRIX("attn_q.weight", OTHER, d, q);
        MATRIX("attn_k.weight", KEY, d, kv);
        MATRIX("attn_v.weight", VALUE, d, kv);
        MATRIX("attn_output.weight", ATTENTION_OUTPUT, q, d);
    }
    VECTOR("ffn_norm.weight", d);
    if (s->qk != QK_NONE) {
        VECTOR("attn_q_norm.weight", s->qk == QK_HEAD ? s->head_dim : q);
        VECTOR("attn_k_norm.weight", s->qk == QK_HEAD ? s->head_dim : kv);
    }
    if (s->post_norms) {
        VECTOR("attn_output_norm.weight", d);
        VECTOR("layer_output_norm.weight", d);
    }
    if (s->qkv_bias) {
        VECTOR("attn_q.bias", q);
        VECTOR("attn_k.bias", kv);
        VECTOR("attn_v.bias", kv);
    }
    if (p->layer < s->dense_layers) {
        MATRIX("ffn_gate.weight", OTHER, d, s->dense_ffn);
        MATRIX("ffn_up.weight", OTHER, d, s->dense_ffn);
        MATRIX("ffn_down.weight", DOWN, s->dense_ffn, d);
        return;
    }
    MATRIX("ffn_gate_inp.weight", OTHER, d, s->experts);
    if (s->sigmoid) {
        VECTOR("exp_probs_b.bias", s->experts);
    }
    STACK("ffn_gate_exps.weight", OTHER_STACK, d, s->ffn, s->experts);
    STACK("ffn_up_exps.weight", OTHER_STACK, d, s->ffn, s->experts);
    STACK("ffn_down_exps.weight", DOWN_STACK, s->ffn, d, s->experts);
    if (s->shared > 0) {
        MATRIX("ffn_gate_shexp.weight", OTHER, d, s->shared);
        MATRIX("ffn_up_shexp.weight", OTHER, d, s->shared);
        MATRIX("ffn_down_shexp.weight", DOWN, s->shared, d);
    }
    if (s->shared_gate) {
        VECTOR("ffn_gate_inp_shexp.weight", d);
    }
}

static void plan_model(plan *p)
{
    const shape *s = p->s;
    p->layer = -1;
    if (s->tied) {
        MATRIX("token_embd.weight", OUTPUT, s->hidden, s->vocab);
    } else {
        MATRIX("token_embd.weight", EMBED, s->hidden, s->vocab);
    }
    if (!s->tied) {
        MATRIX("output.weight", OUTPUT, s->hidden, s->vocab);
    }
    VECTOR("output_norm.weight", s->hidden);
    for (p->layer = 0; p->layer < s->layers; p->layer++) {
        plan_layer(p);
    }
}

static mixt_status key_u32(mixt_gguf_writer *w, const shape *s, const char *key, int value,
                           mixt_error *error)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", s->arch, key);
    return mixt_gguf_writer_u32(w, name, (uint32_t)value, error);
}

static mixt_status key_f32(mixt_gguf_writer *w, const shape *s, const char *key, float value,
                           mixt_error *error)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", s->arch, key);
    return mixt_gguf_writer_f32(w, name, value, error);
}

static mixt_status write_keys(mixt_gguf_writer *w, const shape *s, mixt_error *error)
{
    bool lead = s->dense_layers > 0, latent = s->latent.size > 0;
    MIXT_TRY(mixt_gguf_writer_string(w, "general.architecture", s->arch, error));
    MIXT_TRY(mixt_gguf_writer_string(w, "general.name", s->name, error));
    MIXT_TRY(key_u32(w, s, "block_count", s->layers, error));
    MIXT_TRY(key_u32(w, s, "context_length", s->context, error));
    MIXT_TRY(key_u32(w, s, "embedding_length", s->hidden, error));
    if (strcmp(s->arch, "skywork") != 0) {
        MIXT_TRY(key_u32(w, s, "feed_forward_length", lead ? s->dense_ffn : s->ffn, error));
    }
    MIXT_TRY(key_u32(w, s, "attention.head_count", s->heads, error));
    MIXT_TRY(key_u32(w, s, "attention.head_count_kv", s->kv_heads, error));
    MIXT_TRY(key_f32(w, s, "attention.layer_norm_rms_epsilon", s->epsilon, error));
    MIXT_TRY(key_f32(w, s, "rope.freq_base", s->theta, error));
    MIXT_TRY(
        key_u32(w, s, "rope.dimension_count", latent ? s->latent.position : s->head_dim, error));
    int key = latent ? s->latent.size + s->latent.position : s->head_dim; /* of the absorbed form */
    MIXT_TRY(key_u32(w, s, "attention.key_length", key, error));
    MIXT_TRY(key_u32(w, s, "attention.value_length", latent ? s->latent.size : key, error));
    if (latent) {
        MIXT_TRY(key_u32(w, s, "attention.key_length_mla", s->head_dim, error));
        MIXT_TRY(key_u32(w, s, "attention.value_length_mla", s->latent.value, error));
        MIXT_TRY(key_u32(w, s, "attention.kv_lora_rank", s->latent.size, error));
        MIXT_TRY(key_u32(w, s, "expert_gating_func", s->sigmoid ? 2 : 1, error)); /* 1: softmax */
    }
    if (s->latent.query > 0) {
        MIXT_TRY(key_u32(w, s, "attention.q_lora_rank", s->latent.query, error));
    }
    if (s->sigmoid) {
        MIXT_TRY(mixt_gguf_writer_bool(w, "deepseek2.expert_weights_norm", true, error));
    }
    MIXT_TRY(key_u32(w, s, "vocab_size", s->vocab, error));
    MIXT_TRY(key_u32(w, s, "expert_count", s->experts, error));
    MIXT_TRY(key_u32(w, s, "expert_used_count", s->chosen, error));
    if (strcmp(s->arch, "llama") != 0 && strcmp(s->arch, "olmoe") != 0 &&
        strcmp(s->arch, "grok") != 0) {
        MIXT_TRY(key_u32(w, s, "expert_feed_forward_length", s->ffn, error));
    }
    if (s->shared_gate) {
        MIXT_TRY(key_u32(w, s, "expert_shared_feed_forward_length", s->shared, error));
    }
    if (lead) {
        MIXT_TRY(key_u32(w, s, "leading_dense_block_count", s->dense_layers, error));
        MIXT_TRY(key_u32(w, s, "expert_shared_count", s->shared / s->ffn, error));
        MIXT_TRY(key_f32(w, s, "expert_weights_scale", s->scale > 0 ? s->scale : 1.0F, error));
    }
    return mixt_gguf_writer_string(w, "tokenizer.ggml.model", "none", error);
}

/* Where a block's half-precision scales lie, and their bits: values of about 0.02. */
typedef struct scale_row {
    mixt_type type;
    int at[2];
    uint16_t bits[2];
} scale_row;

static const scale_row scales[] = {
    {MIXT_TYPE_Q4_0, {0, -1}, {0x1C00, 0}},     {MIXT_TYPE_Q4_1, {0, 2}, {0x1C00, 0xA780}},
    {MIXT_TYPE_Q5_0, {0, -1}, {0x1800, 0}},     {MIXT_TYPE_Q5_1, {0, 2}, {0x1800, 0xA7C0}},
    {MIXT_TYPE_Q8_0, {0, -1}, {0x0C00, 0}},     {MIXT_TYPE_Q2_K, {80, 82}, {0x0E00, 0x1080}},
    {MIXT_TYPE_Q3_K, {108, -1}, {0x0C00, 0}},   {MIXT_TYPE_Q4_K, {0, 2}, {0x0400, 0x0F80}},
    {MIXT_TYPE_Q5_K, {0, 2}, {0x0200, 0x0F80}}, {MIXT_TYPE_Q6_K, {208, -1}, {0x0100, 0}},
    {MIXT_TYPE_IQ4_NL, {0, -1}, {0x0C00, 0}},   {MIXT_TYPE_IQ4_XS, {0, -1}, {0x0200, 0}},
    {MIXT_TYPE_IQ1_S, {0, -1}, {0x1A00, 0}},    {MIXT_TYPE_IQ2_XXS, {0, -1}, {0x0E80, 0}},
    {MIXT_TYPE_IQ2_XS, {0, -1}, {0x0E80, 0}},   {MIXT_TYPE_IQ2_S, {0, -1}, {0x0E80, 0}},
    {MIXT_TYPE_IQ3_XXS, {0, -1}, {0x0980, 0}},  {MIXT_TYPE_IQ3_S, {0, -1}, {0x0900, 0}},
    {MIXT_TYPE_TQ1_0, {52, -1}, {0x2600, 0}},   {MIXT_TYPE_TQ2_0, {64, -1}, {0x2400, 0}},
    {MIXT_TYPE_Q1_0, {0, -1}, {0x2500, 0}},     {MIXT_TYPE_Q2_0, {0, -1}, {0x2400, 0}},
};

/* A buffer of random whole blocks. */
static size_t fill(const tensor *t, unsigned char *buffer)
{
    const mixt_type_row *row = mixt_type_info(t->type);
    size_t blocks = RANDOM_BYTES / (size_t)row->bytes;
    unsigned large = t->value == EMBEDDING ? 8 << 10 : 0; /* in a half's exponent */
    if (t->type == MIXT_TYPE_F32) {
        float *values = (float *)(void *)buffer;
        for (size_t i = 0; i < RANDOM_BYTES / sizeof(float); i++) {
            double unit = (double)(next_random() >> 11) / 0x1p52 - 1.0;
            values[i] = t->rank == 1 ? t->value : (float)(unit * 1.7320508 * (double)t->value);
        }
        return blocks * 4;
    }
    for (size_t i = 0; i + 8 <= RANDOM_BYTES; i += 8) {
        uint64_t bits = next_random();
        if (row->elements == 1) { /* halves and bfloat16 of small exponent */
            bits &= 0x83FF83FF83FF83FFU;
            bits |= t->type == MIXT_TYPE_F16 ? 0x2400240024002400U : 0x3C003C003C003C00U;
            bits += large == 0                 ? 0
                    : t->type == MIXT_TYPE_F16 ? 0x2000200020002000U
                                               : 0x0400040004000400U;
        }
        memcpy(buffer + i, &bits, 8);
    }
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        for (size_t b = 0; scales[i].type == t->type && b < blocks; b++) {
            for (int j = 0; j < 2; j++) {
                if (scales[i].at[j] >= 0) {
                    uint16_t scale = (uint16_t)(scales[i].bits[j] + large);
                    memcpy(buffer + b * (size_t)row->bytes + scales[i].at[j], &scale, 2);
                }
            }
        }
    }
    for (size_t b = 0; t->type == MIXT_TYPE_NVFP4 && b < blocks; b++) {
        memset(buffer + b * (size_t)row->bytes, 4, 4);
    }
    for (size_t b = 0; t->type == MIXT_TYPE_IQ1_M && b < blocks; b++) { /* 0x1A00 in the nibbles */
        static const unsigned char nibbles[4] = {0x00, 0x00, 0xA0, 0x10};
        for (int i = 0; i < 4; i++) {
            unsigned char *byte = buffer + b * (size_t)row->bytes + 49 + 2 * i;
            *byte = (unsigned char)((*byte & 15) | nibbles[i]);
        }
    }
    for (size_t b = 0; t->type == MIXT_TYPE_MXFP4 && b < blocks; b++) {
        buffer[b * (size_t)row->bytes] = large == 0 ? 121 : 129;
    }
    return blocks * (size_t)row->bytes;
}

static size_t tensor_bytes(const tensor *t)
{
    size_t bytes = mixt_type_row_bytes(t->type, t->size[0]);
    for (int i = 1; i < t->rank; i++) {
        bytes *= (size_t)t->size[i];
    }
    return bytes;
}

static mixt_status write_tensors(mixt_gguf_writer *w, const plan *p, unsigned char *buffer,
                                 mixt_error *error)
{
    int filled = -1; /* the tensor that the buffer was made for */
    size_t length = 0;
    for (int i = 0; i < p->count; i++) {
        const tensor *t = &p->list[i];
        const tensor *have = filled >= 0 ? &p->list[filled] : NULL;
        size_t left = tensor_bytes(t);
        if (p->sparse && strstr(t->name, "_exps.weight") != NULL) {
            MIXT_TRY(mixt_gguf_writer_skip(w, left, error));
            continue;
        }
        if (have == NULL || have->type != t->type || have->value != t->value ||
            (have->rank == 1) != (t->rank == 1)) {
            length = fill(t, buffer);
            filled = i;
        }
        /* each from a place of its own: gate and up of an expert must not be the same matrix */
        size_t block = (size_t)mixt_type_info(t->type)->bytes;
        size_t at = next_random() % (length / block) * block;
        while (left > 0) {
            size_t part = left < length - at ? left : length - at;
            MIXT_TRY(mixt_gguf_writer_write(w, buffer + at, part, error));
            left -= part;
            at = 0;
        }
    }
    return mixt_gguf_writer_finish(w, error);
}

static mixt_status write_file(const plan *p, const char *path, unsigned char *buffer,
                              mixt_error *error)
{
    mixt_gguf_writer *w;
    MIXT_TRY(mixt_gguf_writer_create(path, 0, &w, error));
    mixt_status status = write_keys(w, p->s, error);
    for (int i = 0; i < p->count && status == MIXT_OK; i++) {
        const tensor *t = &p->list[i];
        status = mixt_gguf_writer_add(w, t->name, t->type, t->rank, t->size, error);
    }
    if (status == MIXT_OK) {
        status = mixt_gguf_writer_begin(w, error);
    }
    if (status == MIXT_OK) {
        status = write_tensors(w, p, buffer, error);
    }
    mixt_gguf_writer_free(w);
    return status;
}

int main(int argc, char **argv)
{
    plan p = {.sparse = argc > 1 && strcmp(argv[1], "--sparse") == 0};
    shape changed; /* with layers and context as asked */
    argc -= p.sparse;
    argv += p.sparse;
    for (size_t i = 0; argc >= 4 && argc <= 6 && i < sizeof shapes / sizeof *shapes; i++) {
        if (strcmp(argv[1], shapes[i].name) == 0) {
            changed = shapes[i];
            changed.layers = argc >= 5 ? atoi(argv[4]) : changed.layers;
            changed.context = argc == 6 ? atoi(argv[5]) : changed.context;
            p.s = &changed;
        }
    }
    p.mix = p.s == NULL ? NULL : mixt_mix_by_name(argv[2]);
    p.type = p.s == NULL ? MIXT_TYPE_COUNT : type_by_name(argv[2]);
    if (p.mix == NULL && p.type == MIXT_TYPE_COUNT) {
        fprintf(stderr,
                "usage: real_shapes [--sparse] olmoe|qwen2moe|qwen3moe|deepseek|"
                "deepseek2|glm4.7-flash|mixtral|skywork|grok MIX FILE [LAYERS [CONTEXT]]\n");
        return 2;
    }
    p.list = calloc((size_t)p.s->layers * 24 + 3, sizeof *p.list);
    unsigned char *buffer = malloc(RANDOM_BYTES);
    mixt_error error = MIXT_ERROR_INIT;
    int result = 1;
    if (p.list != NULL && buffer != NULL) {
        plan_model(&p);
        result = write_file(&p, argv[3], buffer, &error) == MIXT_OK ? 0 : 1;
    }
    if (result != 0) {
        fprintf(stderr, "real_shapes: %s\n", error.message);
    }
    free(buffer);
    free(p.list);
    return result;
}
