/* The tokens of a template, with jinja2's rules for white space (trim_blocks and lstrip_blocks on,
 * one newline at the end of the file dropped). */
#include <string.h>

#include "template/template.h"
#include "core/utf8.h"

typedef struct lexer {
    template_run *run;
    const char *text;
    size_t length, at;
    int line;
    bool line_starting; /* the last thing read ended with a newline */
    template_token *tokens;
    size_t count, capacity;
    unsigned char brackets[TEMPLATE_NESTING_MAX + 1]; /* operators that close what is open */
    int open;
} lexer;

static void add(lexer *lex, template_token_kind kind, size_t start, size_t length)
{
    mixt_template_grow(lex->run, &lex->tokens, &lex->capacity,
                       lex->capacity == 0 ? 512 : lex->count + 1, sizeof *lex->tokens);
    lex->tokens[lex->count++] = (template_token){
        .kind = (uint8_t)kind, .line = lex->line, .start = lex->text + start, .length = length};
}

static bool starts(const lexer *lex, size_t at, const char *what)
{
    size_t length = strlen(what);
    return lex->length - at >= length && memcmp(lex->text + at, what, length) == 0;
}

static void count_lines(lexer *lex, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        lex->line += lex->text[i] == '\n';
    }
}

/* Moves on to `to` and remembers whether a line begins there. */
static void advance(lexer *lex, size_t to)
{
    count_lines(lex, lex->at, to);
    lex->line_starting = to > lex->at ? lex->text[to - 1] == '\n' : lex->line_starting;
    lex->at = to;
}

/* Where `text[from..to)` ends once the white space before it is gone that `sign` asks for: '-' all,
 * '+' none, else what lies between the last newline and a tag that is not a print. */
static size_t strip_before(const lexer *lex, size_t from, size_t to, char sign, bool is_print)
{
    if (sign == '-') {
        while (to > from) {
            size_t last = to - 1;
            while (last > from && ((unsigned char)lex->text[last] & 0xc0) == 0x80) {
                last--;
            }
            if (mixt_template_space_at(lex->text, lex->length, last) == 0) {
                break;
            }
            to = last;
        }
        return to;
    }
    if (sign == '+' || is_print) {
        return to;
    }
    size_t line = to;
    while (line > from && lex->text[line - 1] != '\n') {
        line--;
    }
    return (line > from || lex->line_starting) &&
                   mixt_template_skip_space(lex->text, lex->length, line) >= to
               ? line
               : to;
}

/* The end of a tag at `at`: close, "-" close and white space, or "+" close; 0 where none stands. */
static size_t tag_end(const lexer *lex, size_t at, const char *close, bool plus, bool trim)
{
    if (lex->text[at] == '-' && starts(lex, at + 1, close)) {
        return mixt_template_skip_space(lex->text, lex->length, at + 1 + strlen(close));
    }
    if (plus && lex->text[at] == '+' && starts(lex, at + 1, close)) {
        return at + 1 + strlen(close);
    }
    if (!starts(lex, at, close)) {
        return 0;
    }
    at += strlen(close);
    return trim && at < lex->length && lex->text[at] == '\n' ? at + 1 : at;
}

static void data(lexer *lex, size_t from, size_t to)
{
    if (to > from) {
        add(lex, TOKEN_DATA, from, to - from);
    }
}

static _Noreturn void refuse(lexer *lex, const char *what)
{
    lex->run->line = lex->line;
    mixt_template_fail(lex->run, MIXT_ERROR_FORMAT, "%s", what);
}

static void comment(lexer *lex)
{
    for (size_t at = lex->at; at < lex->length; at++) {
        size_t end = tag_end(lex, at, "#}", true, true);
        if (end > 0) {
            advance(lex, end);
            return;
        }
    }
    refuse(lex, "the comment has no end");
}

/* The length of a "{%- raw -%}" at `at`, 0 where another tag stands. */
static size_t raw_begin(const lexer *lex, size_t at)
{
    size_t name = at + 2;
    if (lex->text[name] == '-' || lex->text[name] == '+') {
        name++;
    }
    name = mixt_template_skip_space(lex->text, lex->length, name);
    if (!starts(lex, name, "raw")) {
        return 0;
    }
    size_t end = tag_end(lex, mixt_template_skip_space(lex->text, lex->length, name + 3), "%}",
                         false, false);
    return end > 0 ? end - at : 0;
}

