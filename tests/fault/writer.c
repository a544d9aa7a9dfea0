/* What the fault harness torments: a program that keeps checkpoints of a tiny made-up state.
 *
 *   writer save FOLDER STEP   starts on the run folder as a trainer does (lock, leftovers, newest
 *                             checkpoint), saves STEP, keeps 2; exit 0 saved, 1 refused with a line
 *   writer check FOLDER       prints the step of the newest checkpoint that verifies and holds the
 *                             right bits (-1: none at all); lines on those passed over go to
 * stderr; exit 1 when anything is wrong */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

static int failed(const mixt_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

static int check(const char *folder)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_checkpoint *checkpoint;
    char *passed_over;
    if (mixt_checkpoint_find(folder, &checkpoint, &passed_over, &error) != MIXT_OK) {
        return failed(&error);
    }
    if (passed_over != NULL) {
        fprintf(stderr, "%s\n", passed_over);
    }
    free(passed_over);
    if (checkpoint == NULL) {
        printf("-1\n");
        return 0;
    }
    bool same = fault_state_matches(checkpoint, &error);
    printf("%lld\n", (long long)mixt_checkpoint_step(checkpoint));
    mixt_checkpoint_free(checkpoint);
    if (!same) {
        fprintf(stderr, "wrong bits: ");
        return failed(&error);
    }
    return 0;
}

static int save(const char *folder, int64_t step)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_checkpoints *store;
    if (mixt_checkpoints_open(folder, &store, &error) != MIXT_OK) {
        return failed(&error);
    }
    mixt_checkpoint *checkpoint;
    char *passed_over;
    mixt_status status = mixt_checkpoints_newest(store, &checkpoint, &passed_over, &error);
    if (status == MIXT_OK) {
        free(passed_over);
        mixt_checkpoint_free(checkpoint);
        fault_state *state = malloc(sizeof *state);
        if (state == NULL) {
            fprintf(stderr, "%s: no memory\n", folder);
            return 1;
        }
        fault_state_fill(state, step);
        status = mixt_checkpoints_save(store, &state->description, 2, &error);
        free(state);
    }
    mixt_checkpoints_close(store);
    return status == MIXT_OK ? 0 : failed(&error);
}

int main(int count, char **words)
{
    if (count == 3 && strcmp(words[1], "check") == 0) {
        return check(words[2]);
    }
    if (count == 4 && strcmp(words[1], "save") == 0) {
        return save(words[2], strtoll(words[3], NULL, 10));
    }
    fprintf(stderr, "usage: writer save FOLDER STEP | writer check FOLDER\n");
    return 2;
}
