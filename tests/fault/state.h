/* A made-up training state that is a function of its step: what a checkpoint of step N must give
 * back, bit by bit. Shared by tests/test_checkpoint*.c and the writer of the fault harness. */
#ifndef MIXT_TESTS_FAULT_STATE_H
#define MIXT_TESTS_FAULT_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/checkpoint.h"

#define STATE_ROWS 4
#define STATE_COLUMNS 8
#define STATE_EXPERTS 3
#define STATE_TENSORS 4

typedef struct fault_state {
    float weight[STATE_ROWS * STATE_COLUMNS];
    float bias[STATE_COLUMNS];
    float moment[STATE_ROWS * STATE_COLUMNS];
    int64_t loads[STATE_EXPERTS];
    char json[64];
    mixt_checkpoint_tensor tensors[STATE_TENSORS];
    mixt_checkpoint_file files[2];
    mixt_checkpoint_state description;
} fault_state;

static inline float fault_value(int64_t step, int which, int index)
{
    uint32_t mixed = (uint32_t)step * 2654435761u + (uint32_t)which * 40503u + (uint32_t)index;
    mixed ^= mixed >> 15;
    mixed *= 2246822519u;
    return (float)(mixed >> 8);
}

/* Fills the numbers for `step` and the description that points to them. */
static inline void fault_state_fill(fault_state *state, int64_t step)
{
    memset(state, 0, sizeof *state);
    for (int i = 0; i < STATE_ROWS * STATE_COLUMNS; i++) {
        state->weight[i] = fault_value(step, 0, i);
        state->moment[i] = fault_value(step, 1, i);
    }
    for (int i = 0; i < STATE_COLUMNS; i++) {
        state->bias[i] = fault_value(step, 2, i);
    }
    for (int i = 0; i < STATE_EXPERTS; i++) {
        state->loads[i] = step * 1000 + i;
    }
    snprintf(state->json, sizeof state->json, "{\"step\": %lld}\n", (long long)step);
    state->tensors[0] =
        (mixt_checkpoint_tensor){"model.safetensors",         "layer.weight", MIXT_DTYPE_F32, 2,
                                 {STATE_ROWS, STATE_COLUMNS}, state->weight};
    state->tensors[1] = (mixt_checkpoint_tensor){
        "model.safetensors", "layer.bias", MIXT_DTYPE_F32, 1, {STATE_COLUMNS}, state->bias};
    state->tensors[2] =
        (mixt_checkpoint_tensor){"optimizer.safetensors",     "layer.weight.m", MIXT_DTYPE_F32, 2,
                                 {STATE_ROWS, STATE_COLUMNS}, state->moment};
    state->tensors[3] = (mixt_checkpoint_tensor){
        "optimizer.safetensors", "loads", MIXT_DTYPE_I64, 1, {STATE_EXPERTS}, state->loads};
    state->files[0] = (mixt_checkpoint_file){"state.json", state->json, strlen(state->json)};
    state->files[1] = (mixt_checkpoint_file){"config.json", "{}\n", 3};
    state->description = (mixt_checkpoint_state){.step = step,
                                                 .config_hash = "c0ffee",
                                                 .tensors = state->tensors,
                                                 .tensor_count = STATE_TENSORS,
                                                 .files = state->files,
                                                 .file_count = 2};
}

/* Loads `checkpoint` and compares every bit with what its step must hold. */
static inline bool fault_state_matches(const mixt_checkpoint *checkpoint, mixt_error *error)
{
    fault_state *wanted = malloc(sizeof *wanted);
    fault_state *got = malloc(sizeof *got);
    bool same = false;
    if (wanted != NULL && got != NULL) {
        fault_state_fill(wanted, mixt_checkpoint_step(checkpoint));
        fault_state_fill(got, 0);
        char *json = NULL;
        size_t length = 0;
        same =
            mixt_checkpoint_load(checkpoint, got->tensors, STATE_TENSORS, error) == MIXT_OK &&
            mixt_checkpoint_read_file(checkpoint, "state.json", &json, &length, error) == MIXT_OK &&
            strcmp(json, wanted->json) == 0 &&
            memcmp(got->weight, wanted->weight, sizeof got->weight) == 0 &&
            memcmp(got->bias, wanted->bias, sizeof got->bias) == 0 &&
            memcmp(got->moment, wanted->moment, sizeof got->moment) == 0 &&
            memcmp(got->loads, wanted->loads, sizeof got->loads) == 0;
        free(json);
    }
    free(wanted);
    free(got);
    return same;
}

#endif
