#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/split.h"

#include <assert.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/utf8.h"
#include "tokenizer/character_class.h"

#define STAGE_LIMIT 16
#define PATTERN_LIMIT ((size_t)64 << 10)
#define MATCH_LIMIT 10000000u      /* steps of one match: (a+)+$ ends here */
#define HEAP_LIMIT_KIB (64u << 10) /* of one match without JIT */
#define JIT_STACK_LIMIT ((size_t)8 << 20)

typedef struct stage {
    pcre2_code *code;
    mixt_split_keep keep;
    bool fast; /* JIT */
} stage;

struct mixt_splitter {
    stage stages[STAGE_LIMIT];
    int count;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

mixt_splitter *mixt_splitter_create(void)
{
    mixt_splitter *splitter = calloc(1, sizeof *splitter);
    if (splitter == NULL) {
        return NULL;
    }
    splitter->match = pcre2_match_data_create(1, NULL);
    splitter->context = pcre2_match_context_create(NULL);
    if (splitter->match == NULL || splitter->context == NULL) {
        mixt_splitter_free(splitter);
        return NULL;
    }
    pcre2_set_match_limit(splitter->context, MATCH_LIMIT);
    pcre2_set_heap_limit(splitter->context, HEAP_LIMIT_KIB);
    splitter->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_LIMIT, NULL);
    if (splitter->stack != NULL) {
        pcre2_jit_stack_assign(splitter->context, NULL, splitter->stack);
    }
    return splitter;
}

void mixt_splitter_free(mixt_splitter *splitter)
{
    if (splitter == NULL) {
        return;
    }
    for (int i = 0; i < splitter->count; i++) {
        pcre2_code_free(splitter->stages[i].code);
    }
    pcre2_match_data_free(splitter->match);
    pcre2_match_context_free(splitter->context);
    pcre2_jit_stack_free(splitter->stack);
    free(splitter);
}

bool mixt_splitter_is_empty(const mixt_splitter *splitter)
{
    return splitter->count == 0;
}

/* --- Oniguruma's syntax to PCRE2's ------------------------------------------------------------ */

#define SPACE MIXT_CLASS_SPACE
/* The small digits and fractions of Latin-1, which Oniguruma's \w has outside of a class alone. */
#define SMALL_DIGITS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

