/* make_seeds CORPUS: the seeds of whole models, of runs and of what runs of them wrote, from the
 * configurations of CORPUS/consistent: each as a GGUF file and as a folder packed into one input.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "model/adapters.h"
#include "model/importance.h"
#include "shared/mutate.h"
#include "shared/tiny.h"
#include "shared/training.h"

#define INPUT_MAX (1 << 20)

static uint8_t input[INPUT_MAX];

static void copy_file(const char *from, const char *to)
{
    char *data;
    size_t size;
    mixt_error error = MIXT_ERROR_INIT;
    FUZZ_REQUIRE(mixt_file_read(from, INPUT_MAX, &data, &size, &error) == MIXT_OK, error.message);
    fuzz_write(to, data, size);
    free(data);
}

/* The files of up to two folders as one input. */
static void pack(const char *const folders[2], const char *to)
{
    fuzz_file files[FUZZ_FILES_MAX];
    size_t count = 0;
    mixt_error error = MIXT_ERROR_INIT;
    for (int f = 0; f < 2 && folders[f] != NULL; f++) {
        char **names, path[1024], *data;
        size_t name_count;
        FUZZ_REQUIRE(mixt_folder_list(folders[f], &names, &name_count, &error) == MIXT_OK,
                     error.message);
        for (size_t i = 0; i < name_count && count < FUZZ_FILES_MAX; i++) {
            snprintf(path, sizeof path, "%s/%s", folders[f], names[i]);
            if (mixt_path_is_folder(path) || strchr(names[i], ' ') != NULL) {
                continue;
            }
            FUZZ_REQUIRE(mixt_file_read(path, INPUT_MAX, &data, &files[count].size, &error) ==
                             MIXT_OK,
                         error.message);
            files[count].data = (uint8_t *)data;
            snprintf(files[count++].name, sizeof files->name, "%s", names[i]);
        }
        mixt_names_free(names, name_count);
    }
    fuzz_write(to, input, fuzz_pack(files, count, input, INPUT_MAX));
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)files[i].data);
    }
}

static void seeds_of(const char *corpus, const char *name, uint64_t number)
{
    char path[1024], made[FUZZ_PATH_MAX], *text;
    const char *folders[2] = {made, NULL};
    size_t length;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_convert_options options = mixt_convert_options_default();
    snprintf(path, sizeof path, "%s/consistent/%s", corpus, name);
    FUZZ_REQUIRE(mixt_file_read(path, INPUT_MAX, &text, &length, &error) == MIXT_OK, error.message);
    mixt_model *model = fuzz_tiny_model(text + 1, number);
    free(text);
    if (model == NULL) {
        fprintf(stderr, "%s: refused\n", name);
        return;
    }
    options.type = "BF16";
    options.output = fuzz_path("seed.gguf", made);
    if (mixt_convert(fuzz_context(), model, &options, NULL, NULL, &error) == MIXT_OK) {
        snprintf(path, sizeof path, "%s/model_gguf/%s", corpus, name);
        copy_file(made, path);
    } else {
        fprintf(stderr, "%s: %s\n", name, error.message);
    }
    error = (mixt_error)MIXT_ERROR_INIT;
    options.output = fuzz_path("seed", made);
    if (mixt_convert(fuzz_context(), model, &options, NULL, NULL, &error) == MIXT_OK) {
        snprintf(path, sizeof path, "%s/model_folder/%s", corpus, name);
        pack(folders, path);
    } else {
        fprintf(stderr, "%s: %s\n", name, error.message);
    }
    mixt_folder_remove(made, NULL);
    mixt_model_free(model);
}

/* A mixture's folder with adapters of its experts beside it. */
static void adapter_seed(const char *corpus)
{
    char path[1024], made[FUZZ_PATH_MAX], *text;
    const char *folders[2] = {made, NULL};
    size_t length;
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_adapters adapters = {.rank = 1, .alpha = 2, .targets = MIXT_LORA_UP};
    snprintf(path, sizeof path, "%s/consistent/mixtral", corpus);
    FUZZ_REQUIRE(mixt_file_read(path, INPUT_MAX, &text, &length, &error) == MIXT_OK, error.message);
    mixt_model *model = fuzz_tiny_model(text + 1, 1);
    free(text);
    FUZZ_REQUIRE(model != NULL, "mixtral is refused");
    FUZZ_REQUIRE(mixt_adapters_add(model, &adapters, 1, &error) == MIXT_OK, error.message);
    fuzz_path("adapter", made);
    FUZZ_REQUIRE(mixt_model_save(model, made, &error) == MIXT_OK, error.message);
    snprintf(path, sizeof path, "%s/model_folder/adapter", corpus);
    pack(folders, path);
    mixt_folder_remove(made, NULL);
    mixt_model_free(model);
}

