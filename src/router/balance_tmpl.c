/* What keeps experts busy: the balance loss and the z-loss (biases that do it are in balance.c).
 * Switch, GShard: balance = E sum_i f_i P_i with f_i the share of choices (all k, or first ones)
 * and P_i the mean over tokens of the row's scores, which sum to 1 (sigmoid scores are divided by
 * their sum, as DeepSeek-V3 does). f_i is a constant for the gradient.
 * Skywork: balance = sum_i (1 / E - P_i)^2, which counts no choices.
 * Over D groups of experts (DeepSeek's devices, 2401.06066 section 3.3): device = D sum_g f'_g P'_g
 * with f'_g and P'_g the sums of the group's f_i and P_i. There f_i is E times ours and f' their
 * mean, which is the same.
 * Over sequences every document has its own f_i and P_i, and the loss is their mean by tokens; over
 * a step f_i is of all choices in ROUTE_SEEN, to which the forward adds this batch's; with ranks,
 * those of the batches of all ranks up to this one's.
 * z = mean over tokens of logsumexp(logits)^2 (ST-MoE).
 * Rows with a logit that is not finite are left out of both; choices of no
 * expert count for none. */
#include <assert.h>

#include "ops/support_tmpl.h"
#include "router/method.h"

/* The share of each row's own scores; softmax sums to 1 by itself. Returns the sum. */
static real normalise(const mixt_kernels *kernels, const mixt_router_spec *spec, real *scores)
{
    if (spec->options.score != MIXT_SCORE_SIGMOID) {
        return 1;
    }
    real sum = kernels->sum(spec->experts, scores);
    kernels->scale(spec->experts, scores, sum > 0 ? 1 / sum : 0, scores);
    return sum;
}

/* Adds the scores of rows to sums [E + 1], and behind them logsumexp^2. */
static void sum_rows(const mixt_call *call, mixt_range rows, real *sums)
{
    const mixt_kernels *kernels = mixt_kernels_of(call);
    const mixt_router_spec *spec = call->attributes->router;
    int experts = spec->experts;
    real scores[MIXT_EXPERTS_MAX], log_sum;
    for (int64_t t = rows.begin; t < rows.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        if (!MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum)) {
            continue;
        }
        (void)normalise(kernels, spec, scores);
        kernels->add(experts, sums, sums, scores);
        sums[experts] += log_sum * log_sum;
    }
}

/* Rows that are balanced together: what is counted of them, and their scores. */
typedef struct balanced {
    const mixt_router_spec *spec;
    double rows;
    const int32_t *counts; /* [E]: choices, or first choices */
    double choices;        /* of that kind */
    const real *sums;      /* [E]: of the rows' scores */
} balanced;

static double share_of(const balanced *b, int expert)
{
    return b->choices > 0 ? (double)b->counts[expert] / b->choices : 0;
}

static bool by_scores(const mixt_router_spec *spec)
{
    return spec->options.balance == MIXT_BALANCE_SKYWORK;
}

/* 1 / E - P_i */
static double missing_of(const balanced *b, int expert)
{
    return 1.0 / b->spec->experts - (double)b->sums[expert] / b->rows;
}

static double loss_of(const balanced *b)
{
    int experts = b->spec->experts;
    double squares = 0, along = 0;
    for (int e = 0; e < experts; e++) {
        squares += missing_of(b, e) * missing_of(b, e);
        along += share_of(b, e) * (double)b->sums[e];
    }
    return by_scores(b->spec) ? squares : along * experts / b->rows;
}

/* d loss / d P_i, times `factor`; `pull` may be the sums. */
static void find_pull(const balanced *b, double factor, real *pull)
{
    int experts = b->spec->experts;
    for (int e = 0; e < experts; e++) {
        pull[e] = (real)(by_scores(b->spec) ? factor * -2 * missing_of(b, e)
                                            : factor * experts * share_of(b, e));
    }
}

/* Of the experts that begin at `first`; where a group is one of them, what loss_of counts. */
static double group_share(const balanced *b, int first, int size)
{
    double share = 0;
    for (int e = first; e < first + size; e++) {
        share += share_of(b, e);
    }
    return share;
}

static double device_loss_of(const balanced *b)
{
    int groups = b->spec->options.balance_groups, size = b->spec->experts / groups;
    double along = 0;
    for (int first = 0; first < b->spec->experts; first += size) {
        double sum = 0;
        for (int e = first; e < first + size; e++) {
            sum += (double)b->sums[e];
        }
        along += group_share(b, first, size) * sum;
    }
    return along * groups / b->rows;
}

