/* Inside of an expert store: what its parts share. store.c makes it and its slots, requests.c has
 * asking and taking, foresight.c reads ahead. */
#ifndef MIXT_STORE_INSIDE_H
#define MIXT_STORE_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/store.h"

#define MIXT_EXPERT_PIECES (MIXT_EXPERT_MATRICES * MIXT_EXPERT_PARTS)

/* Bytes that lie together in a file and in a slot, or a bench: one read. */
typedef struct mixt_expert_piece {
    int file;
    uint64_t offset;
    size_t bytes;
    size_t at;  /* of the slot or bench, of the block of the file in which the piece begins */
    bool bench; /* matrices are laid from it */
} mixt_expert_piece;

typedef enum mixt_expert_state {
    MIXT_EXPERT_AWAY,
    MIXT_EXPERT_COMING,
    MIXT_EXPERT_HERE
} mixt_expert_state;

typedef struct mixt_expert_item {
    mixt_matrix matrix[MIXT_EXPERT_MATRICES]; /* `data` while it is here */
    /* in which a part of the matrix lies; -1: none, of the first one: not in the store */
    int8_t piece[MIXT_EXPERT_MATRICES][MIXT_EXPERT_PARTS];
    size_t into[MIXT_EXPERT_MATRICES][MIXT_EXPERT_PARTS]; /* of the piece */
    const void *laid[MIXT_EXPERT_MATRICES];
    size_t laid_at[MIXT_EXPERT_MATRICES]; /* of the slot */
    mixt_expert_piece pieces[MIXT_EXPERT_PIECES];
    int8_t order[MIXT_EXPERT_PIECES]; /* in which pieces are read */
    int piece_count;
    bool benched;  /* some matrix is laid */
    int32_t layer; /* of the shape */
    int32_t slot;  /* -1: none */
    mixt_expert_state state;
    bool wanted;   /* by the layer that asked, and not taken yet */
    bool taken;    /* the operator reads it */
    bool foreseen; /* read ahead, and not wanted since */
    uint64_t step; /* the last that wanted it */
} mixt_expert_item;

typedef struct mixt_expert_slot {
    char *data;                      /* at a multiple of MIXT_DISK_BLOCK */
    int32_t item;                    /* -1: free */
    int pending;                     /* reads under way */
    uint64_t request;                /* the newest when they began */
    mixt_disk_read *reads;           /* of its pieces */
    struct mixt_expert_bench *bench; /* on which its item is read now */
    struct mixt_expert_slot *next;   /* that waits for a bench behind it */
    bool waiting;
} mixt_expert_slot;

/* Where an expert that is laid anew is read: some for all slots, which wait for one in a queue. */
typedef struct mixt_expert_bench {
    char *data; /* at a multiple of MIXT_DISK_BLOCK */
    bool used;
    atomic_int left;                          /* reads that were not finished */
    atomic_int missing[MIXT_EXPERT_MATRICES]; /* parts; who finds none left lays the matrix */
    mixt_expert_store *store;
} mixt_expert_bench;

/* A layer's choices are foreseen twice: before the mixture of the layer below is computed, and when
 * its own block begins. Of either it is counted, by the place that a choice had in its row, how
 * many of the missing experts were wanted then. */
enum { MIXT_FORESIGHTS = 2, MIXT_FORESIGHT_COLUMNS = 16 };
typedef struct mixt_foretold {
    uint8_t *column; /* [experts] this step: 1 + the first column that named it; 0: none did */
    bool *missing;   /* [experts] it was away */
    bool known;
    double tried[MIXT_FORESIGHT_COLUMNS], right[MIXT_FORESIGHT_COLUMNS]; /* of late */
} mixt_foretold;

/* What a layer is bound to. */
typedef struct mixt_expert_shelf {
    mixt_expert_store *store;
    mixt_store face;
    int layer;              /* of the shape */
    int32_t first, experts; /* items */
    mixt_foretold foretold[MIXT_FORESIGHTS];
} mixt_expert_shelf;

/* How much reading ahead pays: steps with none, with what is hardly ever wrong, with more and with
 * all of what is foreseen take turns. */
enum { MIXT_FORESIGHT_WAYS = 4 };
typedef struct mixt_foresight {
    double seconds[MIXT_FORESIGHT_WAYS];
    uint64_t steps[MIXT_FORESIGHT_WAYS];
    int way;                /* of this step; 0: none */
    unsigned turn;          /* of this trial */
    uint64_t left;          /* steps until it is thought about again */
    bool trying;            /* steps take turns now */
    uint64_t right, chosen; /* experts that were foreseen rightly, of those chosen */
} mixt_foresight;

