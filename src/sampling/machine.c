/* Runs grammars: sets of stacks as states of an automaton that is made as it is needed. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "sampling/grammar.h"

enum {
    NODE_END = 0, /* the empty stack: the grammar is through */
    STATE_UNKNOWN = 0,
    STATE_DEAD = 1,  /* no stack */
    TABLE_AFTER = 4, /* bytes that a state was asked for before it gets a table of them */
    ALIKE_MAX = 64,  /* stacks of a state whose bytes are held beside each other */
    MASKS_KEPT = 64,
    WORK_MAX = 1 << 24, /* stacks that one call may look at: some tenths of a second */
};

/* A stack: its top, and the stack below. */
typedef struct node {
    uint32_t place;  /* in the code */
    uint32_t row;    /* inside a character: the row of its class; 0: at its first byte */
    uint32_t parent; /* goes on behind RETURN */
    uint32_t chain;  /* in its bucket */
    uint32_t mark;   /* of the closure that met it last */
} node;

typedef struct state {
    uint32_t first, count; /* members, by rising node */
    uint32_t chain;
    uint32_t asked;
    uint32_t *next; /* [256] states by byte, NULL at first */
} state;

typedef struct kept_mask {
    uint32_t state; /* STATE_UNKNOWN: free */
    uint64_t *bits;
} kept_mask;

struct mixt_machine {
    const mixt_grammar *grammar;
    node *nodes; /* [node_count]; a parent stands before its children */
    size_t node_count, node_capacity;
    uint32_t *node_buckets; /* [node_room]: node, 0: none */
    size_t node_room;
    state *states; /* [state_count] */
    size_t state_count, state_capacity;
    uint32_t *state_buckets; /* [state_room] */
    size_t state_room;
    uint32_t *members; /* nodes of all states */
    size_t member_count, member_capacity;
    uint32_t current;
    uint32_t mark;
    uint32_t *found; /* nodes of the state that is being made */
    size_t found_count, found_capacity;
    uint32_t *work; /* nodes whose closure is to be looked at */
    size_t work_count, work_capacity;
    size_t steps;
    mixt_status status; /* of this call: MIXT_ERROR_MEMORY or _UNSUPPORTED once it failed */
    kept_mask masks[MASKS_KEPT];
    size_t mask_words;
    uint32_t *walk; /* [walk_depth + 1]: states on the way to a node of the trie */
    size_t walk_depth;
};

static mixt_status report(const mixt_machine *m, mixt_error *error)
{
    return m->status == MIXT_ERROR_MEMORY
               ? mixt_fail(error, m->status, "grammar: no memory")
               : mixt_fail(error, m->status,
                           "grammar: there are too many ways to read the text so far");
}

/* ---- stacks */

static size_t hash_node(uint32_t place, uint32_t row, uint32_t parent)
{
    uint64_t h = place * UINT64_C(0x9E3779B97F4A7C15) ^ row * UINT64_C(0xC2B2AE3D27D4EB4F);
    h = (h ^ h >> 31 ^ parent) * UINT64_C(0x165667B19E3779F9);
    return (size_t)(h ^ h >> 32);
}

static bool grow_node_buckets(mixt_machine *m)
{
    size_t room = m->node_room == 0 ? 256 : m->node_room * 2;
    uint32_t *buckets = calloc(room, sizeof *buckets);
    if (buckets == NULL) {
        return false;
    }
    free(m->node_buckets);
    m->node_buckets = buckets;
    m->node_room = room;
    for (uint32_t i = NODE_END + 1; i < m->node_count; i++) {
        node *n = &m->nodes[i];
        size_t bucket = hash_node(n->place, n->row, n->parent) & (room - 1);
        n->chain = buckets[bucket];
        buckets[bucket] = i;
    }
    return true;
}