static void raw(lexer *lex)
{
    for (size_t at = lex->at; at < lex->length; at++) {
        if (!starts(lex, at, "{%")) {
            continue;
        }
        char sign = lex->text[at + 2];
        size_t name =
            mixt_template_skip_space(lex->text, lex->length, at + 2 + (sign == '-' || sign == '+'));
        if (!starts(lex, name, "endraw")) {
            continue;
        }
        size_t end = tag_end(lex, mixt_template_skip_space(lex->text, lex->length, name + 6), "%}",
                             true, true);
        if (end > 0) {
            data(lex, lex->at, strip_before(lex, lex->at, at, sign, false));
            advance(lex, end);
            return;
        }
    }
    refuse(lex, "{% raw %} has no {% endraw %}");
}

/* ---- inside of tags */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Digits with single underscores between them. */
static size_t digits(const lexer *lex, size_t at)
{
    while (is_digit(lex->text[at]) ||
           (lex->text[at] == '_' && is_digit(lex->text[at - 1]) && is_digit(lex->text[at + 1]))) {
        at++;
    }
    return at;
}

static size_t number(lexer *lex)
{
    size_t start = lex->at;
    size_t at = digits(lex, start);
    bool is_float = false;
    bool behind_dot = start > 0 && lex->text[start - 1] == '.';
    if (!behind_dot && lex->text[at] == '.' && is_digit(lex->text[at + 1])) {
        is_float = true;
        at = digits(lex, at + 1);
    }
    if (!behind_dot && (lex->text[at] == 'e' || lex->text[at] == 'E')) {
        size_t exponent = at + 1 + (lex->text[at + 1] == '+' || lex->text[at + 1] == '-');
        if (is_digit(lex->text[exponent])) {
            is_float = true;
            at = digits(lex, exponent);
        }
    }
    if (is_letter(lex->text[at]) || (!is_float && lex->text[start] == '0' && at > start + 1)) {
        refuse(lex, "a number of a form that is not supported");
    }
    add(lex, is_float ? TOKEN_FLOAT : TOKEN_INTEGER, start, at - start);
    return at;
}

static size_t string(lexer *lex)
{
    char quote = lex->text[lex->at];
    size_t at = lex->at + 1;
    while (at < lex->length && lex->text[at] != quote) {
        at += lex->text[at] == '\\' ? 2 : 1;
    }
    if (at >= lex->length) {
        refuse(lex, "a string has no closing quote");
    }
    add(lex, TOKEN_STRING, lex->at + 1, at - lex->at - 1);
    return at + 1;
}

static const struct {
    const char *text;
    unsigned char operator_;
} operators[] = {
    {"**", OPERATOR_POWER},
    {"//", OPERATOR_FLOOR_DIVIDE},
    {"==", OPERATOR_EQUAL},
    {"!=", OPERATOR_NOT_EQUAL},
    {">=", OPERATOR_GREATER_EQUAL},
    {"<=", OPERATOR_LESS_EQUAL},
    {"+", OPERATOR_ADD},
    {"-", OPERATOR_SUBTRACT},
    {"*", OPERATOR_MULTIPLY},
    {"/", OPERATOR_DIVIDE},
    {"%", OPERATOR_MODULO},
    {"~", OPERATOR_TILDE},
    {">", OPERATOR_GREATER},
    {"<", OPERATOR_LESS},
    {"=", OPERATOR_ASSIGN},
    {".", OPERATOR_DOT},
    {":", OPERATOR_COLON},
    {"|", OPERATOR_PIPE},
    {",", OPERATOR_COMMA},
    {"(", OPERATOR_OPEN_PARENTHESIS},
    {")", OPERATOR_CLOSE_PARENTHESIS},
    {"[", OPERATOR_OPEN_BRACKET},
    {"]", OPERATOR_CLOSE_BRACKET},
    {"{", OPERATOR_OPEN_BRACE},
    {"}", OPERATOR_CLOSE_BRACE},
};

