/* Experts on disk, some of them in memory: a pool of slots that hold whole experts. A step says
 * which experts a layer wants (ask), those that are not there are read into slots of experts that
 * the policy gives up, and the operator takes them in waves (ops/operator.h: mixt_store). Layers
 * whose experts are about as large share a class of slots; classes share the memory by what their
 * experts weigh in the files. */
#ifndef MIXT_STORE_STORE_H
#define MIXT_STORE_STORE_H

#include "ops/operator.h"
#include "store/disk.h"
#include "store/record.h"

#define MIXT_EXPERT_MATRICES 3 /* gate, up, down */

#define MIXT_EXPERT_PARTS 2 /* ranges of files that a matrix is laid from */

typedef struct mixt_expert_part {
    int file; /* of the disk; -1: none */
    uint64_t offset;
    size_t bytes;
} mixt_expert_part;

/* Where an expert's matrices lie. */
typedef struct mixt_expert_place {
    mixt_matrix matrix[MIXT_EXPERT_MATRICES]; /* `data` counts for nothing */
    /* the first: from the first row to the end of the last; none: not in the store */
    mixt_expert_part part[MIXT_EXPERT_MATRICES][MIXT_EXPERT_PARTS];
    /* NULL: it lies as products read it; else `lay` makes it of its parts */
    const void *laid[MIXT_EXPERT_MATRICES];
} mixt_expert_place;

/* Lays a matrix, which `laid` stands for, from what was read. Called by any thread, by many at
 * once.
 */
typedef void (*mixt_expert_lay)(const void *laid, const char *const parts[MIXT_EXPERT_PARTS],
                                char *to);

typedef struct mixt_expert_store_options {
    const char *name;                /* begins error lines: the file */
    mixt_policy_shape shape;         /* of the layers with experts, in their order */
    const mixt_expert_place *places; /* [items]; copied */
    mixt_expert_lay lay;             /* NULL: all matrices lie as products read them */
    const char *policy;              /* NULL: the first */
    mixt_store_prefetch prefetch;
    uint64_t memory, resident; /* bytes: of all, and of what is not experts */
    mixt_disk *disk;           /* with its files; taken, also where it fails */
} mixt_expert_store_options;

typedef struct mixt_expert_store mixt_expert_store;

mixt_status mixt_expert_store_create(const mixt_expert_store_options *options,
                                     mixt_expert_store **store, mixt_error *error);
/* Waits for reads that are under way. */
void mixt_expert_store_free(mixt_expert_store *store);

/* Memory that something else takes from the limit, until it is released: the pool is what is left.
 * MIXT_ERROR_MEMORY where that would be too little. */
mixt_status mixt_expert_store_reserve(mixt_expert_store *store, uint64_t bytes, mixt_error *error);
/* The most that could be reserved. */
uint64_t mixt_expert_store_room(mixt_expert_store *store);
void mixt_expert_store_release(mixt_expert_store *store, uint64_t bytes);

/* What a layer's weights are bound to; `layer` counts those of the shape. Its user is the argument
 * of the functions below. */
const mixt_store *mixt_expert_store_layer(mixt_expert_store *store, int layer);
/* The router has decided: offsets [count = E + 1]. */
void mixt_expert_store_ask(void *user, const void *offsets, int64_t count);
/* It may decide so: ids [count = T * k], of a row the likeliest first. Where that pays, what is
 * missing is read when nothing urgent is. Said before the layer below computes its experts, and
 * better known, behind them; either may be left out. */
void mixt_expert_store_foresee(void *user, const void *ids, int64_t count);
void mixt_expert_store_foresee_late(void *user, const void *ids, int64_t count);

/* From any thread. */
void mixt_expert_store_describe(mixt_expert_store *store, mixt_store_statistics *statistics);
void mixt_expert_store_reset(mixt_expert_store *store);
/* The requests so far; to be freed. */
mixt_status mixt_expert_store_requests(mixt_expert_store *store, mixt_record_book **book,
                                       mixt_error *error);
/* How the pool is divided: classes, each with the bytes of a slot, its slots, and (class_of
 * [layers]) which layers are its. */
typedef struct mixt_expert_class {
    uint64_t slot_bytes;
    int64_t slots, items;
} mixt_expert_class;
int mixt_expert_store_classes(mixt_expert_store *store, const mixt_expert_class **classes,
                              const int **class_of);
const mixt_policy_shape *mixt_expert_store_shape(const mixt_expert_store *store);

#endif