struct mixt_expert_store {
    char *name;
    mixt_policy_shape shape;
    int32_t *first; /* the shape's arrays */
    uint64_t *profile;
    int *chosen;
    mixt_expert_item *items;
    int32_t item_count;
    mixt_expert_shelf *shelves; /* [shape.layers] */
    mixt_expert_class *classes;
    int *class_of; /* [shape.layers] */
    int class_count;
    mixt_expert_slot *slots; /* class by class */
    int32_t *class_slot;     /* [class_count + 1] the first slot of each */
    mixt_expert_lay lay;
    mixt_disk_read *reads;      /* of all slots */
    pthread_mutex_t laying;     /* benches, and who waits for one */
    mixt_expert_bench *benches; /* [bench_count] */
    mixt_expert_slot *waiting;  /* the first of them */
    int32_t bench_count;
    size_t bench_bytes;
    char *memory; /* of slots and benches: mapped */
    size_t memory_bytes;
    pthread_t filler; /* gives the slots their pages before reads want them */
    bool filling;     /* it was started */
    atomic_bool stop_filling;
    mixt_disk *disk;
    mixt_policy *policy;
    mixt_record_book *book;
    mixt_store_prefetch prefetch;
    mixt_foresight foresight;
    uint64_t limit, resident;
    pthread_mutex_t running; /* one run at a time */
    pthread_mutex_t facts;   /* count, book, other, classes */
    uint64_t other, planned; /* bytes reserved; those that the slots were made for */
    mixt_store_statistics count;
    uint64_t bytes_before; /* of the disk's counts, at the last reset */
    double busy_before;
    /* of the run: */
    int64_t tokens;
    double begun;
    double step_seconds; /* of the step's runs so far */
    int64_t last_tokens; /* of the step before */
    uint64_t step;
    int asked;                     /* layer that asked last; -1: none yet */
    uint64_t request;              /* how often layers have asked */
    bool open;                     /* what it asked for has not all been given */
    int32_t *wishes;               /* [most experts] items that it wants */
    int32_t wish_count, next_wish; /* those before next_wish are here or have slots */
    int32_t *given;                /* [most experts] */
    int32_t given_count;
    int32_t *held;      /* [items] scratch of choosing a victim */
    mixt_error failure; /* of a read that was wanted */
    int32_t failed;     /* its item, -1: none */
};

double mixt_store_now(void);
/* A slot for an item, free or given up; -1: all are in use. `ahead`: not those read ahead. */
int32_t mixt_store_find_slot(mixt_expert_store *store, const mixt_expert_item *item, bool ahead);
void mixt_store_read_into(mixt_expert_store *store, mixt_expert_item *item, int32_t slot,
                          bool urgent);
/* Benches for experts that are laid anew, as many as keep the disk busy, and the threads that lay;
 * none where no expert is. Then their memory. */
mixt_status mixt_store_make_benches(mixt_expert_store *store, mixt_error *error);
void mixt_store_place_benches(mixt_expert_store *store, char *data);
/* The reads of a slot, which are prepared but for where those on a bench go: begun, now or when a
 * bench is free; a matrix is laid when the last of its parts is there. Then what is done to reads
 * (store/disk.h), of all of an item's. */
void mixt_store_begin_reads(mixt_expert_store *store, mixt_expert_slot *slot);
void mixt_store_finish_part(mixt_disk_read *read);
void mixt_store_hurry(mixt_expert_store *store, const mixt_expert_item *item);
void mixt_store_cancel(mixt_expert_store *store, mixt_expert_item *item);
/* Notes reads that are done; `block`: waits for one. False: nothing is under way. */
bool mixt_store_reap(mixt_expert_store *store, bool block);
/* Nothing is wanted nor taken any more: all was given, or the run was given up. */
void mixt_store_close_request(mixt_expert_store *store);
/* Of mixt_store. */
int64_t mixt_store_take(void *user, const int32_t *offsets, int32_t *experts, mixt_error *error);
const mixt_matrix *mixt_store_rows(void *user, int matrix, int64_t expert);
/* Foresight's turns. */
void mixt_foresight_step(mixt_expert_store *store, int64_t tokens);
void mixt_foresight_judge(mixt_expert_store *store, mixt_expert_shelf *shelf);

#endif
