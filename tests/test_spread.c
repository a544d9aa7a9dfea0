/* Models whose experts are spread over ranks: what rank 0 computes has the same bits as alone, for
 * every family and file, whatever it runs; what cannot be is refused on all ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "family_cases.h"
#include "hub.h"
#include "model_checks.h"
#include "scratch.h"

#define PROMPT 9
#define TOKENS 17
#define VOCABULARY 512 /* at most */
#define VALUES ((TOKENS - PROMPT) * VOCABULARY)

/* What rank 0 does with a model: `out` is the same at every number of ranks. */
typedef mixt_status (*head_work)(mixt_context *context, mixt_model *model, float *out,
                                 mixt_error *error);

typedef struct spread_case {
    const char *path;
    head_work work;
    float *out;
} spread_case;

static int experts_of(const mixt_model *model)
{
    return model->options.experts;
}

/* A rank's part: opens the model, keeps its share, and runs it or works for rank 0. */
static mixt_status take_part(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    const spread_case *c = user;
    mixt_model *model = NULL;
    mixt_context *context = NULL;
    mixt_context_options options = {.threads = rank == 1 ? 2 : 1};
    mixt_status status = mixt_context_create(&options, &context, error);
    if (status == MIXT_OK) {
        status = mixt_model_open(c->path, &model, error);
    }
    if (status == MIXT_OK) {
        status = mixt_ranks_arrange(ranks, 1, 0, experts_of(model), error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_spread(model, ranks, error);
    }
    if (status == MIXT_OK && rank > 0) {
        status = mixt_model_work(context, model, error);
    } else if (status == MIXT_OK) {
        status = c->work(context, model, c->out, error);
        mixt_error left = MIXT_ERROR_INIT;
        mixt_status dismissed = mixt_model_dismiss(model, &left);
        if (status == MIXT_OK && dismissed != MIXT_OK) {
            *error = left;
            status = dismissed;
        }
    }
    mixt_model_free(model);
    mixt_context_free(context);
    return status;
}

/* Logits behind a prompt, and behind each of some tokens more. */
static mixt_status generate(mixt_context *context, mixt_model *model, float *out, mixt_error *error)
{
    mixt_session *session;
    int vocabulary = model->options.vocab_size;
    MIXT_TRY(mixt_session_create(context, model, TOKENS, &session, error));
    mixt_status status = MIXT_OK;
    for (int i = 0; i < TOKENS - PROMPT && status == MIXT_OK; i++) {
        int32_t ids[PROMPT];
        int count = i == 0 ? PROMPT : 1;
        for (int j = 0; j < count; j++) {
            ids[j] = (i * 7 + j * 5 + 3) % vocabulary;
        }
        status = mixt_session_feed(session, ids, (size_t)count, error);
        memcpy(out + i * vocabulary, mixt_session_logits(session),
               (size_t)vocabulary * sizeof *out);
    }
    mixt_session_free(session);
    return status;
}

/* The same of a file at 2, 3 and 4 ranks as alone; false where the model has no experts. */
static bool check_file(const char *path, const char *name)
{
    static float alone[VALUES], spread[VALUES];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model *model = must_open_model(path);
    int experts = mixt_model_moe_layers(model) > 0 ? experts_of(model) : 0;
    assert_true(model->options.vocab_size <= VOCABULARY);
    memset(alone, 0, sizeof alone);
    must(generate(scratch_context, model, alone, &error), &error);
    mixt_model_free(model);
    for (int ranks = 1; ranks <= 4 && ranks <= experts; ranks++) {
        memset(spread, 0, sizeof spread);
        hub_run(ranks, take_part, &(spread_case){path, generate, spread});
        if (memcmp(alone, spread, sizeof alone) != 0) {
            fail_msg("%s on %d ranks: other bits", name, ranks);
        }
    }
    return experts > 0;
}

static void same_bits_of_every_family(void **state)
{
    (void)state;
    static const char *const files[] = {"deepseek",
                                        "deepseek.gguf",
                                        "deepseek_v2",
                                        "deepseek_v2-lite.gguf",
                                        "deepseek_v3",
                                        "deepseek_v3.gguf",
                                        "deepseek_v3.old.gguf",
                                        "gpt_oss",
                                        "gpt_oss.gguf",
                                        "gpt_oss-mxfp4",
                                        "gpt_oss-mxfp4.gguf",
                                        "grok-1",
                                        "grok-1.gguf",
                                        "longcat",
                                        "mixtral",
                                        "mixtral.gguf",
                                        "mixtral.old.gguf",
                                        "olmoe",
                                        "olmoe.gguf",
                                        "qwen2_moe",
                                        "qwen2_moe.gguf",
                                        "qwen3_moe",
                                        "qwen3_moe.gguf",
                                        "skywork",
                                        "yuan"};
    mixt_error error = MIXT_ERROR_INIT;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/fixtures/families/%s", files[i]);
        assert_true(check_file(path, files[i]));
    }
    for (size_t i = 0; i < test_family_count; i++) {
        mixt_model *model = test_family_model(&test_families[i]);
        char *path = scratch_path(test_families[i].name);
        bool moe = mixt_model_moe_layers(model) > 0;
        must(mixt_model_save(model, path, &error), &error);
        mixt_model_free(model);
        assert_int_equal(check_file(path, test_families[i].name), moe);
        free(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_of_every_family),
    };
    return cmocka_run_group_tests_name("spread", tests, scratch_make_context,
                                       scratch_remove_context);
}
