#include "train/options.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/number.h"

#define FAR 1e15 /* integers up to here are exact in a double */
#define ROW(name, type, low, high, fixed)                                                          \
    {                                                                                              \
#name, MIXT_TRAIN_##type, offsetof(mixt_train_options, name), low, high, fixed, false      \
    }
#define NEWER(name, type, low, high)                                                               \
    {                                                                                              \
#name, MIXT_TRAIN_##type, offsetof(mixt_train_options, name), low, high, true, true        \
    }

const mixt_train_option mixt_train_option_rows[] = {
    ROW(steps, LONG, 0, FAR, false),
    ROW(seconds, REAL, 0, FAR, false),
    ROW(batch_size, INT, 1, 65536, true),
    ROW(accumulation, INT, 1, 65536, true),
    ROW(window, INT, 1, 1 << 24, true),
    ROW(learning_rate, REAL, -1, 1e6, true),
    ROW(minimum_rate, REAL, 0, 1, true),
    ROW(warmup, LONG, 0, FAR, true),
    ROW(schedule, INT, 0, MIXT_SCHEDULE_CONSTANT, true),
    ROW(decay_fraction, REAL, 0, 1, true),
    ROW(beta1, REAL, 0, 0.9999999, true),
    ROW(beta2, REAL, 0, 0.9999999, true),
    ROW(epsilon, REAL, 1e-30, 1, true),
    ROW(weight_decay, REAL, 0, 1e6, true),
    ROW(clip, REAL, 0, 1e30, true),
    ROW(seed, SEED, 0, 0, true),
    ROW(bf16, BOOL, 0, 1, true),
    ROW(recompute, BOOL, 0, 1, false),
    ROW(checkpoint_every, LONG, 0, FAR, false),
    ROW(checkpoint_seconds, REAL, 0, FAR, false),
    ROW(keep_checkpoints, INT, 2, 1 << 20, false),
    ROW(evaluate_every, LONG, 0, FAR, false),
    ROW(log_every, LONG, 1, FAR, false),
    ROW(evaluate_tokens, LONG, 0, FAR, false),
    NEWER(parts, LONG, 0, MIXT_PART_ALL),
    NEWER(momentum, REAL, 0, 0.9999999),
    NEWER(optimizer, INT, 0, MIXT_OPTIMIZER_AUTO),
    NEWER(lora_rank, INT, 0, 1 << 20),
    NEWER(lora_alpha, REAL, 0, 1e9), /* as adapters are read */
    NEWER(lora_targets, INT, 0, MIXT_LORA_ALL),
    NEWER(embedding_rate, REAL, 0, 1e6),
    NEWER(muon_steps, LONG, 0, 100),
    NEWER(exact_reduce, BOOL, 0, 1),
    {0},
};

mixt_train_options mixt_train_options_default(void)
{
    return (mixt_train_options){
        .steps = 1000,
        .batch_size = 8,
        .accumulation = 1,
        .window = 256,
        .learning_rate = -1,
        .minimum_rate = 0.1,
        .warmup = 100,
        .schedule = MIXT_SCHEDULE_COSINE,
        .decay_fraction = 0.2,
        .beta1 = 0.9,
        .beta2 = 0.99,
        .epsilon = 1e-8,
        .weight_decay = 0.1,
        .clip = 1.0,
        .seed = 1,
        .checkpoint_seconds = 60,
        .keep_checkpoints = 2,
        .log_every = 1,
        .evaluate_tokens = 50000,
        .parts = MIXT_PART_ALL,
        .optimizer = MIXT_OPTIMIZER_AUTO,
    };
}

mixt_train_options mixt_train_options_older(void)
{
    mixt_train_options options = mixt_train_options_default();
    options.optimizer = MIXT_OPTIMIZER_ADAMW;
    options.learning_rate = MIXT_TRAIN_RATE;
    options.momentum = MIXT_TRAIN_MOMENTUM;
    options.muon_steps = MIXT_TRAIN_MUON_STEPS;
    return options;
}

const char *mixt_train_part_name(int index)
{
    static const char *const names[] = {"router",    "experts",    "shared", "mlp",
                                        "attention", "embeddings", "head",   "norms"};
    return index >= 0 && index < (int)(sizeof names / sizeof *names) ? names[index] : NULL;
}

const char *mixt_lora_target_name(int index)
{
    static const char *const names[] = {"gate", "up", "down"};
    return index >= 0 && index < (int)(sizeof names / sizeof *names) ? names[index] : NULL;
}

