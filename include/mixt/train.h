/* Training: options, runs in a folder, steps and what each reports. A chapter of mixt.h, which
 * includes it at its place. docs/training.md says what a trainer does. */
#ifndef MIXT_H
#error "mixt/train.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_TRAIN_H)
#define MIXT_TRAIN_H

typedef enum mixt_schedule {
    MIXT_SCHEDULE_COSINE, /* warm-up, then a half cosine down to minimum */
    MIXT_SCHEDULE_WSD,    /* warm-up, stable, then linear decay over the last decay_fraction */
    MIXT_SCHEDULE_CONSTANT,
} mixt_schedule;

/* Parts of a model that learn or are left alone; every weight is of one of them. */
typedef enum mixt_train_part {
    MIXT_PART_ROUTER = 1, /* with its biases */
    MIXT_PART_EXPERTS = 2,
    MIXT_PART_SHARED = 4,      /* the shared expert and its gate */
    MIXT_PART_MLP = 8,         /* of dense layers */
    MIXT_PART_ATTENTION = 16,  /* q, k, v, output, biases, filters */
    MIXT_PART_EMBEDDINGS = 32, /* tied: the head too */
    MIXT_PART_HEAD = 64,
    MIXT_PART_NORMS = 128, /* of layers, of q and k, and the last one */
    MIXT_PART_ALL = 255,
    MIXT_PART_ADAPTERS = 256, /* beside these: low-rank adapters of experts (lora_rank) */
} mixt_train_part;

/* Word `index` ("router", ...), of part 1 << index; NULL behind the last. */
MIXT_API const char *mixt_train_part_name(int index);

typedef enum mixt_optimizer_kind {
    MIXT_OPTIMIZER_ADAMW,
    MIXT_OPTIMIZER_MUON, /* of matrices in attention, experts and MLPs, one by one
                            (docs/training.md: steps as long as AdamW's, 2502.16982); AdamW of all
                            else */
    MIXT_OPTIMIZER_AUTO, /* when a run begins: Muon where that costs little beside the rest of a
                            step, else AdamW (mixt_train_options_choose). A run that is resumed goes
                            on with what its checkpoint has */
} mixt_optimizer_kind;

/* Expert matrices that have adapters. */
typedef enum mixt_lora_target {
    MIXT_LORA_GATE = 1,
    MIXT_LORA_UP = 2,
    MIXT_LORA_DOWN = 4,
    MIXT_LORA_ALL = 7,
} mixt_lora_target;

/* Word `index` ("gate", ...), of target 1 << index; NULL behind the last. */
MIXT_API const char *mixt_lora_target_name(int index);

typedef struct mixt_train_options {
    int64_t steps;
    double seconds;   /* > 0: end (schedule included) after this time instead of `steps` */
    int batch_size;   /* windows in a micro batch */
    int accumulation; /* micro batches a step */
    int window;       /* tokens in a window */
    /* The highest; below 0, the default: 0.002, or 0.004 where AUTO took Muon. */
    double learning_rate;
    double minimum_rate; /* at the end; as a fraction of learning_rate */
    int64_t warmup;      /* steps */
    mixt_schedule schedule;
    double decay_fraction;                      /* WSD */
    double beta1, beta2, epsilon, weight_decay; /* AdamW (Loshchilov & Hutter 2019) */
    double clip;                                /* global gradient norm; 0 is off */
    uint64_t seed;
    bool bf16;      /* products of passes and of Muon in bf16, with fp32 sums and master weights */
    bool recompute; /* expert and FFN activations are recomputed in backward */
    int64_t checkpoint_every;  /* steps; 0: only at the end */
    double checkpoint_seconds; /* also after this time; 0 is off */
    int keep_checkpoints;      /* verified ones to keep, at least 2 */
    int64_t evaluate_every;    /* steps between held-out scores in the log; 0: none */
    int64_t log_every;
    int64_t evaluate_tokens; /* most tokens of each domain that these score; 0: all */
    int lock; /* > 0: of mixt_run_lock on the trainer's folder, which the caller keeps; else the
                 trainer takes one itself */
    int64_t parts;   /* mixt_train_part joined by |: these learn, all else keeps its bits; 0: all */
    double momentum; /* Muon; 0: 0.95, or 0.9 where AUTO took it */
    mixt_optimizer_kind optimizer; /* AUTO by default */
    /* Low-rank adapters on expert matrices (Hu et al. 2021, 2106.09685): w + alpha / rank b a. */
    double lora_alpha;     /* to 1e9; 0: as lora_rank, so that the scale is 1 */
    int lora_rank;         /* 0: none. Else adapters learn, and of the model what `parts` names
                              without the experts; parts 0 and MIXT_PART_ALL are nothing more */
    int lora_targets;      /* mixt_lora_target joined by |; 0: all */
    const char *lora_base; /* what adapter_config.json says the adapters are of; NULL: nothing */
    double embedding_rate; /* highest learning rate of the embeddings; 0: learning_rate, or 5 times
                              that where AUTO took Muon */
    int64_t muon_steps;    /* of Muon's iteration; 0: 5, or 3 where AUTO took it */
    bool exact_reduce; /* gradients are added up micro batch by micro batch, so that the result does
                          not depend on how many ranks train (ranks.h) */
    uint64_t reserved[7];
} mixt_train_options;

MIXT_API mixt_train_options mixt_train_options_default(void);
/* Refuses values out of range by name, as mixt_trainer_create does. */
MIXT_API mixt_status mixt_train_options_check(const mixt_train_options *options, mixt_error *error);
/* Refuses what mixt_trainer_create would of a new model of these options, before it is made: a
 * window beyond its context, a part of which nothing learns, adapters that cannot be, ... Of a
 * model that is there mixt_trainer_check knows more: its family, adapters, changed routing. */
