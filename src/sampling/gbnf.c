/* GBNF, llama.cpp's form of grammars (its grammars/README.md), into the code of grammar.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/number.h"
#include "core/utf8.h"
#include "sampling/grammar.h"

enum {
    COPY_OPS_MAX = 4, /* what is longer and repeated becomes a rule of its own */
    CLASSES_KEPT = 64,
    CLASS_RANGES_MAX = 1 << 16,
    /* Code that is written or moved until a grammar is read: pieces that are repeated again and
     * again, or groups in groups, move what is in them each time. About 0.2 s. */
    WORK_MAX = 1 << 26,
};

/* A rule while it is read. Jumps are relative, so that code can be moved as it is. */
typedef struct rule {
    const char *name; /* in the text; NULL: a repeated piece */
    size_t length;
    size_t place; /* in the text: its definition, or where it is named first */
    bool defined;
    mixt_op *ops;
    size_t count, capacity;
} rule;

/* A class that was met, so that the same one again costs nothing. */
typedef struct kept_class {
    mixt_char_range *ranges;
    size_t count;
    uint16_t row;
} kept_class;

typedef struct parser {
    const char *text;
    size_t at, end;
    const mixt_tokenizer *tokenizer;
    mixt_grammar *grammar;
    rule *rules;
    size_t rule_count, rule_capacity;
    uint32_t *names; /* [name_room]: rule + 1 by the hash of its name, or 0; a power of two */
    size_t name_room, name_count;
    size_t op_total;
    size_t work; /* operations that were written or moved */
    kept_class kept[CLASSES_KEPT];
    size_t kept_count;
    mixt_error *error;
} parser;

static MIXT_PRINTF(3, 4) mixt_status refuse(const parser *p, size_t place, const char *format, ...)
{
    char what[300];
    size_t line = 1, column = 1;
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(what, sizeof what, format, arguments);
    va_end(arguments);
    for (size_t i = 0; i < place; i++) {
        line += p->text[i] == '\n';
        column = p->text[i] == '\n' ? 1 : column + (((unsigned char)p->text[i] & 0xC0) != 0x80);
    }
    return mixt_fail(p->error, MIXT_ERROR_ARGUMENT, "grammar: line %zu, column %zu: %s", line,
                     column, what);
}

static mixt_status no_memory(const parser *p)
{
    return mixt_fail(p->error, MIXT_ERROR_MEMORY, "grammar: no memory");
}

/* The next byte, 0 at the end; a NUL in the text was refused. */
static char peek(const parser *p)
{
    return p->at < p->end ? p->text[p->at] : '\0';
}

static char peek_behind(const parser *p, size_t distance)
{
    return distance < p->end - p->at ? p->text[p->at + distance] : '\0';
}

static void skip_space(parser *p, bool newlines)
{
    for (;;) {
        char c = peek(p);
        if (c == '#') {
            while (p->at < p->end && peek(p) != '\n' && peek(p) != '\r') {
                p->at++;
            }
        } else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r'))) {
            p->at++;
        } else {
            return;
        }
    }
}

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* ---- rules */

static uint64_t hash_name(const char *name, size_t length)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001B3);
    }
    return hash ^ hash >> 29;
}

static uint32_t *find_name(const parser *p, const char *name, size_t length)
{
    size_t slot = hash_name(name, length) & (p->name_room - 1);
    while (p->names[slot] != 0) {
        const rule *r = &p->rules[p->names[slot] - 1];
        if (r->length == length && memcmp(r->name, name, length) == 0) {
            break;
        }
        slot = (slot + 1) & (p->name_room - 1);
    }
    return &p->names[slot];
}

static bool grow_names(parser *p)
{
    if (p->name_count * 2 < p->name_room) {
        return true;
    }
    uint32_t *names = calloc(p->name_room * 2 + 64, sizeof *names);
    if (names == NULL) {
        return false;
    }
    free(p->names);
    p->names = names;
    p->name_room = p->name_room == 0 ? 64 : p->name_room * 2;
    for (size_t i = 0; i < p->rule_count; i++) {
        if (p->rules[i].name != NULL) {
            *find_name(p, p->rules[i].name, p->rules[i].length) = (uint32_t)i + 1;
        }
    }
    return true;
}

