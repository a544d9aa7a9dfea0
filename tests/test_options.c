/* Option sets: each is refused before anything is written, or trains a step, is saved, opened and
 * resumed, and goes through GGUF and back with the same logits. MIXT_OPTION_SETS and
 * MIXT_OPTION_SEED: how many random ones, and which (make check-options). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/random.h"
#include "model/model.h"
#include "train_setup.h"

#define VOCABULARY 257
#define FED 6
#define PADDING 46 /* bytes between the fields of mixt_model_options */

typedef struct outcome_counts {
    int64_t refused, untrainable, own, other, skipped, broken;
} outcome_counts;

typedef struct logits {
    mixt_status status; /* a router whose logits overflow is refused, then in every form */
    float values[VOCABULARY];
} logits;

static char home[64];
static train_setup setup; /* context, tokenizer, data; its model is not used */

static char *in_home(const char *name, char path[160])
{
    snprintf(path, 160, "%s/%s", home, name);
    return path;
}

static int begin(void **state)
{
    (void)state;
    bool memory = access("/dev/shm", W_OK) == 0;
    snprintf(home, sizeof home, "%s/mixt-options-XXXXXX", memory ? "/dev/shm" : "/tmp");
    train_setup_open(&setup, 1, NULL);
    return mkdtemp(home) == NULL;
}

