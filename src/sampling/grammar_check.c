/* Two questions about all rules.
 *
 * Which can come to an end at all: a root that cannot stands for no text.
 *
 * Left recursion: a rule that calls itself before it takes a byte, and has something to do when
 * that call returns, has stacks that grow without end. (A last call leaves no place to return to,
 * so a cycle of such calls comes back to the same stack and is harmless.) */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "sampling/grammar.h"

typedef struct checker {
    const mixt_grammar *grammar;
    bool takes;                /* bytes and tokens are gone past, else nothing is taken */
    unsigned char *is_reached; /* [op_count]: from its rule's start */
    unsigned char *is_through; /* [rule_count]: its end is reached */
    uint32_t *rule_of;         /* [op_count] */
    uint32_t *work;            /* [op_count]: places to go on from */
    size_t work_count;
    uint32_t *waits;    /* [rule_count]: newest reached call of the rule + 1, or 0 */
    uint32_t *waits_on; /* [op_count]: the call before that one + 1 */
} checker;

static void reach(checker *c, uint32_t place)
{
    if (!c->is_reached[place]) {
        c->is_reached[place] = 1;
        c->work[c->work_count++] = place;
    }
}

static void reach_from(checker *c, uint32_t place)
{
    const mixt_op *op = &c->grammar->ops[place];
    uint32_t rule = c->rule_of[place];
    switch ((mixt_op_kind)op->kind) {
    case MIXT_OP_SPLIT:
        reach(c, place + 1);
        reach(c, place + (uint32_t)op->value);
        break;
    case MIXT_OP_JUMP:
        reach(c, place + (uint32_t)op->value);
        break;
    case MIXT_OP_CALL:
        c->waits_on[place] = c->waits[op->value];
        c->waits[op->value] = place + 1;
        reach(c, c->grammar->starts[op->value]);
        if (c->is_through[op->value]) {
            reach(c, place + 1);
        }
        break;
    case MIXT_OP_RETURN:
        c->is_through[rule] = 1;
        for (uint32_t call = c->waits[rule]; call != 0; call = c->waits_on[call - 1]) {
            reach(c, call);
        }
        break;
    case MIXT_OP_BYTE:
    case MIXT_OP_CLASS:
    case MIXT_OP_TOKEN:
    case MIXT_OP_NOT_TOKEN:
        if (c->takes) {
            reach(c, place + 1);
        }
        break;
    }
}

static bool is_last_call(const mixt_grammar *grammar, uint32_t place)
{
    place++;
    while (grammar->ops[place].kind == MIXT_OP_JUMP) {
        place += (uint32_t)grammar->ops[place].value;
    }
    return grammar->ops[place].kind == MIXT_OP_RETURN;
}

/* Strongly connected parts of the rules by their reached calls (Tarjan 1972), without recursion. */
typedef struct parts {
    uint32_t *order;  /* [rule_count]: when it was met, from 1; 0: not yet */
    uint32_t *low;    /* the earliest one it leads back to */
    uint32_t *part;   /* a rule of its part + 1, 0: still open */
    uint32_t *cursor; /* place in its code */
    uint32_t *path, *open;
    size_t path_count, open_count;
    uint32_t met;
} parts;

static void enter(parts *t, const mixt_grammar *grammar, uint32_t rule)
{
    t->order[rule] = t->low[rule] = ++t->met;
    t->cursor[rule] = grammar->starts[rule];
    t->path[t->path_count++] = rule;
    t->open[t->open_count++] = rule;
}

static void leave(parts *t, uint32_t rule)
{
    t->path_count--;
    if (t->low[rule] == t->order[rule]) {
        uint32_t member;
        do {
            member = t->open[--t->open_count];
            t->part[member] = rule + 1;
        } while (member != rule);
    }
    if (t->path_count > 0) {
        uint32_t caller = t->path[t->path_count - 1];
        t->low[caller] = t->low[rule] < t->low[caller] ? t->low[rule] : t->low[caller];
    }
}

static void walk(parts *t, const checker *c, uint32_t first)
{
    const mixt_grammar *g = c->grammar;
    enter(t, g, first);
    while (t->path_count > 0) {
        uint32_t rule = t->path[t->path_count - 1], at = t->cursor[rule]++;
        if (at >= g->op_count || c->rule_of[at] != rule) {
            leave(t, rule);
        } else if (g->ops[at].kind == MIXT_OP_CALL && c->is_reached[at]) {
            uint32_t called = (uint32_t)g->ops[at].value;
            if (t->order[called] == 0) {
                enter(t, g, called);
            } else if (t->part[called] == 0 && t->order[called] < t->low[rule]) {
                t->low[rule] = t->order[called];
            }
        }
    }
}

static int64_t find_recursion(const checker *c, parts *t)
{
    const mixt_grammar *g = c->grammar;
    for (uint32_t rule = 0; rule < g->rule_count; rule++) {
        if (t->order[rule] == 0) {
            walk(t, c, rule);
        }
    }
    for (uint32_t at = 0; at < g->op_count; at++) {
        if (g->ops[at].kind == MIXT_OP_CALL && c->is_reached[at] &&
            t->part[c->rule_of[at]] == t->part[g->ops[at].value] && !is_last_call(g, at)) {
            return c->rule_of[at];
        }
    }
    return -1;
}

static void reach_all(checker *c)
{
    for (uint32_t i = 0; i < c->grammar->rule_count; i++) {
        reach(c, c->grammar->starts[i]);
    }
    while (c->work_count > 0) {
        reach_from(c, c->work[--c->work_count]);
    }
}

static void name_rules(const mixt_grammar *grammar, uint32_t *rule_of)
{
    for (uint32_t i = 0; i < grammar->rule_count; i++) {
        size_t end = i + 1 < grammar->rule_count ? grammar->starts[i + 1] : grammar->op_count;
        for (size_t at = grammar->starts[i]; at < end; at++) {
            rule_of[at] = i;
        }
    }
}

mixt_status mixt_grammar_check(const mixt_grammar *grammar, mixt_grammar_faults *faults,
                               mixt_error *error)
{
    size_t ops = grammar->op_count, rules = grammar->rule_count;
    uint32_t *words = calloc(3 * ops + 7 * rules, sizeof *words);
    unsigned char *flags = calloc(ops + rules, 1);
    *faults = (mixt_grammar_faults){.left_recursion = -1};
    if (words != NULL && flags != NULL) {
        uint32_t *of_rules = words + 3 * ops;
        checker c = {.grammar = grammar,
                     .takes = true,
                     .is_reached = flags,
                     .is_through = flags + ops,
                     .rule_of = words,
                     .work = words + ops,
                     .waits = of_rules,
                     .waits_on = words + 2 * ops};
        parts t = {.order = of_rules + rules,
                   .low = of_rules + 2 * rules,
                   .part = of_rules + 3 * rules,
                   .cursor = of_rules + 4 * rules,
                   .path = of_rules + 5 * rules,
                   .open = of_rules + 6 * rules};
        name_rules(grammar, c.rule_of);
        reach_all(&c);
        faults->has_no_end = !c.is_through[grammar->root];
        c.takes = false;
        memset(flags, 0, ops + rules);
        memset(c.waits, 0, rules * sizeof *c.waits);
        reach_all(&c);
        faults->left_recursion = find_recursion(&c, &t);
    }
    bool done = words != NULL && flags != NULL;
    free(words);
    free(flags);
    return done ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "grammar: no memory");
}
