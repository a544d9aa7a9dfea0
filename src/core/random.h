/* Counter-based random numbers (Philox 4x32-10; Salmon et al. 2011, "Parallel random numbers: as
 * easy as 1, 2, 3"). There is no hidden state: a number is a function of (seed, purpose, step,
 * index), so a resumed run draws what the uninterrupted one would have drawn. */
#ifndef MIXT_CORE_RANDOM_H
#define MIXT_CORE_RANDOM_H

#include <stdint.h>

typedef enum mixt_random_purpose {
    MIXT_RANDOM_INIT = 1,     /* step = parameter number, index = element */
    MIXT_RANDOM_SHUFFLE = 2,  /* step = epoch, index = window */
    MIXT_RANDOM_SAMPLE = 3,   /* index = number of the draw; step = 0: the token, 1: of xtc */
    MIXT_RANDOM_ROUTER = 4,   /* step = training step, index = element: redrawn routers */
    MIXT_RANDOM_DATA = 5,     /* made-up text and test data */
    MIXT_RANDOM_RESAMPLE = 6, /* bootstrap draws and random halves of measured data */
    MIXT_RANDOM_HASH = 7,     /* step = layer + 1, index = token id and draw: hash routing */
    MIXT_RANDOM_NOISE = 8,    /* these two by mixt_draw_key (ops/support_tmpl.h) */
    MIXT_RANDOM_JITTER = 9,
    MIXT_RANDOM_ADAPTERS = 11, /* step = parameter number, index = element */
    MIXT_RANDOM_UPCYCLE = 12,  /* step = parameter number, index = element; or with bit 31 set layer
                                  and expert, and a unit */
    MIXT_RANDOM_PROBE = 14,    /* step = layer + 1, or 0, and the experiment; index = token, draw */
} mixt_random_purpose;

typedef struct mixt_random_key {
    uint64_t seed;
    uint32_t purpose; /* mixt_random_purpose */
    uint32_t step;    /* low 32 bits of a step, epoch or parameter number */
} mixt_random_key;

uint64_t mixt_random_bits(const mixt_random_key *key, uint64_t index);
/* Uniform in [0, 1), 53 bits. */
double mixt_random_uniform(const mixt_random_key *key, uint64_t index);
/* Standard normal (Box-Muller on one block). */
double mixt_random_normal(const mixt_random_key *key, uint64_t index);
/* Uniform in [0, bound), bound >= 1, without modulo bias beyond 2^-64. */
uint64_t mixt_random_below(const mixt_random_key *key, uint64_t index, uint64_t bound);
/* Where element `index` of `count` goes in the permutation that `key` names (a cycle-walking
 * Feistel network): a shuffle in constant memory, and so nothing to save in a checkpoint. */
uint64_t mixt_random_permute(const mixt_random_key *key, uint64_t index, uint64_t count);

#endif
