/* Statements, scopes and macros. */
#include <string.h>

#include "template/template.h"

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static flow execute_body(template_run *run, const template_node *body);

/* ---- names */

void mixt_template_bind(template_run *run, template_scope *scope, int symbol, template_value value)
{
    size_t looked = 0;
    for (template_binding *binding = scope->bindings; binding != NULL; binding = binding->next) {
        if (binding->symbol == symbol) {
            mixt_template_charge(run, 8 * looked);
            binding->value = value;
            return;
        }
        looked++;
    }
    mixt_template_charge(run, 8 * looked);
    template_binding *binding = mixt_template_allocate(run, 1, sizeof *binding);
    *binding = (template_binding){scope->bindings, symbol, value};
    scope->bindings = binding;
}

template_value mixt_template_lookup(template_run *run, int symbol)
{
    size_t looked = 0;
    for (const template_scope *scope = run->scope; scope != NULL; scope = scope->parent) {
        for (const template_binding *binding = scope->bindings; binding != NULL;
             binding = binding->next) {
            if (binding->symbol == symbol) {
                mixt_template_charge(run, 8 * looked);
                return binding->value;
            }
            looked++;
        }
    }
    mixt_template_charge(run, 8 * looked);
    return mixt_template_undefined(run, "\"%.80s\" is undefined", run->symbols[symbol]);
}

static void push_scope(template_run *run)
{
    template_scope *scope = mixt_template_allocate(run, 1, sizeof *scope);
    scope->parent = run->scope;
    run->scope = scope;
}

static void pop_scope(template_run *run)
{
    run->scope = run->scope->parent;
}

static void assign(template_run *run, const template_node *target, template_value value)
{
    if (target->kind == NODE_NAME) {
        mixt_template_bind(run, run->scope, target->symbol, value);
        return;
    }
    if (target->kind == NODE_MEMBER) {
        template_value object = mixt_template_lookup(run, target->symbol);
        if (object.kind != TEMPLATE_NAMESPACE) {
            mixt_template_fail(run, MIXT_ERROR_FORMAT,
                               "an attribute is set of %s, which is no namespace",
                               object.kind == TEMPLATE_UNDEFINED ? run->symbols[target->symbol]
                                                                 : mixt_template_kind_name(object));
        }
        mixt_template_put(run, object.as.dict, target->value, value);
        return;
    }
    const template_list *items = mixt_template_iterate(run, value);
    size_t at = 0;
    const template_node *name = target->child;
    for (; name != NULL && at < items->count; name = name->next) {
        mixt_template_bind(run, run->scope, name->symbol, items->items[at++]);
    }
    if (name != NULL || at < items->count) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%zu values for another number of names",
                           items->count);
    }
}

/* ---- captured text */

typedef struct capture {
    template_output output;
    template_output *outer;
} capture;

static void begin_capture(template_run *run, capture *kept)
{
    kept->output = (template_output){0};
    kept->outer = run->output;
    run->output = &kept->output;
}

static template_value end_capture(template_run *run, capture *kept)
{
    run->output = kept->outer;
    return mixt_template_output_value(run, &kept->output);
}

/* ---- macros */

template_value mixt_template_call_macro(template_run *run, const template_macro *macro,
                                        const template_arguments *arguments)
{
    template_scope *outer = run->scope;
    size_t place = 0;
    size_t used = 0;
    capture kept;
    if (++run->calls > TEMPLATE_CALLS_MAX) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "macros call one another more than %d deep",
                           TEMPLATE_CALLS_MAX);
    }
    run->scope = macro->scope;
    push_scope(run);
    const template_node *node = macro->node->child;
    for (; node->kind == NODE_PARAMETER; node = node->next, place++) {
        const char *name = run->symbols[node->symbol];
        template_value value = mixt_template_argument(arguments, place, name);
        if (mixt_template_given(arguments, place, name)) {
            used++;
        } else if (node->child != NULL) {
            value = mixt_template_evaluate(run, node->child);
        } else {
            value = mixt_template_undefined(run, "parameter \"%.60s\" was not given", name);
        }
        mixt_template_bind(run, run->scope, node->symbol, value);
    }
    if (used != arguments->count) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT,
                           "macro %.60s: an argument that it does not take, or one given twice",
                           run->symbols[macro->node->symbol]);
    }
    begin_capture(run, &kept);
    execute_body(run, node);
    template_value value = end_capture(run, &kept);
    run->scope = outer;
    run->calls--;
    return value;
}

/* ---- statements */

static const template_list *loop_items(template_run *run, const template_node *target,
                                       const template_node *condition, const template_list *all)
{
    if (condition->kind == NODE_NONE) {
        return all;
    }
    template_list *chosen = mixt_template_new_list(run, 4);
    push_scope(run);
    for (size_t i = 0; i < all->count; i++) {
        assign(run, target, all->items[i]);
        if (mixt_template_truth(mixt_template_evaluate(run, condition))) {
            mixt_template_append(run, chosen, all->items[i]);
        }
    }
    pop_scope(run);
    return chosen;
}

