/* Folders of tokenizers: where texts end, tokens outside the vocabulary file, what goes around a
 * text. The expected values are those of AutoTokenizer in transformers 4.57 and 5.24 for the same
 * files (tests/reference/tokenizer_folders.py prints them). */
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
#include "tokenizer/tokenizer.h"
#include "scratch.h"

#define PIECES "tests/fixtures/tokenizer/pieces/"
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- Folders -----------------------------------------------------------------------------------
 */

/* Four letters, then <|a|> (4) to <|f|> (9), special but for the last two. */
#define ADDED(id, text, special)                                                                   \
    "{\"id\":" id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false,"              \
    "\"rstrip\":false,\"normalized\":false,\"special\":" special "}"
#define PLAIN_ADDED                                                                                \
    ADDED("4", "<|a|>", "true")                                                                    \
    "," ADDED("5", "<|b|>", "true") "," ADDED("6", "<|c|>", "true") "," ADDED(                     \
        "7", "<|d|>", "true") "," ADDED("8", "<|e|>", "false") "," ADDED("9", "<|f|>", "false")
#define VOCABULARY(added, post)                                                                    \
    "{\"version\":\"1.0\",\"added_tokens\":[" added "],\"normalizer\":null,\"pre_tokenizer\":"     \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"                      \
    "\"post_processor\":" post ",\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":"        \
    "\"BPE\",\"vocab\":{\"p\":0,\"q\":1,\"r\":2,\"\\u0120\":3},\"merges\":[]}}"
#define TEMPLATE_C                                                                                 \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<|c|>\","            \
    "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"                    \
    "\"special_tokens\":{\"<|c|>\":{\"id\":\"<|c|>\",\"ids\":[6],\"tokens\":[\"<|c|>\"]}}}"

typedef struct folder {
    const char *vocabulary; /* NULL: the plain one; "": none */
    const char *config, *map, *added, *generation, *model;
} folder;

static void put(const char *path, const char *name, const char *text)
{
    char file[256];
    snprintf(file, sizeof file, "%s/%s", path, name);
    remove(file);
    if (text != NULL && text[0] != '\0') {
        write_file(file, text, strlen(text));
    }
}

static const char *make(const folder *f)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/folder", scratch);
    assert_int_equal(mixt_folder_create(path, NULL), MIXT_OK);
    put(path, "tokenizer.json",
        f->vocabulary != NULL ? f->vocabulary : VOCABULARY(PLAIN_ADDED, "null"));
    put(path, "tokenizer_config.json", f->config);
    put(path, "special_tokens_map.json", f->map);
    put(path, "added_tokens.json", f->added);
    put(path, "generation_config.json", f->generation);
    put(path, "config.json", f->model);
    return path;
}

static mixt_tokenizer *open_made(const folder *f)
{
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_tokenizer_open(make(f), &tokenizer, &error), &error);
    return tokenizer;
}

/* The ends in the letters of their tokens. */
static void expect_ends(const mixt_tokenizer *tokenizer, const char *letters)
{
    char found[16] = "";
    for (int id = 4; id < 10; id++) {
        size_t at = strlen(found);
        if (mixt_tokenizer_is_end(tokenizer, id)) {
            found[at] = (char)('a' + id - 4);
            found[at + 1] = '\0';
        }
    }
    assert_string_equal(found, letters);
}

/* --- Ends --------------------------------------------------------------------------------------
 */

