/* What the files of the trainer share. */
#ifndef MIXT_TRAIN_TRAINER_H
#define MIXT_TRAIN_TRAINER_H

#include "backend/context.h"
#include "core/sha256.h"
#include "model/weights.h"
#include "train/order.h"

#define MIXT_SKIPS_MAX 100 /* steps skipped in a row that end a run */

typedef struct mixt_log mixt_log; /* log.h */

/* Numbers that move with the run; all are in a checkpoint, all but the times in the state hash. */
typedef struct mixt_counters {
    int64_t step;           /* finished steps, skipped ones included */
    int64_t updates;        /* optimizer steps: the t of the bias correction */
    int64_t skipped;        /* steps skipped because of NaN or Inf */
    int64_t skipped_in_row; /* of them since the last update */
    int64_t tokens;         /* seen */
    uint64_t epoch, index;  /* next window */
    double seconds;         /* spent in steps, over all processes of the run */
    double warm_end;        /* `seconds` when the warm-up ended */
} mixt_counters;

/* Sums over the micro batches of a step. */
typedef struct mixt_step_sums {
    double nll;                /* over all rows with a target */
    int64_t targets;           /* those rows */
    double balance, device, z; /* over micro batches and MoE layers */
    int64_t broken;            /* router rows with a logit that is not finite */
    int64_t choices;           /* over micro batches and MoE layers */
    int64_t dropped;           /* of them, beyond capacities */
    double gradient_norm;      /* global, before clipping */
} mixt_step_sums;

typedef enum mixt_train_block {
    MIXT_TRAIN_GRADIENTS,
    MIXT_TRAIN_WEIGHTS,
    MIXT_TRAIN_FIRST_MOMENTS,
    MIXT_TRAIN_SECOND_MOMENTS,
    MIXT_TRAIN_BLOCKS
} mixt_train_block;

#define MIXT_NOWHERE SIZE_MAX

/* Where the values of parameters lie while they are trained (blocks.c). The weights are laid out as
 * model->weights. Ranks that train together have of the moments what they step. */
typedef struct mixt_train_blocks {
    size_t *places; /* [MIXT_TRAIN_BLOCKS, parameter_count], in values; MIXT_NOWHERE: not there */
    size_t values[MIXT_TRAIN_BLOCKS];
    mixt_device_memory memory[MIXT_TRAIN_BLOCKS]; /* but that of the weights */
} mixt_train_blocks;

/* Values [begin, end) of a parameter. */
typedef struct mixt_train_range {
    size_t begin, end;
} mixt_train_range;

/* Parts of the blocks that ranks sum by themselves (MIXT_GROUP_ALL, MIXT_GROUP_DATA): what all of
 * them have, and behind it experts that are spread. */
#define MIXT_TRAIN_REGIONS 2

/* Which rank steps what (slices.c): each of a region's group has a slice of it. */
typedef struct mixt_train_slices {
    size_t *begin[MIXT_TRAIN_REGIONS];   /* [places + 1], in values of the gradients */
    size_t *weights[MIXT_TRAIN_REGIONS]; /* the same places in the weights */
    bool summed[MIXT_TRAIN_REGIONS]; /* own slice is added up in `sums`; else it is in the gradients
                                        themselves */
    size_t place[MIXT_TRAIN_REGIONS]; /* of own slice in `sums` */
    mixt_device_memory sums;
} mixt_train_slices;

struct mixt_trainer {
    mixt_context *context;
    mixt_model *model;
    const mixt_data *data;
    const mixt_tokenizer *tokenizer;
    mixt_train_options options;
    char *folder;
    struct mixt_checkpoints *store; /* the folder's lock and checkpoints */

    mixt_graph *graph;
    mixt_instance *instance;
    mixt_weights *weights;
    size_t block_bytes; /* of the weights */
    mixt_train_blocks blocks;
    mixt_ranks *ranks; /* that train together, or one with exact_reduce; NULL: nothing is reduced */
    bool ranks_made;   /* by this trainer */
    mixt_train_slices slices;
    mixt_device_memory rope;
    struct mixt_optimizer *optimizer;
    struct mixt_balancer *balancer;
    mixt_order order;
    int64_t rows;          /* of a micro batch */
    int runs;              /* of a step: micro batches that this rank runs */
    mixt_batch *batches;   /* [runs]: their inputs */
    mixt_step_sums *micro; /* [runs], with ranks: what each left behind */
    char *gathered;        /* of all ranks (together.c) */
    int64_t *counts;       /* [moe_layers, experts] tokens of the step */
    float *first_draw;     /* of all redrawn routers, while a step has another; NULL: none are */
    float *step_draw;
    mixt_counters counters;

