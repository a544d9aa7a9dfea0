/* Corpora: what a path may be, what a line may be, and what happens to what is neither. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>
#include <cmocka.h>

#include "core/files.h"
#include "mixt.h"
#include "corpus/data.h"
#include "scratch.h"

static const char *at(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", scratch, name);
    return path[turn];
}

static void put(const char *name, const void *data, size_t length)
{
    char path[256];
    snprintf(path, sizeof path, "%s", at(name));
    *strrchr(path, '/') = '\0';
    assert_int_equal(mixt_folder_create(path, NULL), MIXT_OK);
    write_file(at(name), data, length);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

static mixt_corpus *open_corpus(const char *path)
{
    mixt_corpus *corpus;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_corpus_open(&path, 1, &corpus, &error);
    if (status != MIXT_OK) {
        print_error("%s\n", error.message);
    }
    assert_int_equal(status, MIXT_OK);
    return corpus;
}

/* All documents as "domain|text\n", with token documents as "domain|n tokens\n". */
static char *read_all(mixt_corpus *corpus, mixt_error *error)
{
    static char all[1 << 16];
    size_t length = 0;
    all[0] = '\0';
    for (;;) {
        const mixt_document *document;
        mixt_status status = mixt_corpus_next(corpus, &document, error);
        if (status != MIXT_OK || document == NULL) {
            return all;
        }
        const char *domain = mixt_corpus_domain_name(corpus, document->domain);
        if (document->tokens != NULL) {
            length += (size_t)snprintf(all + length, sizeof all - length, "%s|%zu tokens %u..%u\n",
                                       domain, document->token_count, document->tokens[0],
                                       document->tokens[document->token_count - 1]);
        } else {
            length += (size_t)snprintf(all + length, sizeof all - length, "%s|%.*s\n", domain,
                                       (int)document->length, document->text);
        }
    }
}

static void expect(const char *path, const char *documents, uint64_t skipped, const char *first)
{
    mixt_corpus *corpus = open_corpus(path);
    for (int pass = 0; pass < 2; pass++) {
        mixt_error error = MIXT_ERROR_INIT;
        const char *line;
        assert_string_equal(read_all(corpus, &error), documents);
        assert_string_equal(error.message, "");
        assert_int_equal(mixt_corpus_skipped(corpus, &line), skipped);
        if (first == NULL) {
            assert_null(line);
        } else if (strstr(line, first) == NULL) {
            print_error("%s\n", line);
            fail();
        }
        assert_int_equal(mixt_corpus_rewind(corpus, NULL), MIXT_OK);
    }
    mixt_corpus_free(corpus);
}

static void expect_error(const char *path, mixt_status status, const char *part)
{
    mixt_corpus *corpus;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_corpus_open(&path, 1, &corpus, &error) == MIXT_OK) {
        read_all(corpus, &error);
        mixt_corpus_free(corpus);
    }
    if (strstr(error.message, part) == NULL) {
        print_error("%s\n", error.message);
    }
    assert_non_null(strstr(error.message, part));
    assert_non_null(strstr(error.message, path));
    assert_int_equal(error.status, status);
}

static void test_folder(void **state)
{
    (void)state;
    put_text("set/b/deep/er/two.txt", "two");
    put_text("set/b/one.md", "one");
    put_text("set/a/x.jsonl", "{\"text\":\"from a\"}\n{\"domain\":\"own\",\"text\":\"labelled\"}");
    put_text("set/top.jsonl", "{\"text\":\"top\",\"meta\":{\"pile_set_name\":\"Pile\"}}\n"
                              "{\"text\":\"unlabelled\",\"meta\":{\"pile_set_name\":null}}\n");
    put_text("set/lone.txt", "lone\r\ntext\n");
    put_text("set/.hidden", "never");
    put("set/image.png", "\x89PNG\r\n\x1a\n\0\0", 10);
    put_text("set/empty.txt", "");
    expect(at("set"),
           "a|from a\nown|labelled\nb|two\nb|one\nset|lone\r\ntext\n\nPile|top\ntop|unlabelled\n",
           2, "empty.txt: empty file");
    expect(at("set/lone.txt"), "lone|lone\r\ntext\n\n", 0, NULL);
    expect(at("set/a/x.jsonl"), "x|from a\nown|labelled\n", 0, NULL);
    expect(at("set/b/."), "deep|two\nb|one\n", 0, NULL);
}

