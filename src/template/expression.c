/* The grammar of expressions. Chains of equal rank (a + b + c, a.b.c, a|f|g) become flat lists, so
 * that only brackets and nesting deepen the tree. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "template/template.h"
#include "core/number.h"
#include "core/utf8.h"

static template_node *parse_unary(template_parser *parser, bool with_filters);
static template_node *parse_or(template_parser *parser);

/* ---- tokens */

bool mixt_template_is_name(const template_token *token, const char *name)
{
    return token->kind == TOKEN_NAME && strlen(name) == token->length &&
           memcmp(token->start, name, token->length) == 0;
}

bool mixt_template_skip_name(template_parser *parser, const char *name)
{
    bool is = mixt_template_is_name(parser->token, name);
    parser->token += is;
    return is;
}

bool mixt_template_is_operator(const template_token *token, template_operator operator_)
{
    return token->kind == TOKEN_OPERATOR && token->operator_ == operator_;
}

bool mixt_template_skip(template_parser *parser, template_operator operator_)
{
    bool is = mixt_template_is_operator(parser->token, operator_);
    parser->token += is;
    return is;
}

_Noreturn void mixt_template_unexpected(const template_parser *parser, const char *wanted)
{
    const template_token *token = parser->token;
    char what[60];
    switch ((template_token_kind)token->kind) {
    case TOKEN_END:
        snprintf(what, sizeof what, "the end of the template");
        break;
    case TOKEN_DATA:
        snprintf(what, sizeof what, "text");
        break;
    case TOKEN_PRINT_BEGIN:
    case TOKEN_BLOCK_BEGIN:
        snprintf(what, sizeof what, "the begin of a tag");
        break;
    case TOKEN_PRINT_END:
    case TOKEN_BLOCK_END:
        snprintf(what, sizeof what, "the end of the tag");
        break;
    case TOKEN_STRING:
        snprintf(what, sizeof what, "a string");
        break;
    case TOKEN_NAME:
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
    case TOKEN_OPERATOR:
        snprintf(what, sizeof what, "\"%.*s\"", (int)(token->length < 40 ? token->length : 40),
                 token->start);
        break;
    }
    parser->run->line = token->line;
    mixt_template_fail(parser->run, MIXT_ERROR_FORMAT, "%s where %s is needed", what, wanted);
}

static const char *operator_text(template_operator operator_)
{
    switch ((int)operator_) {
    case OPERATOR_CLOSE_PARENTHESIS:
        return "\")\"";
    case OPERATOR_CLOSE_BRACKET:
        return "\"]\"";
    case OPERATOR_CLOSE_BRACE:
        return "\"}\"";
    case OPERATOR_OPEN_PARENTHESIS:
        return "\"(\"";
    case OPERATOR_COMMA:
        return "\",\"";
    case OPERATOR_COLON:
        return "\":\"";
    case OPERATOR_ASSIGN:
        return "\"=\"";
    default:
        return "another operator";
    }
}

void mixt_template_expect(template_parser *parser, template_operator operator_)
{
    if (!mixt_template_skip(parser, operator_)) {
        mixt_template_unexpected(parser, operator_text(operator_));
    }
}

void mixt_template_nest(template_parser *parser)
{
    if (++parser->nesting > TEMPLATE_NESTING_MAX) {
        parser->run->line = parser->token->line;
        mixt_template_fail(parser->run, MIXT_ERROR_FORMAT, "nested deeper than %d",
                           TEMPLATE_NESTING_MAX);
    }
}

template_node *mixt_template_node(template_parser *parser, template_node_kind kind)
{
    template_node *node = mixt_template_allocate(parser->run, 1, sizeof *node);
    node->kind = (uint8_t)kind;
    node->line = parser->token->line;
    return node;
}

static template_node *wrap(template_parser *parser, template_node_kind kind, template_node *child)
{
    template_node *node = mixt_template_node(parser, kind);
    node->line = child->line;
    node->child = child;
    return node;
}

/* ---- constants */

static size_t hexadecimal(const char *text, size_t left, size_t count, uint32_t *value)
{
    *value = 0;
    for (size_t i = 0; i < count; i++) {
        int digit = i < left ? mixt_hex_digit(text[i]) : -1;
        if (digit < 0 || *value > 0xfffffff) {
            return 0;
        }
        *value = 16 * *value + (uint32_t)digit;
    }
    return count;
}