/* The stack with this top; NODE_END and a status where it cannot be. */
static uint32_t find_node(mixt_machine *m, uint32_t place, uint32_t row, uint32_t parent)
{
    size_t hash = hash_node(place, row, parent);
    for (uint32_t i = m->node_buckets[hash & (m->node_room - 1)]; i != 0; i = m->nodes[i].chain) {
        const node *n = &m->nodes[i];
        if (n->place == place && n->row == row && n->parent == parent) {
            return i;
        }
    }
    if (m->node_count >= MIXT_MACHINE_NODES_MAX) {
        m->status = MIXT_ERROR_UNSUPPORTED;
        return NODE_END;
    }
    if (!mixt_grow(&m->nodes, &m->node_capacity, m->node_count + 1, sizeof *m->nodes) ||
        (m->node_count >= m->node_room && !grow_node_buckets(m))) {
        m->status = MIXT_ERROR_MEMORY;
        return NODE_END;
    }
    uint32_t *bucket = &m->node_buckets[hash & (m->node_room - 1)];
    m->nodes[m->node_count] = (node){place, row, parent, *bucket, 0};
    *bucket = (uint32_t)m->node_count;
    return (uint32_t)m->node_count++;
}

static void push(uint32_t **list, size_t *count, size_t *capacity, uint32_t id, mixt_machine *m)
{
    if (!mixt_grow(list, capacity, *count + 1, sizeof **list)) {
        m->status = MIXT_ERROR_MEMORY;
        return;
    }
    (*list)[(*count)++] = id;
}

/* A stack of the state that is being made. */
static void add_found(mixt_machine *m, uint32_t id)
{
    if (m->found_count >= MIXT_MACHINE_STACKS_MAX) {
        m->status = MIXT_ERROR_UNSUPPORTED;
        return;
    }
    push(&m->found, &m->found_count, &m->found_capacity, id, m);
}

static void add_work(mixt_machine *m, uint32_t place, uint32_t parent)
{
    uint32_t id = find_node(m, place, 0, parent);
    if (m->status == MIXT_OK && m->nodes[id].mark != m->mark) {
        m->nodes[id].mark = m->mark;
        push(&m->work, &m->work_count, &m->work_capacity, id, m);
    }
}

/* The stack that a call leaves below: what is behind it, or, where that is only a RETURN, nothing
 * more than there was. */
static uint32_t below_call(mixt_machine *m, uint32_t place, uint32_t parent)
{
    const mixt_op *ops = m->grammar->ops;
    place++;
    while (ops[place].kind == MIXT_OP_JUMP) {
        place += (uint32_t)ops[place].value;
    }
    return ops[place].kind == MIXT_OP_RETURN ? parent : find_node(m, place, 0, parent);
}

/* Follows what takes nothing, from the stacks that add_work named. */
static void close_over(mixt_machine *m)
{
    const mixt_grammar *g = m->grammar;
    while (m->work_count > 0 && m->status == MIXT_OK) {
        uint32_t id = m->work[--m->work_count];
        const node n = m->nodes[id];
        const mixt_op *op = &g->ops[n.place];
        m->steps++;
        switch ((mixt_op_kind)op->kind) {
        case MIXT_OP_SPLIT:
            add_work(m, n.place + 1, n.parent);
            add_work(m, n.place + (uint32_t)op->value, n.parent);
            break;
        case MIXT_OP_JUMP:
            add_work(m, n.place + (uint32_t)op->value, n.parent);
            break;
        case MIXT_OP_CALL: {
            uint32_t below = below_call(m, n.place, n.parent);
            if (m->status == MIXT_OK) {
                add_work(m, g->starts[op->value], below);
            }
            break;
        }
        case MIXT_OP_RETURN:
            if (n.parent != NODE_END) {
                add_work(m, m->nodes[n.parent].place, m->nodes[n.parent].parent);
            } else if (m->nodes[NODE_END].mark != m->mark) {
                m->nodes[NODE_END].mark = m->mark;
                add_found(m, NODE_END);
            }
            break;
        case MIXT_OP_BYTE:
        case MIXT_OP_CLASS:
        case MIXT_OP_TOKEN:
        case MIXT_OP_NOT_TOKEN:
            add_found(m, id);
            break;
        }
    }
    m->work_count = 0;
}

