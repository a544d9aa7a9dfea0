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
 * model->weights. */
typedef struct mixt_train_blocks {
    size_t *places; /* [MIXT_TRAIN_BLOCKS, parameter_count], in values; MIXT_NOWHERE: not there */
    size_t values[MIXT_TRAIN_BLOCKS];
    mixt_device_memory memory[MIXT_TRAIN_BLOCKS]; /* but that of the weights */
} mixt_train_blocks;

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
    mixt_device_memory rope;
    struct mixt_optimizer *optimizer;
    struct mixt_balancer *balancer;
    mixt_order order;
    int64_t rows;        /* of a micro batch */
    mixt_batch *batches; /* [accumulation]: inputs of the step's micro batches */
    int64_t *counts;     /* [moe_layers, experts] tokens of the step */
    float *first_draw;   /* of all redrawn routers, while a step has another; NULL: none are */
    float *step_draw;
    mixt_counters counters;

    mixt_log *log;
    double created;         /* time */
    double last_checkpoint; /* time */
    int64_t saved_step;     /* of the newest checkpoint, -1: none */
    char *resumed;
    char hash[MIXT_SHA256_HEX];
};

/* Seconds of a clock that only goes forward. */
double mixt_train_time(void);

/* A trainer without data and run folder: all that mixt_trainer_gradients and the optimizer need. */
mixt_status mixt_trainer_make(mixt_context *context, mixt_model *model,
                              const mixt_train_options *options, mixt_trainer **trainer,
                              mixt_error *error);
/* Loss and gradients of the staged micro batches; sums->targets must be set. */
mixt_status mixt_trainer_gradients(mixt_trainer *trainer, mixt_step_sums *sums, mixt_error *error);

/* blocks.c */
mixt_status mixt_train_blocks_create(mixt_trainer *trainer, mixt_error *error);
void mixt_train_blocks_free(mixt_trainer *trainer);
const mixt_device_memory *mixt_train_memory(const mixt_trainer *trainer, mixt_train_block block);
/* Whether Muon steps a parameter that learns, which then has no second moment. */
bool mixt_train_uses_muon(const mixt_trainer *trainer, const mixt_parameter *parameter);
/* Where a parameter begins in a block, in values, or MIXT_NOWHERE. */
size_t mixt_train_place(const mixt_trainer *trainer, mixt_train_block block, int parameter);

/* optimizer.c: what is done with weights, gradients and moments, as a plan of its own */
mixt_status mixt_optimizer_create(mixt_trainer *trainer, mixt_error *error);
void mixt_optimizer_free(struct mixt_optimizer *optimizer);
/* Its plan, ready to run: records [0, MIXT_TRAIN_BLOCKS) are the norms of the blocks, the rest are
 * steps of AdamW and Muon. */
mixt_instance *mixt_optimizer_instance(const mixt_trainer *trainer);
/* Euclidean norm of one of them: squares summed in double in blocks, the blocks in order. */
mixt_status mixt_optimizer_norm(mixt_trainer *trainer, mixt_train_block block, double *norm,
                                mixt_error *error);
/* One step on every trainable parameter. */
mixt_status mixt_optimizer_step(mixt_trainer *trainer, double rate, double gradient_scale,
                                mixt_error *error);
/* Loss-free balancing: moves the selection biases by the step's counts. */
void mixt_optimizer_bias(mixt_trainer *trainer);

/* balance.c: what balances experts over a step, beside the losses of its micro batches */
mixt_status mixt_balancer_create(mixt_trainer *trainer, mixt_error *error);
void mixt_balancer_free(struct mixt_balancer *balancer);
/* Before the micro batches of a step, and behind each of them for a layer with experts. */
void mixt_balancer_begin(mixt_trainer *trainer);
void mixt_balancer_collect(mixt_trainer *trainer, int layer, int micro, const mixt_route *route);
/* Behind a step that was taken: biases and coefficients for the next. */
void mixt_balancer_end(mixt_trainer *trainer);
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
