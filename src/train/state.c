/* The state of a run: its hash now, checkpoints soon. */
#include "core/files.h"
#include "train/trainer.h"

mixt_status mixt_state_open(mixt_trainer *trainer, mixt_error *error)
{
    return mixt_folder_create(trainer->folder, error);
}

mixt_status mixt_state_save(mixt_trainer *trainer, mixt_error *error)
{
    (void)trainer;
    (void)error;
    return MIXT_OK;
}

void mixt_state_close(mixt_trainer *trainer)
{
    (void)trainer;
}

mixt_status mixt_trainer_checkpoint(mixt_trainer *trainer, mixt_error *error)
{
    if (trainer->saved_step == trainer->counters.step) {
        return MIXT_OK;
    }
    mixt_status status = mixt_state_save(trainer, error);
    if (status == MIXT_OK) {
        trainer->saved_step = trainer->counters.step;
        trainer->last_checkpoint = mixt_train_time();
    }
    return status;
}

const char *mixt_trainer_state_hash(mixt_trainer *trainer)
{
    const mixt_counters *c = &trainer->counters;
    uint64_t numbers[] = {(uint64_t)c->step,
                          (uint64_t)c->updates,
                          (uint64_t)c->skipped,
                          (uint64_t)c->skipped_in_row,
                          (uint64_t)c->tokens,
                          c->epoch,
                          c->index};
    mixt_sha256 hash;
    mixt_sha256_init(&hash);
    mixt_sha256_update(&hash, trainer->model->weights, trainer->block_bytes);
    mixt_sha256_update(&hash, trainer->first_moments, trainer->block_bytes);
    mixt_sha256_update(&hash, trainer->second_moments, trainer->block_bytes);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        mixt_sha256_update_u64(&hash, numbers[i]);
    }
    mixt_sha256_final_hex(&hash, trainer->hash);
    return trainer->hash;
}