static void test_links_and_fifos(void **state)
{
    (void)state;
    put_text("outside.txt", "outside");
    put_text("links/inside.txt", "inside");
    assert_int_equal(symlink("inside.txt", at("links/again.txt")), 0);
    assert_int_equal(symlink("../outside.txt", at("links/leads-out.txt")), 0);
    assert_int_equal(symlink("nowhere", at("links/broken.txt")), 0);
    assert_int_equal(symlink(".", at("links/loop")), 0);
    assert_int_equal(symlink("/dev/zero", at("links/zero")), 0);
    assert_int_equal(mkfifo(at("links/fifo"), 0600), 0);
    expect(at("links"), "links|inside\nlinks|inside\n", 5, "broken.txt: a link");
    expect_error(at("links/fifo"), MIXT_ERROR_FORMAT, "is a FIFO");
    expect_error("/dev/zero", MIXT_ERROR_FORMAT, "not a regular file");
    expect_error(at("missing"), MIXT_ERROR_NOT_FOUND, "no such file");
    mixt_folder_create(at("empty"), NULL);
    expect_error(at("empty"), MIXT_ERROR_FORMAT, "no files");
}

static void test_line_policy(void **state)
{
    (void)state;
    static const struct {
        const char *line, *reason;
    } bad[] = {
        {"{\"text\": null}", "no \"text\""},
        {"{\"text\": 3}", "\"text\" is not a string"},
        {"{\"text\": \"\"}", "empty \"text\""},
        {"{\"other\": 1}", "no \"text\""},
        {"{\"text\": \"a\\ud800b\"}", "lone surrogate"},
        {"{\"text\": \"a\\udc00\"}", "lone surrogate"},
        {"{\"text\": \"a\\ud800\\u0041\"}", "lone surrogate"},
        {"{\"text\": \"\xff\"}", "invalid UTF-8"},
        {"{\"text\": \"\xc0\x80\"}", "invalid UTF-8"},
        {"{\"text\": \"\xed\xa0\x80\"}", "invalid UTF-8"},
        {"{\"text\": \"\\u0000\"}", "NUL in a string"},
        {"{\"text\": \"a\tb\"}", "control character"},
        {"{\"text\": \"a\" \"b\"}", "no comma"},
        {"{\"text\": \"a\"} x", "text behind"},
        {"{\"text\": \"a\", \"text\": \"b\"}", "twice"},
        {"{\"text\": \"a\", }", "no key"},
        {"{\"text\": \"a\", \"n\": 01}", "no comma"},
        {"{\"text\": \"a\", \"n\": -}", "bad number"},
        {"{\"text\": \"a\", \"n\": 1.}", "bad number"},
        {"{\"text\": \"a\", \"n\": nul}", "bad JSON value"},
        {"{\"text\": \"a\", \"domain\": 1}", "not a string"},
        {"{\"text\": \"a\", \"domain\": \"x\\ny\"}", "domain name"},
        {"{\"text\": \"a\\x\"}", "bad escape"},
        {"{\"text\": \"a", "without its end"},
        {"{\"text\": \"a\\u12", "bad \\u escape"},
        {"{\"text\": \"a\\", "bad escape"},
        {"[\"text\"]", "not a JSON object"},
        {"null", "not a JSON object"},
        {"plain words", "not a JSON object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char file[400], expected[100];
        snprintf(file, sizeof file,
                 "\xef\xbb\xbf{\"text\":\"first\"}\r\n\r\n \t\n%s\n{\"text\":\"last\"}",
                 bad[i].line);
        put_text("policy.jsonl", file);
        expect(at("policy.jsonl"), "policy|first\npolicy|last\n", 1, bad[i].reason);
        snprintf(expected, sizeof expected, "policy.jsonl: line 4, byte ");
        expect(at("policy.jsonl"), "policy|first\npolicy|last\n", 1, expected);
    }
    put("policy.jsonl", "{\"text\":\"a\0b\"}\n{\"text\":\"c\"}\n", 28);
    expect(at("policy.jsonl"), "policy|c\n", 1, "NUL in a string");
    put_text(
        "policy.jsonl",
        "{\"text\":\"\\u00e9\\ud83d\\ude00\\n\\\"\\/\",\"x\":[{\"text\":1},[],{},-0.5e+3,true],"
        "\"meta\":\"free\"}");
    expect(at("policy.jsonl"), "policy|\u00e9\U0001f600\n\"/\n", 0, NULL);
}

static void test_nesting(void **state)
{
    (void)state;
    size_t depth = 100000;
    char *line = malloc(depth * 2 + 100);
    int length = sprintf(line, "{\"text\":\"a\",\"x\":");
    memset(line + length, '[', depth);
    memset(line + length + depth, ']', depth);
    strcpy(line + length + 2 * depth, "}\n{\"text\":\"b\"}");
    put_text("deep.jsonl", line);
    free(line);
    expect(at("deep.jsonl"), "deep|b\n", 1, "levels");
}

static void test_long_lines(void **state)
{
    (void)state;
    size_t length = ((size_t)64 << 20) + 100;
    char *file = malloc(length + 100);
    memset(file, 'a', length);
    memcpy(file, "{\"text\":\"", 9);
    strcpy(file + length - 2, "\"}\n{\"text\":\"b\"}\n");
    put_text("long.jsonl", file);
    expect(at("long.jsonl"), "long|b\n", 1, "line 1: over 64 MiB");
    memset(file, 'x', length); /* a document just under the limit, without a last line feed */
    memcpy(file, "{\"text\":\"", 9);
    memcpy(file + length - 200, "\"}", 3);
    put_text("long.jsonl", file);
    free(file);
    mixt_corpus *corpus = open_corpus(at("long.jsonl"));
    const mixt_document *document;
    assert_int_equal(mixt_corpus_next(corpus, &document, NULL), MIXT_OK);
    assert_non_null(document);
    assert_int_equal(document->length, length - 209);
    mixt_corpus_free(corpus);
    unlink(at("long.jsonl"));
}

static size_t pack(char *to, size_t capacity, const char *text)
{
    size_t size = ZSTD_compress(to, capacity, text, strlen(text), 3);
    assert_false(ZSTD_isError(size));
    return size;
}

static void test_zstd(void **state)
{
    (void)state;
    char data[4096], cut[4096];
    size_t length = 0;
    static const char skippable[] = "\x50\x2a\x4d\x18\x05\0\0\0hello";
    length += pack(data, 1000, "{\"text\":\"one\"}\n{\"te");
    memcpy(data + length, skippable, 13);
    length += 13;
    size_t second = length += pack(data + length, 1000, "");
    length += pack(data + length, 1000, "xt\":\"two\"}\n{\"text\":\"three\"}");
    put("frames.jsonl.zst", data, length);
    expect(at("frames.jsonl.zst"), "frames|one\nframes|two\nframes|three\n", 0, NULL);
    char part[100];
    snprintf(part, sizeof part, "inside the zstd frame that begins at byte %zu", second);
    for (size_t end = second + 1; end < length; end++) {
        put("cut.jsonl.zst", data, end);
        expect_error(at("cut.jsonl.zst"), MIXT_ERROR_FORMAT, part);
    }
    memcpy(cut, data, length);
    cut[second + 1] ^= 1;
    put("cut.jsonl.zst", cut, length);
    expect_error(at("cut.jsonl.zst"), MIXT_ERROR_FORMAT, "zstd frame that begins at byte");
    put("cut.jsonl.zst", "{\"text\":\"not packed\"}", 21);
    expect_error(at("cut.jsonl.zst"), MIXT_ERROR_FORMAT, "begins at byte 0");
    put("other.zst", data, length);
    expect_error(at("other.zst"), MIXT_ERROR_UNSUPPORTED, ".jsonl.zst");

    ZSTD_CCtx *packer = ZSTD_createCCtx(); /* with a checksum, spoilt */
    ZSTD_CCtx_setParameter(packer, ZSTD_c_checksumFlag, 1);
    length = ZSTD_compress2(packer, data, sizeof data, "{\"text\":\"a\"}\n", 13);
    data[length - 1] ^= 1;
    put("sum.jsonl.zst", data, length);
    expect_error(at("sum.jsonl.zst"), MIXT_ERROR_FORMAT, "checksum");
    ZSTD_freeCCtx(packer);

    /* magic, no single segment, window of 2^31 bytes: over the limit before anything is read */
    put("window.jsonl.zst", "\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", 9);
    expect_error(at("window.jsonl.zst"), MIXT_ERROR_FORMAT, "too much memory");
}

static void test_zstd_bomb(void **state)
{
    (void)state;
    size_t length = (size_t)1 << 30, chunk = 1 << 20, capacity = 1 << 20;
    char *zeros = malloc(chunk), *packed = malloc(capacity);
    memset(zeros, ' ', chunk);
    ZSTD_CCtx *packer = ZSTD_createCCtx();
    ZSTD_outBuffer output = {packed, capacity, 0};
    for (size_t i = 0; i < length / chunk; i++) {
        ZSTD_inBuffer input = {zeros, chunk, 0};
        ZSTD_compressStream2(packer, &output, &input,
                             i + 1 < length / chunk ? ZSTD_e_continue : ZSTD_e_end);
    }
    ZSTD_freeCCtx(packer);
    put("bomb.jsonl.zst", packed, output.pos);
    free(zeros);
    free(packed);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    expect(at("bomb.jsonl.zst"), "", 1, "line 1: over 64 MiB");
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 400 << 10); /* KiB; 1 GiB unpacked, twice */
}

