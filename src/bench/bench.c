/* Speed of a training step, of its operators, of prompts and of generation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/random.h"
#include "infer/session.h"
#include "train/trainer.h"

#define REPETITIONS_MAX 10000
#define NAME_BYTES 48

/* Seconds of each repetition of one row. */
typedef struct sample {
    double sum, squares;
    int count;
} sample;

static void add_sample(sample *s, double seconds)
{
    s->sum += seconds;
    s->squares += seconds * seconds;
    s->count++;
}

typedef struct bench {
    mixt_context *context;
    mixt_model *model;
    const mixt_bench_options *options;
    mixt_error *error;
    mixt_bench_row *rows;
    char (*names)[2][NAME_BYTES]; /* of each row: its name and direction */
    size_t count, row_room, name_room;
} bench;

static mixt_status add_row(bench *b, const mixt_bench_row *like, const sample *s)
{
    if (!mixt_grow(&b->rows, &b->row_room, b->count + 1, sizeof *b->rows) ||
        !mixt_grow(&b->names, &b->name_room, b->count + 1, sizeof *b->names)) {
        return mixt_fail(b->error, MIXT_ERROR_MEMORY, "bench: no memory");
    }
    snprintf(b->names[b->count][0], NAME_BYTES, "%s", like->name);
    snprintf(b->names[b->count][1], NAME_BYTES, "%s", like->direction);
    mixt_bench_row *row = &b->rows[b->count++];
    *row = *like;
    row->seconds = s->sum / s->count;
    double spread = s->squares - s->count * row->seconds * row->seconds;
    row->deviation = s->count > 1 && spread > 0 ? sqrt(spread / (s->count - 1)) : 0;
    return MIXT_OK;
}

/* The records of a plan, summed over layers. */
#define PASSES 3 /* forward, recompute, backward */
typedef struct profile {
    double seconds[MIXT_OP_COUNT][PASSES]; /* of one repetition */
    sample samples[MIXT_OP_COUNT][PASSES];
    double flops[MIXT_OP_COUNT][PASSES], bytes[MIXT_OP_COUNT][PASSES];
    double int8_flops[MIXT_OP_COUNT]; /* of a forward pass */
} profile;

static void gather(mixt_instance *instance, profile *p)
{
    const mixt_plan *plan = mixt_instance_plan(instance);
    for (int r = 0; r < plan->record_count; r++) {
        const mixt_record *record = &plan->records[r];
        p->seconds[record->op][record->pass] += mixt_instance_seconds(instance, r);
    }
}

/* The seconds of a repetition become a sample of each operator. */
static void take_samples(profile *p)
{
    for (int op = 0; op < MIXT_OP_COUNT; op++) {
        for (int pass = 0; pass < PASSES; pass++) {
            add_sample(&p->samples[op][pass], p->seconds[op][pass]);
            p->seconds[op][pass] = 0;
        }
    }
}

static void sum_profile(const profile *p, mixt_bench_row *row)
{
    for (int op = 0; op < MIXT_OP_COUNT; op++) {
        for (int pass = 0; pass < PASSES; pass++) {
            row->flops += p->flops[op][pass];
            row->bytes += p->bytes[op][pass];
        }
        row->int8_flops += p->int8_flops[op];
    }
}

/* A row for each operator that took time; directions[pass] says of what. */
static mixt_status operator_rows(bench *b, const char *const directions[PASSES], double tokens,
                                 const profile *p)
{
    mixt_status status = MIXT_OK;
    for (int op = 0; op < MIXT_OP_COUNT; op++) {
        for (int pass = 0; pass < PASSES && status == MIXT_OK; pass++) {
            if (p->samples[op][pass].sum > 0) {
                mixt_bench_row row = {.name = mixt_operator_row((mixt_op)op)->name,
                                      .direction = directions[pass],
                                      .tokens = tokens,
                                      .flops = p->flops[op][pass],
                                      .bytes = p->bytes[op][pass],
                                      .int8_flops = pass == 0 ? p->int8_flops[op] : 0};
                status = add_row(b, &row, &p->samples[op][pass]);
            }
        }
    }
    return status;
}

