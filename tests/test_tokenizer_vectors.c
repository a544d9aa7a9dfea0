/* Real vocabularies against their test vectors (../shared/tokenizers or $MIXT_SHARED): ids made by
 * Hugging Face's tokenizers (llama.cpp's .inp and .out files), by sentencepiece 0.1.97
 * (spm-vectors), and by mistral-common (chats). Skipped without that folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/files.h"
#include "mixt.h"
#include "scratch.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"

static const char *shared(const char *name)
{
    static char path[2][600];
    static int turn;
    const char *folder = getenv("MIXT_SHARED");
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/tokenizers/%s",
             folder != NULL ? folder : "../shared", name);
    return path[turn];
}

/* Whether the numbers at *expected, up to one of `ends`, are the ids of the text; moves on. */
static bool same_ids(const mixt_tokenizer *tokenizer, const char *text, size_t length, bool special,
                     char **expected, char end)
{
    int32_t *ids;
    size_t count, at = 0;
    assert_int_equal(mixt_tokenizer_encode(tokenizer, text, length, special, &ids, &count, NULL),
                     MIXT_OK);
    bool same = true;
    while (**expected != end && **expected != '\0') {
        char *behind;
        long id = strtol(*expected, &behind, 10);
        if (behind == *expected) {
            (*expected)++;
            continue;
        }
        *expected = behind;
        same = same && at < count && ids[at] == id;
        at++;
    }
    *expected += **expected == end;
    same = same && at == count;
    free(ids);
    return same;
}

/* Every text of an .inp file; the texts that encode back to themselves are decoded too. */
static void compare(const char *tokenizer_path, const char *texts_path, const char *ids_path,
                    bool exact)
{
    size_t length, ids_length;
    mixt_tokenizer *tokenizer = open_tokenizer(tokenizer_path);
    char *texts = read_file(texts_path, &length), *ids = read_file(ids_path, &ids_length);
    char *line = ids, *text = texts;
    int count = 0, differ = 0;
    while (text != NULL) {
        char *end = strstr(text, SEPARATOR);
        size_t size = end != NULL ? (size_t)(end - text) : strlen(text);
        if (end == NULL && size == 0) {
            break;
        }
        count++;
        if (!same_ids(tokenizer, text, size, false, &line, '\n')) {
            print_error("%s: \"%.*s\"\n", tokenizer_path, (int)size, text);
            differ++;
        }
        int32_t *got;
        size_t got_count, back_length;
        char *back;
        assert_int_equal(
            mixt_tokenizer_encode(tokenizer, text, size, false, &got, &got_count, NULL), MIXT_OK);
        assert_int_equal(
            mixt_tokenizer_decode(tokenizer, got, got_count, false, &back, &back_length, NULL),
            MIXT_OK);
        if (exact) {
            assert_int_equal(back_length, size);
            assert_memory_equal(back, text, size);
        }
        free(back);
        free(got);
        text = end != NULL ? end + strlen(SEPARATOR) : NULL;
    }
    assert_int_equal(differ, 0);
    assert_true(count > 40 && *line == '\0');
    free(texts);
    free(ids);
    mixt_tokenizer_free(tokenizer);
}

static void test_gguf_vectors(void **state)
{
    (void)state;
    static const char *const names[] = {"deepseek-coder", "deepseek-llm", "falcon",
                                        "gpt-2",          "llama-spm",    "mpt",
                                        "phi-3",          "refact",       "starcoder"};
    if (!mixt_path_exists(shared("ggml-vocab"))) {
        print_message("SKIPPED: no %s (set MIXT_SHARED)\n", shared("ggml-vocab"));
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[80], texts[100], ids[100], path[600];
        snprintf(file, sizeof file, "ggml-vocab/ggml-vocab-%s.gguf", names[i]);
        snprintf(texts, sizeof texts, "%s.inp", file);
        snprintf(ids, sizeof ids, "%s.out", file);
        snprintf(path, sizeof path, "%s", shared(file));
        compare(path, shared(texts), shared(ids), true);
    }
}

static void test_model_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *model, *ids;
        bool exact;
    } known[] = {
        {"mixtral-mistral-v1/tokenizer.model", "mixtral", true},
        {"llama2/tokenizer.model", "llama2", true},
        {"grok-1/tokenizer.model", "grok-1", true},
        {"yuan2/tokenizer.model", "yuan2", true},
        {"spm-test-fixtures/test_sentencepiece_with_bytefallback.model", "bytefallback-2000",
         false},
    };
    if (!mixt_path_exists(shared("spm-vectors"))) {
        print_message("SKIPPED: no %s (set MIXT_SHARED)\n", shared("spm-vectors"));
        skip();
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char ids[80], path[600];
        snprintf(ids, sizeof ids, "spm-vectors/%s.out", known[i].ids);
        snprintf(path, sizeof path, "%s", shared(known[i].model));
        char texts[600];
        snprintf(texts, sizeof texts, "%s", shared("spm-vectors/vectors.inp"));
        compare(path, texts, shared(ids), known[i].exact);
    }
}

/* --- Chats of mistral-common --------------------------------------------------------------------
 */

