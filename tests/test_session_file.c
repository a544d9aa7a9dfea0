/* Sessions in files: of every family's tiny model what goes on behind a file has the bits of what
 * never stopped; what is cut, damaged or of another model is refused. And --prompt-cache. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mixt.h"
#include "scratch.h"
#include "shell.h"

#define FOLDER "tests/fixtures/families/"
enum { TOKENS = 100, KEPT = 70 }; /* more than a page, which is 64 positions */

static mixt_context *context;

static int set_up(void **state)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = 1};
    return shell_make(state) == 0 && mixt_context_create(&options, &context, &error) == MIXT_OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    mixt_context_free(context);
    return scratch_remove(state);
}

static void good(mixt_status status, const mixt_error *error, const char *what)
{
    if (status != MIXT_OK) {
        fail_msg("%s: %s", what, error->message);
    }
}

static mixt_session *begin(const mixt_model *model, mixt_cache_type type, const char *what)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_session *session;
    mixt_session_options options = mixt_session_options_default();
    options.context_length = TOKENS + 20;
    options.cache_type = type;
    good(mixt_session_create_with(context, model, &options, &session, &error), &error, what);
    return session;
}

static size_t fill_tokens(const mixt_model *model, int32_t *tokens)
{
    mixt_model_info info;
    mixt_model_describe(model, &info);
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = (i * 37 + i * i) % info.options.vocab_size;
    }
    return (size_t)info.options.vocab_size;
}

static void assert_same_state(mixt_session *a, mixt_session *b, size_t vocab_size, const char *what)
{
    const int32_t *ids[2];
    const float *weights[2];
    int layers, chosen;
    mixt_session_routes_shape(a, &layers, &chosen);
    mixt_session_routes(a, &ids[0], &weights[0]);
    mixt_session_routes(b, &ids[1], &weights[1]);
    size_t choices = (size_t)(layers * chosen);
    if (mixt_session_length(a) != mixt_session_length(b) ||
        memcmp(mixt_session_logits(a), mixt_session_logits(b), vocab_size * sizeof(float)) != 0 ||
        memcmp(ids[0], ids[1], choices * sizeof(int32_t)) != 0 ||
        memcmp(weights[0], weights[1], choices * sizeof(float)) != 0) {
        fail_msg("%s: not the same bits behind %zu tokens", what, mixt_session_length(a));
    }
}

/* One session goes on, another one from its file: the same, at once, behind more, and behind a cut.
 */
static void check_model(const mixt_model *model, mixt_cache_type type, const char *what)
{
    int32_t tokens[TOKENS];
    mixt_error error = MIXT_ERROR_INIT;
    size_t vocab_size = fill_tokens(model, tokens);
    char *path = scratch_path("session");
    mixt_session *whole = begin(model, type, what), *rest = begin(model, type, what);
    good(mixt_session_feed(whole, tokens, KEPT, &error), &error, what);
    good(mixt_session_save(whole, path, &error), &error, what);
    good(mixt_session_feed(rest, tokens + 9, 20, &error), &error, what); /* is forgotten */
    good(mixt_session_load(rest, path, &error), &error, what);
    assert_memory_equal(mixt_session_tokens(rest), tokens, KEPT * sizeof *tokens);
    assert_same_state(whole, rest, vocab_size, what);
    for (int i = KEPT; i < KEPT + 3; i++) {
        good(mixt_session_feed(whole, tokens + i, 1, &error), &error, what);
        good(mixt_session_feed(rest, tokens + i, 1, &error), &error, what);
        assert_same_state(whole, rest, vocab_size, what);
    }
    good(mixt_session_feed(whole, tokens + KEPT + 3, TOKENS - KEPT - 3, &error), &error, what);
    good(mixt_session_feed(rest, tokens + KEPT + 3, TOKENS - KEPT - 3, &error), &error, what);
    assert_same_state(whole, rest, vocab_size, what);
    mixt_session_truncate(whole, KEPT - 10);
    mixt_session_truncate(rest, KEPT - 10);
    good(mixt_session_feed(whole, tokens, 5, &error), &error, what);
    good(mixt_session_feed(rest, tokens, 5, &error), &error, what);
    assert_same_state(whole, rest, vocab_size, what);
    mixt_session_free(whole);
    mixt_session_free(rest);
    free(path);
}