/* One escape behind its backslash: bytes read, what it stands for written to `out`. */
static size_t unescape_one(template_parser *parser, const char *text, size_t left, char **out)
{
    static const char plain[] = "n\nt\tr\ra\ab\bf\fv\v\\\\'\'\"\"";
    char c = text[0];
    for (size_t i = 0; plain[i] != '\0'; i += 2) {
        if (plain[i] == c) {
            *(*out)++ = plain[i + 1];
            return 1;
        }
    }
    if (c == '\n') {
        return 1; /* a line that goes on */
    }
    uint32_t value = 0;
    size_t used = 0;
    if (c == 'x' || c == 'u' || c == 'U') {
        used = hexadecimal(text + 1, left - 1, c == 'x' ? 2 : c == 'u' ? 4 : 8, &value);
        if (used == 0 || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) {
            mixt_template_fail(parser->run, MIXT_ERROR_FORMAT, "a string has a bad \\%c escape", c);
        }
        used++;
    } else if (c >= '0' && c <= '7') {
        while (used < 3 && used < left && text[used] >= '0' && text[used] <= '7') {
            value = 8 * value + (uint32_t)(text[used++] - '0');
        }
    } else if (c == 'N') {
        mixt_template_fail(parser->run, MIXT_ERROR_UNSUPPORTED, "\\N{...} is not supported");
    } else {
        *(*out)++ = '\\'; /* an unknown escape stays as it is */
        return 0;
    }
    if (value == 0) {
        mixt_template_fail(parser->run, MIXT_ERROR_UNSUPPORTED, "a NUL in a string");
    }
    *out += mixt_utf8_encode(value, *out);
    return used;
}

/* Strings beside one another are one. */
static template_node *parse_string(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_CONSTANT);
    size_t most = 0;
    for (const template_token *token = parser->token; token->kind == TOKEN_STRING; token++) {
        most += token->length;
    }
    char *text = mixt_template_allocate(parser->run, most + 8, 1);
    char *out = text;
    for (; parser->token->kind == TOKEN_STRING; parser->token++) {
        const template_token *token = parser->token;
        parser->run->line = token->line;
        for (size_t i = 0; i < token->length;) {
            char c = token->start[i++];
            if (c == '\\' && i < token->length) {
                i += unescape_one(parser, token->start + i, token->length - i, &out);
            } else {
                *out++ = c;
            }
        }
    }
    node->value = mixt_template_view(parser->run, text, (size_t)(out - text));
    return node;
}

static template_node *parse_number(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_CONSTANT);
    char text[400];
    size_t used = 0;
    parser->run->line = parser->token->line;
    for (size_t i = 0; i < parser->token->length; i++) {
        if (used + 1 == sizeof text) {
            mixt_template_fail(parser->run, MIXT_ERROR_UNSUPPORTED, "a number of too many digits");
        }
        if (parser->token->start[i] != '_') {
            text[used++] = parser->token->start[i];
        }
    }
    text[used] = '\0';
    errno = 0;
    if (parser->token->kind == TOKEN_INTEGER) {
        node->value = mixt_template_integer(strtoll(text, NULL, 10));
        if (errno == ERANGE) {
            mixt_template_fail(parser->run, MIXT_ERROR_UNSUPPORTED, "%.40s is beyond 64 bits",
                               text);
        }
    } else {
        node->value = mixt_template_number(mixt_number_read(text, NULL));
    }
    parser->token++;
    return node;
}

static template_node *parse_name(template_parser *parser)
{
    const template_token *token = parser->token;
    bool yes = mixt_template_is_name(token, "true") || mixt_template_is_name(token, "True");
    template_node *node = mixt_template_node(parser, NODE_CONSTANT);
    parser->token++;
    if (yes || mixt_template_is_name(token, "false") || mixt_template_is_name(token, "False")) {
        node->value = mixt_template_bool(yes);
    } else if (mixt_template_is_name(token, "none") || mixt_template_is_name(token, "None")) {
        node->value = mixt_template_none();
    } else {
        static const char *const refused[] = {"caller", "varargs", "kwargs"};
        for (size_t i = 0; parser->macros > 0 && i < 3; i++) {
            if (mixt_template_is_name(token, refused[i])) {
                parser->run->line = token->line;
                mixt_template_fail(parser->run, MIXT_ERROR_UNSUPPORTED,
                                   "%s in a macro is not supported", refused[i]);
            }
        }
        node->kind = NODE_NAME;
        node->symbol = mixt_template_symbol(parser->run, token->start, token->length);
    }
    return node;
}