static void balance(lexer *lex, unsigned char operator_)
{
    bool opens = operator_ == OPERATOR_OPEN_PARENTHESIS || operator_ == OPERATOR_OPEN_BRACKET ||
                 operator_ == OPERATOR_OPEN_BRACE;
    bool closes = operator_ == OPERATOR_CLOSE_PARENTHESIS || operator_ == OPERATOR_CLOSE_BRACKET ||
                  operator_ == OPERATOR_CLOSE_BRACE;
    if (opens) {
        if (lex->open == TEMPLATE_NESTING_MAX) {
            refuse(lex, "too many brackets inside one another");
        }
        lex->brackets[lex->open++] = (unsigned char)(operator_ + 1);
    } else if (closes && (lex->open == 0 || lex->brackets[--lex->open] != operator_)) {
        refuse(lex, "a bracket closes what is not open");
    }
}

static size_t operator_at(lexer *lex)
{
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (starts(lex, lex->at, operators[i].text)) {
            size_t length = strlen(operators[i].text);
            balance(lex, operators[i].operator_);
            add(lex, TOKEN_OPERATOR, lex->at, length);
            lex->tokens[lex->count - 1].operator_ = operators[i].operator_;
            return lex->at + length;
        }
    }
    char what[40];
    size_t bytes =
        mixt_utf8_character((const unsigned char *)lex->text + lex->at, lex->length - lex->at);
    snprintf(what, sizeof what, "unexpected \"%.*s\"", (int)bytes, lex->text + lex->at);
    refuse(lex, what);
}

static void tag(lexer *lex, bool is_print)
{
    lex->open = 0;
    for (;;) {
        mixt_template_charge(lex->run, 0);
        advance(lex, mixt_template_skip_space(lex->text, lex->length, lex->at));
        if (lex->at >= lex->length) {
            refuse(lex, is_print ? "a \"{{\" is not closed" : "a \"{%\" is not closed");
        }
        size_t end =
            lex->open > 0 ? 0 : tag_end(lex, lex->at, is_print ? "}}" : "%}", !is_print, !is_print);
        if (end > 0) {
            add(lex, is_print ? TOKEN_PRINT_END : TOKEN_BLOCK_END, lex->at, 0);
            advance(lex, end);
            return;
        }
        char c = lex->text[lex->at];
        if (is_digit(c)) {
            end = number(lex);
        } else if (is_letter(c)) {
            for (end = lex->at; is_letter(lex->text[end]) || is_digit(lex->text[end]); end++) {
            }
            add(lex, TOKEN_NAME, lex->at, end - lex->at);
        } else if (c == '"' || c == '\'') {
            end = string(lex);
        } else {
            end = operator_at(lex);
        }
        advance(lex, end);
    }
}

/* A copy with "\n" for every kind of newline, without the last one, NUL behind it. */
static void normalize(lexer *lex, const char *text, size_t length)
{
    char *copy = mixt_template_allocate(lex->run, length + 4, 1); /* looking ahead stays inside */
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\r') {
            copy[used++] = '\n';
            i += i + 1 < length && text[i + 1] == '\n';
        } else {
            copy[used++] = text[i];
        }
    }
    used -= used > 0 && copy[used - 1] == '\n';
    memset(copy + used, 0, length + 4 - used);
    lex->text = copy;
    lex->length = used;
}

static void whole(lexer *lex)
{
    size_t from = lex->at;
    size_t at = from;
    while (at < lex->length && !(lex->text[at] == '{' && strchr("{%#", lex->text[at + 1]) != NULL &&
                                 lex->text[at + 1] != '\0')) {
        at++;
    }
    if (at >= lex->length) {
        data(lex, from, lex->length);
        lex->at = lex->length;
        return;
    }
    char kind = lex->text[at + 1];
    char sign = lex->text[at + 2];
    size_t body = at + 2 + (sign == '-' || sign == '+');
    size_t raw_length = kind == '%' ? raw_begin(lex, at) : 0;
    data(lex, from, strip_before(lex, from, at, sign, kind == '{'));
    if (raw_length > 0) {
        advance(lex, at + raw_length);
        raw(lex);
        return;
    }
    advance(lex, body);
    if (kind == '#') {
        comment(lex);
    } else {
        add(lex, kind == '{' ? TOKEN_PRINT_BEGIN : TOKEN_BLOCK_BEGIN, at, 0);
        tag(lex, kind == '{');
    }
}

const template_token *mixt_template_lex(template_run *run, const char *text, size_t length)
{
    lexer lex = {.run = run, .line = 1, .line_starting = true};
    normalize(&lex, text, length);
    while (lex.at < lex.length) {
        whole(&lex);
    }
    add(&lex, TOKEN_END, lex.length, 0);
    return lex.tokens;
}
