/* Chat templates: the part of Jinja that the templates of open checkpoints use, with jinja2's
 * results under transformers' settings. What is not in that part is refused with line and name.
 *
 * A template is data from a stranger: steps, memory, output, nesting and calls have budgets, so
 * that nothing it says takes long. All memory comes from one arena, and a failure anywhere jumps
 * out of the rendering (mixt_template_fail), so that there is nothing to unwind. */
#ifndef MIXT_TEMPLATE_TEMPLATE_H
#define MIXT_TEMPLATE_TEMPLATE_H

#include <jansson.h>
#include <setjmp.h>

#include "core/error.h"
#include "core/memory.h"
#include "mixt.h"

enum {
    TEMPLATE_BYTES_MAX = 128 << 10, /* of a template; the longest in use are below 20 KB */
    TEMPLATE_NESTING_MAX = 160,     /* blocks, brackets and operators inside one another */
    TEMPLATE_DEPTH_MAX = 400,       /* evaluations inside one another, over all macros */
    TEMPLATE_CALLS_MAX = 40,        /* macros inside one another */
    TEMPLATE_VALUE_DEPTH_MAX = 100, /* lists inside lists, when written or compared */
    TEMPLATE_RANGE_MAX = 100000,    /* as jinja2's sandbox has it */
    TEMPLATE_STEPS_MAX = 1000000,
    TEMPLATE_STEP_BYTES = 32, /* bytes that are copied or read count as steps too */
    TEMPLATE_OUTPUT_MAX = 16 << 20,
    TEMPLATE_MEMORY_MAX = 64 << 20,
};

/* ---- values */

typedef enum template_kind {
    TEMPLATE_UNDEFINED,
    TEMPLATE_NONE,
    TEMPLATE_BOOL,
    TEMPLATE_INTEGER,
    TEMPLATE_FLOAT,
    TEMPLATE_STRING,
    TEMPLATE_LIST,
    TEMPLATE_TUPLE,
    TEMPLATE_VIEW,      /* keys, values or items of a dict: a length, but no items by index */
    TEMPLATE_GENERATOR, /* what map, select, ... give: can be read once, nothing else */
    TEMPLATE_RANGE,
    TEMPLATE_DICT,
    TEMPLATE_NAMESPACE,
    TEMPLATE_MACRO,
    TEMPLATE_FUNCTION,
    TEMPLATE_METHOD, /* one of a string, list or dict */
    TEMPLATE_LOOP,
} template_kind;

typedef struct template_text {
    const char *data; /* UTF-8 */
    size_t length;    /* bytes */
    bool is_ascii;
    bool is_safe; /* went through |safe or |escape: + escapes the other side */
} template_text;

typedef struct template_list template_list;
typedef struct template_dict template_dict;
typedef struct template_range template_range;
typedef struct template_macro template_macro;
typedef struct template_method template_method;
typedef struct template_loop template_loop;

typedef struct template_value {
    uint8_t kind;
    union {
        bool boolean;
        int64_t integer; /* also the function's number */
        double number;
        const template_text *text;
        template_list *list; /* list, tuple, view, generator */
        template_dict *dict; /* dict, namespace */
        const template_range *range;
        const template_macro *macro;
        const template_method *method;
        const template_loop *loop;
        const char *missing; /* what an undefined value says when it is used */
    } as;
} template_value;

struct template_list {
    template_value *items;
    size_t count, capacity;
    bool used; /* a generator that was read */
};

typedef struct template_entry {
    template_value key, value;
} template_entry;

struct template_dict {
    template_entry *entries; /* in the order of insertion */
    size_t count, capacity;
};

struct template_range {
    int64_t start, step;
    size_t count;
};

struct template_method {
    template_value object;
    const char *name;
};

struct template_loop {
    const template_list *items;
    size_t index;                  /* from 0 */
    const template_list **changed; /* what loop.changed() saw last */
};

/* ---- the tree */

typedef enum template_operator {
    OPERATOR_NONE,
    OPERATOR_ADD,
    OPERATOR_SUBTRACT,
    OPERATOR_MULTIPLY,
    OPERATOR_DIVIDE,
    OPERATOR_FLOOR_DIVIDE,
    OPERATOR_MODULO,
    OPERATOR_POWER,
    OPERATOR_TILDE,
    OPERATOR_EQUAL,
    OPERATOR_NOT_EQUAL,
    OPERATOR_LESS,
    OPERATOR_LESS_EQUAL,
    OPERATOR_GREATER,
    OPERATOR_GREATER_EQUAL,
    OPERATOR_IN,
    OPERATOR_NOT_IN,
    OPERATOR_ASSIGN,
    OPERATOR_DOT,
    OPERATOR_COLON,
    OPERATOR_PIPE,
    OPERATOR_COMMA,
    OPERATOR_OPEN_PARENTHESIS,
    OPERATOR_CLOSE_PARENTHESIS,
    OPERATOR_OPEN_BRACKET,
    OPERATOR_CLOSE_BRACKET,
    OPERATOR_OPEN_BRACE,
    OPERATOR_CLOSE_BRACE,
} template_operator;