static void every_family_goes_on(void **state)
{
    int models = 0;
    (void)state;
    DIR *folder = opendir(FOLDER);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[400];
        mixt_model *model;
        mixt_error error = MIXT_ERROR_INIT;
        snprintf(path, sizeof path, FOLDER "%s", entry->d_name);
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "README.md") == 0) {
            continue;
        }
        good(mixt_model_open(path, &model, &error), &error, path);
        check_model(model, MIXT_CACHE_F32, path);
        mixt_model_free(model);
        models++;
    }
    closedir(folder);
    assert_true(models >= 30);
}

/* Short caches; RoPE that depends on the length; a router that decides once for what is fed first.
 */
static void other_states_go_on(void **state)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = mixt_model_options_default();
    (void)state;
    options.vocab_size = 300;
    options.layers = 2;
    options.hidden_size = 64;
    options.heads = 2;
    options.kv_heads = 1;
    options.head_dim = 32;
    options.ffn_size = 32;
    options.experts = 4;
    options.context_length = 50; /* less than what is fed */
    good(mixt_model_create(&options, 1, &model, &error), &error, "plain");
    check_model(model, MIXT_CACHE_F16, "F16");
    check_model(model, MIXT_CACHE_BF16, "BF16");
    check_model(model, MIXT_CACHE_Q8_0, "Q8_0");
    mixt_model_free(model);
    options.rope.kind = MIXT_ROPE_DYNAMIC;
    options.rope.factor = 4;
    good(mixt_model_create(&options, 1, &model, &error), &error, "dynamic");
    check_model(model, MIXT_CACHE_F32, "dynamic");
    mixt_model_free(model);
    options.rope.kind = MIXT_ROPE_DEFAULT;
    options.rope.factor = 0;
    options.router.unit = MIXT_UNIT_SEQUENCE;
    good(mixt_model_create(&options, 1, &model, &error), &error, "sequence");
    check_model(model, MIXT_CACHE_F32, "sequence");
    mixt_model_free(model);
}

static void refuse(mixt_session *session, const char *path, const char *part)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_session_load(session, path, &error);
    if (status == MIXT_OK || status == MIXT_ERROR_MEMORY || strstr(error.message, part) == NULL ||
        strchr(error.message, '\n') != NULL) {
        fail_msg("not \"%s\": %d %s", part, (int)status, error.message);
    }
}

