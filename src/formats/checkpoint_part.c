/* The files that one of several ranks writes into a checkpoint, a tensor at a time: no rank has all
 * of them in memory. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/checkpoint_output.h"

struct mixt_checkpoint_part {
    const char *folder;                    /* step-N.tmp */
    const mixt_checkpoint_tensor *tensors; /* [count] */
    size_t count;
    size_t at;   /* tensor that comes next */
    size_t left; /* of the file that is open: tensors that it lacks */
    mixt_manifest manifest;
    mixt_checkpoint_output out;
    char *path;
    mixt_error error; /* the first, which all further calls repeat */
};

mixt_status mixt_checkpoint_part_create(const mixt_checkpoint_part_of *of,
                                        mixt_checkpoint_part **result, mixt_error *error)
{
    mixt_checkpoint_part *part = calloc(1, sizeof *part);
    *result = part;
    if (part == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", of->folder);
    }
    part->folder = of->folder;
    part->tensors = of->tensors;
    part->count = of->tensor_count;
    part->out.descriptor = -1;
    part->error = (mixt_error)MIXT_ERROR_INIT;
    part->manifest.step = of->step;
    part->manifest.arena = mixt_arena_create();
    size_t files = of->tensor_count > 0 ? 1 : 0;
    for (size_t i = 1; i < of->tensor_count; i++) {
        files += strcmp(of->tensors[i].file, of->tensors[i - 1].file) != 0;
    }
    if (part->manifest.arena != NULL) {
        part->manifest.config_hash = mixt_arena_string(part->manifest.arena, of->config_hash);
        part->manifest.files =
            mixt_arena_allocate(part->manifest.arena, files + 1, sizeof *part->manifest.files);
    }
    if (part->manifest.config_hash == NULL || part->manifest.files == NULL) {
        mixt_checkpoint_part_free(part);
        *result = NULL;
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", of->folder);
    }
    return MIXT_OK;
}

/* Opens the file of the next tensor, and writes what stands before its data. */
static mixt_status begin_file(mixt_checkpoint_part *part, mixt_error *error)
{
    const mixt_checkpoint_tensor *tensors = part->tensors + part->at;
    mixt_manifest_file *record = &part->manifest.files[part->manifest.file_count++];
    mixt_buffer header = {0};
    size_t count = 1;
    while (part->at + count < part->count && strcmp(tensors[count].file, tensors->file) == 0) {
        count++;
    }
    record->name = mixt_arena_string(part->manifest.arena, tensors->file);
    free(part->path);
    part->path = mixt_path_join(part->folder, tensors->file);
    mixt_status status = record->name != NULL && part->path != NULL
                             ? mixt_checkpoint_output_describe(part->manifest.arena, tensors, count,
                                                               record, &header, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", part->folder);
    if (status == MIXT_OK) {
        status = mixt_checkpoint_output_open(&part->out, part->path, error);
    }
    if (status == MIXT_OK) {
        status = mixt_checkpoint_output_write(&part->out, header.data, header.length, NULL, error);
    }
    mixt_buffer_free(&header);
    part->left = count;
    return status;
}

static mixt_status add(mixt_checkpoint_part *part, const void *data, mixt_error *error)
{
    if (part->left == 0) {
        MIXT_TRY(begin_file(part, error));
    }
    mixt_manifest_file *record = &part->manifest.files[part->manifest.file_count - 1];
    mixt_manifest_tensor *sum = &record->tensors[record->tensor_count - part->left];
    MIXT_TRY(mixt_checkpoint_output_write(&part->out, data, sum->bytes, &sum->crc, error));
    part->at++;
    return --part->left > 0 ? MIXT_OK
                            : mixt_checkpoint_output_end(&part->out, record, MIXT_OK, error);
}

void mixt_checkpoint_part_add(mixt_checkpoint_part *part, const void *data)
{
    assert(part->at < part->count || part->error.status != MIXT_OK);
    if (part->error.status == MIXT_OK) {
        add(part, data, &part->error);
    }
}

mixt_status mixt_checkpoint_part_finish(mixt_checkpoint_part *part, mixt_buffer *text,
                                        mixt_error *error)
{
    if (part->error.status != MIXT_OK) {
        return mixt_fail(error, part->error.status, "%s", part->error.message);
    }
    assert(part->at == part->count && part->left == 0);
    mixt_manifest_write(&part->manifest, text);
    return text->failed ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", part->folder)
                        : MIXT_OK;
}

void mixt_checkpoint_part_free(mixt_checkpoint_part *part)
{
    if (part != NULL) {
        if (part->out.descriptor >= 0) {
            mixt_file_settle(&part->out.descriptor, part->path, MIXT_ERROR_IO, NULL);
        }
        mixt_manifest_free(&part->manifest);
        free(part->path);
        free(part);
    }
}