typedef enum template_node_kind {
    /* expressions */
    NODE_CONSTANT,  /* value */
    NODE_NAME,      /* symbol */
    NODE_LIST,      /* items */
    NODE_TUPLE,     /* items; also the target of an unpacking assignment */
    NODE_DICT,      /* key, value, key, value, ... */
    NODE_CHAIN,     /* first, then NODE_OPERAND: from left to right */
    NODE_COMPARE,   /* first, then NODE_OPERAND */
    NODE_OPERAND,   /* operator, one expression */
    NODE_CONCAT,    /* expressions */
    NODE_AND,       /* expressions */
    NODE_OR,        /* expressions */
    NODE_NOT,       /* expression */
    NODE_NEGATE,    /* expression */
    NODE_POSITIVE,  /* expression */
    NODE_CONDITION, /* condition, then, [else] */
    NODE_POSTFIX,   /* base, then the five below, applied one after the other */
    NODE_ATTRIBUTE, /* value: name */
    NODE_ITEM,      /* index */
    NODE_SLICE,     /* start, stop, step: each NODE_NONE where it is left out */
    NODE_CALL,      /* arguments; a NODE_KEYWORD behind the others for each named one */
    NODE_FILTER,    /* value: name; arguments */
    NODE_TEST,      /* value: name; arguments; negated */
    NODE_KEYWORD,   /* value: name; expression */
    NODE_NONE,
    /* statements */
    NODE_TEXT,         /* value */
    NODE_PRINT,        /* expression */
    NODE_IF,           /* NODE_BRANCH ... */
    NODE_BRANCH,       /* condition (NODE_NONE: else), body */
    NODE_FOR,          /* target, iterable, condition or NODE_NONE, NODE_BODY, NODE_BODY of else */
    NODE_BODY,         /* statements */
    NODE_SET,          /* target, expression */
    NODE_SET_BLOCK,    /* target, NODE_POSTFIX of filters or NODE_NONE, NODE_BODY */
    NODE_MEMBER,       /* target of set: symbol, value: attribute */
    NODE_MACRO,        /* symbol; NODE_PARAMETER ..., NODE_BODY */
    NODE_PARAMETER,    /* symbol; [default] */
    NODE_FILTER_BLOCK, /* NODE_POSTFIX of filters, NODE_BODY */
    NODE_WITH,         /* NODE_SET ..., NODE_BODY */
    NODE_SCOPE,        /* statements with names of their own */
    NODE_BREAK,
    NODE_CONTINUE,
} template_node_kind;

typedef struct template_node template_node;
struct template_node {
    uint8_t kind, operator_;
    bool negated;
    int line;
    int symbol;
    template_node *child, *next;
    template_value value;
};

/* ---- one rendering */

typedef struct template_binding {
    struct template_binding *next;
    int symbol;
    template_value value;
} template_binding;

typedef struct template_scope {
    struct template_scope *parent;
    template_binding *bindings;
} template_scope;

struct template_macro {
    const template_node *node;
    template_scope *scope; /* where it was defined */
};

typedef struct template_output {
    char *data;
    size_t length, capacity;
} template_output;

typedef struct template_date {
    int year, month, day, hour, minute, second; /* month and day from 1 */
    int weekday, day_of_year;                   /* from 0: Monday, the first of January */
} template_date;

typedef struct template_run {
    jmp_buf failed;
    mixt_arena *arena;
    mixt_error *error;
    const char *name; /* of the template, for messages */
    int line;         /* being worked on */
    int64_t steps;    /* left */
    size_t memory;    /* bytes left */
    size_t given;     /* bytes of text among the variables */
    int depth, calls;
    template_output *output;
    template_scope *scope;
    const char **symbols;
    int symbol_count, symbol_capacity;
    int *symbol_table; /* number + 1 by hash, 0 is free */
    int loop_symbol;
    template_date date;
} template_run;

typedef struct template_arguments {
    template_value *values;
    size_t count;
    const template_text **names; /* of the values behind the first `positional` */
    size_t positional;
} template_arguments;