static void test_ends(void **state)
{
    (void)state;
    static const struct {
        folder files;
        const char *ends;
    } cases[] = {
        {{.generation = "{\"eos_token_id\":[4,6]}"}, "ac"},
        {{.generation = "{\"eos_token_id\":6}"}, "c"},
        {{.model = "{\"eos_token_id\":[5,8]}"}, "be"},
        {{.model = "{\"eos_token_id\":5}"}, "b"},
        {{.model = "{\"text_config\":{\"eos_token_id\":[5]}}"}, "b"},
        {{.generation = "{\"eos_token_id\":6}", .model = "{\"eos_token_id\":5}"}, "c"},
        {{.generation = "{\"eos_token_id\":null}", .model = "{\"eos_token_id\":5}"}, "b"},
        {{.generation = "{\"temperature\":0.6}", .model = "{\"eos_token_id\":5}"}, "b"},
        {{.config = "{\"eos_token\":\"<|a|>\"}", .generation = "{\"eos_token_id\":[5]}"}, "ab"},
        {{.map = "{\"eos_token\":\"<|d|>\"}"}, "d"},
        {{.config = "{\"eos_token\":\"<|a|>\"}", .map = "{\"eos_token\":\"<|d|>\"}"}, "ad"},
        {{.map = "{\"eos_token\":{\"content\":\"<|d|>\"}}", .generation = "{\"eos_token_id\":4}"},
         "ad"},
        {{.config = "{\"eos_token\":\"<|a|>\",\"added_tokens_decoder\":{}}",
          .map = "{\"eos_token\":\"<|d|>\"}"},
         "ad"},
        {{.generation = "{\"eos_token_id\":[-1,99,4]}"}, "a"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        mixt_tokenizer *tokenizer = open_made(&cases[i].files);
        expect_ends(tokenizer, cases[i].ends);
        const char *remark = NULL;
        for (int k = 0; mixt_tokenizer_remark(tokenizer, k) != NULL; k++) {
            remark = mixt_tokenizer_remark(tokenizer, k);
        }
        bool said = remark != NULL && strstr(remark, "generation_config.json") != NULL &&
                    strstr(remark, "99") != NULL;
        assert_int_equal(said, i + 1 == COUNT(cases));
        mixt_tokenizer_free(tokenizer);
    }
    static const char *const wrong[] = {"{\"eos_token_id\":\"<|a|>\"}", "{\"eos_token_id\":[true]}",
                                        "{\"eos_token_id\":{}}"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        folder files = {.generation = wrong[i]};
        mixt_tokenizer *tokenizer;
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_tokenizer_open(make(&files), &tokenizer, &error), MIXT_ERROR_FORMAT);
        assert_non_null(strstr(error.message, "generation_config.json: eos_token_id"));
    }
}

/* A tokenizer that comes from elsewhere takes the ends of the model's folder too. */
static void test_ends_of_the_model(void **state)
{
    (void)state;
    folder own = {.config = "{\"eos_token\":\"<|a|>\"}"};
    folder model = {.vocabulary = "", .generation = "{\"eos_token_id\":[5,6]}"};
    mixt_tokenizer *tokenizer = open_made(&own);
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_tokenizer_take_ends(tokenizer, make(&model), &error), &error);
    expect_ends(tokenizer, "abc");
    mixt_tokenizer_free(tokenizer);
}

static mixt_tokenizer *through_gguf(const mixt_tokenizer *tokenizer, int rows)
{
    mixt_gguf_writer *writer;
    mixt_tokenizer *read;
    mixt_error error = MIXT_ERROR_INIT;
    char path[128];
    snprintf(path, sizeof path, "%s/folder.gguf", scratch);
    must(mixt_gguf_writer_create(path, 0, &writer, &error), &error);
    must(mixt_gguf_writer_string(writer, "general.architecture", "llama", &error), &error);
    must(mixt_tokenizer_to_gguf(tokenizer, rows, writer, &error), &error);
    must(mixt_gguf_writer_begin(writer, &error), &error);
    must(mixt_gguf_writer_finish(writer, &error), &error);
    mixt_gguf_writer_free(writer);
    must(mixt_tokenizer_open(path, &read, &error), &error);
    return read;
}

