/* Opening checkpoints: what is mapped computes what is loaded, and files that do not fit their
 * configuration are refused by name before anything big is read. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/context.h"
#include "core/files.h"
#include "core/map.h"
#include "formats/safetensors.h"
#include "model/parameters.h"
#include "model/config_gguf.h"
#include "model/storage.h"
#include "quant/quant.h"

static char home[64];
static mixt_context *context;
static struct sigaction bus_handler; /* the library's: cmocka puts its own there for each test */

static int make_home(void **state)
{
    (void)state;
    mixt_map *map;
    if (mixt_map_open("/proc/self/exe", &map, NULL) != MIXT_OK ||
        sigaction(SIGBUS, NULL, &bus_handler) != 0) {
        return 1;
    }
    mixt_map_close(map);
    snprintf(home, sizeof home, "/tmp/mixt-open-XXXXXX");
    mixt_context_options options = {.threads = 2};
    return mkdtemp(home) == NULL || mixt_context_create(&options, &context, NULL) != MIXT_OK;
}

static int remove_home(void **state)
{
    (void)state;
    mixt_context_free(context);
    return mixt_folder_remove(home, NULL) != MIXT_OK;
}

static mixt_model_options small_options(int kind)
{
    mixt_model_options o = mixt_model_options_default();
    o.vocab_size = 41;
    o.context_length = 64;
    o.layers = 2;
    o.hidden_size = 32;
    o.heads = 4;
    o.kv_heads = 2;
    o.head_dim = 8;
    o.ffn_size = 24;
    o.experts = kind == 1 ? 0 : 5;
    o.initializer_range = 0.3;
    if (kind == 1) {
        o.tie_embeddings = true;
    } else if (kind == 2) {
        o.shared_experts = 1;
        o.leading_dense_layers = 1;
        o.router.renormalise = false;
    }
    return o;
}

static mixt_model *make_model(int kind)
{
    mixt_model_options options = small_options(kind);
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_model_create(&options, 7, &model, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return model;
}

static void require(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s", error->message);
    }
}

static const char *in_home(const char *name)
{
    static char paths[4][200];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 200, "%s/%s", home, name);
    return path;
}

static void assert_says(const mixt_error *error, const char *text)
{
    if (strstr(error->message, text) == NULL || strchr(error->message, '\n') != NULL) {
        fail_msg("'%s' is not in one line '%s'", text, error->message);
    }
}

/* Logits behind a prompt and behind each of some tokens fed one by one. */
enum { PROMPT = 9, DRAWN = 4, VOCABULARY = 41 };

static void run_logits(const mixt_model *model, bool one_by_one, float *logits)
{
    mixt_session *session;
    mixt_error error = MIXT_ERROR_INIT;
    int32_t tokens[PROMPT + DRAWN];
    for (int i = 0; i < PROMPT + DRAWN; i++) {
        tokens[i] = (i * 17 + 3) % VOCABULARY;
    }
    require(mixt_session_create(context, model, 32, &session, &error), &error);
    for (int i = 0; i < PROMPT && one_by_one; i++) {
        require(mixt_session_feed(session, tokens + i, 1, &error), &error);
    }
    if (!one_by_one) {
        require(mixt_session_feed(session, tokens, PROMPT, &error), &error);
    }
    for (int i = 0; i <= DRAWN; i++) {
        memcpy(logits + i * VOCABULARY, mixt_session_logits(session), VOCABULARY * sizeof(float));
        if (i < DRAWN) {
            require(mixt_session_feed(session, tokens + PROMPT + i, 1, &error), &error);
        }
    }
    mixt_session_free(session);
}