/* template.c: budgets and failures */
_Noreturn void mixt_template_fail(template_run *run, mixt_status status, const char *format, ...)
    MIXT_PRINTF(3, 4);
void mixt_template_charge(template_run *run, size_t bytes); /* a step, and more for many bytes */
void *mixt_template_allocate(template_run *run, size_t count, size_t size);
/* Room for `wanted` elements in a growing array of the run's memory; `array` is the address of the
 * caller's pointer. */
void mixt_template_grow(template_run *run, void *array, size_t *capacity, size_t wanted,
                        size_t size);
void mixt_template_enter(template_run *run); /* one evaluation deeper; leave with run->depth-- */
int mixt_template_symbol(template_run *run, const char *name, size_t length);
void mixt_template_write(template_run *run, template_output *output, const char *data,
                         size_t length);

/* template_lex.c */
typedef enum template_token_kind {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_PRINT_BEGIN,
    TOKEN_PRINT_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING, /* between its quotes, escapes as they stand */
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR,
} template_token_kind;

typedef struct template_token {
    uint8_t kind, operator_;
    int line;
    const char *start;
    size_t length;
} template_token;

/* The tokens with a TOKEN_END behind them. */
const template_token *mixt_template_lex(template_run *run, const char *text, size_t length);

/* template_parse.c, template_expression.c */
typedef struct template_parser {
    template_run *run;
    const template_token *token;
    int nesting;
    int loops;  /* for loops around this place, for break and continue */
    int macros; /* macro definitions around it */
} template_parser;

template_node *mixt_template_parse(template_run *run, const template_token *tokens);
template_node *mixt_template_node(template_parser *parser, template_node_kind kind);
/* Comma-separated expressions make a tuple. */
template_node *mixt_template_parse_tuple(template_parser *parser, bool with_condition);
template_node *mixt_template_parse_expression(template_parser *parser);
/* Filters behind a block tag; the first one without a bar when `begun`. */
template_node *mixt_template_parse_filters(template_parser *parser, bool begun);
bool mixt_template_is_name(const template_token *token, const char *name);
bool mixt_template_skip_name(template_parser *parser, const char *name);
bool mixt_template_is_operator(const template_token *token, template_operator operator_);
bool mixt_template_skip(template_parser *parser, template_operator operator_);
void mixt_template_expect(template_parser *parser, template_operator operator_);
_Noreturn void mixt_template_unexpected(const template_parser *parser, const char *wanted);
void mixt_template_nest(template_parser *parser); /* leave with parser->nesting-- */

/* template_run.c: statements; template_evaluate.c: expressions */
void mixt_template_execute(template_run *run, const template_node *body);
template_value mixt_template_evaluate(template_run *run, const template_node *node);
template_value mixt_template_apply_filters(template_run *run, const template_node *filters,
                                           template_value value);
template_value mixt_template_call_macro(template_run *run, const template_macro *macro,
                                        const template_arguments *arguments);
void mixt_template_bind(template_run *run, template_scope *scope, int symbol, template_value value);
template_value mixt_template_lookup(template_run *run, int symbol);
template_value mixt_template_attribute(template_run *run, template_value object,
                                       const template_text *name);
template_value mixt_template_item(template_run *run, template_value object, template_value key);
template_value mixt_template_arithmetic(template_run *run, template_operator operator_,
                                        template_value a, template_value b);

/* template_filter.c, template_test.c, template_method.c, template_function.c */
template_value mixt_template_filter(template_run *run, const char *name, template_value value,
                                    const template_arguments *arguments);
bool mixt_template_test(template_run *run, const char *name, template_value value,
                        const template_arguments *arguments);
template_value mixt_template_method_call(template_run *run, const template_method *method,
                                         const template_arguments *arguments);
bool mixt_template_has_method(template_value object, const char *name);
template_value mixt_template_function_call(template_run *run, int64_t function,
                                           const template_arguments *arguments);
void mixt_template_bind_functions(template_run *run);

/* One argument by place or name: undefined where it is not given. */
template_value mixt_template_argument(const template_arguments *arguments, size_t place,
                                      const char *name);
bool mixt_template_given(const template_arguments *arguments, size_t place, const char *name);
/* Refuses more than the arguments named in `names` (separated by spaces). */
void mixt_template_check_arguments(template_run *run, const char *what,
                                   const template_arguments *arguments, const char *names);

