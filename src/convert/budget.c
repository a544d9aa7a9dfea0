/* The type of each tensor under a budget. What a tensor costs in a type is what its matrix cost in
 * the type that it was tried in (eval/sensitivity.c), times the error of its products in this type
 * over that: losses are near their minimum, so that they grow with the square of an error. Errors
 * are those of W x for the activations that importance has seen, of each expert by itself. */
#include <math.h>
#include <stdlib.h>

#include "convert/convert.h"
#include "core/arithmetic.h"
#include "model/importance.h"
#include "model/sensitivity.h"
#include "quant/quant.h"

#define ROWS_SAMPLED 1024 /* of a tensor, spread over it */
#define ROUNDS 200        /* of halving the price of a byte */
#define LEAST_LOSS 1e-9   /* nats: measured losses below are noise */

static const mixt_type candidates[] = {
    MIXT_TYPE_Q2_K, MIXT_TYPE_Q3_K, MIXT_TYPE_IQ4_XS, MIXT_TYPE_Q4_K, MIXT_TYPE_Q5_K,
    MIXT_TYPE_Q6_K, MIXT_TYPE_Q4_0, MIXT_TYPE_IQ4_NL, MIXT_TYPE_Q4_1, MIXT_TYPE_Q5_0,
    MIXT_TYPE_Q5_1, MIXT_TYPE_Q8_0, MIXT_TYPE_F16,
};
#define TYPES (sizeof candidates / sizeof *candidates)

/* What a target can be: types that its rows are whole blocks of, and the one that it has. */
typedef struct choice {
    mixt_type type[TYPES + 1];
    size_t bytes[TYPES + 1];
    double error[TYPES + 1], loss[TYPES + 1];
    int count, chosen;
    double error_tried; /* in the type of its parameter's trial */
} choice;

typedef struct sampling {
    const mixt_conversion *c;
    const mixt_target *target;
    const choice *of;
    mixt_type tried;
    const int64_t *order; /* row of the parameter for a row of the target; NULL: `values` */
    const float *values;  /* [rows, columns] */
    int64_t rows, columns, step, rows_of_matrix;
    const float *means;  /* [matrices, columns] */
    const double *share; /* [matrices]: of the tokens; times columns' means, the weight of errors */
    const bool *known;   /* [matrices] */
    float *scratch;      /* [threads, 2, columns] */
    char *blocks;        /* [threads, columns * 4] */
    double *errors;      /* [items, TYPES + 2]: in each type, and in the tried one */
} sampling;

static double error_of(const sampling *s, mixt_type type, const float *values, int64_t matrix,
                       float *back, char *blocks)
{
    mixt_error error = MIXT_ERROR_INIT;
    const float *means = s->known[matrix] ? s->means + matrix * s->columns : NULL;
    if (mixt_quantise(type, values, 1, s->columns, means, blocks, &error) != MIXT_OK) {
        return NAN; /* NaN or Inf: writing it names the block */
    }
    mixt_dequantise(type, blocks, back, s->columns);
    double sum = 0;
    for (int64_t i = 0; i < s->columns; i++) {
        double lost = (double)values[i] - (double)back[i];
        sum += lost * lost * (means != NULL ? (double)means[i] : 1);
    }
    return sum * s->share[matrix];
}

static void sample_row(void *context, int64_t item, int thread)
{
    const sampling *s = context;
    int64_t row = item * s->step, matrix = row / s->rows_of_matrix;
    float *own = s->scratch + 2 * thread * s->columns, *back = own + s->columns;
    char *blocks = s->blocks + 4 * thread * s->columns;
    const float *values = own;
    if (s->order != NULL) {
        mixt_model_values(s->c->model, s->c->parts[s->target->first].parameter,
                          (size_t)(s->order[row] * s->columns), (size_t)s->columns, own);
    } else {
        values = s->values + row * s->columns;
    }
    double *errors = s->errors + item * (int64_t)(TYPES + 2);
    for (int i = 0; i < s->of->count; i++) {
        bool stays = s->of->type[i] == s->target->type; /* the source's: copied */
        errors[i] = stays ? 0 : error_of(s, s->of->type[i], values, matrix, back, blocks);
    }
    errors[TYPES + 1] =
        s->tried != MIXT_TYPE_COUNT ? error_of(s, s->tried, values, matrix, back, blocks) : 0;
}

