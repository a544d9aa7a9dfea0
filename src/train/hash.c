/* The blocks of a trainer as bytes, in the order that they have on one rank, whoever holds them. */
#include <string.h>

#include "core/arithmetic.h"
#include "model/parameters.h"
#include "train/trainer.h"

#define PIECE 4096 /* values that travel at once */

/* The bytes of a block, a piece at a time. */
static void hash_memory(mixt_sha256 *hash, const mixt_device_memory *memory, size_t bytes)
{
    char piece[PIECE * sizeof(float)];
    for (size_t at = 0; at < bytes; at += sizeof piece) {
        size_t size = bytes - at < sizeof piece ? bytes - at : sizeof piece;
        mixt_device_memory_read(memory, at, piece, size);
        mixt_sha256_update(hash, piece, size);
    }
}

/* Values of a parameter that rank `rank` has from `place` on; how many, it alone knows. */
typedef struct piece_of {
    const mixt_device_memory *memory;
    int rank;
    size_t place, values;
} piece_of;

static mixt_status hash_piece(const mixt_trainer *trainer, const piece_of *piece, mixt_sha256 *hash,
                              mixt_error *error)
{
    float values[PIECE];
    int64_t all = (int64_t)piece->values;
    MIXT_TRY(
        mixt_ranks_broadcast(trainer->ranks, MIXT_GROUP_ALL, piece->rank, &all, sizeof all, error));
    for (size_t at = 0; at < (size_t)all; at += PIECE) {
        size_t count = (size_t)all - at < PIECE ? (size_t)all - at : PIECE;
        if (piece->rank == mixt_ranks_rank(trainer->ranks)) {
            mixt_device_memory_read(piece->memory, (piece->place + at) * sizeof *values, values,
                                    count * sizeof *values);
        }
        MIXT_TRY(mixt_ranks_broadcast(trainer->ranks, MIXT_GROUP_ALL, piece->rank, values,
                                      count * sizeof *values, error));
        mixt_sha256_update(hash, values, count * sizeof *values);
    }
    return MIXT_OK;
}

/* Values of a parameter that this rank has and no rank before it. */
static size_t own_values(const mixt_trainer *trainer, mixt_train_block block, int parameter)
{
    if (block != MIXT_TRAIN_WEIGHTS) {
        mixt_train_range own = mixt_train_own(trainer, parameter);
        return own.end - own.begin;
    }
    bool first = mixt_group_place(trainer->ranks, mixt_train_group(trainer, parameter)) == 0;
    return first ? trainer->model->parameters[parameter].count : 0;
}

/* All of a parameter: of experts that are spread, those of place 0 of MIXT_GROUP_EXPERT first. */
static mixt_status hash_parameter(const mixt_trainer *trainer, mixt_train_block block,
                                  int parameter, mixt_sha256 *hash, mixt_error *error)
{
    int count = mixt_ranks_count(trainer->ranks), experts = trainer->ranks->expert;
    int spread = mixt_train_region(trainer, parameter) == 0 ? 1 : experts;
    for (int e = 0; e < spread; e++) {
        for (int rank = e; rank < count; rank += spread) {
            piece_of piece = {mixt_train_memory(trainer, block), rank,
                              mixt_train_place(trainer, block, parameter),
                              own_values(trainer, block, parameter)};
            MIXT_TRY(hash_piece(trainer, &piece, hash, error));
        }
    }
    return MIXT_OK;
}

mixt_status mixt_train_hash(const mixt_trainer *trainer, mixt_train_block block, mixt_sha256 *hash,
                            mixt_error *error)
{
    static const char zeros[MIXT_ALIGNMENT];
    const mixt_model *model = trainer->model;
    size_t used = 0;
    if (trainer->ranks == NULL) {
        hash_memory(hash, mixt_train_memory(trainer, block),
                    trainer->blocks.values[block] * sizeof(float));
        return MIXT_OK;
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        if (mixt_train_has(trainer, block, p)) {
            size_t bytes = mixt_parameter_whole(model, p) * sizeof(float);
            MIXT_TRY(hash_parameter(trainer, block, i, hash, error));
            mixt_sha256_update(hash, zeros, mixt_round_up(bytes, MIXT_ALIGNMENT) - bytes);
            used += bytes;
        }
    }
    mixt_sha256_update(hash, zeros, used > 0 ? 0 : sizeof zeros); /* no block is empty */
    return MIXT_OK;
}