static mixt_status add_rule(parser *p, const char *name, size_t length, size_t place, size_t *index)
{
    if (p->rule_count >= MIXT_GRAMMAR_RULES_MAX) {
        return refuse(p, place, "more than %d rules", MIXT_GRAMMAR_RULES_MAX);
    }
    if (!mixt_grow(&p->rules, &p->rule_capacity, p->rule_count + 1, sizeof *p->rules)) {
        return no_memory(p);
    }
    p->rules[p->rule_count] = (rule){.name = name, .length = length, .place = place};
    *index = p->rule_count++;
    return MIXT_OK;
}

/* The rule with the name that stands here, made where there is none yet. */
static mixt_status read_name(parser *p, size_t *index)
{
    const char *name = p->text + p->at;
    size_t place = p->at, length = 0;
    while (is_name_character(peek(p))) {
        p->at++;
        length++;
    }
    if (length == 0 || length > MIXT_GRAMMAR_NAME_MAX) {
        return refuse(p, place,
                      length == 0 ? "a rule's name is missing"
                                  : "a rule's name is longer than 200 characters");
    }
    if (!grow_names(p)) {
        return no_memory(p);
    }
    uint32_t *slot = find_name(p, name, length);
    if (*slot == 0) {
        MIXT_TRY(add_rule(p, name, length, place, index));
        *slot = (uint32_t)*index + 1;
        p->name_count++;
    }
    *index = *slot - 1;
    return MIXT_OK;
}

static mixt_status too_large(const parser *p)
{
    return refuse(p, p->at < p->end ? p->at : p->end, "the grammar has become too large here");
}

static mixt_status charge(parser *p, size_t count)
{
    p->work += count;
    return p->work > WORK_MAX ? too_large(p) : MIXT_OK;
}

static mixt_status room_for(parser *p, rule *r, size_t count)
{
    if (count > MIXT_GRAMMAR_OPS_MAX - p->op_total) {
        return too_large(p);
    }
    MIXT_TRY(charge(p, count));
    if (!mixt_grow(&r->ops, &r->capacity, r->count + count, sizeof *r->ops)) {
        return no_memory(p);
    }
    p->op_total += count;
    return MIXT_OK;
}

static mixt_status emit(parser *p, size_t index, mixt_op_kind kind, int64_t value)
{
    rule *r = &p->rules[index];
    MIXT_TRY(room_for(p, r, 1));
    r->ops[r->count++] = (mixt_op){(uint8_t)kind, (int32_t)value};
    return MIXT_OK;
}

/* ---- characters */

static mixt_status read_hexadecimal(parser *p, size_t digits, uint32_t *character)
{
    size_t place = p->at;
    uint32_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = mixt_hex_digit(peek(p));
        if (digit < 0) {
            return refuse(p, place, "%zu hexadecimal digits are needed", digits);
        }
        value = value << 4 | (uint32_t)digit;
        p->at++;
    }
    if (value > MIXT_CHARACTER_MAX || (value >= 0xD800 && value <= 0xDFFF)) {
        return refuse(p, place, "U+%04X is no character", value);
    }
    *character = value;
    return MIXT_OK;
}