static flow execute_for(template_run *run, const template_node *node)
{
    const template_node *target = node->child;
    const template_node *condition = target->next->next;
    const template_node *body = condition->next;
    const template_list *items =
        mixt_template_iterate(run, mixt_template_evaluate(run, target->next));
    items = loop_items(run, target, condition, items);
    if (items->count == 0 && body->next != NULL) {
        push_scope(run);
        flow result = execute_body(run, body->next);
        pop_scope(run);
        return result;
    }
    template_loop *loop = mixt_template_allocate(run, 1, sizeof *loop);
    loop->items = items;
    loop->changed = mixt_template_allocate(run, 1, sizeof *loop->changed);
    for (size_t i = 0; i < items->count; i++) {
        mixt_template_charge(run, 0);
        push_scope(run);
        loop->index = i;
        assign(run, target, items->items[i]);
        mixt_template_bind(run, run->scope, run->loop_symbol,
                           (template_value){.kind = TEMPLATE_LOOP, .as.loop = loop});
        flow result = execute_body(run, body);
        pop_scope(run);
        if (result == FLOW_BREAK) {
            break;
        }
    }
    return FLOW_ON;
}

static flow execute_if(template_run *run, const template_node *node)
{
    for (const template_node *branch = node->child; branch != NULL; branch = branch->next) {
        const template_node *condition = branch->child;
        if (condition->kind == NODE_NONE ||
            mixt_template_truth(mixt_template_evaluate(run, condition))) {
            return execute_body(run, condition->next);
        }
    }
    return FLOW_ON;
}

static void execute_print(template_run *run, const template_node *node)
{
    const template_text *text = mixt_template_text(run, mixt_template_evaluate(run, node->child));
    mixt_template_write(run, run->output, text->data, text->length);
}

static void execute_set_block(template_run *run, const template_node *node)
{
    capture kept;
    const template_node *filters = node->child->next;
    begin_capture(run, &kept);
    push_scope(run);
    execute_body(run, filters->next);
    pop_scope(run);
    template_value value = end_capture(run, &kept);
    assign(run, node->child, mixt_template_apply_filters(run, filters, value));
}

static void execute_filter_block(template_run *run, const template_node *node)
{
    capture kept;
    begin_capture(run, &kept);
    push_scope(run);
    execute_body(run, node->child->next);
    pop_scope(run);
    template_value value = end_capture(run, &kept);
    const template_text *text =
        mixt_template_text(run, mixt_template_apply_filters(run, node->child, value));
    mixt_template_write(run, run->output, text->data, text->length);
}

/* The values are those outside of the block, so that a name may be bound to what it hides. */
static flow execute_with(template_run *run, const template_node *node)
{
    template_scope *outer = run->scope;
    push_scope(run);
    template_scope *inner = run->scope;
    const template_node *set = node->child;
    for (; set->kind == NODE_SET; set = set->next) {
        run->scope = outer;
        template_value value = mixt_template_evaluate(run, set->child->next);
        run->scope = inner;
        assign(run, set->child, value);
    }
    flow result = execute_body(run, set);
    run->scope = outer;
    return result;
}

static void execute_macro(template_run *run, const template_node *node)
{
    template_macro *macro = mixt_template_allocate(run, 1, sizeof *macro);
    *macro = (template_macro){node, run->scope};
    mixt_template_bind(run, run->scope, node->symbol,
                       (template_value){.kind = TEMPLATE_MACRO, .as.macro = macro});
}

static flow execute_statement(template_run *run, const template_node *node)
{
    flow result = FLOW_ON;
    switch ((int)node->kind) {
    case NODE_TEXT:
        mixt_template_write(run, run->output, node->value.as.text->data,
                            node->value.as.text->length);
        break;
    case NODE_PRINT:
        execute_print(run, node);
        break;
    case NODE_IF:
        return execute_if(run, node);
    case NODE_FOR:
        return execute_for(run, node);
    case NODE_SET:
        assign(run, node->child, mixt_template_evaluate(run, node->child->next));
        break;
    case NODE_SET_BLOCK:
        execute_set_block(run, node);
        break;
    case NODE_MACRO:
        execute_macro(run, node);
        break;
    case NODE_FILTER_BLOCK:
        execute_filter_block(run, node);
        break;
    case NODE_WITH:
        return execute_with(run, node);
    case NODE_SCOPE:
        push_scope(run);
        result = execute_body(run, node->child);
        pop_scope(run);
        break;
    case NODE_BREAK:
        return FLOW_BREAK;
    default:
        return FLOW_CONTINUE;
    }
    return result;
}

static flow execute_body(template_run *run, const template_node *body)
{
    flow result = FLOW_ON;
    mixt_template_enter(run);
    for (const template_node *node = body->child; node != NULL && result == FLOW_ON;
         node = node->next) {
        mixt_template_charge(run, 0);
        run->line = node->line;
        result = execute_statement(run, node);
    }
    run->depth--;
    return result;
}

void mixt_template_execute(template_run *run, const template_node *body)
{
    execute_body(run, body);
}
