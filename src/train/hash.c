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

/* Values [begin, end) of a parameter as rank `rank` has them; there they lie from `place` on. */
typedef struct piece_of {
    const mixt_device_memory *memory;
    int rank;
    size_t place, values;
} piece_of;

static mixt_status hash_piece(const mixt_trainer *trainer, const piece_of *piece, mixt_sha256 *hash,
                              mixt_error *error)
{
    float values[PIECE];
    for (size_t at = 0; at < piece->values; at += PIECE) {
        size_t count = piece->values - at < PIECE ? piece->values - at : PIECE;
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

/* What rank `rank` has of a parameter that no rank before it has. */
static mixt_train_range range_of(const mixt_trainer *trainer, mixt_train_block block, int parameter,
                                 int rank)
{
    int expert = trainer->ranks->expert, region = mixt_train_region(trainer, parameter);
    size_t count = trainer->model->parameters[parameter].count;
    if (block != MIXT_TRAIN_WEIGHTS) {
        return mixt_train_stepped(trainer, parameter, region == 0 ? rank : rank / expert);
    }
    bool first = region == 0 ? rank == 0 : rank < expert;
    return (mixt_train_range){0, first ? count : 0};
}

/* All of a parameter: of experts that are spread, those of place 0 of MIXT_GROUP_EXPERT first. */
static mixt_status hash_parameter(const mixt_trainer *trainer, mixt_train_block block,
                                  int parameter, mixt_sha256 *hash, mixt_error *error)
{
    int count = mixt_ranks_count(trainer->ranks), experts = trainer->ranks->expert;
    int spread = mixt_train_region(trainer, parameter) == 0 ? 1 : experts;
    for (int e = 0; e < spread; e++) {
        for (int rank = e; rank < count; rank += spread) {
            mixt_train_range range = range_of(trainer, block, parameter, rank);
            piece_of piece = {mixt_train_memory(trainer, block), rank,
                              mixt_train_place(trainer, block, parameter), range.end - range.begin};
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
