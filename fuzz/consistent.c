/* A config.json of any family, of which a model is made that fits it: what is not refused by name
 * runs, is saved, opened, written as GGUF, back as a folder, and quantised, and gives the same
 * logits, bit for bit, in every form in which rows of q and k lie the same way. The first byte
 * chooses the type of the quantised file. */
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "model/model.h"
#include "shared/mutate.h"
#include "shared/tiny.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    if (size < 2 || seed % 16 == 0) {
        data[0] = (uint8_t)(seed >> 8);
        return size > 0 ? size : 1;
    }
    return 1 + fuzz_mutate_json(data + 1, size - 1, max_size - 1, seed);
}

static bool same_way(const mixt_model *a, const mixt_model *b)
{
    return a->options.rope.interleaved == b->options.rope.interleaved;
}

/* Opens what was written and compares its logits; the caller frees the model. */
static mixt_model *reopen(const char *path, const mixt_model *from, const fuzz_logits *wanted)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_open(path, &model, &error);
    FUZZ_REQUIRE(status == MIXT_OK, error.message);
    if (wanted != NULL && same_way(model, from)) {
        fuzz_logits found = fuzz_generate(model);
        FUZZ_REQUIRE(fuzz_same_logits(wanted, &found), path);
        free(found.values);
    }
    return model;
}

/* Writes `model` as `name` and opens that; NULL where it is refused. */
static mixt_model *write_as(const mixt_model *model, const char *name, const char *type,
                            const fuzz_logits *wanted, const mixt_model *first)
{
    char path[FUZZ_PATH_MAX];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_convert_options options = mixt_convert_options_default();
    options.output = fuzz_path(name, path);
    options.type = type;
    mixt_status status = mixt_convert(fuzz_context(), model, &options, NULL, NULL, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
        return NULL;
    }
    return reopen(path, first, wanted);
}

static mixt_model *save(const mixt_model *model, const fuzz_logits *wanted)
{
    char path[FUZZ_PATH_MAX];
    mixt_error error = MIXT_ERROR_INIT;
    fuzz_path("model", path);
    mixt_folder_remove(path, NULL);
    mixt_status status = mixt_model_save(model, path, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
        return NULL;
    }
    return reopen(path, model, wanted);
}

/* What was quantised, once more as it is. */
static void quantise(const mixt_model *saved, const char *type)
{
    mixt_model *quantised = write_as(saved, "quantised.gguf", type, NULL, saved);
    if (quantised != NULL) {
        fuzz_logits logits = fuzz_generate(quantised);
        mixt_model_free(write_as(quantised, "again.gguf", NULL, &logits, quantised));
        free(logits.values);
    }
    mixt_model_free(quantised);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int types = 0;
    while (mixt_convert_type(types) != NULL) {
        types++;
    }
    if (size < 2) {
        return 0;
    }
    char *text = malloc(size);
    FUZZ_REQUIRE(text != NULL, "no memory");
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    uint64_t hash = fuzz_hash(data, size);
    mixt_model *model = fuzz_tiny_model(text, hash);
    free(text);
    if (model == NULL) {
        return 0;
    }
    fuzz_logits logits = fuzz_generate(model);
    mixt_model *saved = save(model, &logits);
    if (saved != NULL && hash % 4 == 0) { /* writing takes most of the time: by turns */
        quantise(saved, mixt_convert_type(data[0] % types));
    } else if (saved != NULL) {
        mixt_model *file = write_as(saved, "model.gguf", NULL, &logits, model);
        if (file != NULL) {
            mixt_model_free(write_as(file, "back", NULL, &logits, model));
        }
        mixt_model_free(file);
    }
    mixt_model_free(saved);
    free(logits.values);
    mixt_model_free(model);
    return 0;
}