static int end(void **state)
{
    (void)state;
    train_setup_close(&setup);
    return mixt_folder_remove(home, NULL) != MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Random sets                                                                                */

typedef struct dice {
    mixt_random_key key;
    uint64_t at;
} dice;

static int below(dice *d, int n)
{
    return (int)(mixt_random_uniform(&d->key, d->at++) * n);
}

static bool often(dice *d, int percent)
{
    return below(d, 100) < percent;
}

#define PICK(d, ...)                                                                               \
    ((const double[]){__VA_ARGS__}[below(d, (int)(sizeof(double[]){__VA_ARGS__} / sizeof(double)))])

static void draw_shape(dice *d, mixt_model_options *o)
{
    o->layers = 1 + below(d, 2);
    o->hidden_size = 8 * (1 + below(d, 4));
    o->heads = 1 << below(d, 3);
    o->kv_heads = o->heads >> below(d, 2);
    o->head_dim = often(d, 50) ? 0 : 2 * (1 + below(d, 8));
    o->ffn_size = 1 + below(d, 24);
    o->experts = often(d, 15) ? 0 : 1 + below(d, 8);
    o->experts_per_token = 1 + below(d, 3);
    o->shared_experts = often(d, 30) ? 1 + below(d, 3) : 0;
    o->shared_ffn_size = often(d, 30) ? 1 + below(d, 20) : 0;
    o->shared_gate = often(d, 30);
    o->leading_dense_layers = often(d, 20) ? below(d, 3) : 0;
    o->moe_period = often(d, 90) ? 0 : 1 + below(d, 3);
    o->dense_ffn_size = often(d, 20) ? 1 + below(d, 30) : 0;
    o->tie_embeddings = often(d, 30);
    o->separator = often(d, 80) ? 256 : -1;
    o->rope_theta = often(d, 60) ? 10000 : PICK(d, 1, 12345.678, 1e6, 1e12, 1e300, 0.5);
    o->norm_epsilon = often(d, 60) ? 1e-5 : PICK(d, 1e-12, 1e-20, 0.1, 0.5, 1e-6, 0.3333);
    o->initializer_range = often(d, 80) ? 0.02 : PICK(d, 0, 0.1, 10, 11);
    o->activation = often(d, 80) ? 0 : below(d, 3);
    o->post_norms = often(d, 15);
    o->embedding_scale = often(d, 85) ? 0 : PICK(d, 4, 0.1, 78.38367176906169, -1);
    o->logit_scale = often(d, 85) ? 0 : PICK(d, 0.5773502691896257, 3, 1e9);
    o->rope.dims = often(d, 85) ? 0 : 2 * below(d, 8);
    o->expert_bias = often(d, 8);
    o->identity_experts = often(d, 85) ? 0 : 1 + below(d, 3);
    o->zero_experts = often(d, 85) ? 0 : 1 + below(d, 3);
}

static void draw_attention(dice *d, mixt_attention_options *a)
{
    a->qk_norm = often(d, 60) ? 0 : (mixt_qk_norm)below(d, 3);
    a->qkv_bias = often(d, 25);
    a->output_bias = often(d, 8);
    a->clip = often(d, 80) ? 0 : PICK(d, 1.1, 0.3, 1e30, 8);
    a->scale = often(d, 85) ? 0 : PICK(d, 0.4, 0.08838834764831845, 1e-9);
    a->soft_cap = often(d, 85) ? 0 : PICK(d, 30, 2.2, 1e9);
    a->window = often(d, 80) ? 0 : 1 + below(d, 40);
    a->window_period = often(d, 85) ? 0 : below(d, 3);
    a->filter = often(d, 10);
    a->mixed_qk = often(d, 10);
}

static void draw_router(dice *d, mixt_router_options *r)
{
    r->select = often(d, 80) ? 0 : 1 + below(d, 4);
    r->capacity = often(d, 80) ? 0 : PICK(d, 0, 0.5, 1.25, 4);
    r->evaluation_capacity = often(d, 90) ? 0 : PICK(d, 1, 1.25, 2, 0.5);
    r->drop = (mixt_drop)below(d, 2);
    r->choice_scope = r->select == 3 ? (mixt_choice_scope)below(d, 2) : MIXT_CHOICE_OVER_BATCH;
    r->noise = often(d, 90) ? MIXT_NOISE_NONE : MIXT_NOISE_TOP_K;
    r->jitter = often(d, 90) ? 0 : 0.01;
    r->unit = often(d, 85) ? MIXT_UNIT_TOKEN : (mixt_router_unit)below(d, 3);
    r->segment = r->unit == MIXT_UNIT_SEGMENT ? 1 + below(d, 9) : 0;
    r->scope = often(d, 90) ? MIXT_SCOPE_LAYER : MIXT_SCOPE_GLOBAL;
    r->score = often(d, 50) ? MIXT_SCORE_SOFTMAX : (mixt_score)below(d, 3);
    r->renormalise = often(d, 50);
    r->scale = often(d, 60) ? 1 : PICK(d, 2.5, 2, 0.1, 1e-6, 1e6, -1.5, 16.0 / 3);
    r->logits = often(d, 85) ? MIXT_LOGITS_LINEAR : MIXT_LOGITS_ATTENTION;
    r->logit_bias = often(d, 10);
    r->normalise = often(d, 85) ? 0 : PICK(d, 1.2, 0.1, 1e6);
    r->soft_cap = often(d, 85) ? 0 : PICK(d, 5.5, 0.1, 1e9);
    r->select_bias = often(d, 10);
    r->bias_rate = often(d, 80) ? 0 : PICK(d, 0.001, 1, 0.3333);
    r->groups = often(d, 85) ? 0 : below(d, 5);
    r->groups_used = below(d, 4);
    r->group_score = (mixt_group_score)below(d, 2);
    r->weights = often(d, 85) ? MIXT_ROUTER_LEARNED : MIXT_ROUTER_FROZEN;
    r->balance = often(d, 80) ? MIXT_BALANCE_SWITCH : MIXT_BALANCE_GSHARD;
    r->balance_groups = often(d, 70) ? 0 : below(d, 9);
    r->device_balance_coefficient = r->balance_groups < 2 || often(d, 30) ? 0 : PICK(d, 0.05, 1e6);
    r->balance_coefficient = often(d, 60) ? 0.01 : PICK(d, 0, 0.1, 1e6);
    r->z_coefficient = often(d, 60) ? 0.001 : PICK(d, 0, 0.3, 1e6);
}

/* Of a family that others know, nothing but its sizes drawn. */
static void take_family(dice *d, mixt_model_options *o)
{
    int family = below(d, 10);
    o->experts = family < 2 ? 0 : 1 + below(d, 8);
    o->experts_per_token = o->experts > 1 ? 1 + below(d, 2) : 1;
    o->attention.window = family == 1 ? 1 + below(d, 20) : 0;
    o->router.renormalise = family < 3 || family == 6 || family > 6;
    if (family == 3) {
        o->shared_experts = below(d, 3);
        o->leading_dense_layers = below(d, 2);
    } else if (family == 4) {
        o->attention.qkv_bias = o->shared_gate = true;
        o->shared_experts = 1;
        o->shared_ffn_size = 1 + below(d, 20);
    } else if (family == 5) {
        o->attention.qk_norm = MIXT_QK_NORM_WHOLE;
        o->attention.clip = below(d, 2) * 1.5;
    } else if (family == 6) {
        o->attention.qk_norm = MIXT_QK_NORM_HEAD;
    } else if (family == 7) {
        o->heads = o->kv_heads = 2;
        o->attention.filter = o->attention.mixed_qk = true;
        o->rope.dims = o->hidden_size / o->heads;
        o->head_dim = 2 * o->rope.dims;
        o->router.logits = MIXT_LOGITS_ATTENTION;
    } else if (family == 8) {
        o->router.normalise = 1;
    } else if (family == 9) {
        o->router.renormalise = false;
        o->tie_embeddings = o->post_norms = true;
        o->activation = MIXT_ACTIVATION_GELU;
        o->attention.scale = 0.4;
        o->attention.soft_cap = 30;
        o->embedding_scale = 4;
        o->logit_scale = 0.5773502691896257;
    }
}

/* Anything, or a family with up to three of its options changed. */
static mixt_model_options draw(uint64_t seed, uint32_t number)
{
    dice d = {{seed, MIXT_RANDOM_INIT, number}, 0};
    mixt_model_options wild = mixt_model_options_default();
    wild.vocab_size = VOCABULARY;
    wild.context_length = 16 + below(&d, 3) * 16;
    mixt_model_options o = wild;
    draw_shape(&d, &wild);
    draw_attention(&d, &wild.attention);
    draw_router(&d, &wild.router);
    if (often(&d, 30)) {
        return wild;
    }
    o.layers = wild.layers;
    o.hidden_size = wild.hidden_size;
    o.heads = wild.heads;
    o.kv_heads = wild.kv_heads;
    o.head_dim = 2 * (1 + below(&d, 8));
    o.ffn_size = wild.ffn_size;
    take_family(&d, &o);
    int fields = 0;
    while (mixt_option_fields[fields].type != MIXT_FIELD_END) {
        fields++;
    }
    for (int changes = below(&d, 4); changes > 0; changes--) {
        const mixt_config_row *row = &mixt_option_fields[below(&d, fields)];
        mixt_row_set(row, &o, mixt_row_get(row, &wild));
    }
    return o;
}

static void describe(const mixt_model_options *options, char text[2000])
{
    size_t used = 0;
    for (const mixt_config_row *row = mixt_option_fields; row->type != MIXT_FIELD_END; row++) {
        char value[40];
        mixt_option_text(row, mixt_row_get(row, options), value);
        if (strcmp(value, "0") != 0 && strcmp(value, "false") != 0 && used < 1900) {
            used += (size_t)snprintf(text + used, 2000 - used, " %s=%s", row->key, value);
        }
    }
}

/* ------------------------------------------------------------------------------------------ */
/* One set                                                                                    */

typedef struct trial {
    uint32_t number;
    char what[2000]; /* the options in words */
    outcome_counts *counts;
} trial;

#define NEED(trial, condition, error)                                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fail_msg("set %u: %s:%d: %s\n%s", (trial)->number, #condition, __LINE__,               \
                     (error)->message, (trial)->what);                                             \
        }                                                                                          \
    } while (0)