/* ---- states */

static int compare_ids(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static size_t hash_ids(const uint32_t *ids, size_t count)
{
    uint64_t h = count;
    for (size_t i = 0; i < count; i++) {
        h = (h ^ ids[i]) * UINT64_C(0x9E3779B97F4A7C15);
        h ^= h >> 29;
    }
    return (size_t)h;
}

static bool grow_state_buckets(mixt_machine *m)
{
    size_t room = m->state_room == 0 ? 256 : m->state_room * 2;
    uint32_t *buckets = calloc(room, sizeof *buckets);
    if (buckets == NULL) {
        return false;
    }
    free(m->state_buckets);
    m->state_buckets = buckets;
    m->state_room = room;
    for (uint32_t i = STATE_DEAD; i < m->state_count; i++) {
        state *s = &m->states[i];
        size_t bucket = hash_ids(m->members + s->first, s->count) & (room - 1);
        s->chain = buckets[bucket];
        buckets[bucket] = i;
    }
    return true;
}

/* The state of the stacks in `found`; STATE_DEAD and a status where it cannot be. */
static uint32_t take_found(mixt_machine *m)
{
    size_t count = m->found_count;
    if (m->status != MIXT_OK || count == 0) {
        return STATE_DEAD;
    }
    qsort(m->found, count, sizeof *m->found, compare_ids);
    size_t hash = hash_ids(m->found, count);
    for (uint32_t i = m->state_buckets[hash & (m->state_room - 1)]; i != 0;
         i = m->states[i].chain) {
        const state *s = &m->states[i];
        if (s->count == count &&
            memcmp(m->members + s->first, m->found, count * sizeof *m->found) == 0) {
            return i;
        }
    }
    if (m->state_count >= MIXT_MACHINE_STATES_MAX ||
        count > MIXT_MACHINE_NODES_MAX - m->member_count) {
        m->status = MIXT_ERROR_UNSUPPORTED;
        return STATE_DEAD;
    }
    if (!mixt_grow(&m->states, &m->state_capacity, m->state_count + 1, sizeof *m->states) ||
        !mixt_grow(&m->members, &m->member_capacity, m->member_count + count, sizeof *m->members) ||
        (m->state_count >= m->state_room && !grow_state_buckets(m))) {
        m->status = MIXT_ERROR_MEMORY;
        return STATE_DEAD;
    }
    uint32_t *bucket = &m->state_buckets[hash & (m->state_room - 1)];
    memcpy(m->members + m->member_count, m->found, count * sizeof *m->found);
    m->states[m->state_count] =
        (state){.first = (uint32_t)m->member_count, .count = (uint32_t)count, .chain = *bucket};
    m->member_count += count;
    *bucket = (uint32_t)m->state_count;
    return (uint32_t)m->state_count++;
}

static void begin_state(mixt_machine *m)
{
    m->mark++;
    m->found_count = 0;
    if (m->mark == 0) { /* it came around */
        for (size_t i = 0; i < m->node_count; i++) {
            m->nodes[i].mark = 0;
        }
        m->mark = 1;
    }
}

static uint32_t make_next(mixt_machine *m, uint32_t from, unsigned char byte)
{
    const mixt_grammar *g = m->grammar;
    const uint32_t first = m->states[from].first, count = m->states[from].count;
    begin_state(m);
    m->steps += count;
    if (m->steps > WORK_MAX) {
        m->status = MIXT_ERROR_UNSUPPORTED;
    }
    for (uint32_t i = 0; i < count && m->status == MIXT_OK; i++) {
        uint32_t id = m->members[first + i];
        const node n = m->nodes[id];
        if (id == NODE_END) {
            continue;
        }
        const mixt_op *op = &g->ops[n.place];
        if (op->kind == MIXT_OP_BYTE && op->value == byte) {
            add_work(m, n.place + 1, n.parent);
            close_over(m);
        } else if (op->kind == MIXT_OP_CLASS) {
            uint16_t to = g->classes.rows[n.row != 0 ? n.row : (uint32_t)op->value][byte];
            if (to == MIXT_ROW_ENDS) {
                add_work(m, n.place + 1, n.parent);
                close_over(m);
            } else if (to != MIXT_ROW_REFUSES) {
                uint32_t inside = find_node(m, n.place, to, n.parent);
                if (m->status == MIXT_OK && m->nodes[inside].mark != m->mark) {
                    m->nodes[inside].mark = m->mark;
                    add_found(m, inside);
                }
            }
        }
    }
    return take_found(m);
}

/* Whether two bytes do the same to all stacks of a state. */
static bool are_alike(const mixt_machine *m, const state *s, unsigned char a, unsigned char b)
{
    const mixt_grammar *g = m->grammar;
    for (uint32_t i = 0; i < s->count; i++) {
        const node *n = &m->nodes[m->members[s->first + i]];
        const mixt_op *op = &g->ops[n->place];
        if (op->kind == MIXT_OP_BYTE && (op->value == a || op->value == b)) {
            return false;
        }
        if (op->kind == MIXT_OP_CLASS) {
            const uint16_t *row = g->classes.rows[n->row != 0 ? n->row : (uint32_t)op->value];
            if (row[a] != row[b]) {
                return false;
            }
        }
    }
    return true;
}

/* Notes what a byte leads to, and all that do the same: most letters do. */
static void note_next(mixt_machine *m, state *s, unsigned char byte, uint32_t to)
{
    s->next[byte] = to;
    for (int other = 0; other < 256 && s->count <= ALIKE_MAX; other++) {
        if (s->next[other] == STATE_UNKNOWN && are_alike(m, s, byte, (unsigned char)other)) {
            s->next[other] = to;
        }
    }
}

/* Notes the bytes that no stack of a state takes: of many stacks (the beginning of a long list of
 * texts) each byte asked for would look at them all. */
static void note_dead(mixt_machine *m, state *s)
{
    const mixt_grammar *g = m->grammar;
    bool is_taken[256] = {false};
    m->steps += s->count;
    for (uint32_t i = 0; i < s->count; i++) {
        const node *n = &m->nodes[m->members[s->first + i]];
        const mixt_op *op = &g->ops[n->place];
        if (op->kind == MIXT_OP_BYTE) {
            is_taken[op->value & 0xFF] = true;
        } else if (op->kind == MIXT_OP_CLASS) {
            const uint16_t *row = g->classes.rows[n->row != 0 ? n->row : (uint32_t)op->value];
            for (int byte = 0; byte < 256; byte++) {
                is_taken[byte] = is_taken[byte] || row[byte] != MIXT_ROW_REFUSES;
            }
        }
    }
    for (int byte = 0; byte < 256; byte++) {
        s->next[byte] = is_taken[byte] ? s->next[byte] : STATE_DEAD;
    }
}

/* The state behind a byte; STATE_DEAD where there is none, or with a status. */
static inline uint32_t next_state(mixt_machine *m, uint32_t from, unsigned char byte)
{
    uint32_t *table = m->states[from].next;
    if (table != NULL && table[byte] != STATE_UNKNOWN) {
        return table[byte];
    }
    if (table == NULL && m->states[from].count > ALIKE_MAX) {
        state *many = &m->states[from];
        many->next = calloc(256, sizeof *many->next);
        if (many->next != NULL) {
            note_dead(m, many);
            if (many->next[byte] == STATE_DEAD) {
                return STATE_DEAD;
            }
        }
    }
    uint32_t to = make_next(m, from, byte);
    state *s = &m->states[from]; /* the states may have moved */
    if (s->next == NULL && ++s->asked > TABLE_AFTER) {
        s->next = calloc(256, sizeof *s->next);
    }
    if (s->next != NULL && m->status == MIXT_OK) {
        note_next(m, s, byte, to);
    }
    return to;
}

/* Adds where the stacks of `from` come by the token itself. */
static void add_by_token(mixt_machine *m, uint32_t from, const mixt_machine_token *token)
{
    const uint32_t first = m->states[from].first, count = m->states[from].count;
    for (uint32_t i = 0; i < count && m->status == MIXT_OK; i++) {
        uint32_t id = m->members[first + i];
        const node n = m->nodes[id];
        if (id == NODE_END || n.row != 0) {
            continue;
        }
        const mixt_op *op = &m->grammar->ops[n.place];
        if ((op->kind == MIXT_OP_TOKEN && op->value == token->id) ||
            (op->kind == MIXT_OP_NOT_TOKEN && op->value != token->id && !token->is_end)) {
            add_work(m, n.place + 1, n.parent);
            close_over(m);
        }
    }
}

/* ---- housekeeping */

static void forget_states(mixt_machine *m)
{
    for (size_t i = 0; i < m->state_count; i++) {
        free(m->states[i].next);
    }
    memset(m->state_buckets, 0, m->state_room * sizeof *m->state_buckets);
    m->state_count = STATE_DEAD + 1;
    memset(m->states, 0, m->state_count * sizeof *m->states);
    m->member_count = 0;
    for (int i = 0; i < MASKS_KEPT; i++) {
        m->masks[i].state = STATE_UNKNOWN;
    }
}

/* Where much has gathered: keeps the stacks of the current state alone. */
static void tidy(mixt_machine *m)
{
    if (m->node_count < MIXT_MACHINE_NODES_MAX / 2 &&
        m->state_count < MIXT_MACHINE_STATES_MAX / 2 &&
        m->member_count < MIXT_MACHINE_NODES_MAX / 2) {
        return;
    }
    uint32_t *moved = calloc(m->node_count, sizeof *moved); /* 1: is needed; then its new place */
    if (moved == NULL) {
        m->status = MIXT_ERROR_MEMORY;
        return;
    }
    const state *s = &m->states[m->current];
    m->found_count = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        moved[m->members[s->first + i]] = 1;
        add_found(m, m->members[s->first + i]);
    }
    for (size_t i = m->node_count - 1; i > NODE_END; i--) {
        if (moved[i] != 0) {
            moved[m->nodes[i].parent] = 1;
        }
    }
    size_t kept = NODE_END + 1;
    moved[NODE_END] = NODE_END;
    for (size_t i = kept; i < m->node_count; i++) {
        if (moved[i] != 0) {
            m->nodes[kept] = m->nodes[i];
            m->nodes[kept].parent = moved[m->nodes[i].parent];
            m->nodes[kept].mark = 0;
            moved[i] = (uint32_t)kept++;
        }
    }
    m->node_count = kept;
    m->nodes[NODE_END].mark = 0;
    m->mark = 0;
    for (size_t i = 0; i < m->found_count; i++) {
        m->found[i] = moved[m->found[i]];
    }
    free(moved);
    memset(m->node_buckets, 0, m->node_room * sizeof *m->node_buckets);
    for (uint32_t i = NODE_END + 1; i < m->node_count; i++) {
        node *n = &m->nodes[i];
        uint32_t *bucket =
            &m->node_buckets[hash_node(n->place, n->row, n->parent) & (m->node_room - 1)];
        n->chain = *bucket;
        *bucket = i;
    }
    forget_states(m);
    m->current = take_found(m);
}

