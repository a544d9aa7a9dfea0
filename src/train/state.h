/* The tensors of a run's checkpoint: state_tensors.c says what they are and reads them,
 * state_ranks.c brings them together where ranks train together. */
#ifndef MIXT_TRAIN_STATE_H
#define MIXT_TRAIN_STATE_H

#include "formats/checkpoint.h"
#include "model/parameters.h"
#include "train/trainer.h"

/* What a checkpoint holds of the blocks, in its order. */
#define MIXT_STATE_PARTS 3
typedef struct mixt_state_part {
    mixt_train_block block;
    const char *prefix, *name;
} mixt_state_part;

extern const mixt_state_part mixt_state_parts[MIXT_STATE_PARTS];

/* The tensors of the whole model's folder, and both moments under the same names with a prefix. */
typedef struct mixt_state_tensors {
    const mixt_trainer *trainer;
    mixt_model *whole;              /* layout of the model that this one is a share of, or NULL */
    mixt_model written;             /* the whole one, as it is in folders */
    void *blocks[MIXT_STATE_PARTS]; /* as the host sees them */
    mixt_folder_tensors folder;
    char (*names)[160];              /* [MIXT_STATE_PARTS * folder.count] */
    float **copies;                  /* the same: of what does not lie in a block as it does in a
                                        file (mixt_state_tensors_fill), else NULL */
    size_t *numbers;                 /* the same: part * folder.count + the folder's tensor */
    mixt_checkpoint_tensor *tensors; /* without data */
    size_t count;
} mixt_state_tensors;

/* Free it in any case. */
mixt_status mixt_state_tensors_create(const mixt_trainer *trainer, mixt_state_tensors *list,
                                      mixt_error *error);
/* `changed`: the blocks were, by mixt_state_tensors_load. */
void mixt_state_tensors_free(mixt_state_tensors *list, bool changed);
/* Data of all tensors, of a trainer that is alone. */
mixt_status mixt_state_tensors_fill(mixt_state_tensors *list, mixt_error *error);
/* Reads into the blocks what they have of each. */
mixt_status mixt_state_tensors_load(mixt_state_tensors *list, const mixt_checkpoint *checkpoint,
                                    mixt_error *error);
/* Parts of a tensor of the list: [*first, end) of the folder's. */
size_t mixt_state_tensor_parts(const mixt_state_tensors *list, size_t index,
                               const mixt_folder_part **first);
/* Values of the whole parameter that this rank has in a part's block, and the address of the first.
 */
mixt_train_range mixt_state_held(const mixt_state_tensors *list, int part, int parameter,
                                 float **values);

/* state_ranks.c */
/* Rank 0 is there again, which worked alone; the others wait for as long as it lives. */
mixt_status mixt_state_meet(mixt_ranks *ranks, mixt_error *error);
/* What rank 0 alone adds to the others' files, once all are there. */
typedef struct mixt_state_files {
    const char *config_hash;
    mixt_status (*save)(void *user, const mixt_checkpoint_state *state, mixt_error *error);
    void *user;
} mixt_state_files;

/* A checkpoint of all ranks, who call it together. `prepared` is how each of them came so far. */
mixt_status mixt_state_save_together(mixt_trainer *trainer, const mixt_state_files *files,
                                     mixt_status prepared, mixt_error *error);

#endif
