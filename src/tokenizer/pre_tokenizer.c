#include "tokenizer/pre_tokenizer.h"

#include <stddef.h>
#include <string.h>

#include "tokenizer/split.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BEFORE_LETTERS "[^\\r\\n\\p{L}\\p{N}]?"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* cl100k and its relatives; they differ in how digits are grouped */
#define CL100K(digits)                                                                             \
    CONTRACTIONS "|" BEFORE_LETTERS "\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K                                                                                      \
    BEFORE_LETTERS UPPER "*" LOWER "+" CONTRACTIONS "?|" BEFORE_LETTERS UPPER "+" LOWER            \
                         "*" CONTRACTIONS "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define CJK_IDEOGRAPHS "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
/* DeepSeek-LLM lists the letters of scripts with two cases. */
#define DEEPSEEK_LETTERS                                                                           \
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"           \
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"           \
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"               \
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"               \
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"         \
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"          \
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"                \
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"           \
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"          \
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"                \
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"                            \
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"         \
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
#define DEEPSEEK_SIGNS "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"

static const mixt_pre_tokenizer known[] = {
    {.name = "gpt-2", .patterns = {MIXT_GPT2_PATTERN}},
    {.name = "olmo", .patterns = {MIXT_GPT2_PATTERN}, .nfc = true},
    {.name = "mpt", .patterns = {MIXT_GPT2_PATTERN}, .nfc = true},
    {.name = "llama-bpe",
     .patterns = {CL100K("\\p{N}{1,3}")},
     .whole_words = true,
     .adds_bos = true},
    {.name = "glm4", .patterns = {CL100K("\\p{N}{1,3}")}, .whole_words = true},
    {.name = "dbrx", .patterns = {CL100K("\\p{N}{1,3}")}},
    {.name = "qwen2", .patterns = {CL100K("\\p{N}")}, .nfc = true},
    {.name = "deepseek-r1-qwen", .patterns = {CL100K("\\p{N}")}, .nfc = true},
    {.name = "gpt-4o", .patterns = {O200K}},
    {.name = "deepseek-llm",
     .patterns = {"[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_SIGNS, "\\s+$", CJK_IDEOGRAPHS, "\\p{N}+"}},
    {.name = "deepseek-llm", /* as its tokenizer.json has it; no token holds two digits */
     .patterns = {"[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_SIGNS, "\\s+$", CJK_IDEOGRAPHS, "\\p{N}"}},
    {.name = "deepseek-coder",
     .patterns = {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_IDEOGRAPHS, "\\p{N}"}},
    {.name = "deepseek-v3",
     .patterns = {"\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
                  "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
                  "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}},
    {.name = "falcon",
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", MIXT_GPT2_PATTERN, "[0-9][0-9][0-9]"}},
    {.name = "starcoder", .patterns = {"\\p{N}", MIXT_GPT2_PATTERN}},
    {.name = "refact", .patterns = {"\\p{N}", MIXT_GPT2_PATTERN}},
    {.name = "default",
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]+", MIXT_GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

const mixt_pre_tokenizer *mixt_pre_tokenizer_find(const char *name)
{
    static const char *const other_names[][2] = {{"llama3", "llama-bpe"}, {"llama-v3", "llama-bpe"},
                                                 {"smaug-bpe", "dbrx"},   {"chatglm-bpe", "dbrx"},
                                                 {"glm5", "glm4"},        {"minimax-m2", "gpt-4o"}};
    for (size_t i = 0; i < sizeof other_names / sizeof *other_names; i++) {
        name = strcmp(name, other_names[i][0]) == 0 ? other_names[i][1] : name;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0) {
            return &known[i];
        }
    }
    return NULL;
}

/* Equal, where \\r and \\n may stand for the characters themselves. */
static bool same_pattern(const char *a, const char *b)
{
    while (*a != '\0' && *b != '\0') {
        size_t a_size = a[0] == '\\' && (a[1] == 'r' || a[1] == 'n') ? 2 : 1;
        size_t b_size = b[0] == '\\' && (b[1] == 'r' || b[1] == 'n') ? 2 : 1;
        char a_first = a_size == 1 ? a[0] : a[1] == 'r' ? '\r' : '\n';
        char b_first = b_size == 1 ? b[0] : b[1] == 'r' ? '\r' : '\n';
        if (a_first != b_first) {
            return false;
        }
        a += a_size;
        b += b_size;
        if (a_first == '\\' && *a != '\0' && *a == *b) { /* \\n is no line's end */
            a++;
            b++;
        }
    }
    return *a == *b;
}

const mixt_pre_tokenizer *mixt_pre_tokenizer_match(const char *const *patterns, int count, bool nfc,
                                                   bool whole_words)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        bool same = known[i].nfc == nfc && known[i].whole_words == whole_words;
        for (int j = 0; same && j < MIXT_PRE_STAGES; j++) {
            const char *other = known[i].patterns[j];
            same = j < count ? other != NULL && same_pattern(patterns[j], other) : other == NULL;
        }
        if (same && count <= MIXT_PRE_STAGES) {
            return &known[i];
        }
    }
    return NULL;
}

const char *mixt_pre_tokenizer_of_architecture(const char *architecture)
{
    static const char *const pairs[][2] = {
        {"gpt2", "gpt-2"},     {"gptneox", "olmo"},
        {"olmo", "olmo"},      {"olmoe", "olmo"},
        {"mpt", "mpt"},        {"qwen2moe", "qwen2"},
        {"qwen3moe", "qwen2"}, {"qwen2", "qwen2"},
        {"qwen3", "qwen2"},    {"starcoder", "starcoder"},
        {"gpt-oss", "gpt-4o"}, {"refact", "refact"},
        {"falcon", "falcon"},  {"deepseek", "deepseek-llm"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (strcmp(architecture, pairs[i][0]) == 0) {
            return pairs[i][1];
        }
    }
    return NULL;
}