static mixt_status read_character(parser *p, uint32_t *character)
{
    static const char escapes[] = "t\tr\rn\n\\\\\"\"[[]]";
    const unsigned char *text = (const unsigned char *)p->text + p->at;
    if (*text != '\\') {
        size_t length = mixt_utf8_character(text, p->end - p->at);
        if (length == 0) {
            return refuse(p, p->at, "not valid UTF-8");
        }
        *character = mixt_utf8_decode(text, length);
        p->at += length;
        return MIXT_OK;
    }
    char c = peek_behind(p, 1);
    size_t place = p->at;
    p->at += 2;
    if (c == 'x' || c == 'u' || c == 'U') {
        return read_hexadecimal(p, c == 'x' ? 2 : c == 'u' ? 4 : 8, character);
    }
    for (size_t i = 0; escapes[i] != '\0'; i += 2) {
        if (c == escapes[i]) {
            *character = (unsigned char)escapes[i + 1];
            return MIXT_OK;
        }
    }
    p->at = place;
    return refuse(p, place, "unknown escape");
}

static mixt_status read_literal(parser *p, size_t into)
{
    size_t place = p->at++;
    while (peek(p) != '"') {
        uint32_t character = 0;
        char bytes[4];
        if (p->at >= p->end || peek(p) == '\n') {
            return refuse(p, place, "the text in quotes does not end");
        }
        MIXT_TRY(read_character(p, &character));
        size_t length = mixt_utf8_encode(character, bytes);
        for (size_t i = 0; i < length; i++) {
            MIXT_TRY(emit(p, into, MIXT_OP_BYTE, (unsigned char)bytes[i]));
        }
    }
    p->at++;
    return MIXT_OK;
}

static mixt_status emit_class(parser *p, size_t into, mixt_char_range *ranges, size_t count)
{
    for (size_t i = 0; i < p->kept_count; i++) {
        const kept_class *k = &p->kept[i];
        if (k->count == count && memcmp(k->ranges, ranges, count * sizeof *ranges) == 0) {
            return emit(p, into, MIXT_OP_CLASS, k->row);
        }
    }
    uint16_t row = 0;
    MIXT_TRY(mixt_char_rows_add(&p->grammar->classes, ranges, count, &row, p->error));
    if (p->kept_count < CLASSES_KEPT) {
        mixt_char_range *copy = malloc((count + 1) * sizeof *copy);
        if (copy == NULL) {
            return no_memory(p);
        }
        memcpy(copy, ranges, count * sizeof *ranges);
        p->kept[p->kept_count++] = (kept_class){copy, count, row};
    }
    return emit(p, into, MIXT_OP_CLASS, row);
}

typedef struct range_list {
    mixt_char_range *list;
    size_t count, capacity;
} range_list;

static mixt_status read_ranges(parser *p, range_list *ranges)
{
    size_t place = p->at;
    while (peek(p) != ']') {
        if (p->at >= p->end || peek(p) == '\n') {
            return refuse(p, place, "the class does not end");
        }
        mixt_char_range range = {0};
        size_t from = p->at;
        MIXT_TRY(read_character(p, &range.low));
        range.high = range.low;
        if (peek(p) == '-' && peek_behind(p, 1) != ']' && p->at + 1 < p->end) {
            p->at++;
            MIXT_TRY(read_character(p, &range.high));
        }
        if (range.high < range.low) {
            return refuse(p, from, "a range from U+%04X down to U+%04X", range.low, range.high);
        }
        if (ranges->count >= CLASS_RANGES_MAX) {
            return refuse(p, from, "a class of more than %d ranges", CLASS_RANGES_MAX);
        }
        if (!mixt_grow(&ranges->list, &ranges->capacity, ranges->count + 3, sizeof range)) {
            return no_memory(p); /* room for the two more that settling may make */
        }
        ranges->list[ranges->count++] = range;
    }
    p->at++;
    return MIXT_OK;
}

static mixt_status read_class(parser *p, size_t into)
{
    range_list ranges = {0};
    size_t place = p->at++;
    bool negated = peek(p) == '^';
    p->at += negated;
    mixt_status status = read_ranges(p, &ranges);
    if (status == MIXT_OK && ranges.count == 0 && !negated) {
        status = refuse(p, place, "a class without characters");
    }
    if (status == MIXT_OK &&
        !mixt_grow(&ranges.list, &ranges.capacity, ranges.count + 2, sizeof *ranges.list)) {
        status = no_memory(p);
    }
    if (status == MIXT_OK) {
        ranges.count = mixt_char_ranges_settle(ranges.list, ranges.count, negated);
        status = emit_class(p, into, ranges.list, ranges.count);
    }
    free(ranges.list);
    return status;
}