/* ---- brackets */

static template_node *parse_list(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_LIST);
    template_node **last = &node->child;
    parser->token++;
    while (!mixt_template_skip(parser, OPERATOR_CLOSE_BRACKET)) {
        if (node->child != NULL) {
            mixt_template_expect(parser, OPERATOR_COMMA);
            if (mixt_template_skip(parser, OPERATOR_CLOSE_BRACKET)) {
                break;
            }
        }
        *last = mixt_template_parse_expression(parser);
        last = &(*last)->next;
    }
    return node;
}

static template_node *parse_dict(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_DICT);
    template_node **last = &node->child;
    parser->token++;
    while (!mixt_template_skip(parser, OPERATOR_CLOSE_BRACE)) {
        if (node->child != NULL) {
            mixt_template_expect(parser, OPERATOR_COMMA);
            if (mixt_template_skip(parser, OPERATOR_CLOSE_BRACE)) {
                break;
            }
        }
        *last = mixt_template_parse_expression(parser);
        mixt_template_expect(parser, OPERATOR_COLON);
        (*last)->next = mixt_template_parse_expression(parser);
        last = &(*last)->next->next;
    }
    return node;
}

static template_node *parse_parentheses(template_parser *parser)
{
    template_node *node;
    parser->token++;
    if (mixt_template_is_operator(parser->token, OPERATOR_CLOSE_PARENTHESIS)) {
        node = mixt_template_node(parser, NODE_TUPLE);
    } else {
        node = mixt_template_parse_tuple(parser, true);
    }
    mixt_template_expect(parser, OPERATOR_CLOSE_PARENTHESIS);
    return node;
}

static template_node *parse_primary(template_parser *parser)
{
    template_node *node = NULL;
    mixt_template_nest(parser);
    if (parser->token->kind == TOKEN_NAME) {
        node = parse_name(parser);
    } else if (parser->token->kind == TOKEN_STRING) {
        node = parse_string(parser);
    } else if (parser->token->kind == TOKEN_INTEGER || parser->token->kind == TOKEN_FLOAT) {
        node = parse_number(parser);
    } else if (mixt_template_is_operator(parser->token, OPERATOR_OPEN_PARENTHESIS)) {
        node = parse_parentheses(parser);
    } else if (mixt_template_is_operator(parser->token, OPERATOR_OPEN_BRACKET)) {
        node = parse_list(parser);
    } else if (mixt_template_is_operator(parser->token, OPERATOR_OPEN_BRACE)) {
        node = parse_dict(parser);
    } else {
        mixt_template_unexpected(parser, "an expression");
    }
    parser->nesting--;
    return node;
}

/* ---- what follows a value */

static void parse_arguments(template_parser *parser, template_node *call)
{
    template_node **last = &call->child;
    bool named = false;
    mixt_template_expect(parser, OPERATOR_OPEN_PARENTHESIS);
    for (bool first = true; !mixt_template_skip(parser, OPERATOR_CLOSE_PARENTHESIS);
         first = false) {
        if (!first) {
            mixt_template_expect(parser, OPERATOR_COMMA);
            if (mixt_template_skip(parser, OPERATOR_CLOSE_PARENTHESIS)) {
                break;
            }
        }
        const template_token *name = parser->token;
        if (mixt_template_is_operator(name, OPERATOR_MULTIPLY) ||
            mixt_template_is_operator(name, OPERATOR_POWER)) {
            parser->run->line = name->line;
            mixt_template_fail(parser->run, MIXT_ERROR_UNSUPPORTED,
                               "* and ** in arguments are not supported");
        }
        if (name->kind == TOKEN_NAME && mixt_template_is_operator(name + 1, OPERATOR_ASSIGN)) {
            template_node *keyword = mixt_template_node(parser, NODE_KEYWORD);
            parser->token += 2;
            keyword->value = mixt_template_string(parser->run, name->start, name->length);
            keyword->child = mixt_template_parse_expression(parser);
            *last = keyword;
            named = true;
        } else if (named) {
            mixt_template_unexpected(parser, "a named argument");
        } else {
            *last = mixt_template_parse_expression(parser);
        }
        last = &(*last)->next;
    }
}