/* Sums of the matrices of the model of fuzz/importance.c. */
static void importance_seed(const char *path)
{
    static const struct {
        const char *name;
        int64_t matrices;
    } rows[] = {{"blk.0.attn_q.weight", 1},
                {"blk.0.attn_output.weight", 1},
                {"blk.0.ffn_gate_exps.weight", 3},
                {"blk.0.ffn_down_exps.weight", 3}};
    mixt_importance *importance = calloc(1, sizeof *importance);
    mixt_error error = MIXT_ERROR_INIT;
    FUZZ_REQUIRE(importance != NULL, "no memory");
    importance->chunk_count = 2;
    importance->chunk_size = 16;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mixt_importance_entry *entry =
            mixt_importance_entry_of(importance, rows[i].name, rows[i].matrices, 32);
        FUZZ_REQUIRE(entry != NULL, rows[i].name);
        for (int64_t j = 0; j < 32 * rows[i].matrices; j++) {
            entry->sums[j] = (float)(1 + j % 7);
        }
        for (int64_t j = 0; j < rows[i].matrices; j++) {
            entry->counts[j] = (float)(2 * j); /* the first one was not reached */
        }
        entry->counts[0] += (float)(rows[i].matrices == 1);
    }
    FUZZ_REQUIRE(mixt_importance_save(importance, path, &error) == MIXT_OK, error.message);
    mixt_importance_free(importance);
}

/* What a probe writes: its results, with a list of experts; and the state of one that was left
 * behind some steps, in the first pass and in that of another number of experts. */
static void probe_seeds(const char *corpus)
{
    static const char list[] = "# experts to take out\n0: 1, 2\n";
    static const struct {
        const char *name;
        int steps;
    } states[] = {{"begun", 3}, {"top-k", 8}};
    char path[1024], results[FUZZ_PATH_MAX], partial[FUZZ_PATH_MAX], folder[FUZZ_PATH_MAX];
    mixt_error error = MIXT_ERROR_INIT;
    fuzz_path("probe", folder);
    FUZZ_REQUIRE(mixt_folder_create(folder, &error) == MIXT_OK, error.message);
    fuzz_path("probe/results.json", results);
    FUZZ_REQUIRE(fuzz_probe(results, 0, &error) == MIXT_OK, error.message);
    fuzz_write(fuzz_path("probe/experts.txt", path), list, sizeof list - 1);
    snprintf(path, sizeof path, "%s/probe_results/whole", corpus);
    pack((const char *const[2]){folder, NULL}, path);
    fuzz_path("left.json", results);
    fuzz_path("left.json.partial", partial);
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        char *state;
        fuzz_file file = {.name = "state.safetensors"};
        FUZZ_REQUIRE(fuzz_probe(results, states[i].steps, &error) == MIXT_ERROR_INTERRUPTED,
                     "a probe that is left");
        FUZZ_REQUIRE(mixt_file_read(partial, INPUT_MAX, &state, &file.size, &error) == MIXT_OK,
                     error.message);
        file.data = (uint8_t *)state;
        snprintf(path, sizeof path, "%s/probe_results/%s", corpus, states[i].name);
        fuzz_write(path, input, fuzz_pack(&file, 1, input, INPUT_MAX));
        free(state);
        remove(partial);
        error = (mixt_error)MIXT_ERROR_INIT;
    }
}

int main(int count, char **arguments)
{
    char path[1024], run[FUZZ_PATH_MAX], step[FUZZ_PATH_MAX], **names;
    size_t name_count;
    mixt_error error = MIXT_ERROR_INIT;
    if (count != 2 && count != 4) {
        fprintf(stderr, "make_seeds CORPUS\nmake_seeds pack FOLDER OUTPUT\n");
        return 2;
    }
    if (count == 4) {
        pack((const char *const[2]){arguments[2], NULL}, arguments[3]);
        return 0;
    }
    snprintf(path, sizeof path, "%s/consistent", arguments[1]);
    FUZZ_REQUIRE(mixt_folder_list(path, &names, &name_count, &error) == MIXT_OK, error.message);
    for (size_t i = 0; i < name_count; i++) {
        if (strchr(names[i], '-') == NULL) { /* not the variants of a family */
            seeds_of(arguments[1], names[i], i);
        }
    }
    mixt_names_free(names, name_count);
    adapter_seed(arguments[1]);
    fuzz_resume(fuzz_path("run", run));
    snprintf(path, sizeof path, "%s/run_folder/run", arguments[1]);
    pack((const char *const[2]){run, fuzz_path("run/step-00000001", step)}, path);
    snprintf(path, sizeof path, "%s/trace/plain", arguments[1]);
    fuzz_trace(path, false);
    snprintf(path, sizeof path, "%s/trace/logits", arguments[1]);
    fuzz_trace(path, true);
    snprintf(path, sizeof path, "%s/importance/made.gguf", arguments[1]);
    importance_seed(path);
    probe_seeds(arguments[1]);
    return 0;
}