/* Importance of each matrix of the target, and its part of the tokens. */
static void find_importance(const sampling *s, int64_t matrices, float *means, double *share,
                            bool *known)
{
    const mixt_importance *importance = s->c->options->importance;
    double total = 0;
    for (int64_t i = 0; i < matrices; i++) {
        known[i] = importance != NULL && mixt_importance_of(importance, s->target->piece->name, i,
                                                            s->columns, means + i * s->columns);
        share[i] = importance != NULL && mixt_importance_has(importance, s->target->piece->name)
                       ? mixt_importance_count(importance, s->target->piece->name, i)
                       : 1;
        total += share[i];
    }
    for (int64_t i = 0; i < matrices && total > 0; i++) {
        share[i] /= total;
    }
}

static void run_sampling(sampling *s, choice *to, int64_t items)
{
    mixt_pool_run(mixt_context_pool(s->c->context), items, sample_row, s);
    for (int64_t item = 0; item < items; item++) { /* in one order, whoever computed them */
        const double *errors = s->errors + item * (int64_t)(TYPES + 2);
        for (int i = 0; i < to->count; i++) {
            to->error[i] += errors[i];
        }
        to->error_tried += errors[TYPES + 1];
    }
}

/* Errors of a target in each of its types, over rows spread over it. */
static mixt_status measure_errors(const mixt_conversion *c, const mixt_target *target,
                                  mixt_type tried, choice *to)
{
    const mixt_layout_piece *piece = target->piece;
    int64_t columns = piece->shape[piece->rank - 1],
            matrices = piece->rank == 3 ? piece->shape[0] : 1;
    int64_t rows = (int64_t)mixt_target_count(target) / columns;
    int64_t step = mixt_divide_up(rows, ROWS_SAMPLED), items = mixt_divide_up(rows, step);
    size_t threads = (size_t)mixt_context_threads(c->context);
    sampling s = {.c = c,
                  .target = target,
                  .of = to,
                  .tried = tried,
                  .rows = rows,
                  .columns = columns,
                  .step = step,
                  .rows_of_matrix = rows / matrices};
    int64_t *order = mixt_target_row_order(c, target);
    float *values = order == NULL ? calloc((size_t)(rows * columns), sizeof *values) : NULL;
    float *means = calloc((size_t)(matrices * columns), sizeof *means);
    double *share = calloc((size_t)matrices, sizeof *share);
    bool *known = calloc((size_t)matrices, sizeof *known);
    s.scratch = calloc(threads * 2 * (size_t)columns, sizeof *s.scratch);
    s.blocks = malloc(threads * 4 * (size_t)columns);
    s.errors = calloc((size_t)items * (TYPES + 2), sizeof *s.errors);
    mixt_status status = MIXT_OK;
    if ((order == NULL && values == NULL) || means == NULL || share == NULL || known == NULL ||
        s.scratch == NULL || s.blocks == NULL || s.errors == NULL) {
        status = mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory");
    } else if (order == NULL) {
        status = mixt_target_values(c, target, values);
    }
    if (status == MIXT_OK) {
        find_importance(&s, matrices, means, share, known);
        s.order = order;
        s.values = values;
        s.means = means;
        s.share = share;
        s.known = known;
        run_sampling(&s, to, items);
    }
    free(order);
    free(values);
    free(means);
    free(share);
    free(known);
    free(s.scratch);
    free(s.blocks);
    free(s.errors);
    return status;
}

static void add_type(const mixt_target *target, mixt_type type, choice *to)
{
    int64_t columns = target->piece->shape[target->piece->rank - 1];
    size_t row_bytes = mixt_type_row_bytes(type, columns);
    for (int i = 0; i < to->count; i++) {
        row_bytes = to->type[i] == type ? 0 : row_bytes;
    }
    if (row_bytes != 0) {
        to->type[to->count] = type;
        to->bytes[to->count++] = mixt_target_count(target) / (size_t)columns * row_bytes;
    }
}

/* Bits that the source does not have are worth nothing: no candidate is larger. */
static void list_types(const mixt_target *target, bool matrix, choice *to)
{
    add_type(target, target->type, to);
    for (size_t i = 0; i < TYPES && matrix; i++) {
        size_t most = to->bytes[0];
        add_type(target, candidates[i], to);
        if (to->bytes[to->count - 1] > most) {
            to->count--;
        }
    }
}