static template_node *optional(template_parser *parser)
{
    if (mixt_template_is_operator(parser->token, OPERATOR_COLON) ||
        mixt_template_is_operator(parser->token, OPERATOR_CLOSE_BRACKET)) {
        return mixt_template_node(parser, NODE_NONE);
    }
    return mixt_template_parse_expression(parser);
}

static template_node *parse_subscript(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_ITEM);
    parser->token++;
    node->child = optional(parser);
    if (mixt_template_skip(parser, OPERATOR_COLON)) {
        node->kind = NODE_SLICE;
        node->child->next = optional(parser);
        if (mixt_template_skip(parser, OPERATOR_COLON)) {
            node->child->next->next = optional(parser);
        } else {
            node->child->next->next = mixt_template_node(parser, NODE_NONE);
        }
    } else if (node->child->kind == NODE_NONE) {
        mixt_template_unexpected(parser, "an index");
    } else if (mixt_template_is_operator(parser->token, OPERATOR_COMMA)) {
        mixt_template_unexpected(parser, "\"]\"");
    }
    mixt_template_expect(parser, OPERATOR_CLOSE_BRACKET);
    return node;
}

static template_node *parse_attribute(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_ATTRIBUTE);
    parser->token++;
    if (parser->token->kind == TOKEN_INTEGER) {
        node->kind = NODE_ITEM;
        node->child = parse_number(parser);
        return node;
    }
    if (parser->token->kind != TOKEN_NAME) {
        mixt_template_unexpected(parser, "a name");
    }
    node->value = mixt_template_string(parser->run, parser->token->start, parser->token->length);
    parser->token++;
    return node;
}

static template_node *parse_call(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_CALL);
    parse_arguments(parser, node);
    return node;
}

/* A value with the attributes, items and calls behind it. */
static template_node *with_postfix(template_parser *parser, template_node *base)
{
    template_node *node = base;
    template_node **last = &base->next;
    for (;;) {
        template_node *next;
        if (mixt_template_is_operator(parser->token, OPERATOR_DOT)) {
            next = parse_attribute(parser);
        } else if (mixt_template_is_operator(parser->token, OPERATOR_OPEN_BRACKET)) {
            next = parse_subscript(parser);
        } else if (mixt_template_is_operator(parser->token, OPERATOR_OPEN_PARENTHESIS)) {
            next = parse_call(parser);
        } else {
            return node;
        }
        node = node == base ? wrap(parser, NODE_POSTFIX, base) : node;
        *last = next;
        last = &next->next;
    }
}

static template_node *parse_filter(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_FILTER);
    if (parser->token->kind != TOKEN_NAME) {
        mixt_template_unexpected(parser, "the name of a filter");
    }
    node->value = mixt_template_string(parser->run, parser->token->start, parser->token->length);
    parser->token++;
    if (mixt_template_is_operator(parser->token, OPERATOR_OPEN_PARENTHESIS)) {
        parse_arguments(parser, node);
    }
    return node;
}

static bool begins_argument(const template_token *token)
{
    static const char *const not_one[] = {"else", "or", "and"};
    if (token->kind == TOKEN_NAME) {
        for (size_t i = 0; i < sizeof not_one / sizeof not_one[0]; i++) {
            if (mixt_template_is_name(token, not_one[i])) {
                return false;
            }
        }
        return true;
    }
    return token->kind == TOKEN_STRING || token->kind == TOKEN_INTEGER ||
           token->kind == TOKEN_FLOAT || mixt_template_is_operator(token, OPERATOR_OPEN_BRACKET) ||
           mixt_template_is_operator(token, OPERATOR_OPEN_BRACE);
}

