/* The cases that drive tests/test_operators.c: one table for each operator, how a row of it becomes
 * shapes and values, and the operator's meaning as plain loops in double. */
#ifndef MIXT_TESTS_OPERATOR_CASES_H
#define MIXT_TESTS_OPERATOR_CASES_H

#include "core/random.h"
#include "ops/latent.h"
#include "router/router.h"

#define CASE_NUMBERS 11

typedef struct operator_case {
    mixt_op op;
    const int64_t *p; /* the row of the table */
    int64_t tokens;
    int layer; /* of the call; -1 unless a case says another */
    mixt_attributes attributes;
    mixt_router_spec spec;
    mixt_adamw_arguments adamw;
    mixt_muon_arguments muon;
    mixt_shape_request request; /* in[] by prepare, the rest by the shape rule */
    /* inputs by their planned size: numbers that fp32 holds exactly, or integers */
    double *value[MIXT_SLOTS];
    int32_t *integer[MIXT_SLOTS];
    unsigned differentiable; /* inputs with a gradient */
    unsigned functional;     /* outputs that a gradient comes from */
    /* inputs (their gradients) and outputs of which the rows behind those in use stay untouched */
    unsigned ragged_in, ragged_out;
    /* fixed gradient of an output that the operator takes by itself (losses), else NULL */
    double *implied[MIXT_SLOTS];
} operator_case;

typedef struct operator_subject {
    mixt_op op;
    const int64_t (*rows)[CASE_NUMBERS]; /* {T, capacity, ...} */
    int count;
    double tolerance; /* fp32 against fp64, relative to a tensor's largest value */
    void (*prepare)(operator_case *c);
    void (*fill)(operator_case *c); /* integers and special values; may be NULL */
    /* fills outputs that hold zeros; where there are none, changes copies of the inputs in place */
    void (*naive)(const operator_case *c, double *const *out, int32_t *const *integer_out);
    unsigned free_columns; /* inputs whose last size the rule takes as it comes */
    unsigned optional;     /* inputs that may be absent */
} operator_subject;

/* Of each operator. */
extern const operator_subject *const operator_subjects[MIXT_OP_COUNT];
/* operator_cases_mixture.c */
extern const operator_subject route_subject, dispatch_subject, experts_subject, combine_subject,
    competitive_subject, low_rank_subject;
/* operator_cases_ranks.c */
extern const operator_subject exchange_subject, arrive_subject, give_back_subject,
    far_experts_subject;
/* operator_cases_cache.c */
extern const operator_subject cache_round_subject, kv_write_subject, attention_subject,
    latent_subject, shift_subject;
/* operator_cases_pool.c */
extern const operator_subject pool_subject, jitter_subject;

/* The bit of a slot in a case's masks. */
#define SLOT(name) (1U << (name))
/* The rows of a subject and their count. */
#define TABLE(name) name##_rows, (int)(sizeof name##_rows / sizeof name##_rows[0])

/* Uniform in [0, bound), normal; one stream for all, which a case starts anew. */
void case_seed(int64_t seed);
int64_t case_below(int64_t bound);
double case_normal(void);

/* Shapes of a case: [tokens * multiple, columns] (0: one dimension), and one that tokens do not
 * change. */
static inline mixt_shape by_token(const operator_case *c, int64_t multiple, int64_t columns)
{
    return mixt_shape_tokens(c->request.capacity, multiple, columns);
}

static inline mixt_shape fixed(int64_t rows, int64_t columns)
{
    return mixt_shape_static(columns > 0 ? 2 : 1, rows, columns, 0);
}

/* A case's cache as pages of sequences: inputs `slot`, the table, and behind it the rows'
 * sequences.
 */
typedef struct case_pages {
    int64_t sequences;
    int slot, cache;
} case_pages;

/* The shapes, and no gradients. */
void case_prepare_pages(operator_case *c, case_pages pages);
/* Sequences of ragged lengths in an order and pages at random, one of them with many rows, others
 * with one or none; `last` is given the rows' positions. What is nobody's in the cache is huge. */
void case_fill_pages(operator_case *c, case_pages pages, int32_t *last);
/* The row of the cache that holds a position of row t's sequence. */
int64_t case_row(const operator_case *c, int pages, int64_t t, int64_t position);

/* Whether the operator reads typed rows: `latent` only where there are rows enough to expand. */
static inline bool case_reads_matrices(const operator_case *c)
{
    bool few = c->op == MIXT_OP_latent && c->tokens < MIXT_LATENT_ROWS;
    return mixt_operator_row(c->op)->matrix_in != 0 && !few;
}

double case_product(const double *a, const double *b, int64_t n);
double case_activate(int64_t activation, double gate, double up);

#endif