static void begin_call(mixt_machine *m)
{
    m->status = MIXT_OK;
    m->steps = 0;
    tidy(m);
}

mixt_status mixt_machine_create(const mixt_grammar *grammar, mixt_machine **machine,
                                mixt_error *error)
{
    *machine = NULL;
    mixt_machine *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "grammar: no memory");
    }
    m->grammar = grammar;
    if (!mixt_grow(&m->nodes, &m->node_capacity, 64, sizeof *m->nodes) ||
        !mixt_grow(&m->states, &m->state_capacity, 16, sizeof *m->states) ||
        !grow_node_buckets(m) || !grow_state_buckets(m)) {
        m->status = MIXT_ERROR_MEMORY;
    } else {
        m->nodes[m->node_count++] = (node){0};
        forget_states(m);
        begin_state(m);
        add_work(m, grammar->starts[grammar->root], NODE_END);
        close_over(m);
        m->current = take_found(m);
    }
    if (m->status != MIXT_OK) {
        mixt_status status = report(m, error);
        mixt_machine_free(m);
        return status;
    }
    *machine = m;
    return MIXT_OK;
}

void mixt_machine_free(mixt_machine *machine)
{
    if (machine != NULL) {
        for (size_t i = 0; i < machine->state_count; i++) {
            free(machine->states[i].next);
        }
        for (int i = 0; i < MASKS_KEPT; i++) {
            free(machine->masks[i].bits);
        }
        free(machine->nodes);
        free(machine->node_buckets);
        free(machine->states);
        free(machine->state_buckets);
        free(machine->members);
        free(machine->found);
        free(machine->work);
        free(machine->walk);
        free(machine);
    }
}

