/* What a program may rely on whatever library it runs with: versions, and options that grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "train_setup.h"

static void versions_agree(void **state)
{
    (void)state;
    char text[40];
    int number = mixt_version_number();
    snprintf(text, sizeof text, "%d.%d.%d", number / 10000, number / 100 % 100, number % 100);
    assert_string_equal(mixt_version(), text);
    assert_string_equal(mixt_version(), MIXT_VERSION);
    assert_int_equal(number, MIXT_VERSION_NUMBER);
    assert_in_range(MIXT_VERSION_MINOR, 0, 99);
    assert_in_range(MIXT_VERSION_PATCH, 0, 99);
}

/* The last reserved word, which a program of a newer header has set. */
#define MUST_NAME(type, status, error)                                                             \
    must_refuse(status, error, type, "is not 0: set by a newer mixt.h", type)
#define SET_LAST(options)                                                                          \
    ((options).reserved[sizeof(options).reserved / sizeof(options).reserved[0] - 1] = 1)

static void newer_model_options_are_refused(void **state)
{
    (void)state;
    static const char *const types[] = {"mixt_model_options", "mixt_attention_options",
                                        "mixt_rope_options", "mixt_router_options"};
    for (int i = 0; i < 4; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_model *model = NULL;
        mixt_model_options options = train_setup_model_options();
        switch (i) {
        case 0:
            SET_LAST(options);
            break;
        case 1:
            SET_LAST(options.attention);
            break;
        case 2:
            SET_LAST(options.rope);
            break;
        default:
            SET_LAST(options.router);
        }
        MUST_NAME(types[i], mixt_model_options_check(&options, &error), &error);
        error = (mixt_error)MIXT_ERROR_INIT;
        MUST_NAME(types[i], mixt_model_create(&options, 1, &model, &error), &error);
        assert_null(model);
    }
}

static void newer_options_at_work_are_refused(void **state)
{
    (void)state;
    train_setup setup;
    mixt_model_options shape = train_setup_model_options();
    train_setup_open(&setup, 1, &shape);
    mixt_error error = MIXT_ERROR_INIT;

    mixt_trainer *trainer = NULL;
    mixt_train_options train = setup.options;
    SET_LAST(train);
    MUST_NAME("mixt_train_options",
              mixt_trainer_create(setup.context, setup.model, setup.data, setup.tokenizer, &train,
                                  setup.run, &trainer, &error),
              &error);
    assert_null(trainer);

    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_importance *importance = NULL;
    mixt_importance_options gather = {.window = 16};
    SET_LAST(gather);
    MUST_NAME("mixt_importance_options",
              mixt_importance_collect(setup.context, setup.model, setup.data, &gather, &importance,
                                      &error),
              &error);

    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_perplexity perplexity;
    mixt_perplexity_options about = {.text = "text", .length = 4, .window = 16};
    SET_LAST(about);
    MUST_NAME("mixt_perplexity_options",
              mixt_text_perplexity(setup.context, setup.model, setup.tokenizer, &about, &perplexity,
                                   &error),
              &error);

    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_convert_options convert = mixt_convert_options_default();
    char output[200];
    snprintf(output, sizeof output, "%s/out.gguf", setup.folder);
    convert.output = output;
    SET_LAST(convert);
    MUST_NAME("mixt_convert_options",
              mixt_convert(setup.context, setup.model, &convert, NULL, NULL, &error), &error);

    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_trace_options trace = {.output = output, .window = 16};
    SET_LAST(trace);
    MUST_NAME("mixt_trace_options",
              mixt_trace_write(setup.context, setup.model, setup.data, setup.tokenizer, &trace,
                               NULL, NULL, &error),
              &error);

    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_bench_row *rows;
    size_t count;
    mixt_bench_options bench = {.repetitions = 1};
    SET_LAST(bench);
    MUST_NAME("mixt_bench_options",
              mixt_bench_run(setup.context, setup.model, &bench, &rows, &count, &error), &error);
    train_setup_close(&setup);
}

static bool end_at_once(void *user, double done, double total)
{
    (void)user;
    (void)done;
    (void)total;
    return false;
}

static void long_calls_end_when_asked(void **state)
{
    (void)state;
    train_setup setup;
    mixt_model_options shape = train_setup_model_options();
    train_setup_open(&setup, 1, &shape);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_score_row *rows = calloc((size_t)mixt_data_domain_count(setup.data) + 1, sizeof *rows);
    assert_int_equal(mixt_evaluate(setup.context, setup.model, setup.data, false, 16, 0, rows,
                                   end_at_once, NULL, &error),
                     MIXT_ERROR_INTERRUPTED);
    free(rows);
    char output[200];
    snprintf(output, sizeof output, "%s/ended.trace", setup.folder);
    mixt_trace_options trace = {.output = output, .window = 16};
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_trace_write(setup.context, setup.model, setup.data, setup.tokenizer,
                                      &trace, end_at_once, NULL, &error),
                     MIXT_ERROR_INTERRUPTED);
    assert_int_not_equal(access(output, F_OK), 0);
    mixt_importance *importance = NULL;
    const mixt_importance_options gather = {.window = 16, .progress = end_at_once};
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_importance_collect(setup.context, setup.model, setup.data, &gather,
                                             &importance, &error),
                     MIXT_ERROR_INTERRUPTED);
    assert_null(importance);
    train_setup_close(&setup);
}

static void newer_plain_options_are_refused(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context = NULL;
    mixt_context_options threads = {.threads = 1};
    SET_LAST(threads);
    MUST_NAME("mixt_context_options", mixt_context_create(&threads, &context, &error), &error);
    assert_null(context);

    error = (mixt_error)MIXT_ERROR_INIT;
    char *text = NULL;
    mixt_chat_message message = {"user", "hello"};
    mixt_chat_options chat = mixt_chat_options_default();
    SET_LAST(chat);
    MUST_NAME("mixt_chat_options", mixt_chat_render("{}", &message, 1, &chat, &text, &error),
              &error);
    assert_null(text);

    error = (mixt_error)MIXT_ERROR_INIT;
    const float logits[2] = {0, 1};
    int32_t token;
    mixt_sampling sampling = mixt_sampling_default();
    SET_LAST(sampling);
    MUST_NAME("mixt_sampling", mixt_sample(&sampling, logits, 2, NULL, 0, 0, &token, &error),
              &error);

    error = (mixt_error)MIXT_ERROR_INIT;
    mixt_atlas_options atlas = {.width = 80};
    SET_LAST(atlas);
    MUST_NAME("mixt_atlas_options", mixt_atlas_print(NULL, &atlas, stdout, &error), &error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_agree),
        cmocka_unit_test(newer_model_options_are_refused),
        cmocka_unit_test(newer_options_at_work_are_refused),
        cmocka_unit_test(long_calls_end_when_asked),
        cmocka_unit_test(newer_plain_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