static void test_shards(void **state)
{
    (void)state;
    unsigned char shard[1024 + 8] = {0};
    static const unsigned char tokens[8] = {0x39, 0x30, 1, 0, 2, 0, 0xff, 0xff};
    put("raw/train.bin", tokens, 8);
    expect(at("raw/train.bin"), "train|4 tokens 12345..65535\n", 0, NULL);
    expect(at("raw"), "raw|4 tokens 12345..65535\n", 0, NULL);
    put("odd.bin", tokens, 7);
    expect_error(at("odd.bin"), MIXT_ERROR_FORMAT, "7 bytes");
    uint32_t header[3] = {20240520, 1, 4};
    memcpy(shard, header, sizeof header);
    memcpy(shard + 1024, tokens, 8);
    put("llmc.bin", shard, sizeof shard);
    expect(at("llmc.bin"), "llmc|4 tokens 12345..65535\n", 0, NULL);
    put("llmc.bin", shard, sizeof shard - 2);
    expect_error(at("llmc.bin"), MIXT_ERROR_FORMAT, "header says 4 tokens");
    header[1] = 2;
    memcpy(shard, header, sizeof header);
    put("llmc.bin", shard, sizeof shard);
    expect_error(at("llmc.bin"), MIXT_ERROR_UNSUPPORTED, "version 2");
    uint32_t wide[3] = {20240801, 7, 2};
    memcpy(shard, wide, sizeof wide);
    put("llmc.bin", shard, sizeof shard);
    expect(at("llmc.bin"), "llmc|2 tokens 77881..4294901762\n", 0, NULL);
}