    mixt_log *log;
    double created;         /* time */
    double last_checkpoint; /* time */
    int64_t saved_step;     /* of the newest checkpoint, -1: none */
    char *resumed;
    char hash[MIXT_SHA256_HEX];
};

/* The kind of matrix products of a step: passes, and what Muon iterates. */
static inline mixt_matmul mixt_train_matmul(const mixt_trainer *trainer)
{
    return trainer->options.bf16 ? MIXT_MATMUL_BF16 : mixt_context_matmul(trainer->context);
}

/* Seconds of a clock that only goes forward. */
double mixt_train_time(void);

/* A trainer without data and run folder: all that mixt_trainer_gradients and the optimizer need. */
mixt_status mixt_trainer_make(mixt_context *context, mixt_model *model,
                              const mixt_train_options *options, mixt_trainer **trainer,
                              mixt_error *error);
/* Loss and gradients of the staged micro batches; sums->targets must be set. */
mixt_status mixt_trainer_gradients(mixt_trainer *trainer, mixt_step_sums *sums, mixt_error *error);

/* choice.c: an optimizer that options leave open becomes that of the folder's checkpoint, if it has
 * one. Ranks call it together. */
mixt_status mixt_train_settle(const mixt_model *model, const char *folder,
                              mixt_train_options *options, mixt_error *error);

/* blocks.c */
mixt_status mixt_train_blocks_create(mixt_trainer *trainer, mixt_error *error);
void mixt_train_blocks_free(mixt_trainer *trainer);
const mixt_device_memory *mixt_train_memory(const mixt_trainer *trainer, mixt_train_block block);
/* Whether Muon steps a parameter that learns, which then has no second moment. */
bool mixt_train_uses_muon(const mixt_trainer *trainer, const mixt_parameter *parameter);
/* Where a parameter begins in a block, in values, or MIXT_NOWHERE; in moments what this rank steps
 * of it. */
size_t mixt_train_place(const mixt_trainer *trainer, mixt_train_block block, int parameter);

/* together.c: what ranks that train together tell each other of a step */
/* Refuses what ranks cannot train, by name. */
mixt_status mixt_train_check_ranks(const mixt_model *model, const mixt_train_options *options,
                                   mixt_error *error);
/* Sets trainer->ranks and what follows from it. */
mixt_status mixt_train_meet(mixt_trainer *trainer, mixt_error *error);
void mixt_train_leave(mixt_trainer *trainer);
/* Refuses ranks that have not all the same options, data, ... by name. */
mixt_status mixt_train_compare(const mixt_trainer *trainer, mixt_error *error);
/* How many train (1: this one alone), and whether this one prints and writes logs. */
int mixt_train_ranks(const mixt_trainer *trainer);
bool mixt_train_leads(const mixt_trainer *trainer);
/* Which of the step's micro batches a run is here. */
int mixt_train_micro(const mixt_trainer *trainer, int run);
/* A whole number of each rank becomes all ranks' sum. */
mixt_status mixt_train_add(const mixt_trainer *trainer, int64_t *value, mixt_error *error);
/* trainer->micro of this rank's runs, its counts and those of its balancer: *sums gets those of all
 * micro batches in their order, and the counts become all ranks'. */
mixt_status mixt_train_gather(mixt_trainer *trainer, mixt_step_sums *sums, mixt_error *error);
/* Bytes as rank 0 has them. */
mixt_status mixt_train_share(const mixt_trainer *trainer, void *bytes, size_t size,
                             mixt_error *error);

/* Whether a block has it at all, on whatever rank. */
bool mixt_train_has(const mixt_trainer *trainer, mixt_train_block block,
                    const mixt_parameter *parameter);

/* hash.c: all bytes of a block, whoever holds them; ranks call it together */
mixt_status mixt_train_hash(const mixt_trainer *trainer, mixt_train_block block, mixt_sha256 *hash,
                            mixt_error *error);