static template_node *parse_test(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_TEST);
    parser->token++;
    node->negated = mixt_template_skip_name(parser, "not");
    if (parser->token->kind != TOKEN_NAME) {
        mixt_template_unexpected(parser, "the name of a test");
    }
    node->value = mixt_template_string(parser->run, parser->token->start, parser->token->length);
    parser->token++;
    if (mixt_template_is_operator(parser->token, OPERATOR_OPEN_PARENTHESIS)) {
        parse_arguments(parser, node);
    } else if (begins_argument(parser->token)) {
        if (mixt_template_is_name(parser->token, "is")) {
            mixt_template_unexpected(parser, "something but a second test");
        }
        node->child = with_postfix(parser, parse_primary(parser));
    }
    return node;
}

static template_node *parse_filters_and_tests(template_parser *parser, template_node *base)
{
    template_node *node = NULL;
    template_node **last = NULL;
    for (;;) {
        template_node *next = NULL;
        if (mixt_template_skip(parser, OPERATOR_PIPE)) {
            next = parse_filter(parser);
        } else if (mixt_template_is_name(parser->token, "is")) {
            next = parse_test(parser);
        } else if (node != NULL &&
                   mixt_template_is_operator(parser->token, OPERATOR_OPEN_PARENTHESIS)) {
            next = parse_call(parser);
        } else {
            return node != NULL ? node : base;
        }
        if (node == NULL) {
            node = wrap(parser, NODE_POSTFIX, base);
            last = &base->next;
        }
        *last = next;
        last = &next->next;
    }
}

template_node *mixt_template_parse_filters(template_parser *parser, bool begun)
{
    template_node *node = mixt_template_node(parser, NODE_POSTFIX);
    template_node **last = &node->child;
    while (begun || mixt_template_skip(parser, OPERATOR_PIPE)) {
        begun = false;
        *last = parse_filter(parser);
        last = &(*last)->next;
    }
    return node;
}

/* ---- operators */

static template_node *parse_unary(template_parser *parser, bool with_filters)
{
    template_node *node;
    mixt_template_nest(parser);
    if (mixt_template_is_operator(parser->token, OPERATOR_SUBTRACT) ||
        mixt_template_is_operator(parser->token, OPERATOR_ADD)) {
        bool minus = parser->token->operator_ == OPERATOR_SUBTRACT;
        node = mixt_template_node(parser, minus ? NODE_NEGATE : NODE_POSITIVE);
        parser->token++;
        node->child = parse_unary(parser, false);
    } else {
        node = parse_primary(parser);
    }
    node = with_postfix(parser, node);
    if (with_filters) {
        node = parse_filters_and_tests(parser, node);
    }
    parser->nesting--;
    return node;
}

/* The operator of this rank that the parser stands at, or OPERATOR_NONE. */
static template_operator operator_of_rank(const template_parser *parser, int rank)
{
    if (parser->token->kind != TOKEN_OPERATOR) {
        return OPERATOR_NONE;
    }
    template_operator operator_ = (template_operator)parser->token->operator_;
    bool is = rank == 0   ? operator_ == OPERATOR_ADD || operator_ == OPERATOR_SUBTRACT
              : rank == 1 ? operator_ == OPERATOR_TILDE
              : rank == 2 ? operator_ == OPERATOR_MULTIPLY || operator_ == OPERATOR_DIVIDE ||
                                operator_ == OPERATOR_FLOOR_DIVIDE || operator_ == OPERATOR_MODULO
                          : operator_ == OPERATOR_POWER;
    return is ? operator_ : OPERATOR_NONE;
}

/* Ranks of jinja2, from weak to strong: + and -, ~, * / // %, ** (all from left to right). */
static template_node *parse_arithmetic(template_parser *parser, int rank)
{
    if (rank == 4) {
        return parse_unary(parser, true);
    }
    template_node *first = parse_arithmetic(parser, rank + 1);
    template_operator operator_ = operator_of_rank(parser, rank);
    if (operator_ == OPERATOR_NONE) {
        return first;
    }
    template_node *node = wrap(parser, rank == 1 ? NODE_CONCAT : NODE_CHAIN, first);
    template_node **last = &first->next;
    for (; operator_ != OPERATOR_NONE; operator_ = operator_of_rank(parser, rank)) {
        parser->token++;
        template_node *operand = parse_arithmetic(parser, rank + 1);
        if (rank != 1) {
            operand = wrap(parser, NODE_OPERAND, operand);
            operand->operator_ = (uint8_t)operator_;
        }
        *last = operand;
        last = &operand->next;
    }
    return node;
}