/* Losses of all targets: those that share a parameter share what it cost. */
static void find_losses(const mixt_conversion *c, choice *choices, double *tried)
{
    const mixt_sensitivity *sensitivity = c->options->sensitivity;
    for (size_t i = 0; i < c->target_count; i++) {
        for (int j = 0; j < c->targets[i].parts; j++) {
            tried[c->parts[c->targets[i].first + j].parameter] += choices[i].error_tried;
        }
    }
    for (size_t i = 0; i < c->target_count; i++) {
        double rate = 0;
        for (int j = 0; j < c->targets[i].parts; j++) {
            int parameter = c->parts[c->targets[i].first + j].parameter;
            const mixt_sensitivity_entry *entry = &sensitivity->entries[parameter];
            double lost = fmax(entry->kl + entry->routing, LEAST_LOSS);
            rate += tried[parameter] > 0 ? lost / tried[parameter] : 0;
        }
        for (int j = 0; j < choices[i].count; j++) {
            choices[i].loss[j] = rate * choices[i].error[j];
        }
    }
}

/* Bytes of all where each takes what is best at this price of a byte. */
static size_t choose_at(choice *choices, size_t count, double price)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        choice *of = &choices[i];
        of->chosen = 0;
        for (int j = 1; j < of->count; j++) {
            double now = of->loss[of->chosen] + price * (double)of->bytes[of->chosen];
            of->chosen = of->loss[j] + price * (double)of->bytes[j] < now ? j : of->chosen;
        }
        bytes += of->bytes[of->chosen];
    }
    return bytes;
}

/* What is left goes where it saves most for a byte. */
static void spend_rest(choice *choices, size_t count, size_t left)
{
    for (;;) {
        double best = 0;
        size_t at = 0, cost = 0;
        int type = 0;
        for (size_t i = 0; i < count; i++) {
            const choice *of = &choices[i];
            for (int j = 0; j < of->count; j++) {
                size_t more = of->bytes[j] - of->bytes[of->chosen];
                bool dearer = of->bytes[j] > of->bytes[of->chosen] && more <= left;
                double saved = dearer ? (of->loss[of->chosen] - of->loss[j]) / (double)more : 0;
                if (saved > best) {
                    best = saved;
                    at = i;
                    type = j;
                    cost = more;
                }
            }
        }
        if (best <= 0) {
            return;
        }
        choices[at].chosen = type;
        left -= cost;
    }
}

static mixt_status choose(const mixt_conversion *c, choice *choices)
{
    size_t budget = (size_t)c->options->budget, count = c->target_count;
    double low = -60, high = 60; /* logarithms of prices that buy everything, and nothing */
    size_t least = 0;
    for (size_t i = 0; i < count; i++) { /* the smallest of each, whatever it loses */
        for (int j = 0; j < choices[i].count; j++) {
            bool smaller = choices[i].bytes[j] < choices[i].bytes[choices[i].chosen];
            choices[i].chosen = j == 0 ? 0 : smaller ? j : choices[i].chosen;
        }
        least += choices[i].bytes[choices[i].chosen];
    }
    if (least > budget) {
        return mixt_fail(c->error, MIXT_ERROR_ARGUMENT,
                         "budget: %.0f bytes, but the tensors have %.0f at least", (double)budget,
                         (double)least);
    }
    for (int i = 0; i < ROUNDS; i++) {
        double middle = (low + high) / 2;
        bool fits = choose_at(choices, count, exp(middle)) <= budget;
        high = fits ? middle : high;
        low = fits ? low : middle;
    }
    size_t bytes = choose_at(choices, count, exp(high));
    spend_rest(choices, count, budget > bytes ? budget - bytes : 0);
    return MIXT_OK;
}

mixt_status mixt_budget_choose(mixt_conversion *c)
{
    choice *choices = calloc(c->target_count + 1, sizeof *choices);
    double *tried = calloc((size_t)c->model->parameter_count + 1, sizeof *tried);
    mixt_status status = choices != NULL && tried != NULL
                             ? MIXT_OK
                             : mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory");
    for (size_t i = 0; i < c->target_count && status == MIXT_OK; i++) {
        int parameter = c->parts[c->targets[i].first].parameter;
        bool matrix = mixt_parameter_is_matrix(&c->model->parameters[parameter]);
        list_types(&c->targets[i], matrix, &choices[i]);
        if (choices[i].count > 1) {
            status = measure_errors(c, &c->targets[i],
                                    c->options->sensitivity->entries[parameter].type, &choices[i]);
        }
    }
    if (status == MIXT_OK) {
        find_losses(c, choices, tried);
        status = choose(c, choices);
    }
    for (size_t i = 0; i < c->target_count && status == MIXT_OK; i++) {
        c->targets[i].type = choices[i].type[choices[i].chosen];
        c->targets[i].wanted = c->targets[i].type;
        c->targets[i].bytes = choices[i].bytes[choices[i].chosen];
    }
    free(choices);
    free(tried);
    return status;
}
