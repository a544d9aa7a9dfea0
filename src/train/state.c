/* The state of a run on disk: saved into checkpoints, resumed from the newest that verifies. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "core/number.h"
#include "formats/json.h"
#include "model/adapters.h"
#include "train/log.h"
#include "train/options.h"
#include "train/state.h"

#define STATE_VERSION 1
#define STATE_MAX ((size_t)1 << 20) /* bytes of state.json */

/* The whole numbers of mixt_counters, by name. */
typedef struct counter_row {
    const char *name;
    size_t offset;
} counter_row;

static const counter_row counter_rows[] = {
    {"step", offsetof(mixt_counters, step)},
    {"updates", offsetof(mixt_counters, updates)},
    {"skipped", offsetof(mixt_counters, skipped)},
    {"skipped_in_row", offsetof(mixt_counters, skipped_in_row)},
    {"tokens", offsetof(mixt_counters, tokens)},
    {"epoch", offsetof(mixt_counters, epoch)},
    {"index", offsetof(mixt_counters, index)},
};

#define COUNTERS (sizeof counter_rows / sizeof *counter_rows)

static int64_t *counter_at(mixt_counters *counters, size_t i)
{
    return (int64_t *)(void *)((char *)counters + counter_rows[i].offset);
}

/* ------------------------------------------------------------------------------------------ */
/* Saving                                                                                     */

static void config_hash(const char *config, char hash[MIXT_SHA256_HEX])
{
    mixt_sha256 state;
    mixt_sha256_init(&state);
    mixt_sha256_update(&state, config, strlen(config));
    mixt_sha256_final_hex(&state, hash);
}

/* Each layer's, where they change. */
static void coefficients_text(const mixt_trainer *trainer, mixt_buffer *text)
{
    const double *coefficients = mixt_balancer_coefficients(trainer);
    for (int i = 0; i < trainer->graph->moe_layers && coefficients != NULL; i++) {
        mixt_buffer_format(text, "%s%.17g", i == 0 ? ",\n  \"balance_coefficients\": [" : ", ",
                           coefficients[i]);
    }
    mixt_buffer_text(text, coefficients != NULL ? "]" : "");
}

static void state_text(mixt_trainer *trainer, mixt_buffer *text)
{
    mixt_counters *c = &trainer->counters;
    mixt_buffer_format(text, "{\n  \"version\": %d", STATE_VERSION);
    for (size_t i = 0; i < COUNTERS; i++) {
        mixt_buffer_format(text, ",\n  \"%s\": %lld", counter_rows[i].name,
                           (long long)*counter_at(c, i));
    }
    mixt_buffer_format(text, ",\n  \"seconds\": %.17g,\n  \"warm_end\": %.17g", c->seconds,
                       c->warm_end);
    coefficients_text(trainer, text);
    mixt_buffer_format(text, ",\n  \"data\": \"%s\",\n  \"tokenizer\": \"%s\"",
                       mixt_data_hash(trainer->data), mixt_tokenizer_hash(trainer->tokenizer));
    mixt_buffer_format(text, ",\n  \"products\": \"%s\",\n  \"options\": {",
                       mixt_context_products(trainer->context, trainer->options.bf16));
    for (const mixt_train_option *row = mixt_train_option_rows; row->name != NULL; row++) {
        char value[MIXT_NUMBER_SIZE];
        mixt_train_option_text(row, &trainer->options, value);
        mixt_buffer_format(text, "%s\n    \"%s\": \"%s\"", row == mixt_train_option_rows ? "" : ",",
                           row->name, value);
    }
    mixt_buffer_text(text, "\n  }\n}\n");
}

/* The tokenizer adds its ends to generation_config.json. */
static mixt_status write_tokenizer(void *user, const char *folder, mixt_error *error)
{
    const mixt_trainer *trainer = user;
    char *generation = NULL;
    MIXT_TRY(mixt_model_generation_text(trainer->model, &generation, error));
    mixt_status status = mixt_file_replace_in(folder, "generation_config.json", generation,
                                              strlen(generation), error);
    free(generation);
    return status == MIXT_OK ? mixt_tokenizer_save(trainer->tokenizer, folder, error) : status;
}