static mixt_status read_any(parser *p, size_t into)
{
    mixt_char_range all[3] = {{0}};
    p->at++;
    size_t count = mixt_char_ranges_settle(all, 0, true);
    return emit_class(p, into, all, count);
}

/* ---- tokens */

static mixt_status read_token_id(parser *p, int64_t *id)
{
    size_t place = p->at;
    *id = 0;
    p->at += 2;
    while (peek(p) >= '0' && peek(p) <= '9' && *id < INT32_MAX / 10) {
        *id = *id * 10 + (peek(p) - '0');
        p->at++;
    }
    if (p->at == place + 2 || peek(p) != ']' || peek_behind(p, 1) != '>') {
        return refuse(p, place, "a token is <[ID]>");
    }
    p->at += 2;
    if (p->tokenizer != NULL && *id >= mixt_tokenizer_vocab_size(p->tokenizer)) {
        return refuse(p, place, "no token has the id %lld", (long long)*id);
    }
    return MIXT_OK;
}

/* <text>: the one token that spells it. */
static mixt_status read_token_text(parser *p, int64_t *id)
{
    size_t place = p->at, length = 1, count = 0;
    int32_t *ids = NULL;
    while (peek_behind(p, length) != '>') {
        if (p->at + length >= p->end || peek_behind(p, length) == '\n') {
            return refuse(p, place, "the token does not end with >");
        }
        length++;
    }
    length++;
    if (p->tokenizer == NULL) {
        return refuse(p, place, "a token by its text needs a tokenizer");
    }
    MIXT_TRY(
        mixt_tokenizer_encode(p->tokenizer, p->text + place, length, true, &ids, &count, p->error));
    *id = count == 1 ? ids[0] : -1;
    free(ids);
    if (*id < 0) {
        return refuse(p, place, "%.*s is %zu tokens, not one", (int)(length < 60 ? length : 60),
                      p->text + place, count);
    }
    p->at += length;
    return MIXT_OK;
}

static mixt_status read_token(parser *p, size_t into)
{
    bool negated = peek(p) == '!';
    int64_t id = 0;
    p->at += negated;
    if (peek(p) != '<') {
        return refuse(p, p->at, "a token is needed behind !");
    }
    MIXT_TRY(peek_behind(p, 1) == '[' ? read_token_id(p, &id) : read_token_text(p, &id));
    p->grammar->has_tokens = true;
    return emit(p, into, negated ? MIXT_OP_NOT_TOKEN : MIXT_OP_TOKEN, id);
}

/* ---- repetition */

static mixt_status read_count(parser *p, int64_t *count)
{
    size_t place = p->at;
    *count = 0;
    while (peek(p) >= '0' && peek(p) <= '9' && *count <= MIXT_GRAMMAR_REPEAT_MAX) {
        *count = *count * 10 + (peek(p) - '0');
        p->at++;
    }
    if (p->at == place) {
        return refuse(p, place, "a number is needed");
    }
    if (*count > MIXT_GRAMMAR_REPEAT_MAX) {
        return refuse(p, place, "more than %d repetitions", MIXT_GRAMMAR_REPEAT_MAX);
    }
    return MIXT_OK;
}

/* {m}, {m,} or {m,n}; *most -1: no end. */
static mixt_status read_counts(parser *p, bool newlines, int64_t *least, int64_t *most)
{
    size_t place = p->at++;
    skip_space(p, newlines);
    MIXT_TRY(read_count(p, least));
    *most = *least;
    skip_space(p, newlines);
    if (peek(p) == ',') {
        p->at++;
        skip_space(p, newlines);
        *most = -1;
        if (peek(p) != '}') {
            MIXT_TRY(read_count(p, most));
            skip_space(p, newlines);
        }
    }
    if (peek(p) != '}') {
        return refuse(p, p->at, "} is needed");
    }
    p->at++;
    if (*most >= 0 && *most < *least) {
        return refuse(p, place, "{%lld,%lld} is no range", (long long)*least, (long long)*most);
    }
    return MIXT_OK;
}

