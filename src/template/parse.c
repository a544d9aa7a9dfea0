/* The grammar of statements. */
#include <string.h>

#include "template/template.h"

static template_node *parse_body(template_parser *parser, const char *const *ends);

static const template_token *need_name(template_parser *parser, const char *wanted)
{
    if (parser->token->kind != TOKEN_NAME) {
        mixt_template_unexpected(parser, wanted);
    }
    return parser->token++;
}

static void end_tag(template_parser *parser)
{
    if (parser->token->kind != TOKEN_BLOCK_END) {
        mixt_template_unexpected(parser, "the end of the tag");
    }
    parser->token++;
}

/* The body behind a tag, up to `end`, whose tag is read too. */
static template_node *body_until(template_parser *parser, const char *end)
{
    const char *ends[] = {end, NULL};
    mixt_template_skip(parser, OPERATOR_COLON);
    end_tag(parser);
    template_node *body = parse_body(parser, ends);
    parser->token++;
    end_tag(parser);
    return body;
}

static template_node *target_name(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_NAME);
    const template_token *name = need_name(parser, "a name");
    static const char *const kept[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (mixt_template_is_name(name, kept[i])) {
            parser->token--;
            mixt_template_unexpected(parser, "a name that can be assigned to");
        }
    }
    node->symbol = mixt_template_symbol(parser->run, name->start, name->length);
    return node;
}

/* A name, or several with commas (in brackets or not). */
static template_node *parse_target(template_parser *parser)
{
    bool bracket = mixt_template_skip(parser, OPERATOR_OPEN_PARENTHESIS);
    template_node *first = target_name(parser);
    template_node *node = first;
    template_node **last = &first->next;
    while (mixt_template_skip(parser, OPERATOR_COMMA)) {
        if (node == first) {
            node = mixt_template_node(parser, NODE_TUPLE);
            node->child = first;
        }
        if (parser->token->kind != TOKEN_NAME || mixt_template_is_name(parser->token, "in")) {
            break;
        }
        *last = target_name(parser);
        last = &(*last)->next;
    }
    if (bracket) {
        mixt_template_expect(parser, OPERATOR_CLOSE_PARENTHESIS);
    }
    return node;
}

static template_node *parse_if(template_parser *parser)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    template_node *node = mixt_template_node(parser, NODE_IF);
    template_node **last = &node->child;
    for (;;) { /* at the name of the tag: if, elif or else */
        template_node *branch = mixt_template_node(parser, NODE_BRANCH);
        bool is_else = mixt_template_is_name(parser->token, "else");
        parser->token++;
        branch->child = is_else ? mixt_template_node(parser, NODE_NONE)
                                : mixt_template_parse_tuple(parser, false);
        mixt_template_skip(parser, OPERATOR_COLON);
        end_tag(parser);
        branch->child->next = parse_body(parser, is_else ? ends + 2 : ends);
        *last = branch;
        last = &branch->next;
        if (mixt_template_skip_name(parser, "endif")) {
            end_tag(parser);
            return node;
        }
    }
}

static template_node *parse_for(template_parser *parser)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    template_node *node = mixt_template_node(parser, NODE_FOR);
    parser->token++;
    node->child = parse_target(parser);
    if (!mixt_template_skip_name(parser, "in")) {
        mixt_template_unexpected(parser, "\"in\"");
    }
    template_node *items = mixt_template_parse_tuple(parser, false);
    node->child->next = items;
    items->next = mixt_template_skip_name(parser, "if") ? mixt_template_parse_expression(parser)
                                                        : mixt_template_node(parser, NODE_NONE);
    if (mixt_template_is_name(parser->token, "recursive")) {
        parser->run->line = parser->token->line;
        mixt_template_fail(parser->run, MIXT_ERROR_UNSUPPORTED,
                           "a recursive for loop is not supported");
    }
    mixt_template_skip(parser, OPERATOR_COLON);
    end_tag(parser);
    parser->loops++;
    items->next->next = parse_body(parser, ends);
    parser->loops--;
    if (mixt_template_skip_name(parser, "else")) {
        items->next->next->next = body_until(parser, "endfor");
    } else {
        parser->token++;
        end_tag(parser);
    }
    return node;
}

static template_node *parse_set(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_SET);
    parser->token++;
    if (mixt_template_is_operator(parser->token + 1, OPERATOR_DOT)) {
        template_node *member = target_name(parser);
        member->kind = NODE_MEMBER;
        parser->token++;
        const template_token *name = need_name(parser, "the name of an attribute");
        member->value = mixt_template_string(parser->run, name->start, name->length);
        node->child = member;
    } else {
        node->child = parse_target(parser);
    }
    if (mixt_template_skip(parser, OPERATOR_ASSIGN)) {
        node->child->next = mixt_template_parse_tuple(parser, true);
        end_tag(parser);
        return node;
    }
    node->kind = NODE_SET_BLOCK;
    node->child->next = mixt_template_parse_filters(parser, false);
    int loops = parser->loops;
    parser->loops = 0;
    node->child->next->next = body_until(parser, "endset");
    parser->loops = loops;
    return node;
}

