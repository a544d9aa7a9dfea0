/* Between writing and its name: a conversion goes into a temporary folder beside its output, is
 * opened there as anybody will open it, compared with what was meant, and only then takes the place
 * of what stood under the name. */
#define _GNU_SOURCE /* asprintf, mkdtemp */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "convert/convert.h"
#include "core/error.h"
#include "core/files.h"
#include "core/number.h"
#include "formats/gguf.h"
#include "model/adapters.h"
#include "model/config_gguf_rope.h"
#include "model/peft.h"
#include "model/storage.h"
#include "tokenizer/tokenizer.h"

static mixt_status no_memory(const mixt_conversion *c)
{
    return mixt_fail(c->error, MIXT_ERROR_MEMORY, "%s: no memory", c->options->output);
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* ------------------------------------------------------------------------------------------ */
/* The source must not be written over                                                        */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* NAME-00001-of-0000N.gguf for NAME.gguf, in the same folder. */
static bool is_shard_of(const char *file, const char *output)
{
    size_t folder = (size_t)(base_of(output) - output), stem = strlen(base_of(output)) - 5;
    size_t other = (size_t)(base_of(file) - file);
    char here[PATH_MAX], there[PATH_MAX]; /* longer ones cannot be opened */
    snprintf(here, sizeof here, "%.*s.", (int)folder, output);
    snprintf(there, sizeof there, "%.*s.", (int)other, file);
    return same_file(here, there) && strncmp(base_of(file), base_of(output), stem) == 0 &&
           base_of(file)[stem] == '-';
}

static mixt_status check_source(const mixt_conversion *c, const char *output)
{
    const mixt_source *source = c->model->source;
    bool same = source != NULL && same_file(mixt_source_path(source), output);
    const char *last = NULL;
    for (size_t i = 0; source != NULL && !same && i < mixt_source_count(source); i++) {
        mixt_source_tensor tensor;
        const void *key;
        if (!mixt_source_find(source, mixt_source_name(source, i, &key), &tensor) ||
            tensor.path == last) {
            continue;
        }
        last = tensor.path;
        same =
            same_file(last, output) ||
            (c->form == MIXT_FORM_GGUF && c->options->shard_bytes > 0 && is_shard_of(last, output));
    }
    return same ? mixt_fail(c->error, MIXT_ERROR_ARGUMENT,
                            "%s: is the model that is converted; it would be written over", output)
                : MIXT_OK;
}

/* A model in the folder of a training run, or in the place of one that the run writes (model,
 * step-N), would be opened in its place, and take what the run has there. */
static mixt_status check_run(const mixt_conversion *c, const char *output, size_t length)
{
    static const char *const runs[] = {"", "/.."};
    char folder[PATH_MAX], path[PATH_MAX + 16]; /* longer ones cannot be opened */
    snprintf(folder, sizeof folder, "%.*s", (int)length, output);
    const char *name = base_of(folder);
    bool its = strcmp(name, "model") == 0 || strncmp(name, "step-", 5) == 0;
    for (int i = 0; i <= (its ? 1 : 0); i++) {
        snprintf(path, sizeof path, "%s%s/log.jsonl", folder, runs[i]);
        if (mixt_path_exists(path)) {
            return mixt_fail(c->error, MIXT_ERROR_ARGUMENT,
                             "%s: is of a training run (%s); give another folder", output, path);
        }
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* The temporary folder                                                                       */

mixt_status mixt_output_begin(mixt_conversion *c)
{
    const char *output = c->options->output;
    bool gguf = c->form == MIXT_FORM_GGUF;
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/') {
        length--;
    }
    if (length == 0) {
        return mixt_fail(c->error, MIXT_ERROR_ARGUMENT, "output: is empty");
    }
    MIXT_TRY(check_source(c, output));
    MIXT_TRY(gguf ? MIXT_OK : check_run(c, output, length));
    MIXT_TRY(gguf ? MIXT_OK : mixt_peft_check_output(output, c->error));
    char *parent = strndup(output, length);
    if (parent == NULL) {
        return no_memory(c);
    }
    if (mixt_path_exists(parent) && mixt_path_is_folder(parent) == gguf) { /* without its slashes */
        free(parent);
        return mixt_fail(c->error, MIXT_ERROR_ARGUMENT, "%s: is %s", output,
                         gguf ? "a folder" : "a file; only names that end in .gguf are files");
    }
    char *slash = strrchr(parent, '/');
    mixt_status status = MIXT_OK;
    if (slash != NULL && slash != parent && !gguf) {
        *slash = '\0';
        status = mixt_folder_create(parent, c->error);
    }
    free(parent);
    if (status != MIXT_OK) {
        return status;
    }
    if (asprintf(&c->folder, "%.*s.tmp-XXXXXX", (int)length, output) < 0) {
        c->folder = NULL;
        return no_memory(c);
    }
    if (mkdtemp(c->folder) == NULL) {
        free(c->folder);
        c->folder = NULL;
        return mixt_fail_errno(c->error, errno, "%s: cannot write there", output);
    }
    mode_t mask = umask(0);
    umask(mask);
    chmod(c->folder, 0777 & ~mask);
    c->listing = opendir(c->folder);
    c->path = mixt_path_join(c->folder, gguf ? base_of(output) : "model.safetensors");
    return c->path != NULL && c->listing != NULL ? MIXT_OK : no_memory(c);
}

/* What a conversion without memory leaves in its temporary folder, if it still is that. */
static void remove_listed(const mixt_conversion *c)
{
    int folder = dirfd(c->listing);
    if (!mixt_path_is_of(c->folder, folder)) {
        return;
    }
    rewinddir(c->listing);
    for (const struct dirent *entry; (entry = readdir(c->listing)) != NULL;) {
        unlinkat(folder, entry->d_name, 0);
    }
    rmdir(c->folder);
}

void mixt_output_end(mixt_conversion *c)
{
    if (c->folder != NULL) {
        if (mixt_folder_remove(c->folder, NULL) != MIXT_OK && c->listing != NULL) {
            remove_listed(c);
        }
        if (c->listing != NULL) {
            closedir(c->listing);
            c->listing = NULL;
        }
    }
    free(c->folder);
    free(c->path);
    c->folder = c->path = NULL;
}

/* ------------------------------------------------------------------------------------------ */
/* Reading what was written                                                                   */

static mixt_status differs(const mixt_conversion *c, const char *format, ...) MIXT_PRINTF(2, 3);

static mixt_status differs(const mixt_conversion *c, const char *format, ...)
{
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(text, sizeof text, format, arguments);
    va_end(arguments);
    return mixt_fail(c->error, MIXT_ERROR_UNSUPPORTED,
                     "%s: what was written does not come back: %s", c->options->output, text);
}

static mixt_status compare_model(const mixt_conversion *c, const mixt_model *back)
{
    const mixt_model *model = c->model;
    char what[160];
    bool kin =
        c->form == MIXT_FORM_GGUF && strcmp(back->family->gguf_arch, model->family->gguf_arch) == 0;
    if (back->family != model->family && !kin) {
        return differs(c, "the family is %s, was %s", back->family->name, model->family->name);
    }
    if (!mixt_options_come_back(model->family, c->form, &model->options, &back->options, what)) {
        return differs(c, "%s", what);
    }
    if (back->parameter_count != model->parameter_count) {
        return differs(c, "%d parameters, were %d", back->parameter_count, model->parameter_count);
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *a = &model->parameters[i], *b = &back->parameters[i];
        if (a->slot != b->slot || a->layer != b->layer || a->rank != b->rank ||
            memcmp(a->size, b->size, sizeof a->size) != 0) {
            return differs(c, "parameter %s has another shape", a->name);
        }
    }
    return MIXT_OK;
}

/* Name, type and size of every tensor. */
static mixt_status compare_tensors(const mixt_conversion *c, const mixt_model *back)
{
    mixt_gguf_rope_pairs pairs[2];
    size_t rope =
        c->form == MIXT_FORM_GGUF ? (size_t)mixt_gguf_rope_tensors(&c->model->options, pairs) : 0;
    if (mixt_source_count(back->source) != c->target_count + rope) {
        return differs(c, "%zu tensors, were %zu", mixt_source_count(back->source),
                       c->target_count + rope);
    }
    for (size_t i = 0; i < c->target_count; i++) {
        const mixt_target *target = &c->targets[i];
        mixt_source_tensor tensor;
        if (!mixt_source_find(back->source, target->piece->name, &tensor) ||
            tensor.type != target->type || tensor.bytes != target->bytes) {
            return differs(c, "tensor %s is another", target->piece->name);
        }
    }
    return MIXT_OK;
}

static mixt_status compare_tokenizer(const mixt_conversion *c, const char *path)
{
    const mixt_tokenizer *meant = c->options->tokenizer;
    mixt_tokenizer *back;
    MIXT_TRY(mixt_tokenizer_open(path, &back, c->error));
    mixt_status status = MIXT_OK;
    for (int i = 0; i <= MIXT_SPECIAL_PAD && status == MIXT_OK; i++) {
        int was = mixt_tokenizer_special(meant, (mixt_special)i);
        int is = mixt_tokenizer_special(back, (mixt_special)i);
        status = was == is
                     ? MIXT_OK
                     : differs(c, "special token %d of the tokenizer is %d, was %d", i, is, was);
    }
    for (int id = 0; id < mixt_tokenizer_vocab_size(meant) && status == MIXT_OK; id++) {
        size_t length, length_back;
        if (mixt_token_is_padding(meant, id)) {
            continue; /* names of rows without a token, which folders leave out */
        }
        const char *bytes = mixt_tokenizer_bytes_of(meant, id, &length);
        const char *bytes_back = mixt_tokenizer_bytes_of(back, id, &length_back);
        if (bytes != NULL &&
            (bytes_back == NULL || length != length_back ||
             memcmp(bytes, bytes_back, length) != 0 ||
             mixt_tokenizer_is_end(meant, id) != mixt_tokenizer_is_end(back, id))) {
            status = differs(c, "token %d of the tokenizer is another", id);
        }
    }
    if (status == MIXT_OK && (mixt_tokenizer_adds_bos(meant) != mixt_tokenizer_adds_bos(back) ||
                              mixt_tokenizer_adds_eos(meant) != mixt_tokenizer_adds_eos(back))) {
        status = differs(c, "what the tokenizer puts around a text is another");
    }
    mixt_tokenizer_free(back);
    return status;
}

/* The file to open: of shards the first. */
static mixt_status first_file(const mixt_conversion *c, char **path)
{
    char **names;
    size_t count;
    *path = NULL;
    if (c->form == MIXT_FORM_FOLDER) {
        *path = strdup(c->folder);
        return *path != NULL ? MIXT_OK : no_memory(c);
    }
    MIXT_TRY(mixt_folder_list(c->folder, &names, &count, c->error));
    *path = count > 0 ? mixt_path_join(c->folder, names[0]) : NULL;
    mixt_names_free(names, count);
    return *path != NULL ? MIXT_OK : no_memory(c);
}

mixt_status mixt_output_verify(const mixt_conversion *c)
{
    mixt_model *back = NULL;
    char *path;
    MIXT_TRY(mixt_model_intact(c->model, c->error));
    MIXT_TRY(first_file(c, &path));
    mixt_status status = mixt_model_open(path, &back, c->error);
    if (status == MIXT_OK) {
        status = compare_model(c, back);
    }
    if (status == MIXT_OK) {
        status = compare_tensors(c, back);
    }
    mixt_model_free(back);
    if (status == MIXT_OK && c->options->tokenizer != NULL) {
        status = compare_tokenizer(c, path);
    }
    free(path);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Taking the name                                                                            */

static mixt_status move(const mixt_conversion *c, const char *folder, const char *name)
{
    char *from = mixt_path_join(c->folder, name), *to = mixt_path_join(folder, name);
    mixt_status status = from == NULL || to == NULL ? no_memory(c) : check_source(c, to);
    if (status == MIXT_OK && rename(from, to) != 0) {
        status = mixt_fail_errno(c->error, errno, "%s: cannot rename to %s", from, to);
    }
    free(from);
    free(to);
    return status;
}

/* The first file last: what opens is whole. */
static mixt_status publish_files(const mixt_conversion *c, char **names, size_t count)
{
    const char *output = c->options->output;
    size_t length = (size_t)(base_of(output) - output);
    char *folder = length == 0 ? strdup(".") : strndup(output, length);
    mixt_status status = folder == NULL ? no_memory(c) : MIXT_OK;
    for (size_t i = count; i-- > 0 && status == MIXT_OK;) {
        status = move(c, folder, names[i]);
    }
    free(folder);
    return status;
}

static bool is_among(char **names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static mixt_status remove_from(const mixt_conversion *c, const char *name)
{
    char *path = mixt_path_join(c->options->output, name);
    mixt_status status = path == NULL ? no_memory(c) : MIXT_OK;
    if (status == MIXT_OK && unlink(path) != 0 && errno != ENOENT) {
        status = mixt_fail_errno(c->error, errno, "%s: cannot remove", path);
    }
    free(path);
    return status;
}

/* Over a folder that is there: without config.json it is no model until all files are in place.
 * Files of an older model that would be read beside the new ones go. */
static mixt_status publish_over(const mixt_conversion *c, char **names, size_t count)
{
    static const char *const weights[] = {"model.safetensors", "model.safetensors.index.json"};
    static const char *const tokenizer[] = {"tokenizer.json",
                                            "tokenizer.model",
                                            "tokenizer_config.json",
                                            "special_tokens_map.json",
                                            "added_tokens.json",
                                            "vocab.json",
                                            "merges.txt",
                                            "chat_template.jinja"};
    for (size_t i = 0; i < count; i++) { /* a link there may be one of the source's files */
        char *path = mixt_path_join(c->options->output, names[i]);
        mixt_status status = path == NULL ? no_memory(c) : check_source(c, path);
        free(path);
        MIXT_TRY(status);
    }
    MIXT_TRY(remove_from(c, "config.json"));
    MIXT_TRY(remove_from(c, MIXT_ADAPTER_CONFIG)); /* it would be applied to the new model */
    MIXT_TRY(remove_from(c, MIXT_ADAPTER_WEIGHTS));
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        MIXT_TRY(is_among(names, count, weights[i]) ? MIXT_OK : remove_from(c, weights[i]));
    }
    for (size_t i = 0; c->options->tokenizer != NULL && i < sizeof tokenizer / sizeof *tokenizer;
         i++) {
        MIXT_TRY(is_among(names, count, tokenizer[i]) ? MIXT_OK : remove_from(c, tokenizer[i]));
    }
    for (size_t i = 0; i < count; i++) {
        MIXT_TRY(strcmp(names[i], "config.json") != 0 ? move(c, c->options->output, names[i])
                                                      : MIXT_OK);
    }
    return move(c, c->options->output, "config.json");
}

mixt_status mixt_output_publish(const mixt_conversion *c)
{
    char **names;
    size_t count;
    const char *output = c->options->output;
    MIXT_TRY(mixt_folder_sync(c->folder, c->error));
    if (c->form == MIXT_FORM_FOLDER && !mixt_path_exists(output)) {
        return rename(c->folder, output) == 0
                   ? mixt_parent_sync(output, c->error)
                   : mixt_fail_errno(c->error, errno, "%s: cannot rename to %s", c->folder, output);
    }
    MIXT_TRY(mixt_folder_list(c->folder, &names, &count, c->error));
    mixt_status status =
        c->form == MIXT_FORM_GGUF ? publish_files(c, names, count) : publish_over(c, names, count);
    mixt_names_free(names, count);
    if (status == MIXT_OK) {
        status = c->form == MIXT_FORM_GGUF ? mixt_parent_sync(output, c->error)
                                           : mixt_folder_sync(output, c->error);
    }
    return status;
}