/* Makes the code from `start` on a rule of its own, which is called in its place. */
static mixt_status move_out(parser *p, size_t index, size_t start)
{
    size_t own = 0;
    MIXT_TRY(add_rule(p, NULL, 0, p->at < p->end ? p->at : p->end, &own));
    rule *from = &p->rules[index], *to = &p->rules[own];
    size_t length = from->count - start;
    if (!mixt_grow(&to->ops, &to->capacity, length + 1, sizeof *to->ops)) {
        return no_memory(p);
    }
    memcpy(to->ops, from->ops + start, length * sizeof *to->ops);
    to->count = length;
    to->defined = true;
    from->count = start;
    MIXT_TRY(emit(p, own, MIXT_OP_RETURN, 0));
    return emit(p, index, MIXT_OP_CALL, (int64_t)own);
}

static mixt_status emit_copy(parser *p, size_t index, const mixt_op *body, size_t length)
{
    rule *r = &p->rules[index];
    MIXT_TRY(room_for(p, r, length));
    memcpy(r->ops + r->count, body, length * sizeof *body);
    r->count += length;
    return MIXT_OK;
}

static mixt_status emit_copies(parser *p, size_t index, const mixt_op *body, size_t length,
                               const int64_t counts[2])
{
    int64_t size = (int64_t)length;
    for (int64_t i = 0; i < counts[0]; i++) {
        MIXT_TRY(emit_copy(p, index, body, length));
    }
    if (counts[1] < 0 && counts[0] > 0) {
        return emit(p, index, MIXT_OP_SPLIT, -size);
    }
    if (counts[1] < 0) {
        MIXT_TRY(emit(p, index, MIXT_OP_SPLIT, size + 2));
        MIXT_TRY(emit_copy(p, index, body, length));
        return emit(p, index, MIXT_OP_JUMP, -(size + 1));
    }
    for (int64_t left = counts[1] - counts[0]; left > 0; left--) {
        if (left * (size + 1) > MIXT_GRAMMAR_OPS_MAX) {
            return too_large(p);
        }
        MIXT_TRY(emit(p, index, MIXT_OP_SPLIT, left * (size + 1)));
        MIXT_TRY(emit_copy(p, index, body, length));
    }
    return MIXT_OK;
}

/* Repeats the code from `start` on. */
static mixt_status repeat(parser *p, size_t index, size_t start, const int64_t counts[2])
{
    bool is_copied = counts[0] > 1 || counts[1] > 1;
    size_t length = p->rules[index].count - start;
    if (length == 0) {
        return MIXT_OK;
    }
    MIXT_TRY(charge(p, length));
    if (is_copied && length > COPY_OPS_MAX) {
        MIXT_TRY(move_out(p, index, start));
        length = 1;
    }
    rule *r = &p->rules[index];
    mixt_op *body = malloc(length * sizeof *body);
    if (body == NULL) {
        return no_memory(p);
    }
    memcpy(body, r->ops + start, length * sizeof *body);
    r->count = start;
    p->op_total -= length;
    mixt_status status = emit_copies(p, index, body, length, counts);
    free(body);
    return status;
}

static mixt_status read_quantifiers(parser *p, size_t into, size_t start, bool newlines)
{
    for (;;) {
        int64_t counts[2] = {0, -1};
        char c = peek(p);
        if (c == '{') {
            MIXT_TRY(read_counts(p, newlines, &counts[0], &counts[1]));
        } else if (c == '*' || c == '+' || c == '?') {
            counts[0] = c == '+';
            counts[1] = c == '?' ? 1 : -1;
            p->at++;
        } else {
            return MIXT_OK;
        }
        MIXT_TRY(repeat(p, into, start, counts));
        skip_space(p, newlines);
    }
}