/* Adds d loss / d P_i of the groups, times `factor`. */
static void add_device_pull(const balanced *b, double factor, real *pull)
{
    int groups = b->spec->options.balance_groups, size = b->spec->experts / groups;
    for (int first = 0; first < b->spec->experts; first += size) {
        double own = factor * groups * group_share(b, first, size);
        for (int e = first; e < first + size; e++) {
            pull[e] += (real)own;
        }
    }
}

static bool has_groups(const mixt_call *call)
{
    return call->attributes->router->options.balance_groups > 1;
}

static bool counts_first(const mixt_call *call)
{
    return call->attributes->router->options.balance == MIXT_BALANCE_GSHARD;
}

/* counts [E] of the choices in rows. */
static void count_rows(const mixt_call *call, mixt_range rows, int32_t *counts)
{
    const int32_t *ids = call->out[ROUTE_IDS];
    int64_t columns = call->out_shape[ROUTE_IDS].size[1], last = counts_first(call) ? 1 : columns;
    memset(counts, 0, (size_t)call->attributes->router->experts * sizeof *counts);
    for (int64_t t = rows.begin; t < rows.end; t++) {
        for (int64_t j = 0; j < last; j++) {
            if (ids[t * columns + j] >= 0) {
                counts[ids[t * columns + j]]++;
            }
        }
    }
}

static double choices_of(const mixt_call *call, double rows)
{
    return counts_first(call) ? rows : rows * call->attributes->router->chosen;
}

static bool by_sequence(const mixt_call *call)
{
    return call->attributes->router->options.balance_scope == MIXT_BALANCE_OVER_SEQUENCE &&
           call->in[ROUTE_FIRST] != NULL;
}

/* What is counted where all rows are one; `counts` [E] is room for it. */
static balanced batch_of(const mixt_call *call, int32_t *counts, const real *sums)
{
    const mixt_router_spec *spec = call->attributes->router;
    const int32_t *seen = call->in[ROUTE_SEEN];
    double rows = (double)call->tokens;
    balanced b = {spec, rows, seen != NULL ? seen : counts, choices_of(call, rows), sums};
    if (seen == NULL) {
        count_rows(call, (mixt_range){0, call->tokens}, counts);
        return b;
    }
    b.choices = 0;
    for (int e = 0; e < spec->experts; e++) {
        b.choices += seen[e];
    }
    return b;
}

/* Counts [E] of each rank's batch of this run into all. Each has as many rows as this one. */
static mixt_status gather_counts(const mixt_call *call, const int32_t *counts, int32_t *all,
                                 mixt_error *error)
{
    mixt_ranks *ranks = call->attributes->ranks;
    int experts = call->attributes->router->experts;
    int64_t choices = call->tokens * call->out_shape[ROUTE_IDS].size[1];
    MIXT_TRY(mixt_ranks_gather(ranks, MIXT_GROUP_ALL, counts, (size_t)experts * sizeof *counts, all,
                               error));
    for (int i = 0; i < mixt_group_size(ranks, MIXT_GROUP_ALL) * experts; i++) {
        if (all[i] < 0 || all[i] > choices) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "rank %d counts %d choices of expert %d",
                             i / experts, all[i], i % experts);
        }
    }
    return MIXT_OK;
}

/* seen [2, E]: of the step up to this rank's batch, and of its runs with this one. */
static void add_seen_of_ranks(const mixt_call *call, const int32_t *counts, int32_t *all)
{
    mixt_ranks *ranks = call->attributes->ranks;
    int experts = call->attributes->router->experts;
    int count = mixt_group_size(ranks, MIXT_GROUP_ALL);
    int own = mixt_group_place(ranks, MIXT_GROUP_ALL);
    int32_t *seen = call->in[ROUTE_SEEN], *total = seen + experts;
    mixt_error error = MIXT_ERROR_INIT;
    if (gather_counts(call, counts, all, &error) != MIXT_OK) {
        mixt_call_fail_ranks(call, "route", &error);
        memset(all, 0, (size_t)(count * experts) * sizeof *all);
        memcpy(all + own * experts, counts, (size_t)experts * sizeof *all);
    }
    for (int rank = 0; rank < count; rank++) {
        for (int e = 0; e < experts; e++) {
            total[e] += all[rank * experts + e];
        }
        if (rank == own) {
            memcpy(seen, total, (size_t)experts * sizeof *seen);
        }
    }
}