static template_operator comparison_at(template_parser *parser)
{
    const template_token *token = parser->token;
    if (token->kind == TOKEN_OPERATOR && token->operator_ >= OPERATOR_EQUAL &&
        token->operator_ <= OPERATOR_GREATER_EQUAL) {
        parser->token++;
        return (template_operator)token->operator_;
    }
    if (mixt_template_skip_name(parser, "in")) {
        return OPERATOR_IN;
    }
    if (mixt_template_is_name(token, "not") && mixt_template_is_name(token + 1, "in")) {
        parser->token += 2;
        return OPERATOR_NOT_IN;
    }
    return OPERATOR_NONE;
}

static template_node *parse_comparison(template_parser *parser)
{
    template_node *first = parse_arithmetic(parser, 0);
    template_node *node = first;
    template_node **last = &first->next;
    for (template_operator o = comparison_at(parser); o != OPERATOR_NONE;
         o = comparison_at(parser)) {
        if (node == first) {
            node = wrap(parser, NODE_COMPARE, first);
        }
        template_node *operand = wrap(parser, NODE_OPERAND, parse_arithmetic(parser, 0));
        operand->operator_ = (uint8_t)o;
        *last = operand;
        last = &operand->next;
    }
    return node;
}

static template_node *parse_not(template_parser *parser)
{
    if (!mixt_template_is_name(parser->token, "not")) {
        return parse_comparison(parser);
    }
    mixt_template_nest(parser);
    template_node *node = mixt_template_node(parser, NODE_NOT);
    parser->token++;
    node->child = parse_not(parser);
    parser->nesting--;
    return node;
}

static template_node *parse_and(template_parser *parser)
{
    template_node *first = parse_not(parser);
    template_node *node = first;
    template_node **last = &first->next;
    while (mixt_template_skip_name(parser, "and")) {
        node = node == first ? wrap(parser, NODE_AND, first) : node;
        *last = parse_not(parser);
        last = &(*last)->next;
    }
    return node;
}

static template_node *parse_or(template_parser *parser)
{
    template_node *first = parse_and(parser);
    template_node *node = first;
    template_node **last = &first->next;
    while (mixt_template_skip_name(parser, "or")) {
        node = node == first ? wrap(parser, NODE_OR, first) : node;
        *last = parse_and(parser);
        last = &(*last)->next;
    }
    return node;
}

template_node *mixt_template_parse_expression(template_parser *parser)
{
    mixt_template_nest(parser);
    int nested = 1;
    template_node *node = parse_or(parser);
    while (mixt_template_skip_name(parser, "if")) {
        mixt_template_nest(parser); /* each one wraps what came before */
        nested++;
        template_node *condition = parse_or(parser);
        template_node *choice = wrap(parser, NODE_CONDITION, condition);
        condition->next = node;
        if (mixt_template_skip_name(parser, "else")) {
            node->next = mixt_template_parse_expression(parser);
        }
        node = choice;
    }
    parser->nesting -= nested;
    return node;
}

template_node *mixt_template_parse_tuple(template_parser *parser, bool with_condition)
{
    template_node *first = NULL;
    template_node **last = &first;
    bool is_tuple = false;
    int line = parser->token->line;
    for (;;) {
        bool is_end = parser->token->kind == TOKEN_PRINT_END ||
                      parser->token->kind == TOKEN_BLOCK_END ||
                      mixt_template_is_operator(parser->token, OPERATOR_CLOSE_PARENTHESIS);
        if (is_end && first != NULL) {
            break;
        }
        mixt_template_nest(parser);
        *last = with_condition ? mixt_template_parse_expression(parser) : parse_or(parser);
        parser->nesting--;
        last = &(*last)->next;
        if (!mixt_template_skip(parser, OPERATOR_COMMA)) {
            break;
        }
        is_tuple = true;
    }
    if (!is_tuple) {
        return first;
    }
    template_node *node = mixt_template_node(parser, NODE_TUPLE);
    node->line = line;
    node->child = first;
    return node;
}
