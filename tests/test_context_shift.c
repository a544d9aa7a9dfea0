/* --context-shift and --keep: what stays is what llama.cpp keeps, and every shifted text is
 * computed anew: fresh sessions of the library give the same tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mixt.h"
#include "scratch.h"
#include "shell.h"

enum { CONTEXT = 40, DRAWN = 150, TOKENS_MAX = 1000 };

static mixt_context *context;
static mixt_model *model;
static mixt_tokenizer *tokenizer;
static int vocab_size;

static int set_up(void **state)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = 1};
    mixt_model_info info;
    if (shell_make(state) != 0) {
        return -1;
    }
    shell_train();
    char *path = scratch_path("run/model");
    bool good = mixt_context_create(&options, &context, &error) == MIXT_OK &&
                mixt_model_open(path, &model, &error) == MIXT_OK &&
                mixt_tokenizer_open(path, &tokenizer, &error) == MIXT_OK;
    free(path);
    if (good) {
        mixt_model_describe(model, &info);
        vocab_size = info.options.vocab_size;
    }
    return good ? 0 : -1;
}

static int tear_down(void **state)
{
    mixt_tokenizer_free(tokenizer);
    mixt_model_free(model);
    mixt_context_free(context);
    return scratch_remove(state);
}

/* The most probable token behind a text, by a session that never saw another. */
static int32_t next_token(const int32_t *ids, size_t count)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session;
    assert_int_equal(mixt_session_create(context, model, CONTEXT, &session, &error), MIXT_OK);
    assert_int_equal(mixt_session_feed(session, ids, count, &error), MIXT_OK);
    const float *logits = mixt_session_logits(session);
    int32_t best = 0;
    for (int32_t i = 1; i < vocab_size; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    mixt_session_free(session);
    return best;
}

/* llama.cpp's tools/completion: of a full context the first `keep` stay, and of the rest the second
 * half. Gives the number of shifts; `text` is what was written. */
static int simulate(const char *prompt, int keep, int64_t draws, char *text, size_t size)
{
    mixt_error error = MIXT_ERROR_INIT;
    int32_t *encoded, ids[TOKENS_MAX], drawn[TOKENS_MAX];
    size_t count, written = 0;
    int shifts = 0;
    assert_int_equal(
        mixt_tokenizer_encode(tokenizer, prompt, strlen(prompt), true, &encoded, &count, &error),
        MIXT_OK);
    int bos = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS);
    size_t add = bos >= 0 && encoded[0] != bos;
    assert_true(count + add < CONTEXT);
    ids[0] = bos;
    memcpy(ids + add, encoded, count * sizeof *ids);
    free(encoded);
    count += add;
    size_t stays = keep < 0 || (size_t)keep > count ? count : (size_t)keep + (bos >= 0);
    for (int64_t i = 0; i < draws; i++) {
        if (count == CONTEXT) {
            size_t dropped = (count - stays) / 2;
            memmove(ids + stays, ids + stays + dropped, (count - stays - dropped) * sizeof *ids);
            count -= dropped;
            shifts++;
        }
        int32_t token = next_token(ids, count);
        if (mixt_tokenizer_is_end(tokenizer, token) ||
            token == mixt_tokenizer_separator(tokenizer)) {
            break;
        }
        ids[count++] = drawn[written++] = token;
    }
    char *decoded;
    size_t length;
    assert_int_equal(
        mixt_tokenizer_decode(tokenizer, drawn, written, false, &decoded, &length, &error),
        MIXT_OK);
    snprintf(text, size, "%s\n", decoded);
    free(decoded);
    return shifts;
}

static void shifted_texts_are_computed_anew(void **state)
{
    static const int keeps[] = {0, 5, -1, 1000};
    char wanted[8 * TOKENS_MAX], line[400];
    (void)state;
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++) {
        int shifts = simulate("int a3 = ", keeps[i], DRAWN, wanted, sizeof wanted);
        assert_true(shifts > 4); /* the text did not end before */
        snprintf(line, sizeof line,
                 "\"$MIXT\" run -m run -t 1 -c %d --temp 0 -n %d -p 'int a3 = ' --hide-prompt -q "
                 "--context-shift --keep %d",
                 CONTEXT, DRAWN, keeps[i]);
        assert_int_equal(shell(line), 0);
        assert_string_equal(shell_out, wanted);
        assert_has(shell_err, "context shift: the first ");
        assert_has(shell_err, " behind were dropped, and the rest was computed again\n");
    }
}

static void it_is_off_unless_asked_for(void **state)
{
    (void)state;
    assert_int_equal(shell("\"$MIXT\" run -m run -t 1 -c 40 --temp 0 -n 150 -p 'int a3 = '"), 0);
    assert_has(shell_err, "the context is full");
    assert_lacks(shell_err, "context shift");
    shell_refuses("\"$MIXT\" run -m run -p x --keep 3", "--keep: it does nothing without");
    shell_refuses("\"$MIXT\" chat -m run --keep 3", "--keep: it does nothing without");
    shell_refuses("head -c 3000 /dev/zero | tr '\\0' a | \"$MIXT\" run -m run -t 1 -c 40 -p - "
                  "--context-shift",
                  "tokens do not fit into a context of 40");
}

/* A conversation that outgrows the context goes on, within an answer and between turns. */
static void chats_go_on(void **state)
{
    (void)state;
    shell_write("own.jinja", "{% for m in messages %}{{ m.content }} {% endfor %}");
    assert_int_equal(shell("for i in 1 2 3 4 5 6 7 8; do echo \"int a$i = 7 ; return\"; done | "
                           "\"$MIXT\" chat -m run -t 1 -c 40 --temp 0 -n 12 --template own.jinja "
                           "--context-shift --keep -1 --system int"),
                     0);
    assert_has(shell_err, "context shift: the first ");
    assert_lacks(shell_err, "is full");
    int lines = 0;
    for (const char *at = shell_out; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_true(lines >= 8);
    assert_int_equal(shell("echo \"int a1 =\" | \"$MIXT\" chat -m run -t 1 -c 40 --temp 0 -n 100 "
                           "--template own.jinja --context-shift -v"),
                     0);
    assert_has(shell_err, "context shift: the first ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shifted_texts_are_computed_anew),
        cmocka_unit_test(it_is_off_unless_asked_for),
        cmocka_unit_test(chats_go_on),
    };
    return cmocka_run_group_tests_name("context_shift", tests, set_up, tear_down);
}