static bool is_hexadecimal(const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (text[i] == '\0' || strchr("0123456789abcdefABCDEF", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

/* [\w] or, `negated`, [^\w]. */
static void append_word(bool negated, mixt_buffer *to)
{
    mixt_buffer_text(to, negated ? "[^" : "[");
    mixt_class_word(to);
    mixt_buffer_text(to, SMALL_DIGITS "]");
}

/* \b and \B: what lies before and behind differ in being words, or do not. */
static void append_boundary(bool boundary, mixt_buffer *to)
{
    for (int side = 0; side < 2; side++) {
        mixt_buffer_text(to, side == 0 ? "(?:(?<=" : "|(?<!");
        append_word(false, to);
        mixt_buffer_text(to, (side == 0) == boundary ? ")(?!" : ")(?=");
        append_word(false, to);
        mixt_buffer_text(to, ")");
    }
    mixt_buffer_text(to, ")");
}

/* \p{name}, \P{name}, \p{^name}, \d and \D; a class cannot hold the negated ones, as characters
 * that the system does not know cannot be taken out of it. \p{C} and \p{Cn} are what is left when
 * all others are taken. */
static size_t translate_property(const char *at, bool in_class, mixt_buffer *to)
{
    bool digits = at[1] == 'd' || at[1] == 'D', negated = at[1] == 'P' || at[1] == 'D';
    const char *end = digits ? at + 1 : strchr(at, '}');
    const char *name = digits ? "Nd" : at + 3;
    if (!digits && (at[2] != '{' || end == NULL)) {
        return 0;
    }
    if (!digits && name[0] == '^') {
        negated = !negated;
        name++;
    }
    size_t length = digits ? 2 : (size_t)(end - name);
    bool rest = mixt_class_is_rest(name, length);
    negated = negated != rest;
    if (in_class && negated) {
        return 0;
    }
    mixt_buffer_text(to, in_class ? "" : negated ? "[^" : "[");
    if (rest) {
        mixt_class_assigned(length == 2, to);
    } else {
        mixt_class_property(name, length, to);
    }
    mixt_buffer_text(to, in_class ? "" : "]");
    return (size_t)(end + 1 - at);
}

/* Translates the escape at `at` (a backslash); returns its length, 0 for one that is refused. */
static size_t translate_escape(const char *at, bool in_class, mixt_buffer *to)
{
    char c = at[1];
    if (c == 's') {
        mixt_buffer_text(to, in_class ? SPACE : "[" SPACE "]");
        return 2;
    }
    if (c == 'S' && !in_class) {
        mixt_buffer_text(to, "[^" SPACE "]");
        return 2;
    }
    if (c == 'S') { /* U+180E is no space */
        mixt_buffer_text(to, "\\S\\x{180e}");
        return 2;
    }
    if (c == 'w' && in_class) {
        mixt_class_word(to);
        return 2;
    }
    if ((c == 'w' || c == 'W') && !in_class) {
        append_word(c == 'W', to);
        return 2;
    }
    if ((c == 'b' || c == 'B') && !in_class) {
        append_boundary(c == 'b', to);
        return 2;
    }
    if (c == 'p' || c == 'P' || c == 'd' || c == 'D') {
        return translate_property(at, in_class, to);
    }
    if (c == 'u' && is_hexadecimal(at + 2, 4)) {
        mixt_buffer_format(to, "\\x{%.4s}", at + 2);
        return 6;
    }
    if (c == 'x' && at[2] == '{') {
        const char *end = strchr(at, '}');
        size_t size = end != NULL ? (size_t)(end + 1 - at) : 0;
        mixt_buffer_append(to, at, size);
        return size;
    }
    if (c == 'x') { /* a byte in Oniguruma, a character here */
        if (!is_hexadecimal(at + 2, 2) || at[2] > '7') {
            return 0;
        }
        mixt_buffer_append(to, at, 4);
        return 4;
    }
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    bool known = c != '\0' && strchr(in_class ? "rntfaex" : "rntfaexAz", c) != NULL;
    if (c == '\0' || (letter && !known)) {
        return 0;
    }
    mixt_buffer_append(to, at, 2);
    return 2;
}

/* What opens a group, "(" or "(?...": its length, 0 for one that is refused. */
static size_t group_length(const char *at)
{
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:"};
    if (at[1] == '*') {
        return 0;
    }
    for (size_t i = 0; at[1] == '?' && i < sizeof known / sizeof *known; i++) {
        if (strncmp(at, known[i], strlen(known[i])) == 0) {
            return strlen(known[i]);
        }
    }
    return at[1] == '?' ? 0 : 1;
}

/* Whether Oniguruma and PCRE2 read the text at `at` in different ways. */
static bool is_ambiguous(const char *at, bool in_class)
{
    if (in_class) { /* nested sets and intersections */
        return (at[0] == '[' && at[1] != ':') || (at[0] == '&' && at[1] == '&');
    }
    if (at[0] == '{') {
        size_t inside = strspn(at + 1, "0123456789,");
        return at[1] == ',' || (inside != 0 && at[1 + inside] == '}' && at[2 + inside] == '+');
    }
    return false;
}

static mixt_status translate(const char *pattern, mixt_buffer *to, mixt_error *error)
{
    bool in_class = false;
    for (const char *at = pattern; *at != '\0';) {
        size_t length = 1;
        if (*at == '\\') {
            length = translate_escape(at, in_class, to);
        } else if (is_ambiguous(at, in_class)) {
            length = 0;
        } else if (in_class && at[0] == '[') { /* [:name:] */
            const char *end = strstr(at, ":]");
            bool known = end != NULL && mixt_class_posix(at + 2, (size_t)(end - at) - 2, to);
            length = known ? (size_t)(end + 2 - at) : 0;
        } else if (!in_class && *at == '[') {
            in_class = true;
            length += at[1] == '^';
            length += at[length] == ']';
            mixt_buffer_append(to, at, length);
        } else {
            in_class = in_class && *at != ']';
            length = !in_class && *at == '(' ? group_length(at) : 1;
            mixt_buffer_append(to, at, length);
        }
        if (length == 0) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "regular expression: no support for \"%.8s\" at byte %zu", at,
                             (size_t)(at - pattern));
        }
        at += length;
    }
    return MIXT_OK;
}

static mixt_status compile(const char *pattern, size_t length, uint32_t options, pcre2_code **code,
                           mixt_error *error)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "regular expression: no memory");
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 100);
    int number;
    PCRE2_SIZE offset;
    *code = pcre2_compile((PCRE2_SPTR)pattern, length, options, &number, &offset, context);
    pcre2_compile_context_free(context);
    if (*code == NULL) {
        if (number == PCRE2_ERROR_HEAP_FAILED) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "regular expression: no memory");
        }
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(number, message, sizeof message);
        return mixt_fail(error, MIXT_ERROR_FORMAT, "regular expression: %s", (char *)message);
    }
    return MIXT_OK;
}

