/* Models larger than memory: experts stay in their files and are read once a router has chosen
 * them. A chapter of mixt.h, which includes it at its place. */
#ifndef MIXT_H
#error "mixt/store.h is a chapter of mixt.h: include <mixt.h>"
#elif !defined(MIXT_STORE_H)
#define MIXT_STORE_H

/* How files are read. */
typedef enum mixt_store_reader {
    MIXT_STORE_READER_AUTO,    /* the ring where the system has one */
    MIXT_STORE_READER_RING,    /* io_uring of Linux, by liburing */
    MIXT_STORE_READER_THREADS, /* pread on threads of their own */
} mixt_store_reader;

/* Whether experts are read that the next layer's router would choose by what this layer's router
 * reads. */
typedef enum mixt_store_prefetch {
    MIXT_STORE_PREFETCH_MEASURED, /* where the last minutes' steps were faster with it */
    MIXT_STORE_PREFETCH_NEVER,
    MIXT_STORE_PREFETCH_ALWAYS,
} mixt_store_prefetch;

typedef struct mixt_store_options {
    uint64_t memory;    /* bytes that weights, caches and plans of everything that runs on the model
                           may take; 0: what machine and cgroup have free, less a reserve */
    const char *policy; /* which expert makes room, by name (mixt_store_policy); NULL: the first */
    const char *profile; /* a trace of this model: where "static" has its order from, and what
                            "fading" begins with; others refuse it. NULL: none */
    mixt_store_reader reader;
    mixt_store_prefetch prefetch;
    bool always; /* also where everything fits: experts are then read when they are first wanted */
    uint64_t reserved[8];
} mixt_store_options;

/* Policy `index`: its name and one line about it; NULL behind the last. */
MIXT_API const char *mixt_store_policy(int index, const char **help);

/* Holds an opened model within a limit of memory: what every token reads (attention, routers,
 * shared experts, embeddings) is read into memory, in large pages, and experts go through slots of
 * a pool that takes what is left; they are read past the system's cache. Logits, routes and scores
 * keep their bits. Where the whole model fits, nothing is done unless `always`. Before contexts,
 * engines or other threads use the model; adapters are merged before or never, and a model that
 * trains is read whole. Where an expert cannot be read, the step that wanted it fails, naming file,
 * layer and expert. MIXT_ERROR_MEMORY: the limit leaves no room for experts (the message has the
 * numbers), or is above what machine and cgroup have. MIXT_ERROR_UNSUPPORTED: experts of this file
 * have to be converted when they are opened. */
MIXT_API mixt_status mixt_model_store(mixt_model *model, const mixt_store_options *options,
                                      mixt_error *error);

/* Bytes that this process may take: what the machine has free and what the limits of its cgroups
 * leave, whichever is less. *limit: which of them that is, in words. */
MIXT_API uint64_t mixt_memory_limit(const char **limit);

/* Since the model was stored, or since mixt_store_reset. */
typedef struct mixt_store_statistics {
    uint64_t memory;         /* the limit, bytes */
    uint64_t resident_bytes; /* of weights that stay in memory */
    uint64_t other_bytes;    /* of caches and plans */
    uint64_t pool_bytes;     /* of slots */
    uint64_t expert_bytes;   /* of all experts in the files */
    uint64_t token_bytes;    /* of the experts that one token works with */
    int64_t experts, slots;  /* in the files, all layers; that the pool holds at a time */
    const char *policy;
    const char *reader; /* "io_uring", "pread", with "buffered" where direct reads cannot be had */
    uint64_t steps, rows;    /* that ran, and rows in them */
    uint64_t requests, hits; /* experts that steps wanted, once for each layer of a step; that were
                                there or on their way by a prefetch */
    uint64_t bytes_read;
    double seconds;                     /* of steps */
    double disk_seconds;                /* in which a read was under way */
    double wait_seconds;                /* in which the step waited for reads alone */
    uint64_t prefetched, prefetch_used; /* experts */
    uint64_t prefetch_bytes_wasted;
    bool prefetching;       /* now */
    double prefetch_recall; /* of a layer's choices, those that were foreseen when its block
                               began; NAN: unknown */
    uint64_t reserved[8];
} mixt_store_statistics;

/* How a model would be held, by its tables alone: nothing is read, the model stays as it is, and
 * the limit may be above what this machine has. Caches and plans, which come later, take nothing
 * yet; counters are 0, the reader is NULL. */
MIXT_API mixt_status mixt_store_plan(const mixt_model *model, const mixt_store_options *options,
                                     mixt_store_statistics *statistics, mixt_error *error);

/* False where the model is not stored. From any thread. */
MIXT_API bool mixt_store_describe(const mixt_model *model, mixt_store_statistics *statistics);
MIXT_API void mixt_store_reset(mixt_model *model);

/* What a pool of `slots` would have done for the requests since then, or the newest of them. */
typedef struct mixt_store_point {
    int64_t slots;
    uint64_t memory; /* bytes that the whole would take */
    double lru, lfu, optimum, own,
        uniform; /* shares of requests that hit; own: of the policy in use */
    double rate; /* rows a second that the disk would allow by `own`, with this run's arithmetic */
    uint64_t reserved[4];
} mixt_store_point;

/* Points from a tenth of the experts to all of them; the one of index *now has the slots of the
 * pool itself. *points: `count` of them, to be freed by free. */
MIXT_API mixt_status mixt_store_curve(const mixt_model *model, mixt_store_point **points,
                                      int *count, int *now, mixt_error *error);
/* The same in words, lines of at most 100 columns: what was held where, hits beside those of other
 * policies, of the optimum and of chance, reads and what they overlapped with, a warning where the
 * pool is smaller than what one token works with, the curve. *text is freed by free. */
MIXT_API mixt_status mixt_store_report(const mixt_model *model, char **text, mixt_error *error);

#endif