/* Uniform random tokens from a fixed seed. */
static void random_tokens(int32_t *tokens, size_t count, int vocab_size)
{
    mixt_random_key key = {1, MIXT_RANDOM_DATA, 0};
    for (size_t i = 0; i < count; i++) {
        tokens[i] = (int32_t)mixt_random_below(&key, i, (uint64_t)vocab_size);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Training                                                                                   */

static void stage_random(mixt_trainer *trainer)
{
    mixt_batch *batch = &trainer->batches[0];
    int64_t window = trainer->options.window;
    batch->rows = trainer->rows;
    random_tokens(batch->tokens, (size_t)batch->rows, trainer->model->options.vocab_size);
    for (int64_t row = 0; row < batch->rows; row += window) {
        mixt_batch_sequence(batch, row, window);
    }
    for (int64_t row = 0; row < batch->rows; row++) {
        batch->targets[row] = batch->tokens[(row + 1) % batch->rows];
    }
}

/* One whole step with learning rate 0, so that the weights stay. */
static mixt_status run_step(mixt_trainer *trainer, mixt_error *error)
{
    mixt_step_sums sums = {.targets = trainer->rows};
    mixt_status status = mixt_trainer_gradients(trainer, &sums, error);
    return status == MIXT_OK ? mixt_optimizer_step(trainer, 0.0, 1.0, error) : status;
}

/* Costs of records [from, to) for `tokens` active tokens. */
static void sum_costs(const mixt_plan *plan, int64_t tokens, int from, int to, profile *p)
{
    for (int r = from; r < to; r++) {
        const mixt_record *record = &plan->records[r];
        double flops, bytes;
        mixt_plan_cost(plan, r, tokens, NULL, &flops, &bytes);
        p->flops[record->op][record->pass] += flops;
        p->bytes[record->op][record->pass] += bytes;
    }
}

/* Of a step: the plan of the model, the norm of the gradients, AdamW. */
static void sum_step_costs(const mixt_trainer *trainer, profile *p)
{
    const mixt_plan *model = trainer->graph->plan;
    const mixt_plan *update = mixt_instance_plan(mixt_optimizer_instance(trainer));
    sum_costs(model, trainer->rows, 0, model->record_count, p);
    sum_costs(update, 1, MIXT_TRAIN_GRADIENTS, MIXT_TRAIN_GRADIENTS + 1, p);
    sum_costs(update, 1, MIXT_TRAIN_BLOCKS, update->record_count, p);
}

static mixt_status bench_steps(bench *b, mixt_trainer *trainer, profile *p)
{
    static const char *const directions[PASSES] = {"forward", "recompute", "backward"};
    sample whole = {0};
    stage_random(trainer);
    sum_step_costs(trainer, p);
    mixt_status status = run_step(trainer, b->error); /* touches all memory */
    for (int i = 0; i < b->options->repetitions && status == MIXT_OK; i++) {
        double begin = mixt_train_time();
        status = run_step(trainer, b->error);
        add_sample(&whole, mixt_train_time() - begin);
    }
    if (status != MIXT_OK) {
        return status;
    }
    mixt_bench_row row = {.name = "train step", .direction = "", .tokens = (double)trainer->rows};
    sum_profile(p, &row);
    status = add_row(b, &row, &whole);
    if (status == MIXT_OK && b->options->operators) {
        mixt_instance *update = mixt_optimizer_instance(trainer);
        status = mixt_instance_profile(trainer->instance, b->error);
        if (status == MIXT_OK) {
            status = mixt_instance_profile(update, b->error);
        }
        for (int i = 0; i < b->options->repetitions && status == MIXT_OK; i++) {
            status = run_step(trainer, b->error);
            gather(trainer->instance, p);
            gather(update, p);
            take_samples(p);
        }
        status = status == MIXT_OK ? operator_rows(b, directions, row.tokens, p) : status;
    }
    return status;
}

static mixt_status bench_training(bench *b)
{
    mixt_train_options options = mixt_train_options_default();
    options.batch_size = b->options->batch_size;
    options.window = b->options->window;
    options.weight_decay = 0;
    options.optimizer = MIXT_OPTIMIZER_ADAMW;
    mixt_trainer *trainer = NULL;
    profile *p = calloc(1, sizeof *p);
    mixt_status status =
        p == NULL ? mixt_fail(b->error, MIXT_ERROR_MEMORY, "bench: no memory")
                  : mixt_trainer_make(b->context, b->model, &options, &trainer, b->error);
    if (status == MIXT_OK) {
        status = bench_steps(b, trainer, p);
    }
    mixt_trainer_free(trainer);
    free(p);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Generation                                                                                 */

/* Bytes that a parameter takes where it lies. */
static double stored_bytes(const mixt_model *model, int parameter)
{
    const mixt_held *held = model->held != NULL ? &model->held[parameter] : NULL;
    double bytes = 0;
    if (held == NULL || held->matrices == NULL) {
        return (double)model->parameters[parameter].count * sizeof(float);
    }
    for (int i = 0; i < held->count; i++) {
        bytes += (double)held->matrices[i].n * (double)held->matrices[i].row_bytes;
    }
    return bytes;
}

/* Bytes that a value of each parameter takes where it lies; malloc'd, NULL without memory. */
static double *stored_value_bytes(const mixt_model *model)
{
    double *bytes = calloc((size_t)model->parameter_count + 1, sizeof *bytes);
    for (int i = 0; bytes != NULL && i < model->parameter_count; i++) {
        bytes[i] = stored_bytes(model, i) / (double)model->parameters[i].count;
    }
    return bytes;
}

/* Whether a record multiplies by weights in blocks, as integers do. A record of experts has all its
 * matrices in blocks or none. */
static bool reads_blocks(const mixt_model *model, const mixt_plan *plan, const mixt_record *record)
{
    for (int i = 0; model->held != NULL && i < MIXT_SLOTS; i++) {
        const mixt_value *value = record->in[i] >= 0 ? &plan->values[record->in[i]] : NULL;
        bool given = value != NULL && value->kind == MIXT_VALUE_PARAMETER;
        const mixt_held *held = given ? &model->held[value->index] : NULL;
        if (held != NULL && held->matrices != NULL &&
            mixt_type_info(held->matrices[0].type)->elements > 1) {
            return true;
        }
    }
    return false;
}

/* Adds `times` the cost of `tokens` tokens through a generation plan, behind `behind` others. */
static mixt_status add_generation_cost(bench *b, int tokens, int behind, double times, profile *p)
{
    mixt_graph_options options = {.phase = MIXT_PHASE_GENERATE,
                                  .capacity = tokens,
                                  .cache_capacity = behind + tokens,
                                  .cache_type = mixt_cache_element(b->options->cache_type),
                                  .real_size = sizeof(float)};
    mixt_graph *graph = NULL;
    double *stored = stored_value_bytes(b->model);
    mixt_status status = stored == NULL ? mixt_fail(b->error, MIXT_ERROR_MEMORY, "bench: no memory")
                                        : mixt_graph_create(b->model, &options, &graph, b->error);
    for (int r = 0; status == MIXT_OK && r < graph->plan->record_count; r++) {
        double flops, bytes;
        const mixt_record *record = &graph->plan->records[r];
        mixt_op op = record->op;
        mixt_plan_cost(graph->plan, r, tokens, stored, &flops, &bytes);
        p->flops[op][0] += times * flops;
        p->bytes[op][0] += times * bytes;
        p->int8_flops[op] += reads_blocks(b->model, graph->plan, record) ? times * flops : 0;
    }
    free(stored);
    mixt_graph_free(status == MIXT_OK ? graph : NULL);
    return status;
}

/* A prompt in one piece, then tokens one by one, behind `depth` others. */
typedef struct feeding {
    int depth, prompt, generate;
} feeding;

static void name_feeding(const feeding *f, char name[NAME_BYTES])
{
    char prompt[16] = "", generate[16] = "", depth[16] = "";
    if (f->prompt > 0) {
        snprintf(prompt, sizeof prompt, "pp%d", f->prompt);
    }
    if (f->generate > 0) {
        snprintf(generate, sizeof generate, "%stg%d", f->prompt > 0 ? "+" : "", f->generate);
    }
    if (f->depth > 0) {
        snprintf(depth, sizeof depth, " @ d%d", f->depth);
    }
    snprintf(name, NAME_BYTES, "%s%s%s", prompt, generate, depth);
}

static mixt_status feed(bench *b, mixt_session *session, const int32_t *tokens, const feeding *f)
{
    mixt_status status = MIXT_OK;
    if (f->prompt > 0) {
        status = mixt_session_feed(session, tokens + f->depth, (size_t)f->prompt, b->error);
    }
    int first = f->depth + f->prompt;
    for (int at = first; at < first + f->generate && status == MIXT_OK; at++) {
        status = mixt_session_feed(session, tokens + at, 1, b->error);
    }
    return status;
}

static mixt_status feeding_cost(bench *b, const feeding *f, profile *p)
{
    mixt_status status = MIXT_OK;
    if (f->prompt > 0) {
        status = add_generation_cost(b, f->prompt, f->depth, 1, p);
    }
    if (f->generate > 0 && status == MIXT_OK) {
        int behind = f->depth + f->prompt + (f->generate - 1) / 2;
        status = add_generation_cost(b, 1, behind, f->generate, p);
    }
    return status;
}

/* The rows of the operators of a feeding, in repetitions of their own: a clock around each record
 * takes time too. */
static mixt_status profile_feeding(bench *b, mixt_session *session, const int32_t *tokens,
                                   const feeding *f, const char *name, profile *p)
{
    const mixt_engine *engine = session->engine;
    mixt_instance *instances[] = {engine->many.instance, engine->few.instance};
    for (int i = 0; i < 2; i++) {
        MIXT_TRY(instances[i] == NULL ? MIXT_OK : mixt_instance_profile(instances[i], b->error));
    }
    for (int i = 0; i < b->options->repetitions; i++) {
        mixt_session_truncate(session, (size_t)f->depth);
        MIXT_TRY(feed(b, session, tokens, f));
        for (int j = 0; j < 2; j++) {
            if (instances[j] != NULL) {
                gather(instances[j], p);
            }
        }
        take_samples(p);
    }
    const char *const directions[PASSES] = {name};
    return operator_rows(b, directions, f->prompt + f->generate, p);
}

/* The row of one feeding, repeated in a session that keeps what stands before it. */
static mixt_status bench_feeding(bench *b, mixt_session *session, const int32_t *tokens,
                                 const feeding *f)
{
    char name[NAME_BYTES];
    name_feeding(f, name);
    sample s = {0};
    mixt_session_truncate(session, 0);
    mixt_status status =
        f->depth == 0 ? MIXT_OK : mixt_session_feed(session, tokens, (size_t)f->depth, b->error);
    for (int i = 0; i <= b->options->repetitions && status == MIXT_OK; i++) {
        mixt_session_truncate(session, (size_t)f->depth);
        double begin = mixt_train_time();
        status = feed(b, session, tokens, f);
        if (i > 0) { /* the first warms up */
            add_sample(&s, mixt_train_time() - begin);
        }
    }
    profile *p = calloc(1, sizeof *p);
    if (status == MIXT_OK) {
        status = p == NULL ? mixt_fail(b->error, MIXT_ERROR_MEMORY, "bench: no memory")
                           : feeding_cost(b, f, p);
    }
    if (status == MIXT_OK) {
        mixt_bench_row row = {.name = name, .direction = "", .tokens = f->prompt + f->generate};
        sum_profile(p, &row);
        status = add_row(b, &row, &s);
    }
    if (status == MIXT_OK && b->options->operators) {
        status = profile_feeding(b, session, tokens, f, name, p);
    }
    free(p);
    return status;
}

static mixt_status bench_generation(bench *b)
{
    const mixt_bench_options *o = b->options;
    const feeding both = {o->depth, o->prompt, o->generate};
    const feeding apart[] = {{o->depth, o->prompt, 0}, {o->depth, 0, o->generate}};
    int64_t longest = o->together               ? (int64_t)o->prompt + o->generate
                      : o->prompt > o->generate ? o->prompt
                                                : o->generate;
    int64_t most = longest + o->depth;
    if (most > b->model->options.context_length) {
        return mixt_fail(b->error, MIXT_ERROR_ARGUMENT,
                         "bench: %lld tokens are more than the model's context_length %d",
                         (long long)most, b->model->options.context_length);
    }
    mixt_session *session = NULL;
    mixt_session_options how = {.context_length = (int)most, .cache_type = o->cache_type};
    int32_t *tokens = calloc((size_t)most, sizeof *tokens);
    mixt_status status =
        tokens == NULL ? mixt_fail(b->error, MIXT_ERROR_MEMORY, "bench: no memory")
                       : mixt_session_create_with(b->context, b->model, &how, &session, b->error);
    if (status == MIXT_OK) {
        random_tokens(tokens, (size_t)most, b->model->options.vocab_size);
    }
    if (status == MIXT_OK && o->together) {
        status = bench_feeding(b, session, tokens, &both);
    }
    for (int i = 0; i < 2 && status == MIXT_OK && !o->together; i++) {
        if (apart[i].prompt + apart[i].generate > 0) {
            status = bench_feeding(b, session, tokens, &apart[i]);
        }
    }
    mixt_session_free(session);
    free(tokens);
    return status;
}

/* The rows with their names behind them in one block, so that the caller frees both at once. */
static mixt_status hand_over(const bench *b, mixt_bench_row **rows)
{
    size_t bytes = b->count * sizeof **rows, name_bytes = b->count * sizeof *b->names;
    *rows = malloc(bytes + name_bytes + 1);
    if (*rows == NULL) {
        return mixt_fail(b->error, MIXT_ERROR_MEMORY, "bench: no memory");
    }
    char(*names)[2][NAME_BYTES] = (void *)((char *)*rows + bytes);
    if (b->count > 0) {
        memcpy(names, b->names, name_bytes);
    }
    for (size_t i = 0; i < b->count; i++) {
        (*rows)[i] = b->rows[i];
        (*rows)[i].name = names[i][0];
        (*rows)[i].direction = names[i][1];
    }
    return MIXT_OK;
}

mixt_status mixt_bench_run(mixt_context *context, mixt_model *model,
                           const mixt_bench_options *options, mixt_bench_row **rows, size_t *count,
                           mixt_error *error)
{
    *rows = NULL;
    *count = 0;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_bench_options, options, error));
    if (options->repetitions < 1 || options->repetitions > REPETITIONS_MAX || options->prompt < 0 ||
        options->generate < 0 || options->depth < 0) {
        return mixt_fail(
            error, MIXT_ERROR_ARGUMENT,
            "bench: repetitions must be in 1..%d, prompt, generate and depth at least 0",
            REPETITIONS_MAX);
    }
    bench b = {.context = context, .model = model, .options = options, .error = error};
    mixt_status status = MIXT_OK;
    if (options->train) {
        status = bench_training(&b);
    }
    if (status == MIXT_OK && (options->prompt > 0 || options->generate > 0)) {
        status = bench_generation(&b);
    }
    if (status == MIXT_OK) {
        status = hand_over(&b, rows);
        *count = status == MIXT_OK ? b.count : 0;
    }
    free(b.rows);
    free(b.names);
    return status;
}