static void mapped_is_loaded(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        mixt_model *made = make_model(kind), *opened;
        mixt_error error = MIXT_ERROR_INIT;
        static float expected[(DRAWN + 1) * VOCABULARY], found[(DRAWN + 1) * VOCABULARY];
        run_logits(made, false, expected);
        require(mixt_model_save(made, in_home("folder"), &error), &error);
        require(mixt_model_open(in_home("folder"), &opened, &error), &error);
        assert_null(opened->weights); /* it is mapped indeed */
        require(mixt_model_verify(opened, &error), &error);
        run_logits(opened, false, found);
        assert_memory_equal(found, expected, sizeof found);
        run_logits(opened, true, found);
        assert_memory_equal(found, expected, sizeof found);
        require(mixt_model_save(opened, in_home("again"), &error), &error);
        require(mixt_model_load(opened, &error), &error);
        assert_memory_equal(opened->weights, made->weights, made->weight_count * sizeof(float));
        run_logits(opened, false, found);
        assert_memory_equal(found, expected, sizeof found);
        mixt_model_free(opened);
        require(mixt_model_open(in_home("again"), &opened, &error), &error);
        run_logits(opened, false, found);
        assert_memory_equal(found, expected, sizeof found);
        mixt_model_free(opened);
        mixt_model_free(made);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Hostile folders                                                                            */

typedef struct change {
    const char *tensor; /* of the model below */
    enum { LEAVE_OUT, TURN, WIDEN, RETYPE, RENAME } kind;
    mixt_dtype dtype;
    const char *name; /* RENAME */
    const char *says;
} change;

static void write_changed(const mixt_model *model, const char *folder, const change *what)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_safetensors_writer *writer;
    mixt_folder_tensors list;
    char path[200];
    require(mixt_model_save(model, folder, &error), &error);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    require(mixt_folder_tensors_list(model, &list, &error), &error);
    require(mixt_safetensors_writer_create(path, 0, &writer, &error), &error);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < list.count; i++) {
            mixt_layout_piece view = list.parts[list.first[i]].piece;
            mixt_dtype dtype = MIXT_DTYPE_F32;
            const char *name = view.name;
            if (strcmp(view.name, what->tensor) == 0) {
                if (what->kind == LEAVE_OUT) {
                    continue;
                }
                int64_t rows = view.shape[0];
                view.shape[0] = what->kind == TURN ? view.shape[1] : rows + (what->kind == WIDEN);
                view.shape[1] = what->kind == TURN ? rows : view.shape[1];
                dtype = what->kind == RETYPE ? what->dtype : dtype;
                name = what->kind == RENAME ? what->name : name;
            }
            uint64_t bytes;
            assert_true(mixt_tensor_bytes(dtype, (uint32_t)view.rank, view.shape, &bytes));
            if (pass == 0) {
                require(mixt_safetensors_writer_add(writer, name, dtype, (uint32_t)view.rank,
                                                    view.shape, &error),
                        &error);
            } else {
                void *zeros = calloc(1, (size_t)bytes);
                require(mixt_safetensors_writer_write(writer, zeros, (size_t)bytes, &error),
                        &error);
                free(zeros);
            }
        }
        if (pass == 0) {
            require(mixt_safetensors_writer_begin(writer, &error), &error);
        }
    }
    require(mixt_safetensors_writer_finish(writer, &error), &error);
    mixt_safetensors_writer_free(writer);
    mixt_folder_tensors_free(&list);
}

#define EXPERT "model.layers.1.block_sparse_moe.experts.3.w1.weight"

static void wrong_tensors_are_refused(void **state)
{
    (void)state;
    static const change changes[] = {
        {EXPERT, LEAVE_OUT, 0, NULL, "tensor " EXPERT " is missing"},
        {"model.norm.weight", LEAVE_OUT, 0, NULL, "tensor model.norm.weight is missing"},
        {EXPERT, TURN, 0, NULL,
         EXPERT " is [32,24], config.json makes it [24,32]; it is transposed"},
        {EXPERT, WIDEN, 0, NULL, EXPERT " is [25,32], config.json makes it [24,32]"},
        {EXPERT, RETYPE, MIXT_DTYPE_I32, NULL, EXPERT " has type I32"},
        {"lm_head.weight", RETYPE, MIXT_DTYPE_F8_E4M3, NULL, "lm_head.weight has type F8_E4M3"},
        {EXPERT, RENAME, 0, "model.layers.1.block_sparse_moe.experts.5.w1.weight",
         "tensor " EXPERT " is missing"},
    };
    mixt_model *model = make_model(0), *opened;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        write_changed(model, in_home("changed"), &changes[i]);
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_model_open(in_home("changed"), &opened, &error);
        assert_true(mixt_status_is_refusal(status));
        assert_null(opened);
        assert_says(&error, changes[i].says);
        assert_says(&error, in_home("changed"));
    }
    mixt_model_free(model);
}

