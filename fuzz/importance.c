/* An importance file of either form: refused in one line, or applied to the conversion of a small
 * model, saved, and read again as the same. */
#include <stdlib.h>
#include <string.h>

#include "model/importance.h"
#include "quant/quantise.h"
#include "shared/mutate.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_gguf(data, size, max_size, seed);
}

/* The model whose matrices the seeds' entries name. */
static mixt_model *small_model(void)
{
    static mixt_model *model;
    if (model == NULL) {
        mixt_model_options options = mixt_model_options_default();
        mixt_error error = MIXT_ERROR_INIT;
        options.vocab_size = 32;
        options.context_length = 16;
        options.layers = 1;
        options.hidden_size = 32;
        options.heads = options.kv_heads = 2;
        options.ffn_size = 32;
        options.experts = 3;
        options.experts_per_token = 2;
        options.separator = -1;
        FUZZ_REQUIRE(mixt_model_create(&options, 1, &model, &error) == MIXT_OK, error.message);
    }
    return model;
}

static void convert(const mixt_importance *importance)
{
    char path[FUZZ_PATH_MAX];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_convert_options options = mixt_convert_options_default();
    options.output = fuzz_path("small.gguf", path);
    options.type = "Q4_0";
    options.importance = importance;
    mixt_status status = mixt_convert(fuzz_context(), small_model(), &options, NULL, NULL, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    }
}

static void same_entries(const mixt_importance *a, const mixt_importance *b)
{
    FUZZ_REQUIRE(a->count == b->count, "as many entries");
    for (int i = 0; i < a->count; i++) {
        const mixt_importance_entry *x = &a->entries[i], *y = &b->entries[i];
        FUZZ_REQUIRE(strcmp(x->name, y->name) == 0 && x->matrices == y->matrices &&
                         x->columns == y->columns,
                     x->name);
        size_t values = (size_t)(x->matrices * x->columns);
        FUZZ_REQUIRE(memcmp(x->sums, y->sums, values * sizeof *x->sums) == 0, x->name);
    }
}

static void use(const mixt_importance *importance, bool whole)
{
    char path[FUZZ_PATH_MAX];
    int matrices, unused;
    float means[32];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_importance_describe(importance, &matrices, &unused);
    FUZZ_REQUIRE(matrices >= 0 && unused >= 0, "counts");
    for (int i = 0; i < importance->count; i++) {
        const mixt_importance_entry *entry = &importance->entries[i];
        for (int64_t matrix = 0; matrix < 4; matrix++) {
            mixt_importance_of(importance, entry->name, matrix, 32, means);
        }
        mixt_status status = mixt_importance_check(importance, entry->name, 3, 32, &error);
        if (status != MIXT_OK) {
            fuzz_refused(status, &error);
            error = (mixt_error)MIXT_ERROR_INIT;
        }
    }
    if (whole) {
        mixt_importance *again;
        convert(importance);
        fuzz_path("again.gguf", path);
        FUZZ_REQUIRE(mixt_importance_save(importance, path, &error) == MIXT_OK, error.message);
        FUZZ_REQUIRE(mixt_importance_open(path, &again, &error) == MIXT_OK, error.message);
        same_entries(importance, again);
        mixt_importance_free(again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    mixt_importance *importance;
    mixt_error error = MIXT_ERROR_INIT;
    fuzz_write(fuzz_path("importance", path), data, size);
    mixt_status status = mixt_importance_open(path, &importance, &error);
    if (status != MIXT_OK) {
        FUZZ_REQUIRE(importance == NULL, error.message);
        fuzz_refused(status, &error);
        return 0;
    }
    use(importance, fuzz_hash(data, size) % 16 == 0); /* files are synced */
    mixt_importance_free(importance);
    return 0;
}