/* ---- sequences and alternatives */

static mixt_status read_alternatives(parser *p, size_t into, int depth);

static mixt_status read_group(parser *p, size_t into, int depth)
{
    size_t place = p->at++;
    if (depth >= MIXT_GRAMMAR_DEPTH_MAX) {
        return refuse(p, place, "groups nested more than %d deep", MIXT_GRAMMAR_DEPTH_MAX);
    }
    skip_space(p, true);
    MIXT_TRY(read_alternatives(p, into, depth + 1));
    if (peek(p) != ')') {
        return refuse(p, p->at < p->end ? p->at : place,
                      p->at < p->end ? ") is needed" : "the group does not end");
    }
    p->at++;
    return MIXT_OK;
}

static mixt_status read_sequence(parser *p, size_t into, int depth)
{
    bool newlines = depth > 0;
    for (;;) {
        size_t start = p->rules[into].count, called = 0;
        char c = peek(p);
        if (c == '"') {
            MIXT_TRY(read_literal(p, into));
        } else if (c == '[') {
            MIXT_TRY(read_class(p, into));
        } else if (c == '.') {
            MIXT_TRY(read_any(p, into));
        } else if (c == '(') {
            MIXT_TRY(read_group(p, into, depth));
        } else if (c == '<' || c == '!') {
            MIXT_TRY(read_token(p, into));
        } else if (is_name_character(c)) {
            MIXT_TRY(read_name(p, &called));
            MIXT_TRY(emit(p, into, MIXT_OP_CALL, (int64_t)called));
        } else if (c == '*' || c == '+' || c == '?' || c == '{') {
            return refuse(p, p->at, "nothing stands before %c to be repeated", c);
        } else {
            return MIXT_OK;
        }
        skip_space(p, newlines);
        MIXT_TRY(read_quantifiers(p, into, start, newlines));
    }
}

/* a | b is: SPLIT to b, a, JUMP to the end, b. */
static mixt_status read_alternatives(parser *p, size_t into, int depth)
{
    const size_t none = SIZE_MAX;
    size_t jump = none; /* the last one; its value is how far the one before it lies, 0: none */
    for (;;) {
        size_t start = p->rules[into].count;
        MIXT_TRY(read_sequence(p, into, depth));
        if (peek(p) != '|') {
            break;
        }
        p->at++;
        skip_space(p, true);
        MIXT_TRY(emit(p, into, MIXT_OP_JUMP, 0)); /* the place that SPLIT takes is made */
        rule *r = &p->rules[into];
        size_t length = r->count - 1 - start;
        MIXT_TRY(charge(p, length));
        memmove(r->ops + start + 1, r->ops + start, length * sizeof *r->ops);
        r->ops[start] = (mixt_op){MIXT_OP_SPLIT, (int32_t)length + 2};
        size_t at = r->count;
        MIXT_TRY(emit(p, into, MIXT_OP_JUMP, jump == none ? 0 : (int64_t)(at - jump)));
        jump = at;
    }
    rule *r = &p->rules[into];
    while (jump != none) {
        size_t before = (size_t)r->ops[jump].value;
        r->ops[jump].value = (int32_t)(r->count - jump);
        jump = before == 0 ? none : jump - before;
    }
    return MIXT_OK;
}

static mixt_status read_rule(parser *p)
{
    size_t index = 0, place = p->at;
    MIXT_TRY(read_name(p, &index));
    skip_space(p, false);
    if (peek(p) != ':' || peek_behind(p, 1) != ':' || peek_behind(p, 2) != '=') {
        return refuse(p, p->at, "::= is needed behind the rule's name");
    }
    if (p->rules[index].defined) {
        return refuse(p, place, "the rule %.*s is there twice", (int)p->rules[index].length,
                      p->rules[index].name);
    }
    p->rules[index].defined = true;
    p->rules[index].place = place;
    p->at += 3;
    skip_space(p, true);
    MIXT_TRY(read_alternatives(p, index, 0));
    MIXT_TRY(emit(p, index, MIXT_OP_RETURN, 0));
    if (p->at < p->end && peek(p) != '\n' && peek(p) != '\r') {
        return refuse(p, p->at, "the end of the line is needed");
    }
    skip_space(p, true);
    return MIXT_OK;
}