static void replace_in_config(const char *folder, const char *before, const char *after)
{
    char path[200], *text, *at;
    size_t length;
    mixt_error error = MIXT_ERROR_INIT;
    snprintf(path, sizeof path, "%s/config.json", folder);
    require(mixt_file_read(path, 1 << 20, &text, &length, &error), &error);
    at = strstr(text, before);
    assert_non_null(at);
    char *changed = malloc(length + strlen(after) + 1);
    int head = (int)(at - text);
    int total = sprintf(changed, "%.*s%s%s", head, text, after, at + strlen(before));
    require(mixt_file_replace(path, changed, (size_t)total, &error), &error);
    free(changed);
    free(text);
}

/* A folder may hold more than its configuration reads: another layer, an expert too many. */
static void unread_tensors_are_refused(void **state)
{
    (void)state;
    mixt_model *model = make_model(0), *opened;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_model_save(model, in_home("more"), &error), &error);
    replace_in_config(in_home("more"), "\"num_local_experts\": 5", "\"num_local_experts\": 4");
    assert_int_equal(mixt_model_open(in_home("more"), &opened, &error), MIXT_ERROR_FORMAT);
    assert_says(&error, "block_sparse_moe.gate.weight is [5,32], config.json makes it [4,32]");
    static const change expert = {"model.layers.0.block_sparse_moe.gate.weight", RENAME, 0,
                                  "model.layers.0.block_sparse_moe.gates.weight",
                                  "gate.weight is missing"};
    write_changed(model, in_home("more"), &expert);
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_model_open(in_home("more"), &opened, &error), MIXT_ERROR_FORMAT);
    assert_says(&error, expert.says);
    mixt_model_free(model);

    model = make_model(2); /* a tensor of a bias that this configuration does not have */
    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_model_options biased = model->options;
    biased.router.bias_rate = 0.001;
    mixt_model *other;
    require(mixt_model_create(&biased, 1, &other, &error), &error);
    require(mixt_model_save(other, in_home("biased"), &error), &error);
    require(mixt_model_open(in_home("biased"), &opened, &error), &error);
    mixt_model_free(opened);
    replace_in_config(in_home("biased"), "\"bias_rate\": 0.001", "\"bias_rate\": 0.0  ");
    replace_in_config(in_home("biased"), "\"router_select_bias\": true",
                      "\"router_select_bias\": false");
    assert_int_equal(mixt_model_open(in_home("biased"), &opened, &error), MIXT_ERROR_UNSUPPORTED);
    assert_says(&error, "is no part of this");
    mixt_model_free(other);
    mixt_model_free(model);
}

static void other_half_is_read(void **state)
{
    (void)state;
    mixt_model *model = make_model(0), *opened;
    static const change brain = {EXPERT, RETYPE, MIXT_DTYPE_BF16, NULL, NULL};
    write_changed(model, in_home("half"), &brain);
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_model_open(in_home("half"), &opened, &error), &error); /* config: float32 */
    mixt_model_free(opened);
    replace_in_config(in_home("half"), "\"float32\"", "\"bfloat16\"");
    require(mixt_model_open(in_home("half"), &opened, &error), &error);
    mixt_model_free(opened);
    replace_in_config(in_home("half"), "\"bfloat16\"", "\"float16\"");
    require(mixt_model_open(in_home("half"), &opened, &error), &error);
    mixt_model_free(opened);
    mixt_model_free(model);
}