/* ---- what a text does */

static uint32_t follow(mixt_machine *m, const char *bytes, size_t length)
{
    uint32_t at = m->current;
    for (size_t i = 0; i < length && at != STATE_DEAD; i++) {
        at = next_state(m, at, (unsigned char)bytes[i]);
    }
    return at;
}

mixt_status mixt_machine_bytes(mixt_machine *machine, const char *bytes, size_t length,
                               bool *allowed, mixt_error *error)
{
    begin_call(machine);
    uint32_t to = machine->status == MIXT_OK ? follow(machine, bytes, length) : STATE_DEAD;
    *allowed = machine->status == MIXT_OK && to != STATE_DEAD;
    machine->current = *allowed ? to : machine->current;
    return machine->status == MIXT_OK ? MIXT_OK : report(machine, error);
}

mixt_status mixt_machine_token_accept(mixt_machine *machine, const mixt_machine_token *token,
                                      bool *allowed, mixt_error *error)
{
    mixt_machine *m = machine;
    uint32_t to = STATE_DEAD;
    begin_call(m);
    bool is_text = token->bytes != NULL && token->length > 0 && !token->is_end;
    if (m->status == MIXT_OK && is_text) {
        to = follow(m, token->bytes, token->length);
    }
    if (m->status == MIXT_OK &&
        (m->grammar->has_tokens || (token->is_end && mixt_machine_may_end(m)))) {
        begin_state(m);
        for (uint32_t i = 0; i < m->states[to].count; i++) {
            uint32_t id = m->members[m->states[to].first + i];
            m->nodes[id].mark = m->mark;
            add_found(m, id);
        }
        if (token->is_end && mixt_machine_may_end(m) && m->nodes[NODE_END].mark != m->mark) {
            m->nodes[NODE_END].mark = m->mark;
            add_found(m, NODE_END);
        }
        add_by_token(m, m->current, token);
        to = take_found(m);
    }
    *allowed = m->status == MIXT_OK && to != STATE_DEAD;
    m->current = *allowed ? to : m->current;
    return m->status == MIXT_OK ? MIXT_OK : report(m, error);
}