/* Adds this batch's choices to those of the step; `all`: room for those of all ranks. */
static void add_seen(const mixt_call *call, int32_t *counts, int32_t *all)
{
    int32_t *seen = call->in[ROUTE_SEEN];
    if (seen == NULL) {
        return;
    }
    count_rows(call, (mixt_range){0, call->tokens}, counts);
    if (call->attributes->ranks != NULL) {
        add_seen_of_ranks(call, counts, all);
        return;
    }
    for (int e = 0; e < call->attributes->router->experts; e++) {
        seen[e] += counts[e];
    }
}

/* The document that begins at row t or, where none does, the next one that does before `end`;
 * false: none. A part of the rows works on the documents that begin in it. */
static bool next_document(const mixt_call *call, int64_t t, int64_t end, mixt_range *document)
{
    const int32_t *first = call->in[ROUTE_FIRST];
    while (t > 0 && t < end && first[t] == first[t - 1]) {
        t++;
    }
    *document = (mixt_range){t, t + 1};
    while (t < end && document->end < call->tokens && first[document->end] == first[t]) {
        document->end++;
    }
    return t < end;
}

/* One of the documents: its scores into sums [E + 1], its choices into counts [E]. */
static balanced document_of(const mixt_call *call, mixt_range rows, int32_t *counts, real *sums)
{
    const mixt_router_spec *spec = call->attributes->router;
    double count = (double)(rows.end - rows.begin);
    memset(sums, 0, (size_t)(spec->experts + 1) * sizeof *sums);
    sum_rows(call, rows, sums);
    count_rows(call, rows, counts);
    return (balanced){spec, count, counts, choices_of(call, count), sums};
}

/* A part's sums [E + 1]; of documents the sums of their losses by tokens, those of groups (of two
 * experts or more) behind the others, and z at the end. */
static void loss_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int experts = call->attributes->router->experts;
    real *partial = (real *)call->workspace + item * (experts + 1), sums[MIXT_EXPERTS_MAX + 1];
    int32_t counts[MIXT_EXPERTS_MAX];
    memset(partial, 0, (size_t)(experts + 1) * sizeof *partial);
    mixt_range range = mixt_chunk(call->tokens, MIXT_BALANCE_ROWS, item), document;
    if (!by_sequence(call)) {
        sum_rows(call, range, partial);
        return;
    }
    for (int64_t t = range.begin; next_document(call, t, range.end, &document); t = document.end) {
        balanced b = document_of(call, document, counts, sums);
        partial[0] += (real)(b.rows * loss_of(&b));
        if (has_groups(call)) {
            partial[1] += (real)(b.rows * device_loss_of(&b));
        }
        partial[experts] += sums[experts];
    }
}

/* Sums [E + 1] over all parts, at the head of the workspace. */
static real *sum_parts(const mixt_call *call)
{
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int experts = call->attributes->router->experts;
    int64_t parts = mixt_divide_up(call->tokens, MIXT_BALANCE_ROWS);
    real *sums = call->workspace;
    mixt_for_chunks(call, call->tokens, MIXT_BALANCE_ROWS, loss_rows);
    for (int64_t item = 1; item < parts; item++) {
        kernels->add(experts + 1, sums, sums, sums + item * (experts + 1));
    }
    return sums;
}

void MIXT_REAL(mixt_balance_loss)(const mixt_call *call)
{
    int experts = call->attributes->router->experts;
    int32_t counts[MIXT_EXPERTS_MAX];
    assert(experts <= MIXT_EXPERTS_MAX);
    real *sums = sum_parts(call), *losses = call->out[ROUTE_LOSSES];
    bool groups = has_groups(call);
    losses[ROUTE_LOSS_BALANCE] = sums[0] / (real)call->tokens;
    losses[ROUTE_LOSS_DEVICE] = groups ? sums[1] / (real)call->tokens : 0;
    if (!by_sequence(call)) {
        add_seen(call, counts, (int32_t *)(void *)(sums + experts + 1)); /* parts are summed */
        balanced b = batch_of(call, counts, sums);
        losses[ROUTE_LOSS_BALANCE] = (real)loss_of(&b);
        losses[ROUTE_LOSS_DEVICE] = groups ? (real)device_loss_of(&b) : 0;
    }
    losses[ROUTE_LOSS_Z] = sums[experts] / (real)call->tokens;
}