static void nan_is_found(void **state)
{
    (void)state;
    mixt_model *model = make_model(0), *opened;
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_parameter *p = &model->parameters[mixt_model_find(model, MIXT_SLOT_EXPERT_DOWN, 1)];
    model->weights[p->offset + 2 * 32 * 24 + 3 * 24 + 5] = INFINITY;
    require(mixt_model_save(model, in_home("inf"), &error), &error);
    require(mixt_model_open(in_home("inf"), &opened, &error), &error);
    assert_int_equal(mixt_model_verify(opened, &error), MIXT_ERROR_NUMERIC);
    assert_says(&error, "tensor model.layers.1.block_sparse_moe.experts.2.w2.weight holds Inf in "
                        "row 3, column 5");
    mixt_model_free(opened);
    mixt_model_free(model);
}

/* Another process cuts the file short under a session. */
static void truncated_while_mapped(void **state)
{
    (void)state;
    mixt_model *model = make_model(0), *opened;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session;
    int32_t token = 1;
    require(mixt_model_save(model, in_home("cut"), &error), &error);
    require(mixt_model_open(in_home("cut"), &opened, &error), &error);
    require(mixt_session_create(context, opened, 8, &session, &error), &error);
    require(mixt_session_feed(session, &token, 1, &error), &error);
    assert_int_equal(sigaction(SIGBUS, &bus_handler, NULL), 0);
    assert_int_equal(truncate(in_home("cut/model.safetensors"), 4096), 0);
    assert_int_equal(mixt_session_feed(session, &token, 1, &error), MIXT_ERROR_IO);
    assert_says(&error, "cut/model.safetensors: became shorter");
    assert_int_equal(mixt_session_length(session), 1);
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_model_load(opened, &error), MIXT_ERROR_IO);
    assert_null(opened->weights);
    mixt_session_free(session);
    mixt_model_free(opened);
    mixt_model_free(model);
}

/* ------------------------------------------------------------------------------------------ */
/* GGUF files                                                                                 */

/* An OLMoE: its q and k lie alike in every format. Wide enough for blocks of 256. */
static mixt_model *make_olmoe(void)
{
    mixt_model_options o = small_options(0);
    o.hidden_size = 256;
    o.ffn_size = 256;
    o.head_dim = 64;
    o.kv_heads = 4;
    o.layers = 2;
    o.initializer_range = 0.05;
    o.attention.qk_norm = MIXT_QK_NORM_WHOLE;
    o.router.renormalise = false;
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_model_create(&o, 5, &model, &error), &error);
    assert_string_equal(model->family->name, "olmoe");
    return model;
}

typedef struct gguf_change {
    const char *tensor; /* NULL: none */
    enum { OMIT, SWAP, FEWER, EXTRA } kind;
    const char *says;
} gguf_change;

static void write_gguf(const mixt_model *model, const char *path, mixt_type type,
                       const gguf_change *what)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_gguf_writer *writer;
    require(mixt_gguf_writer_create(path, 0, &writer, &error), &error);
    require(mixt_model_gguf_keys(model, writer, &error), &error);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < model->parameter_count; i++) {
            const mixt_parameter *p = &model->parameters[i];
            bool router = p->slot == MIXT_SLOT_ROUTER;
            mixt_type used = p->rank == 1 || router ? MIXT_TYPE_F32 : type;
            int64_t size[4], k = p->size[p->rank - 1], rows = (int64_t)p->count / k;
            for (int d = 0; d < p->rank; d++) {
                size[d] = p->size[p->rank - 1 - d];
            }
            if (what != NULL && what->tensor != NULL && strcmp(what->tensor, p->gguf_name) == 0) {
                if (what->kind == OMIT) {
                    continue;
                }
                if (what->kind == SWAP) {
                    size[0] = p->size[p->rank - 2];
                    size[1] = k;
                } else if (what->kind == FEWER) {
                    size[p->rank - 1]--;
                    rows -= p->rank == 3 ? p->size[1] : 1;
                }
            }
            if (pass == 0) {
                require(mixt_gguf_writer_add(writer, p->gguf_name, used, p->rank, size, &error),
                        &error);
                continue;
            }
            size_t bytes = mixt_type_row_bytes(used, k) * (size_t)rows;
            void *data = malloc(bytes);
            require(mixt_quantise(used, model->weights + p->offset, rows, k, NULL, data, &error),
                    &error);
            require(mixt_gguf_writer_write(writer, data, bytes, &error), &error);
            free(data);
        }
        if (what != NULL && what->kind == EXTRA && pass == 0) {
            require(mixt_gguf_writer_add(writer, what->tensor, MIXT_TYPE_F32, 1, (int64_t[]){1},
                                         &error),
                    &error);
        } else if (what != NULL && what->kind == EXTRA) {
            require(mixt_gguf_writer_write(writer, &(float){1}, sizeof(float), &error), &error);
        }
        if (pass == 0) {
            require(mixt_gguf_writer_begin(writer, &error), &error);
        }
    }
    require(mixt_gguf_writer_finish(writer, &error), &error);
    mixt_gguf_writer_free(writer);
}