/* ---- the whole */

/* Puts the rules' code one behind another. */
static mixt_status link_rules(parser *p)
{
    mixt_grammar *g = p->grammar;
    g->starts = calloc(p->rule_count + 1, sizeof *g->starts);
    g->ops = calloc(p->op_total + 1, sizeof *g->ops);
    if (g->starts == NULL || g->ops == NULL) {
        return no_memory(p);
    }
    for (size_t i = 0; i < p->rule_count; i++) {
        const rule *r = &p->rules[i];
        if (!r->defined) {
            return refuse(p, r->place, "the rule %.*s is not defined", (int)r->length, r->name);
        }
        g->starts[i] = (uint32_t)g->op_count;
        memcpy(g->ops + g->op_count, r->ops, r->count * sizeof *r->ops);
        g->op_count += r->count;
    }
    g->rule_count = p->rule_count;
    return MIXT_OK;
}

static mixt_status check_rules(const parser *p)
{
    mixt_grammar_faults faults;
    MIXT_TRY(mixt_grammar_check(p->grammar, &faults, p->error));
    if (faults.left_recursion >= 0) {
        const rule *r = &p->rules[faults.left_recursion];
        return refuse(p, r->place, "the rule %.*s begins with itself (left recursion)",
                      r->name != NULL ? (int)r->length : 12,
                      r->name != NULL ? r->name : "of the group");
    }
    if (faults.has_no_end) {
        return refuse(p, p->rules[p->grammar->root].place, "no text of the rule root has an end");
    }
    return MIXT_OK;
}

static mixt_status read_grammar(parser *p)
{
    skip_space(p, true);
    while (p->at < p->end) {
        MIXT_TRY(read_rule(p));
    }
    uint32_t *root = p->name_room > 0 ? find_name(p, "root", 4) : NULL;
    if (root == NULL || *root == 0 || !p->rules[*root - 1].defined) {
        return refuse(p, p->end, "there is no rule root");
    }
    p->grammar->root = *root - 1;
    MIXT_TRY(link_rules(p));
    return check_rules(p);
}

mixt_status mixt_grammar_compile(const char *text, size_t length, const mixt_tokenizer *tokenizer,
                                 mixt_grammar **grammar, mixt_error *error)
{
    parser p = {.text = text, .end = length, .tokenizer = tokenizer, .error = error};
    *grammar = NULL;
    if (length > MIXT_GRAMMAR_BYTES_MAX) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "grammar: more than %zu bytes",
                         MIXT_GRAMMAR_BYTES_MAX);
    }
    const char *nul = memchr(text, '\0', length);
    if (nul != NULL) {
        return refuse(&p, (size_t)(nul - text), "a NUL byte");
    }
    p.grammar = calloc(1, sizeof *p.grammar);
    if (p.grammar == NULL) {
        return no_memory(&p);
    }
    mixt_status status = read_grammar(&p);
    for (size_t i = 0; i < p.rule_count; i++) {
        free(p.rules[i].ops);
    }
    for (size_t i = 0; i < p.kept_count; i++) {
        free(p.kept[i].ranges);
    }
    free(p.rules);
    free(p.names);
    if (status != MIXT_OK) {
        mixt_grammar_free(p.grammar);
        return status;
    }
    *grammar = p.grammar;
    return MIXT_OK;
}

void mixt_grammar_free(mixt_grammar *grammar)
{
    if (grammar != NULL) {
        free(grammar->ops);
        free(grammar->starts);
        free(grammar->classes.rows);
        free(grammar);
    }
}
