/* Which optimizer a run has that left it open (MIXT_OPTIMIZER_AUTO). Muon learns more from a token
 * than AdamW, but its iteration costs the same however few tokens a step has: so it is taken where
 * its arithmetic is small beside that of the passes, once, when the run begins. What a run has it
 * keeps, whatever the rule says later: a checkpoint has it. */
#include <stdlib.h>

#include "formats/checkpoint.h"
#include "formats/json.h"
#include "model/parameters.h"
#include "train/options.h"
#include "train/trainer.h"

/* Floating-point operations of Muon's iteration over those of a step's passes, at most.
 * docs/results.md, section 7, has the measurements. */
#define MUON_SHARE (2.0 / 3)
/* What else a run has that took Muon by itself, where it is not said. */
#define AUTO_RATE 0.004
#define AUTO_EMBEDDING_FACTOR 5.0
#define AUTO_MOMENTUM 0.9
#define AUTO_STEPS 3

/* ------------------------------------------------------------------------------------------ */
/* By cost                                                                                    */

/* Operations of both passes over a window, with as many rows for experts as tokens choose, without
 * what --recompute does twice: the choice is not to hang on it. */
static mixt_status pass_flops(const mixt_model *model, int window, double *flops, mixt_error *error)
{
    const mixt_graph_options how = {.phase = MIXT_PHASE_TRAIN,
                                    .capacity = window,
                                    .window = window,
                                    .real_size = sizeof(float)};
    mixt_graph *graph;
    *flops = 0;
    MIXT_TRY(mixt_graph_create(model, &how, &graph, error));
    for (int i = 0; i < graph->plan->record_count; i++) {
        double one, bytes;
        mixt_plan_cost(graph->plan, i, window, NULL, &one, &bytes);
        *flops += one;
    }
    mixt_graph_free(graph);
    return MIXT_OK;
}

/* Ranks share windows and matrices alike, so that it is the same on any number of them. */
static mixt_status cost_of_muon(const mixt_model_options *options, const mixt_train_options *o,
                                double *share, mixt_error *error)
{
    const mixt_trainer trainer = {.options = {.optimizer = MIXT_OPTIMIZER_MUON}};
    double muon = 0, passes = 0;
    mixt_model *model;
    MIXT_TRY(mixt_model_layout(options, NULL, "model", &model, error));
    mixt_parameters_train(model, o->parts != 0 ? o->parts : MIXT_PART_ALL);
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        bool steps = p->trainable && mixt_train_uses_muon(&trainer, p);
        muon += steps
                    ? mixt_optimizer_muon_flops(p, o->muon_steps != 0 ? o->muon_steps : AUTO_STEPS)
                    : 0;
    }
    mixt_status status = muon > 0 ? pass_flops(model, o->window, &passes, error) : MIXT_OK;
    mixt_model_free(model);
    *share = muon > 0 && passes > 0 ? muon / (passes * o->batch_size * o->accumulation) : 0;
    return status;
}

static double rate_or(const mixt_train_options *options, double open)
{
    return options->learning_rate < 0 ? open : options->learning_rate;
}