/* One domain more than a trace can number is refused, without quadratic time on the way. */
static void test_many_domains(void **state)
{
    (void)state;
    enum { LIMIT = 65535 };
    char *lines = malloc((size_t)(LIMIT + 1) * 48);
    size_t length = 0;
    for (int i = 0; i <= LIMIT; i++) {
        length += (size_t)sprintf(lines + length, "{\"text\":\"a\",\"domain\":\"%d\"}\n", i);
    }
    put("domains.jsonl", lines, length);
    free(lines);
    mixt_corpus *corpus = open_corpus(at("domains.jsonl"));
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_document *document = NULL;
    int count = 0;
    while (mixt_corpus_next(corpus, &document, &error) == MIXT_OK && document != NULL) {
        assert_int_equal(document->domain, count++);
    }
    assert_int_equal(count, LIMIT);
    assert_int_equal(mixt_corpus_domain_count(corpus), LIMIT);
    assert_string_equal(mixt_corpus_domain_name(corpus, LIMIT - 1), "65534");
    assert_int_equal(error.status, MIXT_ERROR_UNSUPPORTED);
    mixt_corpus_free(corpus);
}

static void test_hash(void **state)
{
    (void)state;
    put_text("hash/a.txt", "one");
    put_text("hash/b.txt", "two");
    mixt_corpus *corpus = open_corpus(at("hash"));
    char hash[65];
    strcpy(hash, mixt_corpus_hash(corpus));
    assert_int_equal(strlen(hash), 64);
    mixt_corpus_free(corpus);
    static const char *const changes[][2] = {{"hash/b.txt", "twp"},
                                             {"hash/b.txt", "two "},
                                             {"hash/c.txt", "two"},
                                             {"hash/b.txt", "two"}};
    for (int i = 0; i < 4; i++) {
        put_text(changes[i][0], changes[i][1]);
        if (i == 3) {
            unlink(at("hash/c.txt"));
        }
        corpus = open_corpus(at("hash"));
        assert_int_equal(strcmp(hash, mixt_corpus_hash(corpus)) == 0, i == 3);
        mixt_corpus_free(corpus);
    }
}

/* --- Token data ----------------------------------------------------------------------------- */