static logits logits_of(const mixt_model *model)
{
    static const int32_t tokens[FED] = {256, 10, 97, 120, 97, 33};
    logits result = {MIXT_OK, {0}};
    mixt_session *session;
    result.status = mixt_session_create(setup.context, model, 16, &session, NULL);
    if (result.status == MIXT_OK) {
        result.status = mixt_session_feed(session, tokens, FED, NULL);
        if (result.status == MIXT_OK) {
            memcpy(result.values, mixt_session_logits(session), sizeof result.values);
        }
        mixt_session_free(session);
    }
    return result;
}

static bool same_logits(const logits *a, const logits *b)
{
    return a->status == b->status && memcmp(a->values, b->values, sizeof a->values) == 0;
}

/* Rows of q and k may lie the other way round in GGUF files: sums in another order. */
static bool near_logits(const logits *a, const logits *b)
{
    double largest = 1e-3;
    for (int i = 0; i < VOCABULARY; i++) {
        largest = fmax(largest, fabs((double)a->values[i]));
    }
    for (int i = 0; i < VOCABULARY; i++) {
        if (!(fabs((double)a->values[i] - b->values[i]) <= 1e-3 * largest)) {
            return !isfinite(a->values[i]) || a->status != b->status;
        }
    }
    return true;
}

