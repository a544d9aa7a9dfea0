/* Several processes that train or run one model together. A chapter of mixt.h, which includes it at
 * its place. docs/distributed.md says how they are started and what each of them does. */
#ifndef MIXT_H
#error "mixt/ranks.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_RANKS_H)
#define MIXT_RANKS_H

/* The processes that a launcher (mpirun, srun) started together, numbered from 0, and how they
 * share a model: D x E of them hold D copies of the experts, each copy spread over E ranks. Rank d
 * * E + e is one of copy d and holds experts [e * n / E, (e + 1) * n / E) of every layer; what is
 * no expert's is on every rank. Used from one thread. */
typedef struct mixt_ranks mixt_ranks;

typedef struct mixt_ranks_options {
    double timeout; /* seconds after which a rank that the others wait for counts as lost; 0: 600 */
    /* The library that carries bytes; NULL: what MIXT_TRANSPORT of the environment names, then
     * libmixt-mpi.so beside the program or the library. */
    const char *transport;
    uint64_t reserved[8];
} mixt_ranks_options;

MIXT_API mixt_ranks_options mixt_ranks_options_default(void);
/* As how many ranks a launcher started this program; 1: none did. */
MIXT_API int mixt_ranks_launched(void);
/* Meets the other ranks. One process alone is a rank 0 of 1 that needs no transport. */
MIXT_API mixt_status mixt_ranks_open(const mixt_ranks_options *options, mixt_ranks **ranks,
                                     mixt_error *error);
/* Leaves them. Every rank does at the end; one that goes with an error (`why`, one line, else NULL)
 * ends the others, who are waiting for it or will. */
MIXT_API void mixt_ranks_close(mixt_ranks *ranks, const char *why);
MIXT_API int mixt_ranks_rank(const mixt_ranks *ranks);
MIXT_API int mixt_ranks_count(const mixt_ranks *ranks);
/* How they share a model of so many experts (0: a dense one). data, expert: D and E, whose product
 * is the number of ranks; 0: as follows from the other, and of both the largest E that divides
 * ranks and experts. */
MIXT_API mixt_status mixt_ranks_arrange(mixt_ranks *ranks, int data, int expert, int experts,
                                        mixt_error *error);
/* In how many chunks, of some experts each, rows go to the experts of other ranks and back, so that
 * one chunk is computed while others travel; no more than a rank has experts of a layer, 16 at
 * most. The same on all ranks, and the same bits whatever it is. 0, as it is at first: as many as
 * messages are large enough for, 4 at most. Of arranged ranks, before a model is spread. */
MIXT_API mixt_status mixt_ranks_set_chunks(mixt_ranks *ranks, int64_t chunks, mixt_error *error);
MIXT_API int mixt_ranks_data(const mixt_ranks *ranks);
MIXT_API int mixt_ranks_expert(const mixt_ranks *ranks);

/* Whether a rank was lost or let others wait for too long: all further calls fail with that. */
MIXT_API bool mixt_ranks_lost(const mixt_ranks *ranks);
/* Whether mixt_ranks_agree ended in an error, which all ranks have then. */
MIXT_API bool mixt_ranks_agreed(const mixt_ranks *ranks);

/* The calls below are made by all ranks, in the same order. */

/* MIXT_OK where `status` is that on every rank, else an error on every one: where its own is none,
 * that of the first rank that has one ("rank 2: ..."). `error` has this rank's. */
MIXT_API mixt_status mixt_ranks_agree(mixt_ranks *ranks, mixt_status status, mixt_error *error);
/* The largest of the ranks' values, such as whether a signal came to one of them. */
MIXT_API mixt_status mixt_ranks_largest(mixt_ranks *ranks, int64_t *value, mixt_error *error);
/* Rank 0's bytes, on every rank. */
MIXT_API mixt_status mixt_ranks_share(mixt_ranks *ranks, void *bytes, size_t size,
                                      mixt_error *error);
/* The same on another rank than 0, where that may take hours: it waits as long as rank 0 lives. */
MIXT_API mixt_status mixt_ranks_await(mixt_ranks *ranks, void *bytes, size_t size,
                                      mixt_error *error);

/* Refuses what mixt_trainer_create would of these ranks, before anything is read: an `accumulation`
 * that is no multiple of them (one that trains on as many tokens is named), and once they are
 * arranged `exact_reduce` of adapters whose experts are spread. */
MIXT_API mixt_status mixt_train_options_check_ranks(const mixt_train_options *options,
                                                    const mixt_ranks *ranks, mixt_error *error);

