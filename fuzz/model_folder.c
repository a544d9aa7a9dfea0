/* A whole folder, several files in one input (shared/mutate.h): config.json, tensors in one file or
 * in shards with their index, tokenizer. Refused in one line, or opened, verified and run. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/mutate.h"
#include "shared/open.h"
#include "core/files.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_pack(data, size, max_size, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file files[FUZZ_FILES_MAX];
    char folder[FUZZ_PATH_MAX], path[FUZZ_PATH_MAX + 80];
    size_t count = fuzz_unpack(data, size, files);
    mkdir(fuzz_path("model", folder), 0777);
    for (size_t i = 0; i < count; i++) {
        if (mixt_name_is_plain(files[i].name, strlen(files[i].name))) {
            snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
            fuzz_write(path, files[i].data, files[i].size);
        }
    }
    fuzz_open_model(folder);
    fuzz_open_tokenizer(folder);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        unlink(path);
    }
    return 0;
}