/* What is beside the tensors. */
typedef struct state_files {
    mixt_trainer *trainer;
    char *config, *adapters;
    char hash[MIXT_SHA256_HEX];
    mixt_buffer state;
} state_files;

static mixt_status make_files(mixt_trainer *trainer, state_files *files, mixt_error *error)
{
    mixt_model written;
    *files = (state_files){.trainer = trainer};
    MIXT_TRY(mixt_model_written(trainer->model, MIXT_FORM_FOLDER, &written, error));
    MIXT_TRY(mixt_model_config_text(&written, &files->config, error));
    if (written.adapters != NULL) {
        MIXT_TRY(mixt_adapters_config_text(&written, &files->adapters, error));
    }
    config_hash(files->config, files->hash);
    state_text(trainer, &files->state);
    return files->state.failed ? mixt_fail(error, MIXT_ERROR_MEMORY, "checkpoint: no memory")
                               : MIXT_OK;
}

static void free_files(state_files *files)
{
    mixt_buffer_free(&files->state);
    free(files->adapters);
    free(files->config);
}

/* Saves the state with these files beside its own. */
static mixt_status save_with(void *user, const mixt_checkpoint_state *state, mixt_error *error)
{
    const state_files *files = user;
    mixt_trainer *trainer = files->trainer;
    mixt_checkpoint_file all[4] = {
        {"config.json", files->config, strlen(files->config)},
        {"state.json", files->state.data, files->state.length},
    };
    mixt_checkpoint_state whole = *state;
    whole.files = all;
    whole.file_count = 2;
    if (files->adapters != NULL) {
        all[whole.file_count++] =
            (mixt_checkpoint_file){MIXT_ADAPTER_CONFIG, files->adapters, strlen(files->adapters)};
    }
    for (size_t i = 0; i < state->file_count; i++) {
        assert(whole.file_count < sizeof all / sizeof *all);
        all[whole.file_count++] = state->files[i];
    }
    whole.write_files = write_tokenizer;
    whole.user = trainer;
    return mixt_checkpoints_save(trainer->store, &whole, trainer->options.keep_checkpoints, error);
}

/* NaN and Inf must never reach a checkpoint that counts as good. */
static mixt_status check_finite(mixt_trainer *trainer, mixt_error *error)
{
    for (int i = 0; i < MIXT_STATE_PARTS; i++) {
        double norm;
        mixt_status status = mixt_optimizer_norm(trainer, mixt_state_parts[i].block, &norm, error);
        if (status != MIXT_OK) {
            return status;
        }
        if (!isfinite(norm)) {
            return mixt_fail(error, MIXT_ERROR_NUMERIC,
                             "%s: step %lld is not saved: NaN or Inf in the %s", trainer->folder,
                             (long long)trainer->counters.step, mixt_state_parts[i].name);
        }
    }
    return MIXT_OK;
}

static mixt_status save(mixt_trainer *trainer, mixt_error *error)
{
    state_files files;
    mixt_state_tensors list = {0};
    mixt_status status = make_files(trainer, &files, error);
    if (status == MIXT_OK) {
        status = mixt_state_tensors_create(trainer, &list, error);
    }
    if (status == MIXT_OK) {
        status = mixt_state_tensors_fill(&list, error);
    }
    if (status == MIXT_OK) {
        mixt_checkpoint_state state = {.step = trainer->counters.step,
                                       .config_hash = files.hash,
                                       .tensors = list.tensors,
                                       .tensor_count = list.count};
        status = save_with(&files, &state, error);
    }
    mixt_state_tensors_free(&list, false);
    free_files(&files);
    return status;
}