static void gguf_is_loaded(void **state)
{
    (void)state;
    static const mixt_type types[] = {MIXT_TYPE_F32,  MIXT_TYPE_F16,  MIXT_TYPE_BF16,
                                      MIXT_TYPE_Q8_0, MIXT_TYPE_Q4_K, MIXT_TYPE_Q6_K};
    static float expected[(DRAWN + 1) * VOCABULARY], found[(DRAWN + 1) * VOCABULARY];
    mixt_model *made = make_olmoe(), *opened;
    mixt_error error = MIXT_ERROR_INIT;
    run_logits(made, false, expected);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        write_gguf(made, in_home("model.gguf"), types[i], NULL);
        require(mixt_model_open(in_home("model.gguf"), &opened, &error), &error);
        assert_non_null(opened->held);
        require(mixt_model_verify(opened, &error), &error);
        run_logits(opened, false, found);
        if (types[i] == MIXT_TYPE_F32) {
            assert_memory_equal(found, expected, sizeof found);
        }
        double worst = 0;
        for (size_t at = 0; at < sizeof found / sizeof *found; at++) {
            worst = fmax(worst, fabs(found[at] - expected[at]));
        }
        assert_true(worst < 1); /* logits of about 1: it is this model */
        static float again[(DRAWN + 1) * VOCABULARY];
        run_logits(opened, true, again);
        assert_memory_equal(again, found, sizeof found); /* prompt and generation, bit for bit */
        if (types[i] == MIXT_TYPE_F32) {
            require(mixt_model_load(opened, &error), &error);
            assert_memory_equal(opened->weights, made->weights, made->weight_count * sizeof(float));
        }
        mixt_model_free(opened);
    }
    mixt_model_free(made);
}

static void wrong_gguf_tensors_are_refused(void **state)
{
    (void)state;
    static const gguf_change changes[] = {
        {"blk.1.ffn_up_exps.weight", OMIT, "tensor blk.1.ffn_up_exps.weight is missing"},
        {"blk.1.ffn_up_exps.weight", FEWER,
         "blk.1.ffn_up_exps.weight is [4,256,256], the metadata makes it [5,256,256]"},
        {"token_embd.weight", SWAP, "token_embd.weight"},
        {"output.weight", SWAP, "it is transposed"},
        {"blk.0.attn_norm.weight", OMIT, "tensor blk.0.attn_norm.weight is missing"},
        {"rope_freqs.weight", EXTRA,
         "tensor rope_freqs.weight: is not F32 for the 32 rotated pairs"},
        {"blk.0.attn_q.bias", EXTRA,
         "tensor blk.0.attn_q.bias is [1], the metadata makes it [256]"},
        {"blk.0.attn_sinks.weight", EXTRA,
         "tensor blk.0.attn_sinks.weight is no part of this OLMoE"},
    };
    mixt_model *made = make_olmoe(), *opened;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        write_gguf(made, in_home("wrong.gguf"), MIXT_TYPE_F32, &changes[i]);
        assert_true(
            mixt_status_is_refusal(mixt_model_open(in_home("wrong.gguf"), &opened, &error)));
        assert_null(opened);
        assert_says(&error, changes[i].says);
        assert_says(&error, "wrong.gguf");
    }
    mixt_model_free(made);
}