static void convert_both_ways(trial *t, const mixt_model *model, const logits *wanted)
{
    mixt_error error = MIXT_ERROR_INIT;
    char gguf[160], folder[160];
    mixt_convert_options options = mixt_convert_options_default();
    mixt_convert_report report;
    mixt_model *middle, *back;
    options.output = in_home("model.gguf", gguf);
    options.report = &report;
    NEED(t, mixt_convert(setup.context, model, &options, NULL, NULL, &error) == MIXT_OK, &error);
    NEED(t, mixt_model_open(gguf, &middle, &error) == MIXT_OK, &error);
    options.output = in_home("back", folder);
    NEED(t, mixt_convert(setup.context, middle, &options, NULL, NULL, &error) == MIXT_OK, &error);
    NEED(t, mixt_model_open(folder, &back, &error) == MIXT_OK, &error);
    logits between = logits_of(middle), after = logits_of(back);
    bool turned = middle->options.rope.interleaved != model->options.rope.interleaved;
    NEED(t, turned ? near_logits(wanted, &between) : same_logits(wanted, &between), &error);
    turned = back->options.rope.interleaved != model->options.rope.interleaved;
    NEED(t, turned ? near_logits(wanted, &after) : same_logits(wanted, &after), &error);
    mixt_model_free(middle);
    mixt_model_free(back);
}

/* Goes on with the run in `run` in a new process's stead. */
static void resume(trial *t, const mixt_model_options *options, const char *run, const char *hash)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    mixt_trainer *trainer;
    mixt_step_report report;
    NEED(t, mixt_model_create(options, 5, &model, &error) == MIXT_OK, &error);
    NEED(t,
         mixt_trainer_create(setup.context, model, setup.data, setup.tokenizer, &setup.options, run,
                             &trainer, &error) == MIXT_OK,
         &error);
    NEED(t, mixt_trainer_resumed(trainer) != NULL, &error);
    NEED(t, strcmp(mixt_trainer_state_hash(trainer), hash) == 0, &error);
    NEED(t, mixt_trainer_step(trainer, &report, &error) == MIXT_OK, &error);
    mixt_trainer_free(trainer);
    mixt_model_free(model);
}