static mixt_data *make_data(const char *path, double heldout)
{
    mixt_tokenizer *tokenizer;
    mixt_data *data;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *corpus = open_corpus(path);
    assert_int_equal(mixt_tokenizer_bytes(&tokenizer, NULL), MIXT_OK);
    if (mixt_data_create(corpus, tokenizer, heldout, &data, &error) != MIXT_OK) {
        print_error("%s\n", error.message);
        fail();
    }
    mixt_tokenizer_free(tokenizer);
    mixt_corpus_free(corpus);
    return data;
}

/* 200 documents of "many", 2 of "few", 1 of "lone". */
static void put_documents(void)
{
    char *lines = malloc(40000);
    int length = 0;
    for (int i = 0; i < 200; i++) {
        length += sprintf(lines + length, "{\"text\":\"document %d\",\"domain\":\"many\"}\n", i);
    }
    length += sprintf(lines + length, "{\"text\":\"\u00e9\",\"domain\":\"few\"}\n"
                                      "{\"text\":\"bb\",\"domain\":\"few\"}\n"
                                      "{\"text\":\"ccc\",\"domain\":\"lone\"}\n");
    put("documents.jsonl", lines, (size_t)length);
    free(lines);
}

/* Documents lie one behind the other, each behind its separator, and add up to the domains' sizes.
 */
static void check_split(const mixt_data *data, bool heldout)
{
    const mixt_data_split *split = mixt_data_split_of(data, heldout);
    uint64_t tokens[3] = {0}, bytes[3] = {0}, at = 0;
    assert_int_equal(split->token_count, mixt_data_tokens(data, heldout));
    for (size_t i = 0; i < split->document_count; i++) {
        const mixt_data_document *document = &split->documents[i];
        int32_t ids[32];
        assert_int_equal(document->start, at);
        assert_int_equal(document->length, document->bytes + 1);
        at += document->length;
        assert_in_range(document->length, 2, 32);
        mixt_data_copy(split, document->start, document->length, ids);
        for (size_t j = 0; j < document->length; j++) {
            assert_int_equal(ids[j], mixt_data_token(split, document->start + j));
            assert_int_equal(ids[j] == 256, j == 0);
            assert_int_equal(mixt_data_document_at(split, document->start + j), i);
        }
        tokens[document->domain] += document->length;
        bytes[document->domain] += document->bytes;
    }
    assert_int_equal(at, split->token_count);
    for (int i = 0; i < 3; i++) {
        uint64_t t, b;
        mixt_data_domain_size(data, heldout, i, &t, &b);
        assert_int_equal(t, tokens[i]);
        assert_int_equal(b, bytes[i]);
    }
}

static void test_data_splits(void **state)
{
    (void)state;
    put_documents();
    mixt_data *data = make_data(at("documents.jsonl"), 0.1);
    assert_int_equal(mixt_data_domain_count(data), 3);
    assert_string_equal(mixt_data_domain_name(data, 0), "many");
    assert_null(mixt_data_domain_name(data, 3));
    check_split(data, false);
    check_split(data, true);
    const mixt_data_split *held = mixt_data_split_of(data, true);
    size_t counts[3] = {0};
    for (size_t i = 0; i < held->document_count; i++) {
        counts[held->documents[i].domain]++;
    }
    assert_in_range(counts[0], 8, 35); /* 20 expected */
    assert_int_equal(counts[1], 1);    /* one of two */
    assert_int_equal(counts[2], 0);    /* the only one is for training */
    assert_int_equal(mixt_data_split_of(data, false)->document_count + held->document_count, 203);
    mixt_data *same = make_data(at("documents.jsonl"), 0.1);
    mixt_data *other = make_data(at("documents.jsonl"), 0.2);
    mixt_data *all = make_data(at("documents.jsonl"), 0);
    mixt_data *none = make_data(at("documents.jsonl"), 1);
    assert_int_equal(strlen(mixt_data_hash(data)), 64);
    assert_string_equal(mixt_data_hash(data), mixt_data_hash(same));
    assert_string_not_equal(mixt_data_hash(data), mixt_data_hash(other));
    assert_int_equal(mixt_data_tokens(all, true), 0);
    assert_int_equal(mixt_data_tokens(none, false), 0);
    assert_int_equal(mixt_data_tokens(none, true), mixt_data_tokens(all, false));
    mixt_data_free(data);
    mixt_data_free(same);
    mixt_data_free(other);
    mixt_data_free(all);
    mixt_data_free(none);
}

