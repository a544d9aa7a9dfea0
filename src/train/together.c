/* What ranks that train together tell each other of a step. Micro batch m of a step is rank m %
 * N's, in its run m / N: so all that is of one micro batch (balance losses, capacities, draws) is
 * as with one rank, and what looks at the whole step is added up here in the order of micro
 * batches. */
#include <stdlib.h>
#include <string.h>

#include "train/options.h"
#include "train/trainer.h"

int mixt_train_ranks(const mixt_trainer *trainer)
{
    return trainer->ranks != NULL ? mixt_ranks_count(trainer->ranks) : 1;
}

bool mixt_train_leads(const mixt_trainer *trainer)
{
    return trainer->ranks == NULL || mixt_ranks_rank(trainer->ranks) == 0;
}

int mixt_train_micro(const mixt_trainer *trainer, int run)
{
    int rank = trainer->ranks != NULL ? mixt_ranks_rank(trainer->ranks) : 0;
    return run * mixt_train_ranks(trainer) + rank;
}

/* ------------------------------------------------------------------------------------------ */
/* Meeting                                                                                    */

/* Every rank runs as many micro batches. */
static mixt_status check_accumulation(const mixt_train_options *o, int ranks, mixt_error *error)
{
    int64_t windows = (int64_t)o->accumulation * o->batch_size;
    int64_t next = ((int64_t)o->accumulation + ranks - 1) / ranks * ranks, same = next;
    if (o->accumulation % ranks == 0) {
        return MIXT_OK;
    }
    while (same < windows && windows % same != 0) {
        same += ranks;
    }
    if (windows % same == 0) {
        return mixt_fail(
            error, MIXT_ERROR_ARGUMENT,
            "training: accumulation %d is not a multiple of the %d ranks; accumulation "
            "%lld with batch_size %lld trains on as many tokens in a step",
            o->accumulation, ranks, (long long)same, (long long)(windows / same));
    }
    return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                     "training: accumulation %d is not a multiple of the %d ranks; accumulation "
                     "%lld with batch_size %d trains on %lld windows in a step instead of %lld",
                     o->accumulation, ranks, (long long)next, o->batch_size,
                     (long long)(next * o->batch_size), (long long)windows);
}

mixt_status mixt_train_options_check_ranks(const mixt_train_options *o, const mixt_ranks *ranks,
                                           mixt_error *error)
{
    if (o->accumulation < 1 || o->batch_size < 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: accumulation %d, batch_size %d: each at least 1",
                         o->accumulation, o->batch_size);
    }
    if (o->lora_rank > 0 && o->exact_reduce && ranks->expert > 1) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "training: exact_reduce: of adapters (lora_rank) whose experts are spread "
                         "over %d ranks, gradients hang on how many there are; data_parallel %d "
                         "does",
                         ranks->expert, mixt_ranks_count(ranks));
    }
    return check_accumulation(o, mixt_ranks_count(ranks), error);
}

mixt_status mixt_train_check_ranks(const mixt_model *model, const mixt_train_options *options,
                                   mixt_error *error)
{
    return model->ranks != NULL ? mixt_train_options_check_ranks(options, model->ranks, error)
                                : MIXT_OK;
}

/* Whole numbers that a rank tells: counts of experts and of the balancer. */
static size_t numbers_of(const mixt_trainer *trainer)
{
    return (size_t)trainer->graph->moe_layers * ((size_t)trainer->model->router.experts + 2);
}

static size_t message_bytes(const mixt_trainer *trainer)
{
    return (size_t)trainer->runs * sizeof *trainer->micro + numbers_of(trainer) * sizeof(int64_t);
}

mixt_status mixt_train_meet(mixt_trainer *trainer, mixt_error *error)
{
    mixt_ranks *ranks = trainer->model->ranks;
    if (ranks != NULL && mixt_ranks_count(ranks) > 1) {
        trainer->ranks = ranks;
    } else if (trainer->options.exact_reduce) {
        MIXT_TRY(mixt_ranks_create(NULL, 1, &trainer->ranks, error));
        trainer->ranks_made = true;
    }
    trainer->runs = trainer->options.accumulation / mixt_train_ranks(trainer);
    if (trainer->ranks == NULL) {
        return MIXT_OK;
    }
    trainer->micro = calloc((size_t)trainer->runs, sizeof *trainer->micro);
    trainer->gathered = calloc((size_t)mixt_train_ranks(trainer) + 1, message_bytes(trainer));
    return trainer->micro != NULL && trainer->gathered != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
}

void mixt_train_leave(mixt_trainer *trainer)
{
    free(trainer->micro);
    free(trainer->gathered);
    if (trainer->ranks_made) {
        mixt_ranks_close(trainer->ranks, NULL);
    }
}

/* What has to be the same on all ranks; machines may have other files under the same name. */
static const char *const same[] = {"options", "matrix products", "model options", "data",
                                   "tokenizer files"};

enum { SAME = sizeof same / sizeof *same };

static void hash_text(const char *text, char hash[MIXT_SHA256_HEX])
{
    mixt_sha256 state;
    mixt_sha256_init(&state);
    mixt_sha256_update(&state, text, strlen(text));
    mixt_sha256_final_hex(&state, hash);
}