static template_node *parse_macro(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_MACRO);
    template_node **last = &node->child;
    bool defaults = false;
    int loops = parser->loops;
    parser->token++;
    node->symbol = target_name(parser)->symbol;
    mixt_template_expect(parser, OPERATOR_OPEN_PARENTHESIS);
    parser->macros++;
    while (!mixt_template_skip(parser, OPERATOR_CLOSE_PARENTHESIS)) {
        if (node->child != NULL) {
            mixt_template_expect(parser, OPERATOR_COMMA);
        }
        template_node *parameter = target_name(parser);
        parameter->kind = NODE_PARAMETER;
        if (mixt_template_skip(parser, OPERATOR_ASSIGN)) {
            parameter->child = mixt_template_parse_expression(parser);
            defaults = true;
        } else if (defaults) {
            mixt_template_unexpected(parser, "a default value");
        }
        *last = parameter;
        last = &parameter->next;
    }
    parser->loops = 0;
    *last = body_until(parser, "endmacro");
    parser->loops = loops;
    parser->macros--;
    return node;
}

static template_node *parse_filter_block(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_FILTER_BLOCK);
    int loops = parser->loops;
    parser->token++;
    node->child = mixt_template_parse_filters(parser, true);
    parser->loops = 0;
    node->child->next = body_until(parser, "endfilter");
    parser->loops = loops;
    return node;
}

static template_node *parse_with(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_WITH);
    template_node **last = &node->child;
    parser->token++;
    while (parser->token->kind != TOKEN_BLOCK_END) {
        if (node->child != NULL) {
            mixt_template_expect(parser, OPERATOR_COMMA);
        }
        template_node *set = mixt_template_node(parser, NODE_SET);
        set->child = parse_target(parser);
        mixt_template_expect(parser, OPERATOR_ASSIGN);
        set->child->next = mixt_template_parse_expression(parser);
        *last = set;
        last = &set->next;
    }
    *last = body_until(parser, "endwith");
    return node;
}

static template_node *parse_jump(template_parser *parser)
{
    bool is_break = mixt_template_is_name(parser->token, "break");
    template_node *node = mixt_template_node(parser, is_break ? NODE_BREAK : NODE_CONTINUE);
    if (parser->loops == 0) {
        mixt_template_unexpected(parser, "a tag that can stand outside of a loop");
    }
    parser->token++;
    end_tag(parser);
    return node;
}

/* transformers' mark of what an assistant wrote: its text alone counts here. */
static template_node *parse_generation(template_parser *parser)
{
    template_node *node = mixt_template_node(parser, NODE_SCOPE);
    int loops = parser->loops;
    parser->token++;
    parser->loops = 0;
    node->child = body_until(parser, "endgeneration");
    parser->loops = loops;
    return node;
}

static const struct {
    const char *name;
    template_node *(*parse)(template_parser *parser);
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"break", parse_jump},
    {"continue", parse_jump},
    {"generation", parse_generation},
};

static template_node *parse_statement(template_parser *parser)
{
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (mixt_template_is_name(parser->token, statements[i].name)) {
            mixt_template_nest(parser);
            template_node *node = statements[i].parse(parser);
            parser->nesting--;
            return node;
        }
    }
    if (parser->token->kind != TOKEN_NAME) {
        mixt_template_unexpected(parser, "the name of a tag");
    }
    static const char *const known[] = {"call", "include",    "import", "from",  "extends", "block",
                                        "do",   "autoescape", "trans",  "print", "debug"};
    parser->run->line = parser->token->line;
    int length = (int)(parser->token->length < 40 ? parser->token->length : 40);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (mixt_template_is_name(parser->token, known[i])) {
            mixt_template_fail(parser->run, MIXT_ERROR_UNSUPPORTED, "{%% %.*s %%} is not supported",
                               length, parser->token->start);
        }
    }
    mixt_template_fail(parser->run, MIXT_ERROR_FORMAT, "{%% %.*s %%} is unknown or out of place",
                       length, parser->token->start);
}

/* Statements until one of `ends` (NULL: the end of the template) stands at parser->token. */
static template_node *parse_body(template_parser *parser, const char *const *ends)
{
    template_node *body = mixt_template_node(parser, NODE_BODY);
    template_node **last = &body->child;
    for (;;) {
        const template_token *token = parser->token;
        if (token->kind == TOKEN_END) {
            if (ends != NULL) {
                char wanted[60];
                const char *end = ends[0];
                for (const char *const *e = ends; *e != NULL; e++) {
                    end = *e; /* the last one is the tag's own */
                }
                snprintf(wanted, sizeof wanted, "{%% %s %%}", end);
                mixt_template_unexpected(parser, wanted);
            }
            return body;
        }
        template_node *node = NULL;
        if (token->kind == TOKEN_DATA) {
            node = mixt_template_node(parser, NODE_TEXT);
            node->value = mixt_template_view(parser->run, token->start, token->length);
            parser->token++;
        } else if (token->kind == TOKEN_PRINT_BEGIN) {
            node = mixt_template_node(parser, NODE_PRINT);
            parser->token++;
            node->child = mixt_template_parse_tuple(parser, true);
            if (parser->token->kind != TOKEN_PRINT_END) {
                mixt_template_unexpected(parser, "\"}}\"");
            }
            parser->token++;
        } else {
            parser->token++;
            for (const char *const *end = ends; end != NULL && *end != NULL; end++) {
                if (mixt_template_is_name(parser->token, *end)) {
                    return body;
                }
            }
            node = parse_statement(parser);
        }
        *last = node;
        last = &node->next;
    }
}

template_node *mixt_template_parse(template_run *run, const template_token *tokens)
{
    template_parser parser = {.run = run, .token = tokens};
    run->loop_symbol = mixt_template_symbol(run, "loop", 4);
    return parse_body(&parser, NULL);
}