/* The whole set, from a folder to GGUF and to a folder again. */
static void test_ends_are_kept(void **state)
{
    (void)state;
    static const struct {
        folder files;
        const char *ends;
    } cases[] = {
        {{.config = "{\"eos_token\":\"<|a|>\"}", .generation = "{\"eos_token_id\":[4,5,6,7,8]}"},
         "abcde"},
        {{.generation = "{\"eos_token_id\":[5,7]}"}, "bd"},
        {{.config = "{\"eos_token\":\"<|c|>\"}"}, "c"},
        {{.config = NULL}, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char saved[128];
        mixt_error error = MIXT_ERROR_INIT;
        mixt_tokenizer *first = open_made(&cases[i].files);
        mixt_tokenizer *second = through_gguf(first, 12);
        snprintf(saved, sizeof saved, "%s/kept-%zu", scratch, i);
        must(mixt_tokenizer_save(second, saved, &error), &error);
        put(saved, "added_tokens.json", NULL);
        mixt_tokenizer *third = open_tokenizer(saved);
        expect_ends(second, cases[i].ends);
        expect_ends(third, cases[i].ends);
        mixt_tokenizer_free(first);
        mixt_tokenizer_free(second);
        mixt_tokenizer_free(third);
    }
}

/* What generation_config.json says otherwise stays there. */
static void test_generation_config_is_kept(void **state)
{
    (void)state;
    folder files = {.generation = "{\"temperature\":0.5,\"eos_token_id\":[4,5]}"};
    mixt_tokenizer *tokenizer = open_made(&files);
    mixt_error error = MIXT_ERROR_INIT;
    char saved[128];
    size_t length;
    snprintf(saved, sizeof saved, "%s/generation", scratch);
    assert_int_equal(mixt_folder_create(saved, NULL), MIXT_OK);
    put(saved, "generation_config.json", "{\"temperature\":0.25,\"eos_token_id\":4}");
    must(mixt_tokenizer_save(tokenizer, saved, &error), &error);
    strcat(saved, "/generation_config.json");
    char *text = read_file(saved, &length);
    assert_non_null(strstr(text, "0.25"));
    assert_non_null(strstr(text, "5\n"));
    free(text);
    mixt_tokenizer_free(tokenizer);
}

/* --- Names of special tokens -------------------------------------------------------------------
 */

static void test_special_tokens(void **state)
{
    (void)state;
    static const struct {
        folder files;
        int specials[4]; /* bos, eos, unknown, pad */
    } cases[] = {
        {{.config = "{\"bos_token\":\"<|a|>\",\"eos_token\":\"<|b|>\",\"unk_token\":\"<|c|>\","
                    "\"pad_token\":\"<|d|>\"}"},
         {4, 5, 6, 7}},
        {{.map = "{\"bos_token\":\"<|a|>\",\"eos_token\":{\"content\":\"<|b|>\"},"
                 "\"unk_token\":\"<|c|>\",\"pad_token\":\"<|d|>\"}"},
         {4, 5, 6, 7}},
        /* without added_tokens_decoder the map goes first, with it the map is not read */
        {{.config = "{\"bos_token\":\"<|a|>\",\"eos_token\":\"<|a|>\"}",
          .map = "{\"bos_token\":\"<|b|>\"}"},
         {5, 4, -1, -1}},
        {{.config = "{\"bos_token\":\"<|a|>\",\"added_tokens_decoder\":{}}",
          .map = "{\"bos_token\":\"<|b|>\",\"pad_token\":\"<|c|>\"}"},
         {4, -1, -1, -1}},
        {{.vocabulary = VOCABULARY(PLAIN_ADDED, TEMPLATE_C), .config = "{\"bos_token\":null}"},
         {-1, -1, -1, -1}},
        /* a letter of the model's own becomes a special token; a text that is none a new one */
        {{.config = "{\"bos_token\":\"p\",\"pad_token\":\"<pad>\"}"}, {0, -1, -1, 10}},
        /* what classes have by themselves */
        {{.vocabulary = VOCABULARY(ADDED("4", "<|endoftext|>", "true"), "null"),
          .config = "{\"tokenizer_class\":\"GPT2TokenizerFast\"}"},
         {4, 4, 4, -1}},
        {{.vocabulary = VOCABULARY(ADDED("4", "<|endoftext|>", "true"), "null"),
          .config = "{\"tokenizer_class\":\"Qwen2Tokenizer\"}"},
         {-1, 4, 4, 4}},
        {{.vocabulary = VOCABULARY(ADDED("4", "<|endoftext|>", "true"), "null"),
          .config = "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}"},
         {-1, -1, -1, -1}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        mixt_tokenizer *tokenizer = open_made(&cases[i].files);
        for (int j = 0; j < 4; j++) {
            int id = mixt_tokenizer_special(tokenizer, (mixt_special)j);
            if (id != cases[i].specials[j]) {
                print_error("case %zu, special token %d: %d\n", i, j, id);
                fail();
            }
        }
        mixt_tokenizer_free(tokenizer);
    }
}

/* --- Tokens outside the vocabulary file --------------------------------------------------------
 */

static void expect_ids(const mixt_tokenizer *tokenizer, const char *text, const char *expected)
{
    int32_t *ids;
    size_t count;
    mixt_error error = MIXT_ERROR_INIT;
    char found[256] = "";
    must(mixt_tokenizer_encode(tokenizer, text, strlen(text), true, &ids, &count, &error), &error);
    for (size_t i = 0; i < count; i++) {
        size_t at = strlen(found);
        snprintf(found + at, sizeof found - at, i == 0 ? "%d" : " %d", (int)ids[i]);
    }
    free(ids);
    assert_string_equal(found, expected);
}

#define ENTRY(text, flag, special)                                                                 \
    "{\"content\":\"" text "\",\"lstrip\":" flag ",\"normalized\":false,\"rstrip\":" flag          \
    ",\"single_word\":false,\"special\":" special "}"

static void test_added_tokens(void **state)
{
    (void)state;
    static const struct {
        folder files;
        const char *text, *ids;
    } cases[] = {
        {{.config = "{\"added_tokens_decoder\":{\"10\":" ENTRY("<x>", "false", "false") "}}"},
         "p<x>q",
         "0 10 1"},
        {{.added = "{\"<y>\":11,\"<x>\":10}"}, "<y>p<x>", "11 0 10"},
        /* added_tokens.json is older and not read beside added_tokens_decoder */
        {{.config = "{\"added_tokens_decoder\":{\"10\":" ENTRY("<x>", "false", "true") "}}",
          .added = "{\"<x>\":12}"},
         "p<x>",
         "0 10"},
        /* flags that differ from those of tokenizer.json go before them */
        {{.config = "{\"added_tokens_decoder\":{\"9\":" ENTRY("<|f|>", "true", "false") "}}"},
         "p <|f|> q",
         "0 9 1"},
        {{.config = "{}"}, "p <|f|> q", "0 3 9 3 1"},
        {{.config = "{\"additional_special_tokens\":[\"<x>\",{\"content\":\"<y>\"}]}"},
         "<y><x>",
         "11 10"},
        {{.map = "{\"additional_special_tokens\":[\"<x>\"]}"}, "<x>", "10"},
        {{.config = "{\"mask_token\":\"<x>\",\"sep_token\":\"<y>\"}"}, "<x><y>", "11 10"},
        {{.config =
              "{\"extra_special_tokens\":{\"image_token\":\"<x>\",\"n\":{\"content\":\"<y>\"}}}"},
         "<y>p<x>",
         "11 0 10"},
        {{.config = "{\"model_specific_special_tokens\":{\"image_token\":\"<x>\"}}"}, "<x>", "10"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char saved[128];
        mixt_error error = MIXT_ERROR_INIT;
        mixt_tokenizer *tokenizer = open_made(&cases[i].files);
        expect_ids(tokenizer, cases[i].text, cases[i].ids);
        snprintf(saved, sizeof saved, "%s/added-%zu", scratch, i);
        must(mixt_tokenizer_save(tokenizer, saved, &error), &error);
        mixt_tokenizer *again = open_tokenizer(saved);
        expect_ids(again, cases[i].text, cases[i].ids);
        assert_string_equal(mixt_tokenizer_hash(again), mixt_tokenizer_hash(tokenizer));
        mixt_tokenizer_free(again);
        mixt_tokenizer_free(tokenizer);
    }
}

static void test_refused_tokens(void **state)
{
    (void)state;
    static const struct {
        folder files;
        const char *part;
    } cases[] = {
        {{.added = "{\"<x>\":12}"}, "added_tokens.json: added token: \"<x>\" has id 12, and 10"},
        {{.added = "{\"<x>\":\"10\"}"}, "added_tokens.json: added token: \"<x>\": its id"},
        {{.added = "{\"<x>\":9}"}, "has id 9, and 10 by tokenizer.json"},
        {{.config = "{\"added_tokens_decoder\":{\"x\":{}}}"}, "added_tokens_decoder: \"x\""},
        {{.config = "{\"added_tokens_decoder\":{\"10\":{}}}"}, "not a token's text"},
        {{.config = "{\"added_tokens_decoder\":[]}"}, "added_tokens_decoder: not an object"},
        {{.config = "{\"added_tokens_decoder\":{\"10\":" ENTRY("<x>", "3", "true") "}}"}, "lstrip"},
        {{.config = "{\"eos_token\":3}"}, "eos_token: not a token's text"},
        {{.config = "{\"split_special_tokens\":true}"}, "split_special_tokens: only false"},
        {{.config = "{\"extra_special_tokens\":{\"x\":3}}"}, "extra_special_tokens: not a token's"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        mixt_tokenizer *tokenizer;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_tokenizer_open(make(&cases[i].files), &tokenizer, &error);
        if (!mixt_status_is_refusal(status) || strstr(error.message, cases[i].part) == NULL) {
            print_error("case %zu (%s): %s\n", i, cases[i].part, error.message);
            fail();
        }
        assert_null(tokenizer);
    }
}

/* The same beside a tokenizer.model. */
static void test_added_pieces(void **state)
{
    (void)state;
    size_t length;
    mixt_tokenizer *bare = open_tokenizer(PIECES "bpe-unused.model");
    int n = mixt_tokenizer_vocab_size(bare);
    char config[1024], added[128], expected[256], path[128];
    snprintf(config, sizeof config,
             "{\"tokenizer_class\":\"LlamaTokenizer\",\"eos_token\":\"<|im_end|>\","
             "\"added_tokens_decoder\":{\"%d\":%s,\"%d\":%s,\"%d\":%s}}",
             n, ENTRY("<|im_end|>", "false", "true"), n + 1, ENTRY("<|tool|>", "false", "false"),
             n + 3, ENTRY("<wide>", "true", "true"));
    snprintf(added, sizeof added, "{\"<|im_end|>\":%d,\"<|tool|>\":%d}", n, n + 1);
    static const char special[] = "{\"additional_special_tokens\":[\"<|im_end|>\",\"<|tool|>\"]}";
    for (int i = 0; i < 2; i++) {
        folder files = {.vocabulary = "", .config = i == 0 ? config : special};
        files.added = i == 1 ? added : NULL;
        make(&files);
        char *model = read_file(PIECES "bpe-unused.model", &length);
        snprintf(path, sizeof path, "%s/folder/tokenizer.model", scratch);
        write_file(path, model, length);
        free(model);
        snprintf(path, sizeof path, "%s/folder", scratch);
        mixt_tokenizer *tokenizer = open_tokenizer(path);
        assert_int_equal(mixt_tokenizer_vocab_size(tokenizer), i == 0 ? n + 4 : n + 2);
        snprintf(expected, sizeof expected, "%d %d", n, n + 1);
        expect_ids(tokenizer, "<|im_end|><|tool|>", expected);
        if (i == 0) {
            snprintf(expected, sizeof expected, "%d %d %d", n, n + 3, n + 1);
            assert_true(mixt_tokenizer_is_end(tokenizer, n));
            expect_ids(tokenizer, "<|im_end|> \n<wide>  <|tool|>", expected);
        }
        char saved[128];
        mixt_error error = MIXT_ERROR_INIT;
        snprintf(saved, sizeof saved, "%s/pieces-%d", scratch, i);
        must(mixt_tokenizer_save(tokenizer, saved, &error), &error);
        mixt_tokenizer *again = open_tokenizer(saved);
        snprintf(expected, sizeof expected, "%d %d", n, n + 1);
        expect_ids(again, "<|im_end|><|tool|>", expected);
        assert_string_equal(mixt_tokenizer_hash(again), mixt_tokenizer_hash(tokenizer));
        mixt_tokenizer_free(again);
        if (i == 1) { /* and through GGUF */
            again = through_gguf(tokenizer, n + 5);
            expect_ids(again, "<|im_end|><|tool|>", expected);
            must(mixt_tokenizer_save(again, saved, &error), &error);
            mixt_tokenizer *third = open_tokenizer(saved);
            expect_ids(third, "<|im_end|><|tool|>", expected);
            mixt_tokenizer_free(third);
            mixt_tokenizer_free(again);
        }
        mixt_tokenizer_free(tokenizer);
    }
    snprintf(path, sizeof path, "%s/folder/tokenizer.model", scratch);
    remove(path);
    mixt_tokenizer_free(bare);
}

/* --- Around a text -----------------------------------------------------------------------------
 */

static void test_around(void **state)
{
    (void)state;
#define CONFIG(class, more)                                                                        \
    "{\"bos_token\":\"<|a|>\",\"eos_token\":\"<|b|>\",\"tokenizer_class\":" class more "}"
#define BOTH ",\"add_bos_token\":true,\"add_eos_token\":true"
#define NEITHER ",\"add_bos_token\":false,\"add_eos_token\":false"
    static const struct {
        const char *config;
        int plain[2];    /* before, behind; without a post-processor */
        int template[2]; /* where it puts <|c|> before a text */
    } cases[] = {
        {CONFIG("null", BOTH), {-1, -1}, {6, -1}},
        {CONFIG("null", NEITHER), {-1, -1}, {6, -1}},
        {CONFIG("\"PreTrainedTokenizerFast\"", BOTH), {-1, -1}, {6, -1}},
        {CONFIG("\"PreTrainedTokenizerFast\"", NEITHER), {-1, -1}, {6, -1}},
        {CONFIG("\"TokenizersBackend\"", BOTH), {-1, -1}, {6, -1}},
        {CONFIG("\"Qwen2Tokenizer\"", BOTH), {-1, -1}, {6, -1}},
        {CONFIG("\"Qwen2TokenizerFast\"", NEITHER), {-1, -1}, {6, -1}},
        {CONFIG("\"GPT2Tokenizer\"", BOTH), {-1, -1}, {6, -1}},
        {CONFIG("\"BloomTokenizerFast\"", NEITHER), {-1, -1}, {6, -1}},
        {CONFIG("\"LlamaTokenizer\"", BOTH), {4, 5}, {4, 5}},
        {CONFIG("\"LlamaTokenizerFast\"", NEITHER), {-1, -1}, {-1, -1}},
        {CONFIG("\"LlamaTokenizerFast\"", ""), {4, -1}, {4, -1}},
        {CONFIG("\"CodeLlamaTokenizer\"", ""), {4, -1}, {4, -1}},
        {CONFIG("\"GemmaTokenizerFast\"", ""), {4, -1}, {4, -1}},
        {CONFIG("\"GemmaTokenizer\"", BOTH), {4, 5}, {4, 5}},
        {CONFIG("\"CohereTokenizerFast\"", ""), {4, -1}, {4, -1}},
        {CONFIG("\"GPTNeoXTokenizer\"", ""), {-1, -1}, {-1, -1}},
        {CONFIG("\"GPTNeoXTokenizerFast\"", BOTH), {4, 5}, {4, 5}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (int post = 0; post < 2; post++) {
            folder files = {.config = cases[i].config};
            files.vocabulary = post == 0 ? NULL : VOCABULARY(PLAIN_ADDED, TEMPLATE_C);
            mixt_tokenizer *tokenizer = open_made(&files);
            const int *expected = post == 0 ? cases[i].plain : cases[i].template;
            int before = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS);
            int behind = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_EOS);
            if (before != expected[0] || behind != expected[1]) {
                print_error("case %zu, template %d: %d, %d\n", i, post, before, behind);
                fail();
            }
            assert_int_equal(mixt_tokenizer_adds_bos(tokenizer), before >= 0);
            assert_int_equal(mixt_tokenizer_adds_eos(tokenizer), behind >= 0);
            assert_int_equal(mixt_tokenizer_special(tokenizer, MIXT_SPECIAL_BOS), 4);
            mixt_tokenizer *other = through_gguf(tokenizer, 10);
            assert_int_equal(mixt_tokenizer_around(other, MIXT_SPECIAL_BOS), before);
            assert_int_equal(mixt_tokenizer_around(other, MIXT_SPECIAL_EOS), behind);
            mixt_tokenizer_free(other);
            mixt_tokenizer_free(tokenizer);
        }
    }
}

/* --- Rows --------------------------------------------------------------------------------------
 */

/* Added tokens that the model has no rows for are left out of GGUF, the model's own are not. */
static void test_fewer_rows(void **state)
{
    (void)state;
    folder files = {.config = "{\"eos_token\":\"<|a|>\",\"pad_token\":\"<|f|>\"}"};
    mixt_tokenizer *tokenizer = open_made(&files);
    mixt_tokenizer *other = through_gguf(tokenizer, 9);
    assert_int_equal(mixt_tokenizer_vocab_size(other), 9);
    assert_int_equal(mixt_tokenizer_special(other, MIXT_SPECIAL_PAD), -1);
    assert_null(mixt_tokenizer_remark(other, 0));
    expect_ids(other, "p<|e|>", "0 8");
    mixt_tokenizer_free(other);
    mixt_gguf_writer *writer;
    mixt_error error = MIXT_ERROR_INIT;
    char *path = scratch_path("few.gguf");
    must(mixt_gguf_writer_create(path, 0, &writer, &error), &error);
    assert_int_equal(mixt_tokenizer_to_gguf(tokenizer, 3, writer, &error), MIXT_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "token 3 for a model of 3 ids"));
    mixt_gguf_writer_free(writer);
    free(path);
    mixt_tokenizer_free(tokenizer);
}

/* --- GGUF --------------------------------------------------------------------------------------
 */

static void test_gguf_ends(void **state)
{
    (void)state;
    const char *tokens[] = {"a", "b", "ab", "<x>", "<y>", "<z>", "<w>", "</s>"};
    static const char *const merges[] = {"a b"};
    static const int32_t types[] = {1, 1, 1, 3, 3, 3, 3, 1};
    static const uint64_t merge_length[] = {3};
    uint64_t lengths[] = {1, 1, 2, 3, 3, 3, 3, 4};
    static const struct {
        const char *key;
        uint32_t id;
        int end, also;    /* ids; -1: none */
        const char *text; /* of token 6, if not "<w>" */
    } cases[] = {
        {"eos_token_id", 3, 3, 7, NULL},
        {"eot_token_id", 4, 4, 7, NULL},
        {"eom_token_id", 5, 5, 7, NULL},
        {"fim_pad_token_id", 6, 6, 7, NULL},
        {"fim_rep_token_id", 5, 5, 7, NULL},
        {"fim_sep_token_id", 4, 4, 7, NULL},
        {"eot_token_id", 8, -1, 7, NULL},
        {"fim_pre_token_id", 6, -1, 7, NULL},
        /* known texts, where the file names none */
        {"fim_pre_token_id", 3, 6, 7, "<|repo_name|>"},
        {"fim_pad_token_id", 3, 3, 7, "<|fim_pad|>"},
        {"fim_rep_token_id", UINT32_MAX, -1, 7, "<|repo_name|>"},
        {"eot_token_id", UINT32_MAX, 6, 7, "<|file_sep|>"},
        {"eot_token_id", UINT32_MAX, 6, 7, "<PAD>"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        mixt_gguf_writer *writer;
        mixt_error error = MIXT_ERROR_INIT;
        char *path = scratch_path("ends.gguf"), key[64];
        tokens[6] = cases[i].text != NULL ? cases[i].text : "<w>";
        lengths[6] = strlen(tokens[6]);
        must(mixt_gguf_writer_create(path, 0, &writer, &error), &error);
        mixt_gguf_writer_string(writer, "general.architecture", "qwen2", &error);
        mixt_gguf_writer_string(writer, "tokenizer.ggml.model", "gpt2", &error);
        mixt_gguf_array array = {
            .kind = MIXT_GGUF_STRING, .count = 8, .strings = tokens, .lengths = lengths};
        mixt_gguf_writer_array(writer, "tokenizer.ggml.tokens", &array, &error);
        array = (mixt_gguf_array){.kind = MIXT_GGUF_I32, .count = 8, .data = types};
        mixt_gguf_writer_array(writer, "tokenizer.ggml.token_type", &array, &error);
        array = (mixt_gguf_array){
            .kind = MIXT_GGUF_STRING, .count = 1, .strings = merges, .lengths = merge_length};
        mixt_gguf_writer_array(writer, "tokenizer.ggml.merges", &array, &error);
        snprintf(key, sizeof key, "tokenizer.ggml.%s", cases[i].key);
        mixt_gguf_writer_u32(writer, key, cases[i].id, &error);
        must(mixt_gguf_writer_begin(writer, &error), &error);
        must(mixt_gguf_writer_finish(writer, &error), &error);
        mixt_gguf_writer_free(writer);
        mixt_tokenizer *tokenizer = open_tokenizer(path);
        for (int id = 0; id < 8; id++) {
            assert_int_equal(mixt_tokenizer_is_end(tokenizer, id),
                             id == cases[i].end || id == cases[i].also);
        }
        assert_int_equal(mixt_tokenizer_remark(tokenizer, 0) != NULL, cases[i].id == 8);
        mixt_tokenizer_free(tokenizer);
        folder own = {.vocabulary = NULL};
        tokenizer = open_made(&own); /* and for a tokenizer from elsewhere */
        must(mixt_tokenizer_take_ends(tokenizer, path, &error), &error);
        assert_int_equal(mixt_tokenizer_is_end(tokenizer, 5), cases[i].end == 5);
        mixt_tokenizer_free(tokenizer);
        free(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),           cmocka_unit_test(test_ends_of_the_model),
        cmocka_unit_test(test_ends_are_kept),  cmocka_unit_test(test_generation_config_is_kept),
        cmocka_unit_test(test_special_tokens), cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_refused_tokens), cmocka_unit_test(test_added_pieces),
        cmocka_unit_test(test_around),         cmocka_unit_test(test_fewer_rows),
        cmocka_unit_test(test_gguf_ends),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