/* The same with ranks; `checked` is how this one came so far. */
static mixt_status save_together(mixt_trainer *trainer, mixt_status checked, mixt_error *error)
{
    state_files files = {.trainer = trainer};
    mixt_status status = checked == MIXT_OK ? make_files(trainer, &files, error) : checked;
    const mixt_state_files beside = {files.hash, save_with, &files};
    status = mixt_state_save_together(trainer, &beside, status, error);
    free_files(&files);
    return status;
}

mixt_status mixt_trainer_checkpoint(mixt_trainer *trainer, mixt_error *error)
{
    if (trainer->saved_step == trainer->counters.step) {
        return MIXT_OK;
    }
    mixt_status status = check_finite(trainer, error);
    if (status == MIXT_OK && trainer->log != NULL) {
        status = mixt_log_sync(trainer->log, error);
    }
    if (mixt_train_ranks(trainer) > 1) {
        status = save_together(trainer, status, error);
    } else if (status == MIXT_OK) {
        status = save(trainer, error);
    }
    if (status == MIXT_OK) {
        trainer->saved_step = trainer->counters.step;
        trainer->last_checkpoint = mixt_train_time();
    }
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Resuming                                                                                   */

static mixt_status refuse(const mixt_json_object *state, const char *what, const char *before,
                          const char *now)
{
    return mixt_fail(state->error, MIXT_ERROR_ARGUMENT,
                     "%s: %s was %s when this run began and is %s now; use a new folder",
                     state->file, what, before, now);
}

/* An option as it was; *value stays where the run is older than the option. */
static mixt_status read_option(const mixt_json_object *options, const mixt_train_option *row,
                               const char **value)
{
    return row->newer ? mixt_json_string_or(options, row->name, value)
                      : mixt_json_string(options, row->name, value);
}

static mixt_status compare_options(const mixt_trainer *trainer, const mixt_json_object *state)
{
    const json_t *member;
    const mixt_train_options older = mixt_train_options_older();
    char usual[MIXT_NUMBER_SIZE];
    mixt_status status = mixt_json_member(state, "options", &member);
    mixt_json_object options = {member, state->file, "options.", state->error};
    for (const mixt_train_option *row = mixt_train_option_rows;
         row->name != NULL && status == MIXT_OK; row++) {
        const char *before = usual;
        char was[MIXT_TRAIN_SHOWN], now[MIXT_TRAIN_SHOWN];
        mixt_train_option_text(row, &trainer->options, now);
        mixt_train_option_text(row, &older, usual);
        status = row->fixed ? read_option(&options, row, &before) : MIXT_OK;
        if (status == MIXT_OK && row->fixed && !mixt_train_option_is(row, before, now)) {
            mixt_train_option_show(row, before, was);
            mixt_train_option_show(row, now, now);
            status = refuse(state, row->name, was, now);
        }
    }
    return status;
}

/* Data, tokenizer and kind of products. */
static mixt_status compare_inputs(const mixt_trainer *trainer, const mixt_json_object *state)
{
    const struct {
        const char *key, *what, *now;
    } rows[] = {
        {"tokenizer", "the tokenizer's hash", mixt_tokenizer_hash(trainer->tokenizer)},
        {"data", "the data's hash", mixt_data_hash(trainer->data)},
        {"products", "the kind of matrix products",
         mixt_context_products(trainer->context, trainer->options.bf16)},
    };
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && status == MIXT_OK; i++) {
        const char *before;
        status = mixt_json_string(state, rows[i].key, &before);
        if (status == MIXT_OK && strcmp(before, rows[i].now) != 0) {
            status = refuse(state, rows[i].what, before, rows[i].now);
        }
    }
    return status;
}

/* A value of config.json for a reader: 10000, where the file has 10000.0. malloc'd. */
static char *value_text(const json_t *value)
{
    char number[MIXT_NUMBER_SIZE];
    if (value == NULL) {
        return strdup("absent");
    }
    if (json_is_real(value)) {
        mixt_number_write(json_real_value(value), number);
        return strdup(number);
    }
    return mixt_json_text(value, JSON_ENCODE_ANY);
}