static void train_and_save(trial *t, const mixt_model_options *options, mixt_model *model)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    mixt_step_report report;
    mixt_model *opened, *checkpoint;
    char run[160], folder[160], step[200], hash[65];
    in_home("run", run);
    setup.options.optimizer =
        options->hidden_size % 16 == 0 ? MIXT_OPTIMIZER_MUON : MIXT_OPTIMIZER_ADAMW;
    if (mixt_trainer_create(setup.context, model, setup.data, setup.tokenizer, &setup.options, run,
                            &trainer, &error) != MIXT_OK) {
        NEED(t, mixt_status_is_refusal(error.status) && !mixt_path_exists(run), &error);
        t->counts->untrainable++;
        return;
    }
    NEED(t, mixt_trainer_step(trainer, &report, &error) == MIXT_OK, &error);
    t->counts->skipped += report.was_skipped;
    NEED(t, mixt_trainer_checkpoint(trainer, &error) == MIXT_OK, &error);
    strcpy(hash, mixt_trainer_state_hash(trainer));
    mixt_trainer_free(trainer);
    logits trained = logits_of(model);
    t->counts->broken += trained.status != MIXT_OK;
    NEED(t, mixt_model_save(model, in_home("model", folder), &error) == MIXT_OK, &error);
    NEED(t, mixt_model_open(folder, &opened, &error) == MIXT_OK, &error);
    logits saved = logits_of(opened);
    NEED(t, same_logits(&trained, &saved), &error);
    snprintf(step, sizeof step, "%s/checkpoints/step-00000001", run);
    if (!mixt_path_exists(step)) {
        snprintf(step, sizeof step, "%s/step-00000001", run);
    }
    NEED(t, mixt_model_open(step, &checkpoint, &error) == MIXT_OK, &error);
    logits kept = logits_of(checkpoint);
    NEED(t, same_logits(&trained, &kept), &error);
    resume(t, options, run, hash);
    convert_both_ways(t, opened, &trained);
    bool own = opened->family->universal;
    t->counts->own += own;
    t->counts->other += !own;
    mixt_model_free(checkpoint);
    mixt_model_free(opened);
}

static void try_set(const mixt_model_options *options, uint32_t number, outcome_counts *counts)
{
    trial t = {.number = number, .counts = counts};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model;
    char path[160];
    describe(options, t.what);
    mixt_folder_remove(in_home("run", path), NULL);
    mixt_folder_remove(in_home("model", path), NULL);
    mixt_folder_remove(in_home("back", path), NULL);
    if (mixt_model_options_check(options, &error) != MIXT_OK) {
        NEED(&t, mixt_status_is_refusal(error.status) && error.message[0] != '\0', &error);
        counts->refused++;
        return;
    }
    NEED(&t, mixt_model_create(options, 3, &model, &error) == MIXT_OK, &error);
    train_and_save(&t, options, model);
    mixt_model_free(model);
}

static uint64_t number_of(const char *name, uint64_t usual)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : usual;
}

static void random_sets(void **state)
{
    (void)state;
    outcome_counts counts = {0};
    uint64_t sets = number_of("MIXT_OPTION_SETS", 200), seed = number_of("MIXT_OPTION_SEED", 1);
    uint64_t first = number_of("MIXT_OPTION_FIRST", 0);
    setup.options.steps = 3;
    setup.options.batch_size = 1;
    setup.options.window = 12;
    for (uint64_t i = first; i < first + sets; i++) {
        mixt_model_options options = draw(seed, (uint32_t)i);
        try_set(&options, (uint32_t)i, &counts);
    }
    printf("%llu option sets: %lld refused, %lld cannot be trained, %lld of families that others "
           "know, %lld of mixt's own; %lld steps skipped, %lld with routers that overflow\n",
           (unsigned long long)sets, (long long)counts.refused, (long long)counts.untrainable,
           (long long)counts.other, (long long)counts.own, (long long)counts.skipped,
           (long long)counts.broken);
    assert_true(sets < 100 || (counts.refused > 0 && counts.other > 0 && counts.own > 0));
}

/* ------------------------------------------------------------------------------------------ */
/* Sets that ended with nothing, and what is said of them                                     */

