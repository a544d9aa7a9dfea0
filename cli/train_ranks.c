#include <stdlib.h>
#include <string.h>

#include "ranks.h"
#include "train.h"

/* Of this call and not of the run, which goes on with any number of ranks. */
const cli_option options_train_ranks[] = {
    {.name = "data-parallel",
     .kind = OPTION_INT,
     .offset = offsetof(train_settings, data_parallel),
     .low = 1,
     .high = 1 << 20,
     .value = "D",
     .help = "under mpirun -n N: copies of the experts (docs/distributed.md)",
     .fallback = "N / E"},
    {.name = "expert-parallel",
     .kind = OPTION_INT,
     .offset = offsetof(train_settings, expert_parallel),
     .low = 1,
     .high = 1 << 20,
     .value = "E",
     .help = "ranks that each copy of the experts is spread over; D x E is N",
     .fallback = "N / D; of both the most that divide ranks and experts"},
    OPTION_OF_CHUNKS(train_settings, exchange_chunks),
    {0},
};

/* How all share the model, and whether these options can be trained so. */
static mixt_status arrange(const train_settings *settings, int experts, mixt_error *error)
{
    TRY(mixt_ranks_arrange(program_ranks, settings->data_parallel, settings->expert_parallel,
                           experts, error));
    TRY(mixt_ranks_set_chunks(program_ranks, settings->exchange_chunks, error));
    return mixt_train_options_check_ranks(&settings->training, program_ranks, error);
}

int train_check_ranks(const train_settings *settings)
{
    if (program_ranks == NULL) {
        int ranks = settings->data_parallel > 1     ? settings->data_parallel
                    : settings->expert_parallel > 1 ? settings->expert_parallel
                                                    : 1;
        if (ranks == 1 && settings->exchange_chunks > 0) {
            return fail_usage("--exchange-chunks %d: of rows that several ranks exchange, which a "
                              "launcher starts: mpirun -n 2 mixt train ...",
                              settings->exchange_chunks);
        }
        return ranks == 1
                   ? STATUS_DONE
                   : fail_usage("--%s %d: of several ranks, which a launcher starts: mpirun -n %d "
                                "mixt train ...",
                                settings->data_parallel > 1 ? "data-parallel" : "expert-parallel",
                                ranks, ranks);
    }
    if (settings->measure) {
        return fail_usage("--measure: measures one process alone");
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_train_options_check_ranks(&settings->training, program_ranks, &error);
    if (status == MIXT_OK && !train_has_source(settings)) { /* which says it */
        status = arrange(settings, settings->model.experts, &error);
    }
    return status == MIXT_OK ? STATUS_DONE : fail_error(&error);
}

/* The same of all ranks: rows go in as many chunks as rank 0 was told. */
static mixt_status arrange_together(const train_settings *settings, int experts, mixt_error *error)
{
    int64_t chunks = settings->exchange_chunks;
    TRY(arrange(settings, experts, error));
    TRY(mixt_ranks_share(program_ranks, &chunks, sizeof chunks, error));
    return mixt_ranks_set_chunks(program_ranks, chunks, error);
}

mixt_status train_spread_source(const train_settings *settings, int experts,
                                cli_resources *resources, mixt_error *error)
{
    TRY(arrange_together(settings, experts, error));
    return mixt_model_spread(resources->model, program_ranks, error);
}

mixt_status train_share_model(const train_settings *settings, cli_resources *resources,
                              mixt_error *error)
{
    if (train_has_source(settings)) {
        return train_spread_source(settings, settings->model.experts, resources, error);
    }
    TRY(arrange_together(settings, settings->model.experts, error));
    return mixt_model_create_spread(&settings->model, settings->training.seed, program_ranks,
                                    &resources->model, error);
}

mixt_status train_compare(const char *what, const char *text, mixt_error *error)
{
    if (program_ranks == NULL) {
        return MIXT_OK;
    }
    int64_t size = (int64_t)strlen(text) + 1;
    TRY(mixt_ranks_share(program_ranks, &size, sizeof size, error));
    char *first = size > 0 && size < 1 << 24 ? malloc((size_t)size) : NULL;
    mixt_status status = first != NULL ? MIXT_OK : set_memory_error(error);
    TRY(mixt_ranks_agree(program_ranks, status, error));
    if (ranks_lead()) {
        memcpy(first, text, (size_t)size);
    }
    status = mixt_ranks_share(program_ranks, first, (size_t)size, error);
    if (status == MIXT_OK) {
        first[size - 1] = 0;
        status = strcmp(first, text) == 0
                     ? MIXT_OK
                     : set_error(error, MIXT_ERROR_ARGUMENT, "other %s than rank 0's", what);
        status = mixt_ranks_agree(program_ranks, status, error);
    }
    free(first);
    return status;
}
