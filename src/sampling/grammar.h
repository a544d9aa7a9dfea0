/* Grammars as programs over bytes and tokens, and how they are run.
 *
 * A rule is a piece of code. Where a text stands in it is a stack of places: the place in the
 * current rule, and those at which the rules that called it go on. A text may stand at several at
 * once; such sets are the states of an automaton that is made as it is needed (Thompson's way, with
 * stacks). Sets and stacks are kept once each, so that what many texts lead to costs once. */
#ifndef MIXT_SAMPLING_GRAMMAR_H
#define MIXT_SAMPLING_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>

#include "mixt.h"
#include "sampling/char_class.h"
#include "tokenizer/trie.h"

#define MIXT_GRAMMAR_BYTES_MAX ((size_t)8 << 20) /* of a grammar's text */
enum {
    MIXT_GRAMMAR_OPS_MAX = 1 << 21,
    MIXT_GRAMMAR_RULES_MAX = 1 << 18,
    MIXT_GRAMMAR_DEPTH_MAX = 500,      /* of groups */
    MIXT_GRAMMAR_REPEAT_MAX = 1 << 17, /* {m,n} */
    MIXT_GRAMMAR_NAME_MAX = 200,
    MIXT_MACHINE_STACKS_MAX = 1 << 16, /* of a state */
    MIXT_MACHINE_NODES_MAX = 1 << 21,  /* of all stacks that are kept, and of ids in states */
    MIXT_MACHINE_STATES_MAX = 1 << 18,
};

typedef enum mixt_op_kind {
    MIXT_OP_BYTE,      /* value: the byte */
    MIXT_OP_CLASS,     /* value: the first row of its automaton */
    MIXT_OP_TOKEN,     /* value: the token's id */
    MIXT_OP_NOT_TOKEN, /* any token but this, and but the ends */
    MIXT_OP_SPLIT,     /* goes on behind it, and `value` places further */
    MIXT_OP_JUMP,      /* `value` places further */
    MIXT_OP_CALL,      /* value: the rule */
    MIXT_OP_RETURN,
} mixt_op_kind;

typedef struct mixt_op {
    uint8_t kind; /* mixt_op_kind */
    int32_t value;
} mixt_op;

typedef struct mixt_grammar {
    mixt_op *ops; /* [op_count]; every rule ends with RETURN */
    size_t op_count, op_capacity;
    uint32_t *starts; /* [rule_count] */
    size_t rule_count;
    uint32_t root;
    mixt_char_rows classes;
    bool has_tokens; /* TOKEN or NOT_TOKEN occurs */
} mixt_grammar;

/* GBNF with the rule "root" (gbnf.c). `tokenizer` finds <token>s; NULL: only <[id]> can be used. */
mixt_status mixt_grammar_compile(const char *text, size_t length, const mixt_tokenizer *tokenizer,
                                 mixt_grammar **grammar, mixt_error *error);
void mixt_grammar_free(mixt_grammar *grammar);

typedef struct mixt_grammar_faults {
    int64_t left_recursion; /* a rule that calls itself before anything else, whose stacks would
                               grow without end; or -1 */
    bool has_no_end;        /* no text is one of the root */
} mixt_grammar_faults;

/* Fails without memory alone. */
mixt_status mixt_grammar_check(const mixt_grammar *grammar, mixt_grammar_faults *faults,
                               mixt_error *error);

/* ---- running one */

typedef struct mixt_machine mixt_machine;

/* The grammar must outlive it. */
mixt_status mixt_machine_create(const mixt_grammar *grammar, mixt_machine **machine,
                                mixt_error *error);
void mixt_machine_free(mixt_machine *machine);
/* Goes on by bytes; *allowed false: the grammar refuses them and nothing has changed. */
mixt_status mixt_machine_bytes(mixt_machine *machine, const char *bytes, size_t length,
                               bool *allowed, mixt_error *error);

/* A token as a machine sees it. */
typedef struct mixt_machine_token {
    int32_t id;
    const char *bytes; /* NULL: it is no text */
    size_t length;
    bool is_end;
} mixt_machine_token;

/* The same by one token, its bytes or itself. */
mixt_status mixt_machine_token_accept(mixt_machine *machine, const mixt_machine_token *token,
                                      bool *allowed, mixt_error *error);
/* Whether the text may end here, and whether that is all it may. */
bool mixt_machine_may_end(const mixt_machine *machine);
bool mixt_machine_must_end(const mixt_machine *machine);

typedef struct mixt_machine_vocabulary {
    const mixt_token_trie *trie;
    const int32_t *ends; /* [end_count]: tokens that end a text */
    size_t end_count;
    int vocab_size; /* bits of a mask */
} mixt_machine_vocabulary;

/* One bit for each token that may follow, into *bits [(vocab_size + 63) / 64]; they belong to the
 * machine and hold until it is called again. */
mixt_status mixt_machine_mask(mixt_machine *machine, const mixt_machine_vocabulary *vocabulary,
                              const uint64_t **bits, mixt_error *error);

#endif