static void runs_that_could_not_be_saved(void **state)
{
    (void)state;
    outcome_counts counts = {0};
    mixt_model_options sets[6];
    for (int i = 0; i < 6; i++) {
        sets[i] = train_setup_model_options();
    }
    sets[0].router.scale = 2;
    sets[1].router.renormalise = false;
    sets[1].router.scale = 2.5;
    sets[2].experts = 0;
    sets[2].post_norms = true;
    sets[3].router.bias_rate = 0.001;
    sets[4].attention.filter = sets[4].attention.mixed_qk = true; /* a Yuan */
    sets[4].kv_heads = sets[4].heads;
    sets[4].router.logits = MIXT_LOGITS_ATTENTION;
    sets[5].experts = 0;
    sets[5].attention.window = 5;
    static const char *const alone[] = {"router.scale 2 (mixtral: 1)",
                                        "router.scale 2.5 (deepseek: 1)",
                                        "post_norms true (llama: false)",
                                        "router.select_bias true (mixtral: false)",
                                        "",
                                        ""};
    setup.options.steps = 3;
    setup.options.batch_size = 1;
    setup.options.window = 12;
    for (int i = 0; i < 6; i++) {
        mixt_model *model;
        mixt_model_info info;
        try_set(&sets[i], (uint32_t)i, &counts);
        assert_int_equal(mixt_model_create(&sets[i], 1, &model, NULL), MIXT_OK);
        mixt_model_describe(model, &info);
        assert_string_equal(info.alone, alone[i]);
        assert_int_equal(strcmp(info.family, "mixt") == 0, alone[i][0] != '\0');
        mixt_model_free(model);
    }
    assert_int_equal(counts.own, 4);
    assert_int_equal(counts.other, 2);
}

static void what_cannot_be_is_refused_first(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = train_setup_model_options();
    options.experts_per_token = 1; /* weights of 1: no gradient reaches the router */
    assert_int_equal(mixt_model_options_check(&options, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "router"));
    mixt_model *model; /* but it runs */
    assert_int_equal(mixt_model_create(&options, 1, &model, NULL), MIXT_OK);
    logits found = logits_of(model);
    assert_int_equal(found.status, MIXT_OK);
    mixt_model_free(model);
    error = (mixt_error)MIXT_ERROR_INIT;
    options = train_setup_model_options();
    options.rope_theta = INFINITY;
    assert_int_equal(mixt_model_options_check(&options, &error), MIXT_ERROR_ARGUMENT);
}

/* The list of fields is complete: no byte of the options is outside but padding, reserved words and
 * RoPE's scaling, which is compared by its angles. */
static void every_option_is_compared(void **state)
{
    (void)state;
    unsigned char seen[sizeof(mixt_model_options)] = {0};
    const mixt_model_options *o = (const mixt_model_options *)seen;
    memset(seen + offsetof(mixt_model_options, rope), 1, sizeof o->rope);
    memset(seen + offsetof(mixt_model_options, reserved), 1, sizeof o->reserved);
    memset(seen + offsetof(mixt_model_options, router.reserved), 1, sizeof o->router.reserved);
    memset(seen + offsetof(mixt_model_options, attention.reserved), 1,
           sizeof o->attention.reserved);
    for (const mixt_config_row *row = mixt_option_fields; row->type != MIXT_FIELD_END; row++) {
        size_t bytes = row->type == MIXT_FIELD_NUMBER ? sizeof(double)
                       : row->type == MIXT_FIELD_BOOL ? sizeof(bool)
                                                      : sizeof(int);
        memset(seen + row->offset, 1, bytes);
    }
    size_t unseen = 0;
    for (size_t i = 0; i < sizeof seen; i++) {
        unseen += seen[i] == 0;
    }
    assert_int_equal(unseen, PADDING); /* more: a field is missing in the list */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_is_compared),
        cmocka_unit_test(runs_that_could_not_be_saved),
        cmocka_unit_test(what_cannot_be_is_refused_first),
        cmocka_unit_test(random_sets),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