/* What is held out depends on a document's own text, not on its neighbours. */
static void test_heldout_does_not_move(void **state)
{
    (void)state;
    put_documents();
    mixt_data *before = make_data(at("documents.jsonl"), 0.1);
    size_t length;
    char *lines, path[256];
    snprintf(path, sizeof path, "%s", at("documents.jsonl"));
    assert_int_equal(mixt_file_read(path, 1 << 20, &lines, &length, NULL), MIXT_OK);
    const char *second = strchr(lines, '\n') + 1; /* without the first document */
    put("documents.jsonl", second, length - (size_t)(second - lines));
    free(lines);
    mixt_data *after = make_data(at("documents.jsonl"), 0.1);
    const mixt_data_split *a = mixt_data_split_of(before, true);
    const mixt_data_split *b = mixt_data_split_of(after, true);
    assert_in_range(a->document_count - b->document_count, 0, 1);
    size_t tail = b->token_count;
    for (size_t i = 0; i < tail; i++) {
        assert_int_equal(mixt_data_token(a, a->token_count - tail + i), mixt_data_token(b, i));
    }
    mixt_data_free(before);
    mixt_data_free(after);
}

static void test_data_from_tokens(void **state)
{
    (void)state;
    /* two separators in a row, one at the start, none at the end */
    static const uint16_t tokens[] = {256, 1, 2, 3, 256, 256, 4, 5, 256, 6};
    put("tokens.bin", tokens, sizeof tokens);
    mixt_data *data = make_data(at("tokens.bin"), 0);
    const mixt_data_split *split = mixt_data_split_of(data, false);
    static const int32_t expected[] = {256, 1, 2, 3, 256, 4, 5, 256, 6};
    assert_int_equal(split->document_count, 3);
    assert_int_equal(split->token_count, 9);
    int32_t ids[9];
    mixt_data_copy(split, 0, 9, ids);
    assert_memory_equal(ids, expected, sizeof expected);
    assert_int_equal(split->documents[0].bytes, 0);
    mixt_data_free(data);
    static const uint16_t wrong[] = {1, 257};
    put("wrong.bin", wrong, sizeof wrong);
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *corpus = open_corpus(at("wrong.bin"));
    assert_int_equal(mixt_tokenizer_bytes(&tokenizer, NULL), MIXT_OK);
    assert_int_equal(mixt_data_create(corpus, tokenizer, 0, &data, &error), MIXT_ERROR_FORMAT);
    assert_null(data);
    assert_non_null(strstr(error.message, "wrong.bin: token 1 is 257, the vocabulary has 257"));
    mixt_corpus_free(corpus);
    mixt_tokenizer_free(tokenizer);
}

static void test_data_errors(void **state)
{
    (void)state;
    put_text("bad.jsonl", "{\"text\":1}\nx\n");
    mixt_tokenizer *tokenizer;
    mixt_data *data;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *corpus = open_corpus(at("bad.jsonl"));
    assert_int_equal(mixt_tokenizer_bytes(&tokenizer, NULL), MIXT_OK);
    assert_int_equal(mixt_data_create(corpus, tokenizer, 0, &data, &error), MIXT_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "no documents; 2 passed over"));
    assert_non_null(strstr(error.message, "line 1"));
    static const double shares[] = {-0.1, 1.1, 0.0 / 0.0};
    for (int i = 0; i < 3; i++) {
        error = (mixt_error)MIXT_ERROR_INIT;
        assert_int_equal(mixt_data_create(corpus, tokenizer, shares[i], &data, &error),
                         MIXT_ERROR_ARGUMENT);
    }
    mixt_corpus_free(corpus);
    mixt_tokenizer_free(tokenizer);
}

/* Only ids in use need a row of the model. */
static void test_rows(void **state)
{
    (void)state;
    put_documents();
    char *path = scratch_path("documents.jsonl");
    mixt_data *data = make_data(path, 0);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_data_check_ids(data, 257, &error), MIXT_OK);
    assert_int_equal(mixt_data_check_ids(data, 256, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "uses id 256"));
    mixt_data_free(data);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_links_and_fifos),
        cmocka_unit_test(test_line_policy),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_zstd),
        cmocka_unit_test(test_zstd_bomb),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_many_domains),
        cmocka_unit_test(test_data_splits),
        cmocka_unit_test(test_heldout_does_not_move),
        cmocka_unit_test(test_data_from_tokens),
        cmocka_unit_test(test_data_errors),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