/* template_value.c */
template_value mixt_template_none(void);
template_value mixt_template_bool(bool value);
template_value mixt_template_integer(int64_t value);
template_value mixt_template_number(double value);
template_value mixt_template_string(template_run *run, const char *data, size_t length); /* copy */
template_value mixt_template_view(template_run *run, const char *data, size_t length); /* no copy */
template_value mixt_template_undefined(template_run *run, const char *format, ...)
    MIXT_PRINTF(2, 3);
template_list *mixt_template_new_list(template_run *run, size_t capacity);
void mixt_template_append(template_run *run, template_list *list, template_value value);
template_value mixt_template_list_value(template_kind kind, template_list *list);
template_dict *mixt_template_new_dict(template_run *run, size_t capacity);
void mixt_template_put(template_run *run, template_dict *dict, template_value key,
                       template_value value);
const template_value *mixt_template_find(template_run *run, const template_dict *dict,
                                         template_value key);
const char *mixt_template_kind_name(template_value value); /* "int", "str", ... as Python says */
bool mixt_template_truth(template_value value);
bool mixt_template_equal(template_run *run, template_value a, template_value b);
/* < 0, 0, > 0; refuses what has no order. */
int mixt_template_compare(template_run *run, template_value a, template_value b);
bool mixt_template_contains(template_run *run, template_value container, template_value item);
/* What a for loop goes over. */
const template_list *mixt_template_iterate(template_run *run, template_value value);
size_t mixt_template_length(template_run *run, template_value value);
bool mixt_template_is_number(template_value value); /* int, float or bool */
double mixt_template_as_number(template_value value);
int64_t mixt_template_as_integer(template_run *run, template_value value, const char *what);
template_value mixt_template_from_json(template_run *run, const json_t *json, int depth);

/* template_write.c: values as text */
const template_text *mixt_template_text(template_run *run, template_value value); /* str(value) */
const template_text *mixt_template_need_text(template_run *run, template_value value,
                                             const char *what);
/* Its bytes with a NUL behind them. */
const char *mixt_template_c_string(template_run *run, const template_text *text);
typedef struct template_json_style {
    const char *item_separator, *key_separator;
    const char *indent; /* NULL: one line */
    bool ascii, sorted;
} template_json_style;
void mixt_template_write_json(template_run *run, template_output *output, template_value value,
                              const template_json_style *style);
template_value mixt_template_output_value(template_run *run, const template_output *output);

/* template_string.c: Python's strings */
size_t mixt_template_characters(template_run *run, const template_text *text);
/* Byte offset of character `index` (at most the length). */
size_t mixt_template_offset(const template_text *text, size_t index);
bool mixt_template_is_space(uint32_t character);
/* Bytes of the white space at `at`, as Python's \s has it; and the place behind all of it. */
size_t mixt_template_space_at(const char *text, size_t length, size_t at);
size_t mixt_template_skip_space(const char *text, size_t length, size_t at);
bool mixt_template_is_printable(uint32_t character);
/* sides: 1 left, 2 right, 3 both; characters NULL: white space. */
template_value mixt_template_strip(template_run *run, const template_text *text,
                                   const template_text *characters, int sides);
typedef enum template_case {
    CASE_UPPER,
    CASE_LOWER,
    CASE_CAPITALIZE,
    CASE_TITLE,       /* the method of str */
    CASE_TITLE_FILTER /* Jinja's filter */
} template_case;
template_value mixt_template_case(template_run *run, const template_text *text, template_case to);
template_value mixt_template_replace(template_run *run, const template_text *text,
                                     const template_text *old, const template_text *new_,
                                     int64_t count);
/* separator NULL: runs of white space; limit < 0: none. */
template_list *mixt_template_split(template_run *run, const template_text *text,
                                   const template_text *separator, int64_t limit, bool from_right);
template_list *mixt_template_lines(template_run *run, const template_text *text, bool keep_ends);
template_value mixt_template_concat(template_run *run, const template_text *a,
                                    const template_text *b);
template_value mixt_template_repeat(template_run *run, const template_text *text, int64_t times);
const template_text *mixt_template_escape(template_run *run, const template_text *text);
/* The first place of `what` from byte `from` on, or NULL. */
const char *mixt_template_search(template_run *run, const template_text *text, size_t from,
                                 const template_text *what);

/* template.c: the whole of it. `context` is a JSON object of variables. *text is malloc'd. */
mixt_status mixt_template_render(const char *name, const char *template_text_, size_t length,
                                 const json_t *context, const template_date *date, char **text,
                                 mixt_error *error);
mixt_status mixt_template_parse_date(const char *text, template_date *date, mixt_error *error);

#endif