/* The words of the bits that are set, joined by commas. */
static size_t words_text(int64_t bits, const char *(*name)(int), char to[MIXT_TRAIN_SHOWN])
{
    size_t used = 0;
    to[0] = 0;
    for (int i = 0; name(i) != NULL; i++) {
        if ((bits >> i & 1) != 0) {
            used += (size_t)snprintf(to + used, MIXT_TRAIN_SHOWN - used, "%s%s",
                                     used > 0 ? "," : "", name(i));
        }
    }
    return used;
}

void mixt_train_parts_text(int64_t parts, char to[MIXT_TRAIN_SHOWN])
{
    size_t used = words_text(parts, mixt_train_part_name, to);
    if ((parts & MIXT_PART_ADAPTERS) != 0) {
        snprintf(to + used, MIXT_TRAIN_SHOWN - used, "%sadapters", used > 0 ? "," : "");
    }
}

static double value_of(const mixt_train_option *row, const mixt_train_options *options)
{
    const void *at = (const char *)options + row->offset;
    switch (row->type) {
    case MIXT_TRAIN_INT:
        return *(const int *)at;
    case MIXT_TRAIN_LONG:
        return (double)*(const int64_t *)at;
    case MIXT_TRAIN_SEED:
        return 0; /* any value */
    case MIXT_TRAIN_REAL:
        return *(const double *)at;
    case MIXT_TRAIN_BOOL:
        break;
    }
    return *(const bool *)at;
}

void mixt_train_option_text(const mixt_train_option *row, const mixt_train_options *options,
                            char text[MIXT_NUMBER_SIZE])
{
    if (row->type == MIXT_TRAIN_SEED) {
        const uint64_t *seed = (const void *)((const char *)options + row->offset);
        snprintf(text, MIXT_NUMBER_SIZE, "%llu", (unsigned long long)*seed);
    } else {
        mixt_number_write(value_of(row, options), text);
    }
}

bool mixt_train_option_is(const mixt_train_option *row, const char *a, const char *b)
{
    return strcmp(a, b) == 0 ||
           (row->type != MIXT_TRAIN_SEED && mixt_number_read(a, NULL) == mixt_number_read(b, NULL));
}

void mixt_train_option_show(const mixt_train_option *row, const char *text,
                            char to[MIXT_TRAIN_SHOWN])
{
    static const char *const schedules[] = {"cosine", "wsd", "constant"};
    static const char *const optimizers[] = {"adamw", "muon", "auto"};
    double value = row->type == MIXT_TRAIN_SEED ? 0 : mixt_number_read(text, NULL);
    if (row->type == MIXT_TRAIN_BOOL) {
        snprintf(to, MIXT_TRAIN_SHOWN, "%s", value != 0 ? "true" : "false");
    } else if (row->offset == offsetof(mixt_train_options, schedule) && value >= 0 && value < 3) {
        snprintf(to, MIXT_TRAIN_SHOWN, "%s", schedules[(int)value]);
    } else if (row->offset == offsetof(mixt_train_options, optimizer) && value >= 0 && value < 3) {
        snprintf(to, MIXT_TRAIN_SHOWN, "%s", optimizers[(int)value]);
    } else if (row->offset == offsetof(mixt_train_options, parts) && value >= 0 &&
               value <= (MIXT_PART_ALL | MIXT_PART_ADAPTERS)) {
        mixt_train_parts_text((int64_t)value, to);
    } else if (row->offset == offsetof(mixt_train_options, lora_targets) && value >= 0 &&
               value <= MIXT_LORA_ALL) {
        if (words_text((int64_t)value, mixt_lora_target_name, to) == 0) {
            snprintf(to, MIXT_TRAIN_SHOWN, "none");
        }
    } else if (row->type == MIXT_TRAIN_REAL) {
        mixt_number_write(value, to);
    } else if (to != text) {
        snprintf(to, MIXT_TRAIN_SHOWN, "%.79s", text);
    }
}

mixt_status mixt_train_options_check(const mixt_train_options *options, mixt_error *error)
{
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_train_options, options, error));
    for (const mixt_train_option *row = mixt_train_option_rows; row->name != NULL; row++) {
        double value = value_of(row, options);
        if (!(value >= row->low && value <= row->high)) {
            char given[MIXT_NUMBER_SIZE];
            mixt_number_write(value, given);
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "training: %s %s is not in %g..%g",
                             row->name, given, row->low, row->high);
        }
    }
    if (options->steps == 0 && options->seconds == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "training: neither steps nor seconds given");
    }
    return MIXT_OK;
}
