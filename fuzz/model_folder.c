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

/* Files of plain names in the folder; those of other names would lie outside of it. */
static void each_file(const fuzz_file *files, size_t count, const char *folder, bool write)
{
    char path[FUZZ_PATH_MAX + 80];
    for (size_t i = 0; i < count; i++) {
        const fuzz_file *file = &files[i];
        if (!mixt_name_is_plain(file->name, strlen(file->name))) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", folder, file->name);
        if (write) {
            fuzz_write(path, file->data, file->size);
        } else {
            unlink(path);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file files[FUZZ_FILES_MAX];
    char folder[FUZZ_PATH_MAX];
    size_t count = fuzz_unpack(data, size, files);
    mkdir(fuzz_path("model", folder), 0777);
    each_file(files, count, folder, true);
    fuzz_open_model(folder);
    fuzz_open_tokenizer(folder);
    each_file(files, count, folder, false);
    return 0;
}
