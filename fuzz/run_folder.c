/* The folder of a training run, several files in one input (shared/mutate.h): those of its one
 * checkpoint, log.jsonl and LATEST. The manifest's checksums are made to fit, unless a file "raw"
 * is there, so that what they guard is read. Refused in one line, or resumed and trained for a
 * step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "core/sha256.h"
#include "formats/crc32c.h"
#include "formats/safetensors.h"
#include "shared/mutate.h"
#include "shared/training.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_pack(data, size, max_size, seed);
}

static void hash_of(const void *data, size_t size, char text[MIXT_SHA256_HEX])
{
    mixt_sha256 sum;
    mixt_sha256_init(&sum);
    mixt_sha256_update(&sum, data, size);
    mixt_sha256_final_hex(&sum, text);
}

/* Checksums of the tensors, which lie at the file's end. */
static void fit_tensors(json_t *tensors, const fuzz_file *file)
{
    size_t index;
    json_t *tensor;
    uint64_t total = 0, bytes[64] = {0};
    json_array_foreach(tensors, index, tensor)
    {
        const json_t *shape = json_object_get(tensor, "shape");
        const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
        int64_t sizes[4] = {0};
        size_t rank = json_array_size(shape);
        for (size_t i = 0; i < rank && i < 4; i++) {
            sizes[i] = json_integer_value(json_array_get(shape, i));
        }
        if (index >= 64 || rank > 4 || dtype == NULL ||
            !mixt_tensor_bytes(mixt_dtype_from_name(dtype), (uint32_t)rank, sizes, &bytes[index]) ||
            bytes[index] > file->size - total) {
            return;
        }
        total += bytes[index];
    }
    const uint8_t *at = file->data + (file->size - total);
    json_array_foreach(tensors, index, tensor)
    {
        uint32_t crc = mixt_crc32c(0, at, (size_t)bytes[index]);
        json_object_set_new(tensor, "crc32c", json_integer((json_int_t)crc));
        at += bytes[index];
    }
}

/* manifest.json with what the other files are now; malloc'd, NULL where it is no JSON object. */
static char *fit_manifest(const fuzz_file *manifest, const fuzz_file *files, size_t count)
{
    json_t *root = json_loadb((const char *)manifest->data, manifest->size, 0, NULL), *entry;
    const json_t *list = json_object_get(root, "files");
    char hash[MIXT_SHA256_HEX], *text = NULL;
    size_t index;
    json_array_foreach(list, index, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        for (size_t i = 0; i < count && name != NULL; i++) {
            if (strcmp(files[i].name, name) == 0) {
                hash_of(files[i].data, files[i].size, hash);
                json_object_set_new(entry, "bytes", json_integer((json_int_t)files[i].size));
                json_object_set_new(entry, "sha256", json_string(hash));
                fit_tensors(json_object_get(entry, "tensors"), &files[i]);
                break;
            }
        }
    }
    json_object_del(root, "sha256");
    char *body = json_is_object(root) ? json_dumps(root, JSON_COMPACT) : NULL;
    if (body != NULL && strlen(body) > 2) {
        size_t length = strlen(body) - 1; /* without the closing brace */
        hash_of(body, length, hash);
        text = malloc(length + 100);
        FUZZ_REQUIRE(text != NULL, "no memory");
        snprintf(text, length + 100, "%.*s,\n\"sha256\": \"%s\"\n}\n", (int)length, body, hash);
    }
    free(body);
    json_decref(root);
    return text;
}

static void write_files(const fuzz_file *files, size_t count, const char *run, bool fit)
{
    char path[2560];
    for (size_t i = 0; i < count; i++) {
        const fuzz_file *file = &files[i];
        if (!mixt_name_is_plain(file->name, strlen(file->name))) {
            continue;
        }
        bool outside = mixt_ends_with(file->name, ".jsonl") || strcmp(file->name, "LATEST") == 0;
        snprintf(path, sizeof path, "%s%s/%s", run, outside ? "" : "/step-00000001", file->name);
        char *text = fit && strcmp(file->name, "manifest.json") == 0
                         ? fit_manifest(file, files, count)
                         : NULL;
        fuzz_write(path, text != NULL ? (const void *)text : file->data,
                   text != NULL ? strlen(text) : file->size);
        free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file files[FUZZ_FILES_MAX];
    char run[FUZZ_PATH_MAX], step[FUZZ_PATH_MAX];
    mixt_error error = MIXT_ERROR_INIT;
    size_t count = fuzz_unpack(data, size, files);
    bool raw = false;
    for (size_t i = 0; i < count; i++) {
        raw = raw || strcmp(files[i].name, "raw") == 0;
    }
    mixt_folder_remove(fuzz_path("run", run), NULL);
    FUZZ_REQUIRE(mixt_folder_create(fuzz_path("run/step-00000001", step), &error) == MIXT_OK,
                 error.message);
    write_files(files, count, run, !raw);
    fuzz_resume(run);
    return 0;
}