/* Overwrites the 4 bytes of a key's value. */
static void patch_key(const char *from, const char *to, const char *key, const void *value)
{
    char *data;
    size_t length;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_file_read(from, 64 << 20, &data, &length, &error), &error);
    uint64_t size = strlen(key);
    size_t at = 8;
    while (at + size < length &&
           (memcmp(data + at - 8, &size, 8) != 0 || memcmp(data + at, key, size) != 0)) {
        at++;
    }
    assert_true(at + size + 8 <= length);
    memcpy(data + at + size + 4, value, 4); /* behind the kind */
    require(mixt_file_replace(to, data, length, &error), &error);
    free(data);
}

static void hostile_metadata_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t value;
    } cases[] = {
        {"olmoe.attention.head_count", 0},
        {"olmoe.attention.head_count_kv", 3},
        {"olmoe.block_count", 1u << 31},
        {"olmoe.block_count", 0},
        {"olmoe.embedding_length", 0},
        {"olmoe.context_length", 0xffffffff},
        {"olmoe.expert_used_count", 0},
        {"olmoe.expert_used_count", 6},
        {"olmoe.expert_count", 0},
        {"olmoe.expert_count", 1000000},
        {"olmoe.embedding_length", 1u << 20},
        {"olmoe.block_count", 4096},
        {"olmoe.attention.layer_norm_rms_epsilon", 0},          /* 0.0 */
        {"olmoe.attention.layer_norm_rms_epsilon", 0x7fc00000}, /* NaN */
    };
    mixt_model *made = make_olmoe(), *opened;
    write_gguf(made, in_home("good.gguf"), MIXT_TYPE_F32, NULL);
    mixt_model_free(made);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        patch_key(in_home("good.gguf"), in_home("bad.gguf"), cases[i].key, &cases[i].value);
        mixt_status status = mixt_model_open(in_home("bad.gguf"), &opened, &error);
        if (!mixt_status_is_refusal(status)) {
            fail_msg("%s %u: %s", cases[i].key, cases[i].value, error.message);
        }
        assert_null(opened);
        assert_says(&error, "bad.gguf");
    }
}

/* Opens the file; what opens must also run, to an error or to logits. */
static bool opens(const char *path, bool run)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_open(path, &model, &error);
    if (status != MIXT_OK) {
        assert_null(model);
        assert_true(error.message[0] != 0 && strchr(error.message, '\n') == NULL);
        return false;
    }
    mixt_session *session = NULL;
    int32_t tokens[] = {1, 2, 3};
    if (run && mixt_session_create(context, model, 4, &session, &error) == MIXT_OK) {
        mixt_session_feed(session, tokens, 3, &error);
    }
    mixt_session_free(session);
    mixt_model_free(model);
    return true;
}

static void write_byte(const char *path, size_t at, unsigned char byte)
{
    FILE *stream = fopen(path, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, stream), 1);
    assert_int_equal(fclose(stream), 0);
}

/* Every byte before the data changed in two ways, and prefixes: refused or run, never a crash. */
static void changed_bytes_are_survived(void **state)
{
    (void)state;
    mixt_model_options options = small_options(0);
    options.ffn_size = 32; /* a block of Q8_0 */
    mixt_model *made;
    mixt_error error = MIXT_ERROR_INIT;
    require(mixt_model_create(&options, 3, &made, &error), &error);
    char *data;
    size_t length, good = 0, bad = 0;
    const char *path = in_home("bytes.gguf");
    char kept[200];
    snprintf(kept, sizeof kept, "%s", path);
    write_gguf(made, kept, MIXT_TYPE_Q8_0, NULL);
    mixt_model_free(made);
    require(mixt_file_read(kept, 64 << 20, &data, &length, &error), &error);
    assert_true(opens(kept, true));
    size_t header = 0; /* the last tensor's name ends it, up to a few numbers */
    for (size_t i = 0; i + 13 < length; i++) {
        header = memcmp(data + i, "output.weight", 13) == 0 ? i + 45 : header;
    }
    assert_true(header > 500 && header < length);
    for (size_t i = 0; i < header; i++) {
        for (int way = 0; way < 2; way++) {
            write_byte(kept, i, (unsigned char)data[i] ^ (way == 0 ? 0xff : 1u << i % 8));
            bool opened = opens(kept, i % 5 == 0);
            good += opened;
            bad += !opened;
        }
        write_byte(kept, i, (unsigned char)data[i]);
    }
    print_message("%zu changes refused, %zu accepted\n", bad, good);
    assert_true(bad > header);         /* most are */
    for (size_t i = 1; i < 100; i++) { /* the last bytes may be padding alone */
        assert_int_equal(truncate(kept, (off_t)((length - 1) * (99 - i) / 99)), 0);
        assert_false(opens(kept, false));
    }
    free(data);
}