static mixt_status refuse_key(const char *path, const char *key, const json_t *before,
                              const json_t *now, mixt_error *error)
{
    mixt_json_begin();
    char *old = value_text(before), *new = value_text(now);
    mixt_status status =
        mixt_fail(error, MIXT_ERROR_ARGUMENT,
                  "%s: the model's %s was %s when this run began and is %s now; use a new folder",
                  path, key, old != NULL ? old : "another", new != NULL ? new : "another");
    free(old);
    free(new);
    return status;
}

/* Refuses the first option that is another, where a key of config.json would tell nobody what to
 * put right: it makes the model another family's, has words where the key has numbers, or only says
 * how to train. */
static mixt_status compare_families(const mixt_trainer *trainer, const char *path,
                                    const char *saved, const mixt_model *written, mixt_error *error)
{
    mixt_model_options before, now = trainer->model->options;
    const mixt_family *family;
    MIXT_TRY(mixt_model_config_parse(saved, path, &before, &family, error));
    const mixt_config_row *row = mixt_options_difference(&before, &now);
    if (row == NULL || (family == written->family && !mixt_option_has_words(row))) {
        return MIXT_OK;
    }
    char was[40], is[40];
    mixt_option_text(row, mixt_row_get(row, &before), was);
    mixt_option_text(row, mixt_row_get(row, &now), is);
    return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                     "%s: the model's %s was %s when this run began and is %s now; use a new "
                     "folder",
                     path, row->key, was, is);
}

/* Refuses the first key of config.json whose value is not the model's. */
static mixt_status compare_keys(const char *path, const json_t *before, const json_t *now,
                                mixt_error *error)
{
    for (void *i = json_object_iter((json_t *)now); i != NULL;
         i = json_object_iter_next((json_t *)now, i)) {
        const char *key = json_object_iter_key(i);
        const json_t *old = json_object_get(before, key), *new = json_object_iter_value(i);
        if (json_is_object(old) && json_is_object(new)) {
            mixt_status status = compare_keys(path, old, new, error);
            if (status != MIXT_OK) {
                return status;
            }
        } else if (!json_equal(old, new)) {
            return refuse_key(path, key, old, new, error);
        }
    }
    return MIXT_OK;
}

static mixt_status compare_model(const mixt_trainer *trainer, const mixt_checkpoint *checkpoint,
                                 mixt_error *error)
{
    char *config = NULL, *saved = NULL, hash[MIXT_SHA256_HEX];
    size_t length;
    json_t *now = NULL, *before = NULL;
    mixt_model written;
    MIXT_TRY(mixt_model_written(trainer->model, MIXT_FORM_FOLDER, &written, error));
    mixt_status status = mixt_model_config_text(&written, &config, error);
    if (status != MIXT_OK) {
        return status;
    }
    config_hash(config, hash);
    if (strcmp(hash, mixt_checkpoint_config_hash(checkpoint)) != 0) {
        const char *path = mixt_checkpoint_path(checkpoint);
        status = mixt_checkpoint_read_file(checkpoint, "config.json", &saved, &length, error);
        if (status == MIXT_OK) {
            status = mixt_json_parse(saved, length, path, &before, error);
        }
        if (status == MIXT_OK) {
            status = mixt_json_parse(config, strlen(config), path, &now, error);
        }
        if (status == MIXT_OK) {
            status = compare_families(trainer, path, saved, &written, error);
        }
        if (status == MIXT_OK) {
            status = compare_keys(path, before, now, error);
        }
    }
    json_decref(before);
    json_decref(now);
    free(saved);
    free(config);
    return status;
}