mixt_status mixt_train_options_choose(const mixt_model_options *model, mixt_train_options *options,
                                      double *muon_share, mixt_error *error)
{
    double share = 0;
    if (muon_share != NULL) {
        *muon_share = 0;
    }
    MIXT_TRY(mixt_train_options_check(options, error));
    if (options->optimizer != MIXT_OPTIMIZER_AUTO) {
        options->learning_rate = rate_or(options, MIXT_TRAIN_RATE);
        return MIXT_OK;
    }
    if (options->lora_rank == 0) {
        MIXT_TRY(cost_of_muon(model, options, &share, error));
    }
    if (muon_share != NULL) {
        *muon_share = share;
    }
    if (share > 0 && share <= MUON_SHARE) {
        options->optimizer = MIXT_OPTIMIZER_MUON;
        options->learning_rate = rate_or(options, AUTO_RATE);
        options->muon_steps = options->muon_steps != 0 ? options->muon_steps : AUTO_STEPS;
        options->momentum = options->momentum != 0 ? options->momentum : AUTO_MOMENTUM;
        options->embedding_rate = options->embedding_rate != 0
                                      ? options->embedding_rate
                                      : AUTO_EMBEDDING_FACTOR * options->learning_rate;
    } else {
        options->optimizer = MIXT_OPTIMIZER_ADAMW;
        options->learning_rate = rate_or(options, MIXT_TRAIN_RATE);
        options->momentum = 0;
        options->muon_steps = 0;
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* As the run began                                                                           */

/* What a run's checkpoint says of that which options leave open. */
typedef struct begun {
    double optimizer; /* MIXT_OPTIMIZER_AUTO: there is none, or it says nothing that counts */
    double muon_steps, embedding_rate, momentum, learning_rate;
} begun;

/* As the run began, or as it was before the option was there. */
static double number_of(const mixt_json_object *options, const char *name, double older)
{
    char usual[MIXT_NUMBER_SIZE];
    const char *text = usual;
    mixt_number_write(older, usual);
    return mixt_json_string_or(options, name, &text) == MIXT_OK ? mixt_number_read(text, NULL)
                                                                : older;
}

/* What it says is compared when the run is resumed, so what cannot be is left for that. */
static mixt_status read_begun(const mixt_checkpoint *checkpoint, begun *found, mixt_error *error)
{
    const mixt_train_options older = mixt_train_options_older();
    mixt_error ignored = MIXT_ERROR_INIT;
    char *text = NULL;
    size_t length;
    json_t *root = NULL;
    const json_t *member = NULL;
    MIXT_TRY(mixt_checkpoint_read_file(checkpoint, "state.json", &text, &length, error));
    mixt_status status = mixt_json_parse(text, length, "state.json", &root, error);
    const mixt_json_object state = {root, "state.json", "", &ignored};
    if (status == MIXT_OK && mixt_json_member(&state, "options", &member) == MIXT_OK) {
        const mixt_json_object options = {member, "state.json", "options.", &ignored};
        *found = (begun){number_of(&options, "optimizer", older.optimizer),
                         number_of(&options, "muon_steps", (double)older.muon_steps),
                         number_of(&options, "embedding_rate", older.embedding_rate),
                         number_of(&options, "momentum", older.momentum),
                         number_of(&options, "learning_rate", older.learning_rate)};
    }
    json_decref(root);
    free(text);
    return status;
}

static mixt_status find_begun(const char *folder, begun *found, mixt_error *error)
{
    mixt_checkpoint *checkpoint = NULL;
    char *passed_over = NULL;
    mixt_status status = mixt_checkpoint_find(folder, &checkpoint, &passed_over, error);
    if (status == MIXT_OK && checkpoint != NULL) {
        status = read_begun(checkpoint, found, error);
    }
    mixt_checkpoint_free(checkpoint);
    free(passed_over);
    return status;
}

mixt_status mixt_train_settle(const mixt_model *model, const char *folder,
                              mixt_train_options *options, mixt_error *error)
{
    mixt_ranks *ranks = model->ranks;
    begun found = {.optimizer = MIXT_OPTIMIZER_AUTO};
    if (options->optimizer != MIXT_OPTIMIZER_AUTO) {
        return MIXT_OK;
    }
    if (ranks == NULL) {
        MIXT_TRY(find_begun(folder, &found, error));
    } else {
        mixt_status status =
            mixt_ranks_rank(ranks) == 0 ? find_begun(folder, &found, error) : MIXT_OK;
        MIXT_TRY(mixt_ranks_agree(ranks, status, error));
        MIXT_TRY(mixt_ranks_share(ranks, &found, sizeof found, error));
    }
    if (found.optimizer != MIXT_OPTIMIZER_ADAMW && found.optimizer != MIXT_OPTIMIZER_MUON) {
        return MIXT_OK;
    }
    options->optimizer = (mixt_optimizer_kind)found.optimizer;
    if (options->muon_steps == 0 && found.muon_steps >= 1 && found.muon_steps <= 100) {
        options->muon_steps = (int64_t)found.muon_steps;
    }
    if (options->embedding_rate == 0 && found.embedding_rate >= 0 && found.embedding_rate <= 1e6) {
        options->embedding_rate = found.embedding_rate;
    }
    if (options->learning_rate < 0 && found.learning_rate >= 0 && found.learning_rate <= 1e6) {
        options->learning_rate = found.learning_rate;
    }
    if (options->momentum == 0 && found.momentum > 0 && found.momentum < 1) {
        options->momentum = found.momentum;
    }
    return MIXT_OK;
}
