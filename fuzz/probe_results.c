/* What `mixt probe` writes and `mixt convert` and the atlas read, several files in one input
 * (shared/mutate.h): results.json is shown, put on a page and used to choose experts to take out;
 * experts.txt is a list of such; state.safetensors is what an interrupted probe knows, which goes
 * on from there. The state's checksum is made to fit, unless a file "raw" is there, so that what it
 * guards is read. Refused in one line, or used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/crc32c.h"
#include "formats/safetensors.h"
#include "shared/mutate.h"
#include "shared/training.h"

enum { EXPERTS = 3 }; /* of the smallest model's one layer */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_pack(data, size, max_size, seed);
}

/* Were they shown? */
static bool print(const char *results)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    mixt_error error = MIXT_ERROR_INIT;
    FUZZ_REQUIRE(stream != NULL, "a stream");
    mixt_status status = mixt_probe_print(results, stream, &error);
    fclose(stream);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    }
    fuzz_check_terminal(text, size, false);
    free(text);
    return status == MIXT_OK;
}

static void page(const char *results)
{
    static mixt_trace *trace;
    char path[FUZZ_PATH_MAX];
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_atlas_page_options options = {.probe = results};
    if (trace == NULL) {
        fuzz_trace(fuzz_path("trace.safetensors", path), false);
        FUZZ_REQUIRE(mixt_trace_open(path, &trace, &error) == MIXT_OK, error.message);
    }
    mixt_status status =
        mixt_atlas_page_with(trace, &options, fuzz_path("page.html", path), &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    }
}

/* Takes the marked experts out of a model of its own, or sees that it is well refused. */
static void drop(const uint8_t marked[EXPERTS])
{
    mixt_model *model = fuzz_smallest_model();
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_drop_experts(model, marked, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    }
    mixt_model_free(model);
}

/* By each rank one expert of three goes, and the model can spare it. */
static void choose(const mixt_model *model, const char *results)
{
    for (int by = MIXT_PRUNE_REAP; by <= MIXT_PRUNE_PROBE; by++) {
        uint8_t marked[EXPERTS] = {0};
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status =
            mixt_experts_choose(model, results, (mixt_prune_by)by, 0.3, marked, &error);
        if (status != MIXT_OK) {
            fuzz_refused(status, &error);
            continue;
        }
        FUZZ_REQUIRE(marked[0] + marked[1] + marked[2] == 1, "one expert is marked");
        drop(marked);
    }
}

static void read_list(const mixt_model *model, const char *list)
{
    uint8_t marked[EXPERTS] = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_experts_read(model, list, marked, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    } else {
        drop(marked);
    }
}

/* The checksum of the sums that the file at `path` has, in its copy `bytes`. */
static void fit_checksum(const char *path, uint8_t *bytes, size_t size)
{
    mixt_safetensors *file;
    if (mixt_safetensors_open(path, &file, NULL) != MIXT_OK) {
        return;
    }
    const mixt_tensor_info *sums = mixt_safetensors_find(file, "sums");
    const mixt_tensor_info *check = mixt_safetensors_find(file, "checksum");
    if (sums != NULL && check != NULL && check->bytes == sizeof(uint32_t)) {
        uint32_t sum = mixt_crc32c(0, bytes + sums->offset, (size_t)sums->bytes);
        memcpy(bytes + check->offset, &sum, sizeof sum);
        fuzz_write(path, bytes, size);
    }
    mixt_safetensors_close(file);
}

/* Goes on from the state; what is written then can be read. */
static void resume(const fuzz_file *state, bool fit)
{
    char output[FUZZ_PATH_MAX], path[FUZZ_PATH_MAX];
    mixt_error error = MIXT_ERROR_INIT;
    fuzz_write(fuzz_path("resumed.json.partial", path), state->data, state->size);
    if (fit) {
        uint8_t *bytes = malloc(state->size + 1);
        FUZZ_REQUIRE(bytes != NULL, "no memory");
        memcpy(bytes, state->data, state->size);
        fit_checksum(path, bytes, state->size);
        free(bytes);
    }
    mixt_status status = fuzz_probe(fuzz_path("resumed.json", output), 0, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
    } else {
        FUZZ_REQUIRE(print(output), "results that were written");
    }
    remove(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mixt_model *model;
    fuzz_file files[FUZZ_FILES_MAX];
    char path[FUZZ_PATH_MAX];
    size_t count = fuzz_unpack(data, size, files);
    bool raw = false;
    model = model == NULL ? fuzz_smallest_model() : model;
    for (size_t i = 0; i < count; i++) {
        raw = raw || strcmp(files[i].name, "raw") == 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(files[i].name, "results.json") == 0) {
            fuzz_write(fuzz_path("results.json", path), files[i].data, files[i].size);
            print(path);
            choose(model, path);
            if (fuzz_hash(data, size) % 8 == 0) { /* files are synced */
                page(path);
            }
        } else if (strcmp(files[i].name, "experts.txt") == 0) {
            fuzz_write(fuzz_path("experts.txt", path), files[i].data, files[i].size);
            read_list(model, path);
        } else if (strcmp(files[i].name, "state.safetensors") == 0) {
            resume(&files[i], !raw);
        }
    }
    return 0;
}