typedef struct balance_run {
    const mixt_call *call;
    double balance;   /* d step's loss / d balance loss of a token's batch or document */
    double device;    /* and / d that over groups */
    const real *pull; /* [E]: d step's loss / d P_i, for one token; of a batch */
    real z;           /* d step's loss / d logsumexp^2 */
    real *d_logits;
} balance_run;

static void add_gradients(const balance_run *run, mixt_range rows, const real *pull)
{
    const mixt_call *call = run->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    const mixt_router_spec *spec = call->attributes->router;
    int experts = spec->experts;
    bool sigmoid = spec->options.score == MIXT_SCORE_SIGMOID;
    real scores[MIXT_EXPERTS_MAX], log_sum;
    for (int64_t t = rows.begin; t < rows.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        real *d_logits = run->d_logits + t * experts;
        if (!MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum)) {
            continue;
        }
        real sum = normalise(kernels, spec, scores);
        real along = kernels->dot(experts, pull, scores), z = 2 * log_sum * run->z;
        for (int e = 0; e < experts; e++) {
            /* sigmoid: P = s / sum, d s / d logit = s (1 - s) with s = P sum */
            real slope = sigmoid ? scores[e] * (1 - scores[e] * sum) : scores[e];
            real softmax = sigmoid ? (real)exp((double)(logits[e] - log_sum)) : scores[e];
            d_logits[e] += (pull[e] - along) * slope + z * softmax;
        }
    }
}

/* Of both losses; `pull` may be the sums. */
static void find_pulls(const balanced *b, const balance_run *run, real *pull)
{
    find_pull(b, run->balance, pull);
    if (run->device != 0) {
        add_device_pull(b, run->device, pull);
    }
}

static void gradient_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const balance_run *run = context;
    add_gradients(run, mixt_chunk(run->call->tokens, MIXT_ROWS, item), run->pull);
}

static void gradient_documents(void *context, int64_t item, int thread)
{
    (void)thread;
    const balance_run *run = context;
    const mixt_call *call = run->call;
    int32_t counts[MIXT_EXPERTS_MAX];
    real sums[MIXT_EXPERTS_MAX + 1];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item), document;
    for (int64_t t = range.begin; next_document(call, t, range.end, &document); t = document.end) {
        balanced b = document_of(call, document, counts, sums);
        find_pulls(&b, run, sums);
        add_gradients(run, document, sums);
    }
}

/* What the layer's balance loss is multiplied by. */
static double balance_weight(const mixt_call *call)
{
    const real *factors = call->in[ROUTE_BALANCE];
    double weight = call->attributes->balance_weight;
    assert(factors == NULL ||
           (call->layer >= 0 && call->layer < call->in_shape[ROUTE_BALANCE].size[0]));
    return factors != NULL ? weight * (double)factors[call->layer] : weight;
}

void MIXT_REAL(mixt_balance_gradient)(const mixt_call *call, real *d_logits, real *workspace)
{
    const mixt_attributes *attributes = call->attributes;
    const mixt_router_spec *spec = attributes->router;
    double scale =
        (double)((const real *)call->in[ROUTE_SCALE])[MIXT_SCALE_ROUTER] / (double)call->tokens;
    double weight = balance_weight(call), device = has_groups(call) ? attributes->device_weight : 0;
    int32_t counts[MIXT_EXPERTS_MAX];
    real pull[MIXT_EXPERTS_MAX];
    if (scale == 0 || (weight == 0 && device == 0 && attributes->z_weight == 0)) {
        return;
    }
    balance_run run = {
        call, scale * weight, scale * device, pull, (real)(scale * attributes->z_weight), d_logits};
    if (by_sequence(call)) {
        mixt_pool_run(call->compute->pool, mixt_divide_up(call->tokens, MIXT_ROWS),
                      gradient_documents, &run);
        return;
    }
    mixt_call summed = *call;
    summed.workspace = workspace;
    memset(pull, 0, (size_t)spec->experts * sizeof *pull);
    balanced b = batch_of(call, counts, by_scores(spec) ? sum_parts(&summed) : pull);
    find_pulls(&b, &run, pull);
    mixt_pool_run(call->compute->pool, mixt_divide_up(call->tokens, MIXT_ROWS), gradient_rows,
                  &run);
}