mixt_status mixt_splitter_add(mixt_splitter *splitter, const char *pattern, bool literal,
                              mixt_split_keep keep, mixt_error *error)
{
    if (splitter->count == STAGE_LIMIT) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "more than %d pre-tokenizers", STAGE_LIMIT);
    }
    if (strlen(pattern) > PATTERN_LIMIT || pattern[0] == '\0') {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "regular expression: empty or over 64 KiB");
    }
    mixt_buffer text = {0};
    mixt_status status = MIXT_OK;
    uint32_t options = PCRE2_UTF | PCRE2_LITERAL;
    if (literal) {
        mixt_buffer_text(&text, pattern);
    } else { /* in Ruby's syntax ^ and $ match at every line */
        options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
        status = translate(pattern, &text, error);
    }
    if (status == MIXT_OK && text.failed) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "regular expression: no memory");
    }
    stage *made = &splitter->stages[splitter->count];
    if (status == MIXT_OK) {
        status = compile(text.data, text.length, options, &made->code, error);
    }
    mixt_buffer_free(&text);
    if (status == MIXT_OK) {
        made->keep = keep;
        made->fast =
            splitter->stack != NULL && pcre2_jit_compile(made->code, PCRE2_JIT_COMPLETE) == 0;
        splitter->count++;
    }
    return status;
}

/* --- Cutting ---------------------------------------------------------------------------------- */

typedef struct run {
    const mixt_splitter *splitter;
    mixt_word_function function;
    void *context;
    mixt_error *error;
    bool stopped;
} run;

static mixt_status cut(run *r, int number, const char *text, size_t length);

static mixt_status pass_on(run *r, int number, const char *text, size_t length, bool keep)
{
    if (!keep || length == 0 || r->stopped) {
        return MIXT_OK;
    }
    assert(number <= r->splitter->count);
    if (number < r->splitter->count) {
        return cut(r, number, text, length);
    }
    r->stopped = !r->function(r->context, text, length);
    return MIXT_OK;
}