/* mixt_model_create, of which this rank holds its share of the experts: the same weights as alone.
 * `ranks` were arranged, and outlive the model. A trainer of such a model trains it with the other
 * ranks (docs/training.md). */
MIXT_API mixt_status mixt_model_create_spread(const mixt_model_options *options, uint64_t seed,
                                              mixt_ranks *ranks, mixt_model **model,
                                              mixt_error *error);
/* Lets an opened model hold no more than this rank's share of the experts; other tensors of its
 * files are not touched any more. Before anything else uses the model. Nothing where it is spread.
 */
MIXT_API mixt_status mixt_model_spread(mixt_model *model, mixt_ranks *ranks, mixt_error *error);
/* Rank 0 runs a spread model as if it had all of it (engines, evaluation, traces); meanwhile the
 * others compute their experts for it in this call, until rank 0 dismisses them. */
MIXT_API mixt_status mixt_model_work(mixt_context *context, mixt_model *model, mixt_error *error);
MIXT_API mixt_status mixt_model_dismiss(mixt_model *model, mixt_error *error);

/* ---- on paper */

/* Ranks that need not be there, and what each of them can do. */
typedef struct mixt_ranks_paper {
    int ranks;            /* 1 to 1048576 */
    int data, expert;     /* as mixt_ranks_arrange has them */
    double flops;         /* floating-point operations of a rank a second, at most */
    double read_bytes;    /* bytes a second that it reads from memory, at most */
    double efficiency;    /* share of both that operators reach, to 1; 0: 1 */
    double network_bytes; /* bytes a second that it sends, and as many that it receives meanwhile */
    double latency;       /* seconds from the start of a message to that of the next one */
    double imbalance;     /* rows of the rank that all wait for, over the mean; at least 1; 0: 1 */
    int64_t chunks;       /* as mixt_ranks_set_chunks has them */
    double delay;         /* seconds that a message is under way, beside these two */
    uint64_t reserved[5];
} mixt_ranks_paper;

/* Rows of a layer with experts in a micro batch, one way: to the ranks that hold the experts, or
 * back from them. */
typedef struct mixt_ranks_way {
    int count;          /* of such ways in a micro batch and layer */
    double bytes;       /* that a rank sends where every expert has as many rows as every other */
    double worst_bytes; /* where all rows of all ranks go to experts of other ranks */
    double seconds;     /* with an even load, messages included */
    double hidden;      /* of them, while the rank computes something else; a mean of `count` */
    int64_t chunks;     /* in which they go */
    uint64_t reserved[2];
} mixt_ranks_way;

/* A step of training over ranks, of the rank that holds most experts. Seconds and sent bytes are
 * those of a whole step, loads of experts even where it is not said that they are the worst. */
typedef struct mixt_ranks_cost {
    int data, expert; /* D, E */
    int experts;      /* that the rank holds of a layer */
    int moe_layers;
    int64_t runs;         /* micro batches of the rank */
    int64_t micro_tokens; /* of each */
    int64_t tokens;       /* of the step, all ranks */
    /* Each of a layer and micro batch. */
    mixt_ranks_way forward_out, forward_back, backward_out, backward_back;
    double compute;         /* seconds of forward and backward */
    double exchange;        /* of rows on their ways, hidden ones included */
    double exchange_hidden; /* of these, while the rank computes */
    double reduce;          /* sums of gradients over ranks */
    double optimizer;       /* norm and step of the rank's slices */
    double spread;          /* stepped weights to the others */
    double numbers;         /* losses, counts and times of the step */
    double step;            /* all of it */
    double exchange_bytes;  /* that the rank sends: rows */
    double exchange_worst_bytes;
    double reduce_bytes, spread_bytes, numbers_bytes;
    double messages; /* that it sends */
    /* Bytes of memory. */
    double weights, gradients, moments;
    double activations;      /* as planned: whatever the router decides fits */
    double even_activations; /* what an even load would need of them */
    double buffers;          /* of sums over ranks, and inputs */
    double memory;           /* all but even_activations */
    /* Against one such rank that has all experts and runs all micro batches. */
    double alone_step;
    double alone_memory;
    double efficiency; /* alone_step / (ranks * step) */
    uint64_t reserved[16];
} mixt_ranks_cost;

/* What a step of mixt_trainer_step costs over such ranks, by the cost formulas of the operators and
 * of docs/distributed.md. Nothing is run, and no weights are made. Refuses what a trainer would. */
MIXT_API mixt_status mixt_ranks_predict(const mixt_model_options *model,
                                        const mixt_train_options *training,
                                        const mixt_ranks_paper *paper, mixt_ranks_cost *cost,
                                        mixt_error *error);

#endif