/* A router of NaN: opens, is found by a check, and gives an error with the first token. */
static void broken_weights_are_errors(void **state)
{
    (void)state;
    mixt_model *model = make_model(0), *opened;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session;
    int32_t token = 1;
    const mixt_parameter *router = &model->parameters[mixt_model_find(model, MIXT_SLOT_ROUTER, 1)];
    for (size_t i = 0; i < router->count; i++) {
        model->weights[router->offset + i] = NAN;
    }
    require(mixt_model_save(model, in_home("nan"), &error), &error);
    require(mixt_model_open(in_home("nan"), &opened, &error), &error);
    assert_int_equal(mixt_model_verify(opened, &error), MIXT_ERROR_NUMERIC);
    assert_says(&error, "block_sparse_moe.gate.weight holds NaN in row 0, column 0");
    error = (mixt_error)MIXT_ERROR_INIT;
    require(mixt_session_create(context, opened, 8, &session, &error), &error);
    assert_int_equal(mixt_session_feed(session, &token, 1, &error), MIXT_ERROR_NUMERIC);
    mixt_session_free(session);
    mixt_model_free(opened);
    mixt_model_free(model);
}

static void routing_changes(void **state)
{
    (void)state;
    mixt_model *model = make_model(2), *dense = make_model(1); /* layer 0 has no experts */
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session;
    const int32_t *ids;
    const float *weights;
    int32_t tokens[] = {1, 2, 3};
    static const struct {
        mixt_routing_change change;
        int layer, value;
    } refused[] = {{MIXT_ROUTING_TOP_K, 0, 1}, {MIXT_ROUTING_TOP_K, -1, 6},
                   {MIXT_ROUTING_TOP_K, 1, 0}, {MIXT_ROUTING_MASK, 1, 5},
                   {MIXT_ROUTING_FORCE, 2, 0}, {MIXT_ROUTING_FORCE, -1, -1}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        error = (mixt_error)MIXT_ERROR_INIT;
        assert_int_equal(mixt_model_change_routing(model, refused[i].change, refused[i].layer,
                                                   refused[i].value, &error),
                         MIXT_ERROR_ARGUMENT);
    }
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_model_change_routing(dense, MIXT_ROUTING_TOP_K, -1, 1, &error),
                     MIXT_ERROR_ARGUMENT);
    error = (mixt_error)MIXT_ERROR_INIT;
    require(mixt_model_change_routing(model, MIXT_ROUTING_TOP_K, -1, 3, &error), &error);
    require(mixt_model_change_routing(model, MIXT_ROUTING_MASK, 1, 0, &error), &error);
    require(mixt_model_change_routing(model, MIXT_ROUTING_MASK, 1, 2, &error), &error);
    require(mixt_model_change_routing(model, MIXT_ROUTING_FORCE, 1, 4, &error), &error);
    require(mixt_session_create(context, model, 8, &session, &error), &error);
    require(mixt_session_feed(session, tokens, 3, &error), &error);
    mixt_session_routes(session, &ids, &weights); /* 3 of experts 1, 3 and 4 */
    assert_int_equal(ids[0], 4);
    assert_int_equal(ids[1] + ids[2], 4);
    assert_int_equal(ids[1] * ids[2], 3);
    mixt_session_free(session);
    require(mixt_model_change_routing(model, MIXT_ROUTING_TOP_K, 1, 1, &error), &error);
    require(mixt_session_create(context, model, 8, &session, &error), &error);
    require(mixt_session_feed(session, tokens, 3, &error), &error);
    mixt_session_routes(session, &ids, &weights);
    assert_true(ids[0] == 1 || ids[0] == 3 || ids[0] == 4);
    mixt_session_free(session);
    require(mixt_model_change_routing(model, MIXT_ROUTING_TOP_K, 1, 3, &error), &error);
    /* one more and there are not enough */
    assert_true(
        mixt_status_is_refusal(mixt_model_change_routing(model, MIXT_ROUTING_MASK, 1, 1, &error)));
    mixt_model_free(model);
    mixt_model_free(dense);
}