static mixt_status read_counters(mixt_trainer *trainer, const mixt_json_object *state)
{
    const mixt_json_range whole = {0, 9007199254740992.0}, times = {0, 1e15};
    mixt_counters read = {0};
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < COUNTERS && status == MIXT_OK; i++) {
        status = mixt_json_integer(state, counter_rows[i].name, whole, counter_at(&read, i));
    }
    if (status == MIXT_OK) {
        status = mixt_json_number(state, "seconds", times, &read.seconds);
    }
    if (status == MIXT_OK) {
        status = mixt_json_number(state, "warm_end", times, &read.warm_end);
    }
    if (status == MIXT_OK && read.index >= trainer->order.windows) {
        status = mixt_json_fail(state, "index", "%llu is beyond the %llu windows of the data",
                                (unsigned long long)read.index,
                                (unsigned long long)trainer->order.windows);
    }
    if (status == MIXT_OK) {
        trainer->counters = read;
    }
    return status;
}

static mixt_status read_coefficients(mixt_trainer *trainer, const mixt_json_object *state)
{
    static const char *const key = "balance_coefficients";
    double *coefficients = mixt_balancer_coefficients(trainer);
    double most = trainer->model->options.router.balance_coefficient;
    const json_t *array;
    if (coefficients == NULL) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_json_array(state, key, &array));
    if (json_array_size(array) != (size_t)trainer->graph->moe_layers) {
        return mixt_json_fail(state, key, "%zu numbers for %d layers with experts",
                              json_array_size(array), trainer->graph->moe_layers);
    }
    for (int i = 0; i < trainer->graph->moe_layers; i++) {
        const json_t *value = json_array_get(array, (size_t)i);
        double number = json_number_value(value);
        if (!json_is_number(value) || !(number >= 0 && number <= most)) {
            return mixt_json_fail(state, key, "number %d is not in 0..%g", i + 1, most);
        }
        coefficients[i] = number;
    }
    return MIXT_OK;
}

static mixt_status read_state(mixt_trainer *trainer, const mixt_checkpoint *checkpoint,
                              mixt_error *error)
{
    char *text = NULL, *path = mixt_path_join(mixt_checkpoint_path(checkpoint), "state.json");
    size_t length;
    json_t *root = NULL;
    mixt_status status =
        path == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "state.json: no memory")
                     : mixt_checkpoint_read_file(checkpoint, "state.json", &text, &length, error);
    if (status == MIXT_OK) {
        status = mixt_json_parse(text, length, path, &root, error);
    }
    mixt_json_object state = {root, path, "", error};
    if (status == MIXT_OK) {
        int64_t version;
        mixt_json_range range = {STATE_VERSION, STATE_VERSION};
        status = mixt_json_integer(&state, "version", range, &version);
    }
    if (status == MIXT_OK) {
        status = compare_options(trainer, &state);
    }
    if (status == MIXT_OK) {
        status = compare_inputs(trainer, &state);
    }
    if (status == MIXT_OK) {
        status = read_counters(trainer, &state);
    }
    if (status == MIXT_OK) {
        status = read_coefficients(trainer, &state);
    }
    json_decref(root);
    free(text);
    free(path);
    return status;
}

static mixt_status resume(mixt_trainer *trainer, const mixt_checkpoint *checkpoint,
                          const char *passed_over, mixt_error *error)
{
    mixt_state_tensors list = {0};
    mixt_status status = compare_model(trainer, checkpoint, error);
    if (status == MIXT_OK) {
        status = read_state(trainer, checkpoint, error);
    }
    if (status == MIXT_OK) {
        status = mixt_state_tensors_create(trainer, &list, error);
    }
    if (status == MIXT_OK) {
        status = mixt_state_tensors_load(&list, checkpoint, error);
    }
    mixt_state_tensors_free(&list, status == MIXT_OK);
    if (status != MIXT_OK) {
        return status;
    }
    mixt_weights_changed(trainer->weights, trainer->model);
    mixt_buffer line = {0};
    mixt_buffer_format(&line, "resumed %s at step %lld", mixt_checkpoint_path(checkpoint),
                       (long long)trainer->counters.step);
    if (passed_over != NULL) {
        mixt_buffer_format(&line, "; passed over: %s", passed_over);
    }
    mixt_buffer_append(&line, "", 1);
    trainer->resumed = line.failed ? NULL : line.data;
    trainer->saved_step = trainer->counters.step;
    if (line.failed) {
        mixt_buffer_free(&line);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", trainer->folder);
    }
    return MIXT_OK;
}