MIXT_API mixt_status mixt_train_check(const mixt_model_options *model,
                                      const mixt_train_options *options, mixt_error *error);

/* Settles what MIXT_OPTIMIZER_AUTO stands for in a new run on a model of these options, and with it
 * learning_rate, momentum, muon_steps and embedding_rate where they are left open. Muon is taken
 * where the floating-point operations of its iteration, over the matrices that learn, are at most
 * two thirds of those of both passes over a step's tokens (batch_size * accumulation * window; of
 * experts the chosen ones); AdamW otherwise, and where adapters learn (lora_rank): momentum and
 * muon_steps, which mean nothing then, are 0. *muon_share (may be NULL) is that ratio, 0 where it
 * does not count. With another optimizer only learning_rate is settled. mixt_trainer_create does it
 * by itself: who calls this before may say what it came to. */
MIXT_API mixt_status mixt_train_options_choose(const mixt_model_options *model,
                                               mixt_train_options *options, double *muon_share,
                                               mixt_error *error);

typedef struct mixt_step_report {
    int64_t step;        /* finished steps */
    int64_t steps;       /* planned, as far as known */
    double loss;         /* mean cross-entropy of the step in nats per token */
    double balance_loss; /* mean over layers, without coefficient */
    double z_loss;
    double learning_rate;
    double gradient_norm;
    double tokens_per_second;
    double seconds; /* since this process began */
    double seconds_left;
    double load_max_over_mean; /* worst layer: most loaded expert over the mean, 1 is balance */
    double dead_fraction;      /* experts without a token in this step, over all layers */
    double effective_experts;  /* exp(entropy of the load) / E, mean over layers */
    int64_t skipped;           /* steps skipped because of NaN or Inf, so far */
    bool was_skipped;          /* this one */
    double share;   /* of the run that is done, in what ends it: steps, or seconds in steps */
    bool evaluated; /* after this step, over at most evaluate_tokens of each domain: */
    double train_loss, heldout_loss; /* nats per token of the training and the held-out documents */
    double dropped;       /* share of the step's choices that were beyond their experts' capacity */
    double max_violation; /* most loaded expert over the mean, less 1 (MaxVio of 2408.15664), mean
                             over layers; 0 is balance */
    double device_balance_loss; /* of balance_groups, mean over layers, without coefficient */
    double identity_share, zero_share; /* of the step's choices: identity and zero experts */
    uint64_t reserved[3];
} mixt_step_report;

typedef struct mixt_trainer mixt_trainer;

/* Makes a run folder where it is missing and keeps other processes out of it (MIXT_ERROR_BUSY: one
 * is in it), before anything is written there. A file `lock` stays behind. */
MIXT_API mixt_status mixt_run_lock(const char *folder, int *lock, mixt_error *error);
MIXT_API void mixt_run_unlock(int lock);

/* mixt_train_check of a model that is there, with what only that one says: whether its family's
 * folders can have adapters, whether it has others, whether its routing was changed. Needs neither
 * data nor a folder; mixt_trainer_create begins with it. */
MIXT_API mixt_status mixt_trainer_check(const mixt_model *model, const mixt_train_options *options,
                                        mixt_error *error);

/* A run in `folder`, which holds config, log, TensorBoard events and checkpoints. It is locked
 * against a second process. With checkpoints there, the newest one that verifies is resumed,
 * bit-exactly, and `model` takes its weights. `model`, `data` and `tokenizer` must outlive it. */
MIXT_API mixt_status mixt_trainer_create(mixt_context *context, mixt_model *model,
                                         const mixt_data *data, const mixt_tokenizer *tokenizer,
                                         const mixt_train_options *options, const char *folder,
                                         mixt_trainer **trainer, mixt_error *error);
MIXT_API void mixt_trainer_free(mixt_trainer *trainer);
MIXT_API bool mixt_trainer_done(const mixt_trainer *trainer);
/* Finished steps, those of earlier processes included. */
MIXT_API int64_t mixt_trainer_steps(const mixt_trainer *trainer);
/* What steps it: never MIXT_OPTIMIZER_AUTO. */
MIXT_API mixt_optimizer_kind mixt_trainer_optimizer(const mixt_trainer *trainer);
/* One optimizer step with its log line, and a checkpoint when one is due. */
MIXT_API mixt_status mixt_trainer_step(mixt_trainer *trainer, mixt_step_report *report,
                                       mixt_error *error);
/* Writes a checkpoint now. */
MIXT_API mixt_status mixt_trainer_checkpoint(mixt_trainer *trainer, mixt_error *error);
/* Values that learn in this run of these parts of the model, with MIXT_PART_ADAPTERS of its
 * adapters; and all that the model has, without adapters. */
MIXT_API uint64_t mixt_trainer_learning(const mixt_trainer *trainer, int64_t parts);
MIXT_API uint64_t mixt_trainer_values(const mixt_trainer *trainer);
/* A line on what was resumed and which checkpoints were passed over, or NULL for a new run. */
MIXT_API const char *mixt_trainer_resumed(const mixt_trainer *trainer);
/* SHA-256 over weights, moments, counters, data position and balance coefficients that change, 64
 * hexadecimal digits. Ranks call it together, for the state of all of them, which has the same hash
 * on one; NULL where they cannot. */
MIXT_API const char *mixt_trainer_state_hash(mixt_trainer *trainer);

#endif