#define MXFP4_FIXTURE "tests/fixtures/families/gpt_oss-mxfp4/"

/* The fixture's tensors in a folder, zeros, with 72 values where it has hidden_size's 64. */
static void write_wide(const char *folder)
{
    static const char zeros[1 << 16];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_safetensors *file;
    mixt_safetensors_writer *writer;
    char *path = mixt_path_join(folder, "model.safetensors");
    require(mixt_safetensors_open(MXFP4_FIXTURE "model.safetensors", &file, &error), &error);
    require(mixt_safetensors_writer_create(path, 0, &writer, &error), &error);
    size_t count = mixt_safetensors_count(file), bytes[256];
    assert_true(count <= 256);
    for (size_t t = 0; t < count; t++) {
        const mixt_tensor_info *tensor = mixt_safetensors_tensor(file, t);
        bool own = strstr(tensor->name, "gate_up") != NULL; /* 64 are two times ffn_size's 32 */
        int64_t shape[4];
        assert_true(tensor->rank <= 4);
        for (uint32_t i = 0; i < tensor->rank; i++) {
            shape[i] = tensor->shape[i] == 64 && !own ? 72 : tensor->shape[i];
        }
        uint64_t size;
        assert_true(mixt_tensor_bytes(tensor->dtype, tensor->rank, shape, &size));
        assert_true(size <= sizeof zeros);
        bytes[t] = (size_t)size;
        require(mixt_safetensors_writer_add(writer, tensor->name, tensor->dtype, tensor->rank,
                                            shape, &error),
                &error);
    }
    require(mixt_safetensors_writer_begin(writer, &error), &error);
    for (size_t t = 0; t < count; t++) {
        require(mixt_safetensors_writer_write(writer, zeros, bytes[t], &error), &error);
    }
    require(mixt_safetensors_writer_finish(writer, &error), &error);
    mixt_safetensors_writer_free(writer);
    mixt_safetensors_close(file);
    free(path);
}

/* Rows of MXFP4 that end inside a block: the file holds whole blocks alone, so that all shapes
 * seem to fit. */
static void parts_of_blocks_are_refused(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    char *text, folder[96];
    size_t length;
    snprintf(folder, sizeof folder, "%s/wide", home);
    require(mixt_folder_create(folder, &error), &error);
    require(mixt_file_read(MXFP4_FIXTURE "config.json", 1 << 16, &text, &length, &error), &error);
    char *size = strstr(text, "\"hidden_size\": 64");
    assert_non_null(size);
    memcpy(size, "\"hidden_size\": 72", strlen("\"hidden_size\": 72"));
    char *path = mixt_path_join(folder, "config.json");
    require(mixt_file_replace(path, text, length, &error), &error);
    write_wide(folder);
    mixt_model *model;
    assert_true(mixt_status_is_refusal(mixt_model_open(folder, &model, &error)));
    assert_null(model);
    assert_says(&error, "rows of 72 values are not whole blocks of 32");
    free(path);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mapped_is_loaded),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(unread_tensors_are_refused),
        cmocka_unit_test(other_half_is_read),
        cmocka_unit_test(nan_is_found),
        cmocka_unit_test(truncated_while_mapped),
        cmocka_unit_test(gguf_is_loaded),
        cmocka_unit_test(wrong_gguf_tensors_are_refused),
        cmocka_unit_test(parts_of_blocks_are_refused),
        cmocka_unit_test(hostile_metadata_are_refused),
        cmocka_unit_test(changed_bytes_are_survived),
        cmocka_unit_test(broken_weights_are_errors),
        cmocka_unit_test(routing_changes),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