/* The next match from `from` on; *begin == length where there is none. */
static mixt_status next_match(const run *r, const stage *s, const char *text, size_t length,
                              size_t from, size_t found[2])
{
    const mixt_splitter *splitter = r->splitter;
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int result = s->fast ? pcre2_jit_match(s->code, subject, length, from, PCRE2_NO_UTF_CHECK,
                                           splitter->match, splitter->context)
                         : pcre2_match(s->code, subject, length, from, PCRE2_NO_UTF_CHECK,
                                       splitter->match, splitter->context);
    if (result == PCRE2_ERROR_NOMATCH) {
        found[0] = found[1] = length;
        return MIXT_OK;
    }
    if (result < 0) {
        if (result == PCRE2_ERROR_NOMEMORY) {
            return mixt_fail(r->error, MIXT_ERROR_MEMORY, "regular expression: no memory");
        }
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(result, message, sizeof message);
        return mixt_fail(r->error, MIXT_ERROR_UNSUPPORTED,
                         "the tokenizer's regular expression gave up at byte %zu: %s", from,
                         (char *)message);
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(splitter->match);
    assert(ends[1] <= length);
    found[0] = ends[0];
    found[1] = ends[1];
    return MIXT_OK;
}

/* Cuts valid UTF-8 with stage `number` and passes the pieces on. */
static mixt_status cut(run *r, int number, const char *text, size_t length)
{
    const stage *s = &r->splitter->stages[number];
    bool keep_matches = s->keep != MIXT_SPLIT_KEEP_GAPS;
    bool keep_gaps = s->keep != MIXT_SPLIT_KEEP_MATCHES;
    size_t piece = 0, from = 0; /* end of the last match, where to look on */
    mixt_status status = MIXT_OK;
    while (status == MIXT_OK && from < length && !r->stopped) {
        size_t found[2] = {length, length};
        status = next_match(r, s, text, length, from, found);
        if (status != MIXT_OK || found[0] == length) {
            break;
        }
        if (found[1] <= found[0]) { /* an empty match cuts nothing */
            from = found[0] +
                   mixt_utf8_character((const unsigned char *)text + found[0], length - found[0]);
            continue;
        }
        status = pass_on(r, number + 1, text + piece, found[0] - piece, keep_gaps);
        if (status == MIXT_OK) {
            status = pass_on(r, number + 1, text + found[0], found[1] - found[0], keep_matches);
        }
        piece = from = found[1];
    }
    if (status == MIXT_OK) {
        status = pass_on(r, number + 1, text + piece, length - piece, keep_gaps);
    }
    return status;
}

static void replace_valid(const mixt_splitter *splitter, const char *text, size_t length,
                          const char *content, mixt_buffer *to)
{
    run r = {.splitter = splitter};
    size_t done = 0, from = 0;
    while (from < length && !to->failed) {
        size_t found[2] = {length, length};
        if (next_match(&r, &splitter->stages[0], text, length, from, found) != MIXT_OK) {
            to->failed = true;
        }
        if (found[0] == length) {
            break;
        }
        mixt_buffer_append(to, text + done, found[0] - done);
        mixt_buffer_text(to, content);
        done = from = found[1];
        if (found[1] == found[0]) {
            size_t size = mixt_utf8_character((const unsigned char *)text + from, length - from);
            from += size != 0 ? size : 1;
        }
    }
    mixt_buffer_append(to, text + done, length - done);
}

void mixt_splitter_replace(const mixt_splitter *splitter, const char *text, size_t length,
                           const char *content, mixt_buffer *to)
{
    while (length != 0 && !to->failed) {
        size_t valid = mixt_utf8_valid_prefix(text, length);
        replace_valid(splitter, text, valid, content, to);
        mixt_buffer_append(to, text + valid, valid != length);
        text += valid + (valid != length);
        length -= valid + (valid != length);
    }
}

mixt_status mixt_splitter_run(const mixt_splitter *splitter, const char *text, size_t length,
                              mixt_word_function function, void *context, mixt_error *error)
{
    run r = {splitter, function, context, error, false};
    mixt_status status = MIXT_OK;
    while (length != 0 && status == MIXT_OK && !r.stopped) {
        size_t valid = mixt_utf8_valid_prefix(text, length);
        status = pass_on(&r, 0, text, valid, true);
        text += valid;
        length -= valid;
        size_t bad = 0;
        while (bad < length &&
               mixt_utf8_character((const unsigned char *)text + bad, length - bad) == 0) {
            bad++;
        }
        if (status == MIXT_OK) {
            status = pass_on(&r, splitter->count, text, bad, true);
        }
        text += bad;
        length -= bad;
    }
    return status;
}