/* slices.c */
mixt_status mixt_train_slices_create(mixt_trainer *trainer, mixt_error *error);
void mixt_train_slices_free(mixt_trainer *trainer);
/* Region of a parameter, and the ranks that have the same values of it. */
int mixt_train_region(const mixt_trainer *trainer, int parameter);
mixt_group mixt_train_group(const mixt_trainer *trainer, int parameter);
/* Of the values of a parameter that a rank has, those that the rank at a place of its group steps,
 * and nobody else has moments of: it has one range of it, or none. All ranks know all. */
mixt_train_range mixt_train_stepped(const mixt_trainer *trainer, int parameter, int place);
/* The same of this rank; alone it is all that learns. */
mixt_train_range mixt_train_own(const mixt_trainer *trainer, int parameter);
/* A matrix of a parameter by itself, in values: one expert's, or all of it. */
size_t mixt_train_unit(const mixt_parameter *parameter);
/* Where the gradient of mixt_train_own is once it is summed: from this value of the memory on. */
const mixt_device_memory *mixt_train_gradient(const mixt_trainer *trainer, int parameter,
                                              size_t *place);
/* Zeros for a step; and before each of its runs where every run is summed. */
void mixt_train_clear(const mixt_trainer *trainer);
void mixt_train_clear_run(const mixt_trainer *trainer);
/* Adds the gradients of all ranks up, in their order, to what is in `sums`, behind the `last` run
 * of a step or behind each. */
mixt_status mixt_train_reduce(const mixt_trainer *trainer, bool last, mixt_error *error);
/* What each rank stepped of the weights, everywhere. */
mixt_status mixt_train_spread(const mixt_trainer *trainer, mixt_error *error);

/* optimizer.c: what is done with weights, gradients and moments, as a plan of its own */
mixt_status mixt_optimizer_create(mixt_trainer *trainer, mixt_error *error);
void mixt_optimizer_free(struct mixt_optimizer *optimizer);
/* Its plan, ready to run: records [0, MIXT_TRAIN_BLOCKS) are the norms of the blocks, the rest are
 * steps of AdamW and Muon, and behind them, with ranks, what their norm of gradients is made of. */
mixt_instance *mixt_optimizer_instance(const mixt_trainer *trainer);
/* Euclidean norm of one of them: squares summed in double in blocks, the blocks in order. With
 * ranks that of the gradients is of all of them, and they all ask for it; those of moments and
 * weights are of what this rank has. */
mixt_status mixt_optimizer_norm(mixt_trainer *trainer, mixt_train_block block, double *norm,
                                mixt_error *error);
/* One step on every trainable parameter; with ranks each takes its own, and all get the weights. */
mixt_status mixt_optimizer_step(mixt_trainer *trainer, double rate, double gradient_scale,
                                mixt_error *error);
/* Floating-point operations of a step of Muon on a parameter, by the operator's formula. */
double mixt_optimizer_muon_flops(const mixt_parameter *parameter, int64_t steps);
/* Loss-free balancing: moves the selection biases by the step's counts. */
void mixt_optimizer_bias(mixt_trainer *trainer);

/* balance.c: what balances experts over a step, beside the losses of its micro batches */
mixt_status mixt_balancer_create(mixt_trainer *trainer, mixt_error *error);
void mixt_balancer_free(struct mixt_balancer *balancer);
/* Before the micro batches of a step, and behind each run of one for a layer with experts. */
void mixt_balancer_begin(mixt_trainer *trainer);
void mixt_balancer_collect(mixt_trainer *trainer, int layer, int run, const mixt_route *route);
/* Behind a step that was taken: biases and coefficients for the next. */
mixt_status mixt_balancer_end(mixt_trainer *trainer, mixt_error *error);
/* [2 * moe_layers]: choices and drops of each layer in the step, which ranks add up. */
int64_t *mixt_balancer_counts(const mixt_trainer *trainer);
/* [moe_layers]: each layer's balance coefficient where they follow drop rates; NULL: they do not.
 * A part of the run's state. */
double *mixt_balancer_coefficients(const mixt_trainer *trainer);

/* redraw.c: around the passes of a step whose routers are drawn anew */
mixt_status mixt_redraw_create(mixt_trainer *trainer, mixt_error *error);
void mixt_redraw_begin(mixt_trainer *trainer);
void mixt_redraw_end(mixt_trainer *trainer);

/* report.c */
void mixt_report_load(const mixt_trainer *trainer, mixt_step_report *report);

/* state.c: locks the run folder and resumes the newest checkpoint where there is one */
mixt_status mixt_state_open(mixt_trainer *trainer, mixt_error *error);
void mixt_state_close(mixt_trainer *trainer);

#endif