bool mixt_machine_may_end(const mixt_machine *machine)
{
    const state *s = &machine->states[machine->current];
    return s->count > 0 && machine->members[s->first] == NODE_END;
}

bool mixt_machine_must_end(const mixt_machine *machine)
{
    return mixt_machine_may_end(machine) && machine->states[machine->current].count == 1;
}

/* ---- masks */

static void set_bit(uint64_t *bits, int64_t id)
{
    bits[id / 64] |= UINT64_C(1) << (id % 64);
}

static void mark_text(mixt_machine *m, const mixt_machine_vocabulary *v, uint64_t *bits)
{
    const mixt_token_trie *trie = v->trie;
    m->walk[0] = m->current;
    for (uint32_t i = 1; i < trie->count && m->status == MIXT_OK;) {
        const mixt_trie_node *n = &trie->nodes[i];
        uint32_t to = next_state(m, m->walk[n->depth - 1], n->byte);
        if (to == STATE_DEAD) {
            i = n->end;
            continue;
        }
        m->walk[n->depth] = to;
        for (uint32_t t = n->first; t < n[1].first; t++) {
            if (trie->ids[t] < v->vocab_size) {
                set_bit(bits, trie->ids[t]);
            }
        }
        i++;
    }
}

/* Tokens that the grammar names, and all others where it names one that may not be. */
static void mark_tokens(const mixt_machine *m, const mixt_machine_vocabulary *v, uint64_t *bits)
{
    const state *s = &m->states[m->current];
    int64_t others = -1, other = -1; /* how many are excluded, and one of them */
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t id = m->members[s->first + i];
        const mixt_op *op = &m->grammar->ops[m->nodes[id].place];
        if (id != NODE_END && op->kind == MIXT_OP_TOKEN && op->value < v->vocab_size) {
            set_bit(bits, op->value);
        } else if (id != NODE_END && op->kind == MIXT_OP_NOT_TOKEN) {
            others = others < 0 ? 1 : other == op->value ? others : 2; /* different: all may be */
            other = op->value;
        }
    }
    for (int64_t id = 0; others > 0 && id < v->vocab_size; id++) {
        bool is_end = false;
        for (size_t i = 0; i < v->end_count; i++) {
            is_end = is_end || v->ends[i] == id;
        }
        if (!is_end && (others > 1 || id != other)) {
            set_bit(bits, id);
        }
    }
}

