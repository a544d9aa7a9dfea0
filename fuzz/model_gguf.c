/* A GGUF file as a model and its tokenizer: refused in one line, or opened, verified and run. */
#include "shared/mutate.h"
#include "shared/open.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_gguf(data, size, max_size, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    mixt_model_options options;
    mixt_error error = MIXT_ERROR_INIT;
    fuzz_write(fuzz_path("model.gguf", path), data, size);
    fuzz_open_model(path);
    fuzz_open_tokenizer(path);
    mixt_status status = mixt_model_options_read(path, &options, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    }
    return 0;
}