static mixt_status hash_inputs(const mixt_trainer *trainer, char hashes[SAME][MIXT_SHA256_HEX],
                               mixt_error *error)
{
    char *config = NULL;
    mixt_buffer options = {0};
    mixt_model written;
    MIXT_TRY(mixt_model_written(trainer->model, MIXT_FORM_FOLDER, &written, error));
    for (const mixt_train_option *row = mixt_train_option_rows; row->name != NULL; row++) {
        char value[MIXT_NUMBER_SIZE];
        mixt_train_option_text(row, &trainer->options, value);
        mixt_buffer_format(&options, "%s %s\n", row->name, value);
    }
    mixt_buffer_append(&options, "", 1);
    mixt_status status = options.failed ? mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory")
                                        : mixt_model_config_text(&written, &config, error);
    if (status == MIXT_OK) {
        hash_text(options.data, hashes[0]);
        hash_text(mixt_context_products(trainer->context, trainer->options.bf16), hashes[1]);
        hash_text(config, hashes[2]);
        hash_text(mixt_data_hash(trainer->data), hashes[3]);
        hash_text(mixt_tokenizer_hash(trainer->tokenizer), hashes[4]);
    }
    mixt_buffer_free(&options);
    free(config);
    return status;
}

mixt_status mixt_train_compare(const mixt_trainer *trainer, mixt_error *error)
{
    int ranks = mixt_train_ranks(trainer);
    char own[SAME][MIXT_SHA256_HEX] = {{0}};
    if (ranks == 1) {
        return MIXT_OK;
    }
    char(*all)[SAME][MIXT_SHA256_HEX] = calloc((size_t)ranks, sizeof *all);
    mixt_status status = all == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory")
                                     : hash_inputs(trainer, own, error);
    status = mixt_ranks_agree(trainer->ranks, status, error);
    if (status == MIXT_OK) {
        status = mixt_ranks_gather(trainer->ranks, MIXT_GROUP_ALL, own, sizeof own, all, error);
    }
    for (int rank = 1; rank < ranks && status == MIXT_OK; rank++) {
        for (int i = 0; i < SAME && status == MIXT_OK; i++) {
            if (memcmp(all[rank][i], all[0][i], sizeof all[0][i]) != 0) {
                status = mixt_fail(error, MIXT_ERROR_ARGUMENT,
                                   "training: rank %d has other %s than rank 0", rank, same[i]);
            }
        }
    }
    free(all);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* A step                                                                                     */

mixt_status mixt_train_add(const mixt_trainer *trainer, int64_t *value, mixt_error *error)
{
    return trainer->ranks == NULL ? MIXT_OK
                                  : mixt_ranks_sum(trainer->ranks, MIXT_GROUP_ALL, value, 1, error);
}

mixt_status mixt_train_share(const mixt_trainer *trainer, void *bytes, size_t size,
                             mixt_error *error)
{
    return trainer->ranks == NULL ? MIXT_OK : mixt_ranks_share(trainer->ranks, bytes, size, error);
}

static void add_sums(mixt_step_sums *sums, const mixt_step_sums *of)
{
    sums->nll += of->nll;
    sums->balance += of->balance;
    sums->device += of->device;
    sums->z += of->z;
    sums->broken += of->broken;
    sums->choices += of->choices;
    sums->dropped += of->dropped;
}

mixt_status mixt_train_gather(mixt_trainer *trainer, mixt_step_sums *sums, mixt_error *error)
{
    size_t bytes = message_bytes(trainer), ranks = (size_t)mixt_train_ranks(trainer);
    size_t micro_bytes = (size_t)trainer->runs * sizeof *trainer->micro;
    size_t layers = (size_t)trainer->graph->moe_layers;
    size_t experts = layers * (size_t)trainer->model->router.experts;
    int64_t *balancer = mixt_balancer_counts(trainer);
    char *mine = trainer->gathered + ranks * bytes;
    memcpy(mine, trainer->micro, micro_bytes);
    memcpy(mine + micro_bytes, trainer->counts, experts * sizeof(int64_t));
    memcpy(mine + micro_bytes + experts * sizeof(int64_t), balancer, 2 * layers * sizeof(int64_t));
    MIXT_TRY(
        mixt_ranks_gather(trainer->ranks, MIXT_GROUP_ALL, mine, bytes, trainer->gathered, error));
    for (int m = 0; m < trainer->options.accumulation; m++) {
        mixt_step_sums of;
        size_t rank = (size_t)m % ranks, run = (size_t)m / ranks;
        memcpy(&of, trainer->gathered + rank * bytes + run * sizeof of, sizeof of);
        add_sums(sums, &of);
    }
    memset(trainer->counts, 0, experts * sizeof(int64_t));
    memset(balancer, 0, 2 * layers * sizeof(int64_t));
    for (size_t rank = 0; rank < ranks; rank++) {
        for (size_t i = 0; i < experts + 2 * layers; i++) {
            int64_t number;
            memcpy(&number, trainer->gathered + rank * bytes + micro_bytes + i * sizeof number,
                   sizeof number);
            *(i < experts ? &trainer->counts[i] : &balancer[i - experts]) += number;
        }
    }
    return MIXT_OK;
}