static void bad_files_are_refused(void **state)
{
    static char bytes[4 << 20];
    int32_t tokens[TOKENS];
    mixt_model *model, *other;
    mixt_error error = MIXT_ERROR_INIT;
    (void)state;
    good(mixt_model_open(FOLDER "mixtral", &model, &error), &error, "mixtral");
    good(mixt_model_open(FOLDER "qwen3_moe", &other, &error), &error, "qwen3_moe");
    size_t vocab_size = fill_tokens(model, tokens);
    mixt_session *session = begin(model, MIXT_CACHE_F32, "kept"),
                 *good_one = begin(model, MIXT_CACHE_F32, "good"),
                 *foreign = begin(other, MIXT_CACHE_F32, "foreign"),
                 *typed = begin(model, MIXT_CACHE_F16, "F16"), *small;
    char *path = scratch_path("kept"), *bad = scratch_path("bad");
    good(mixt_session_feed(session, tokens, KEPT, &error), &error, "feed");
    good(mixt_session_save(session, path, &error), &error, "save");
    good(mixt_session_load(good_one, path, &error), &error, "load");
    refuse(foreign, path, "the session of another model");
    refuse(typed, path, "its cache is of another type");
    good(mixt_session_create(context, model, KEPT - 1, &small, &error), &error, "small");
    refuse(small, path, "70 tokens do not fit into a context of 69");
    refuse(small, bad, "bad");
    assert_int_equal(mixt_session_save(small, bad, &error), MIXT_ERROR_ARGUMENT);
    FILE *file = fopen(path, "rb");
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_true(length > 1000 && length < sizeof bytes);
    int refused = 0;
    for (size_t cut = 0; cut < length; cut += 1 + length / 97) { /* the file ends there */
        shell_write("bad", "");
        file = fopen(bad, "wb");
        assert_int_equal(fwrite(bytes, 1, cut, file), cut);
        fclose(file);
        refuse(good_one, bad, "bad");
    }
    for (size_t at = 0; at < length; at += 1 + length / 397) { /* a bit is another one */
        mixt_error local = MIXT_ERROR_INIT;
        bytes[at] ^= 4;
        file = fopen(bad, "wb");
        assert_int_equal(fwrite(bytes, 1, length, file), length);
        fclose(file);
        bytes[at] ^= 4;
        refused += mixt_session_load(good_one, bad, &local) != MIXT_OK;
    }
    assert_int_equal(refused, (int)((length + length / 397) / (1 + length / 397)));
    assert_same_state(session, good_one, vocab_size, "behind refusals"); /* as it was */
    good(mixt_session_feed(session, tokens, 9, &error), &error, "feed");
    good(mixt_session_feed(good_one, tokens, 9, &error), &error, "feed");
    assert_same_state(session, good_one, vocab_size, "behind refusals");
    good(mixt_model_change_routing(model, MIXT_ROUTING_MASK, 0, 1, &error), &error, "mask");
    refuse(small, path, "of one that routes otherwise");
    mixt_session_free(session);
    mixt_session_free(good_one);
    mixt_session_free(foreign);
    mixt_session_free(typed);
    mixt_session_free(small);
    mixt_model_free(model);
    mixt_model_free(other);
    free(path);
    free(bad);
}

#define RUN "\"$MIXT\" run -m run -t 1 --temp 0 -n 20 "

static void prompts_are_cached(void **state)
{
    (void)state;
    shell_train();
    shell_do(RUN "-p 'int a3 = 7;' -q >plain; " RUN "-p 'int a3 = 7; return' -q >longer; " RUN
                 "-p 'int b' -q >other");
    shell_do("rm -f kept; " RUN "-p 'int a3 = 7;' --prompt-cache kept >got; cmp got plain");
    assert_has(shell_err, "prompt cache: 0 of ");
    shell_do("cp kept first; " RUN "-p 'int a3 = 7;' --prompt-cache kept >got; cmp got plain; "
             "cmp kept first");
    assert_lacks(shell_err, "prompt cache: 0 of ");
    assert_has(shell_err, "prompt: 1 token,");
    shell_do(RUN "-p 'int a3 = 7; return' --prompt-cache kept --prompt-cache-ro >got; "
                 "cmp got longer; cmp kept first");
    shell_do(RUN "-p 'int b' --prompt-cache kept -q >got; cmp got other; ! cmp -s kept first");
    shell_do(RUN "-p 'int a3 = 7;' --prompt-cache all --prompt-cache-all -q >got; cmp got plain; "
                 "[ $(stat -c %s all) -gt $(stat -c %s first) ]; "
                 "\"$MIXT\" run -m run -t 1 --temp 0 -n 5 -p \"$(cat plain)\" --prompt-cache all "
                 "--prompt-cache-ro >got; \"$MIXT\" run -m run -t 1 --temp 0 -n 5 -q "
                 "-p \"$(cat plain)\" | cmp - got");
    shell_refuses(RUN "-p x --prompt-cache text/one/1.txt", "text/one/1.txt: ");
    shell_refuses(RUN "-p x --prompt-cache-all", "--prompt-cache-all: it does nothing without");
    shell_refuses(RUN "-p x --prompt-cache kept --prompt-cache-ro --prompt-cache-all", "exclude");
    shell_refuses(RUN "-p x --prompt-cache kept --matmul bf16",
                  "computed by other matrix products");
    shell_refuses(RUN "-p x --prompt-cache kept --top-experts 1", "routes otherwise");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_goes_on),
        cmocka_unit_test(other_states_go_on),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(prompts_are_cached),
    };
    return cmocka_run_group_tests_name("session_file", tests, set_up, tear_down);
}