/* All texts but one show a line's end as <0x0A> and every space as U+2581, also the one that
 * encoding puts behind a control token: spaces again, without that one. */
static size_t plain_chat(char *text)
{
    static const char *const controls[] = {"<s>",
                                           "</s>",
                                           "[INST]",
                                           "[/INST]",
                                           "[TOOL_CALLS]",
                                           "[TOOL_RESULTS]",
                                           "[/TOOL_RESULTS]",
                                           "[AVAILABLE_TOOLS]",
                                           "[/AVAILABLE_TOOLS]"};
    const char *mark = "\u2581", *from = text;
    char *to = text;
    while (*from != '\0') {
        size_t control = 0;
        for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
            control = strncmp(from, controls[i], strlen(controls[i])) == 0 ? strlen(controls[i])
                                                                           : control;
        }
        if (control != 0) {
            memmove(to, from, control);
            to += control;
            from += control;
            from += strncmp(from, mark, strlen(mark)) == 0 ? strlen(mark) : *from == ' ';
        } else if (strncmp(from, mark, strlen(mark)) == 0) {
            *to++ = ' ';
            from += strlen(mark);
        } else if (strncmp(from, "<0x0A>", 6) == 0) {
            *to++ = '\n';
            from += 6;
        } else {
            *to++ = *from++;
        }
    }
    return (size_t)(to - text);
}

static void test_chats(void **state)
{
    (void)state;
    static const char *const chats[] = {
        "get_weather_full", "get_weather_no_history", "get_weather_no_system_prompt",
        "no_tools",         "parallel_calls",         "several_calls"};
    static const char *const models[] = {"mistral_instruct_tokenizer_240216.model.v2",
                                         "mistral_instruct_tokenizer_240323.model.v3"};
    if (!mixt_path_exists(shared("mixtral-mistral-v1"))) {
        print_message("SKIPPED: no %s (set MIXT_SHARED)\n", shared("mixtral-mistral-v1"));
        skip();
    }
    for (int version = 2; version <= 3; version++) {
        char path[200];
        snprintf(path, sizeof path, "mixtral-mistral-v1/%s", models[version - 2]);
        mixt_tokenizer *tokenizer = open_tokenizer(shared(path));
        for (size_t i = 0; i < sizeof chats / sizeof *chats; i++) {
            size_t length, ids_length;
            snprintf(path, sizeof path, "mixtral-mistral-v1/test-vectors/%s/text_v%d.txt", chats[i],
                     version);
            char *text = read_file(shared(path), &length);
            snprintf(path, sizeof path, "mixtral-mistral-v1/test-vectors/%s/tokens_v%d.json",
                     chats[i], version);
            char *ids = read_file(shared(path), &ids_length), *numbers = strchr(ids, '[');
            length = plain_chat(text);
            if (!same_ids(tokenizer, text, length, true, &numbers, ']')) {
                print_error("version %d: %s\n", version, chats[i]);
                fail();
            }
            free(text);
            free(ids);
        }
        mixt_tokenizer_free(tokenizer);
    }
}

/* --- Qwen: vocabulary and merges without a tokenizer.json ----------------------------------------
 */

static void write_merges(FILE *to, const char *merges)
{
    for (bool first = true; *merges != '\0'; first = false) {
        size_t length = strcspn(merges, "\n");
        fprintf(to, first ? "\"" : ",\n\"");
        for (size_t i = 0; i < length; i++) {
            fprintf(to, merges[i] == '"' || merges[i] == '\\' ? "\\%c" : "%c", merges[i]);
        }
        fprintf(to, "\"");
        merges += length + (merges[length] == '\n');
    }
}

static void test_qwen(void **state)
{
    (void)state;
    if (!mixt_path_exists(shared("qwen"))) {
        print_message("SKIPPED: no %s (set MIXT_SHARED)\n", shared("qwen"));
        skip();
    }
    size_t length;
    char path[] = "/tmp/mixt-qwen-XXXXXX.json";
    int descriptor = mkstemps(path, 5);
    assert_true(descriptor >= 0);
    FILE *file = fdopen(descriptor, "w");
    char *vocabulary = read_file(shared("qwen/vocab.json"), &length);
    char *merges = read_file(shared("qwen/merges.txt"), &length);
    fprintf(file,
            "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
            "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
            "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|"
            "\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|"
            "\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\","
            "\"add_prefix_space\":false,\"use_regex\":false}]},\"model\":{\"type\":\"BPE\","
            "\"vocab\":%s,\"merges\":[",
            vocabulary);
    write_merges(file, strncmp(merges, "#version", 8) == 0 ? strchr(merges, '\n') + 1 : merges);
    fprintf(file, "]}}");
    fclose(file);
    char texts[600];
    snprintf(texts, sizeof texts, "%s", shared("ggml-vocab/ggml-vocab-qwen2.gguf.inp"));
    compare(path, texts, shared("ggml-vocab/ggml-vocab-qwen2.gguf.out"), false);
    compare(path, texts, shared("ggml-vocab/ggml-vocab-deepseek-r1-qwen.gguf.out"), false);
    remove(path);
    free(vocabulary);
    free(merges);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chats),
        cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_gguf_vectors),
        cmocka_unit_test(test_model_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
