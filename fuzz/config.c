/* Any bytes as config.json. A refusal is one line that begins with the file; what is accepted lies
 * inside the limits, so that a model of it can be described without overflow. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/model.h"
#include "shared/mutate.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_json(data, size, max_size, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int descriptor = memfd_create("config.json", 0);
    if (descriptor < 0 || write(descriptor, data, size) != (ssize_t)size) {
        abort();
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    mixt_model_options options = {0};
    const mixt_family *family = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_config_read(path, &options, &family, &error);
    close(descriptor);
    if (status != MIXT_OK) {
        if (error.status != status || strchr(error.message, '\n') != NULL ||
            strncmp(error.message, "/proc/self/fd/", 14) != 0) {
            fprintf(stderr, "status %d, \"%s\"\n", (int)status, error.message);
            abort();
        }
        return 0;
    }
    if (family == NULL) {
        abort();
    }
    mixt_error second = MIXT_ERROR_INIT;
    status = mixt_model_check(&options, "config", &second);
    if (status != MIXT_OK) {
        if (second.status != status || strchr(second.message, '\n') != NULL) {
            abort();
        }
        return 0;
    }
    if (options.vocab_size < 1 || options.layers < 1 || options.hidden_size < 1 ||
        options.experts < 0 || options.experts_per_token < 0 ||
        options.experts_per_token > options.experts) {
        abort();
    }
    return 0;
}