static void mark_ends(const mixt_machine *m, const mixt_machine_vocabulary *v, uint64_t *bits)
{
    for (size_t i = 0; i < v->end_count; i++) {
        int32_t id = v->ends[i];
        if (id < v->vocab_size) {
            bits[id / 64] &= ~(UINT64_C(1) << (id % 64)); /* it is no text */
            if (mixt_machine_may_end(m)) {
                set_bit(bits, id);
            }
        }
    }
}

/* Room for masks of these words and ways of this depth. */
static bool prepare(mixt_machine *m, size_t words, size_t depth, kept_mask *mask)
{
    if (words != m->mask_words) {
        for (int i = 0; i < MASKS_KEPT; i++) {
            free(m->masks[i].bits);
            m->masks[i] = (kept_mask){0};
        }
        m->mask_words = words;
    }
    if (mask->bits == NULL) {
        mask->bits = calloc(words, sizeof *mask->bits);
    }
    if (m->walk == NULL || depth > m->walk_depth) {
        free(m->walk);
        m->walk = calloc(depth + 1, sizeof *m->walk);
        m->walk_depth = depth;
    }
    return mask->bits != NULL && m->walk != NULL;
}

mixt_status mixt_machine_mask(mixt_machine *machine, const mixt_machine_vocabulary *vocabulary,
                              const uint64_t **bits, mixt_error *error)
{
    mixt_machine *m = machine;
    size_t words = ((size_t)vocabulary->vocab_size + 63) / 64;
    begin_call(m);
    kept_mask *mask = &m->masks[m->current % MASKS_KEPT];
    if (m->status == MIXT_OK && !prepare(m, words, vocabulary->trie->depth, mask)) {
        m->status = MIXT_ERROR_MEMORY;
    }
    if (m->status == MIXT_OK && mask->state != m->current) {
        memset(mask->bits, 0, words * sizeof *mask->bits);
        mask->state = STATE_UNKNOWN;
        mark_text(m, vocabulary, mask->bits);
        mark_ends(m, vocabulary, mask->bits);
        mark_tokens(m, vocabulary, mask->bits);
        mask->state = m->status == MIXT_OK ? m->current : STATE_UNKNOWN;
    }
    *bits = mask->bits;
    return m->status == MIXT_OK ? MIXT_OK : report(m, error);
}