/* Locks the folder and finds what it has; NULL: nothing. */
static mixt_status open_store(mixt_trainer *trainer, mixt_checkpoint **checkpoint,
                              char **passed_over, mixt_error *error)
{
    int lock = trainer->options.lock;
    MIXT_TRY(lock > 0 ? mixt_checkpoints_open_locked(trainer->folder, lock, &trainer->store, error)
                      : mixt_checkpoints_open(trainer->folder, &trainer->store, error));
    return mixt_checkpoints_newest(trainer->store, checkpoint, passed_over, error);
}

/* Of several ranks the first locks and verifies, and says to the others which checkpoint it is. */
static mixt_status find_together(mixt_trainer *trainer, mixt_checkpoint **checkpoint,
                                 char **passed_over, mixt_error *error)
{
    bool leads = mixt_train_leads(trainer);
    mixt_status status = leads ? open_store(trainer, checkpoint, passed_over, error) : MIXT_OK;
    int64_t step = *checkpoint != NULL ? mixt_checkpoint_step(*checkpoint) : -1;
    MIXT_TRY(mixt_state_meet(trainer->ranks, error));
    MIXT_TRY(mixt_ranks_agree(trainer->ranks, status, error));
    MIXT_TRY(mixt_train_share(trainer, &step, sizeof step, error));
    if (leads) {
        return MIXT_OK;
    }
    if (!mixt_path_is_folder(trainer->folder)) {
        return mixt_fail(error, MIXT_ERROR_NOT_FOUND,
                         "%s: is not here: all ranks need the run folder, on a file system that "
                         "they share",
                         trainer->folder);
    }
    return step < 0 ? MIXT_OK
                    : mixt_checkpoint_open_verified(trainer->folder, step, checkpoint, error);
}

mixt_status mixt_state_open(mixt_trainer *trainer, mixt_error *error)
{
    mixt_checkpoint *checkpoint = NULL;
    char *passed_over = NULL;
    mixt_status status = (mixt_train_ranks(trainer) > 1 ? find_together : open_store)(
        trainer, &checkpoint, &passed_over, error);
    if (status == MIXT_OK && checkpoint != NULL) {
        status = resume(trainer, checkpoint, passed_over, error);
    }
    mixt_checkpoint_free(checkpoint);
    free(passed_over);
    return status;
}

void mixt_state_close(mixt_trainer *trainer)
{
    mixt_checkpoints_close(trainer->store);
}

const char *mixt_trainer_state_hash(mixt_trainer *trainer)
{
    mixt_sha256 hash;
    mixt_sha256_init(&hash);
    for (int part = 0; part < MIXT_STATE_PARTS; part++) {
        if (mixt_train_hash(trainer, mixt_state_parts[part].block, &hash, NULL) != MIXT_OK) {
            return NULL;
        }
    }
    for (size_t i = 0; i < COUNTERS; i++) {
        mixt_sha256_update_u64(&hash, (uint64_t)*counter_at(&trainer->counters, i));
    }
    const double *coefficients = mixt_balancer_coefficients(trainer);
    for (int i = 0; i < trainer->graph->moe_layers && coefficients != NULL; i++) {
        uint64_t bits;
        memcpy(&bits, &coefficients[i], sizeof bits);
        mixt_sha256_update_u64(&hash, bits);
    }
    mixt_sha256_final_hex(&hash, trainer->hash);
    return trainer->hash;
}
