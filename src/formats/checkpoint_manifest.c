#include "formats/checkpoint_manifest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/crc32c.h"
#include "formats/json.h"
#include "formats/safetensors.h"

#define FORMAT_NAME "mixt checkpoint"
#define FILES_MAX 10000 /* ranks have some each */
#define VERIFY_CHUNK ((size_t)1 << 20)
#define EXACT_MAX 9007199254740992.0 /* 2^53 */

/* The manifest ends in ,"sha256":"<64 digits>"} and a newline. */
#define SEAL_BEGIN ",\n\"sha256\": \""
#define SEAL_END "\"\n}\n"
#define SEAL_LENGTH (sizeof SEAL_BEGIN - 1 + MIXT_SHA256_HEX - 1 + sizeof SEAL_END - 1)

void mixt_step_name(char text[MIXT_STEP_NAME_MAX], int64_t step)
{
    snprintf(text, MIXT_STEP_NAME_MAX, "step-%08lld", (long long)step);
}

int64_t mixt_step_number(const char *name)
{
    if (strncmp(name, "step-", 5) != 0) {
        return -1;
    }
    int64_t step = 0;
    const char *digit = name + 5;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        step = step * 10 + (*digit - '0');
        if (step > MIXT_CHECKPOINT_STEP_MAX) {
            return -1;
        }
    }
    char canonical[MIXT_STEP_NAME_MAX];
    mixt_step_name(canonical, step);
    return strcmp(canonical, name) == 0 ? step : -1;
}

static int newest_first(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left > right ? -1 : left < right;
}

mixt_status mixt_step_list(const char *folder, int64_t **steps, size_t *count, mixt_error *error)
{
    *steps = NULL;
    *count = 0;
    char **names;
    size_t name_count;
    MIXT_TRY(mixt_folder_list(folder, &names, &name_count, error));
    *steps = malloc((name_count + 1) * sizeof **steps);
    if (*steps == NULL) {
        mixt_names_free(names, name_count);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    for (size_t i = 0; i < name_count; i++) {
        int64_t step = mixt_step_number(names[i]);
        if (step >= 0) {
            (*steps)[(*count)++] = step;
        }
    }
    mixt_names_free(names, name_count);
    qsort(*steps, *count, sizeof **steps, newest_first);
    return MIXT_OK;
}

/* -- Writing -------------------------------------------------------------------------------- */

void mixt_manifest_write(const mixt_manifest *manifest, mixt_buffer *out)
{
    size_t start = out->length;
    mixt_buffer_format(out,
                       "{\n\"format\": \"" FORMAT_NAME "\",\n\"version\": %d,\n\"step\": %lld,\n",
                       MIXT_CHECKPOINT_VERSION, (long long)manifest->step);
    mixt_buffer_text(out, "\"config_hash\": ");
    mixt_json_quote(out, manifest->config_hash);
    mixt_buffer_text(out, ",\n\"files\": [");
    for (size_t i = 0; i < manifest->file_count; i++) {
        const mixt_manifest_file *file = &manifest->files[i];
        mixt_buffer_text(out, i == 0 ? "\n{\"name\": " : ",\n{\"name\": ");
        mixt_json_quote(out, file->name);
        mixt_buffer_format(out, ", \"bytes\": %llu, \"sha256\": \"%s\", \"tensors\": [",
                           (unsigned long long)file->bytes, file->sha256);
        for (size_t j = 0; j < file->tensor_count; j++) {
            const mixt_manifest_tensor *tensor = &file->tensors[j];
            mixt_buffer_text(out, j == 0 ? "\n {\"name\": " : ",\n {\"name\": ");
            mixt_json_quote(out, tensor->name);
            mixt_buffer_format(out, ", \"dtype\": \"%s\", \"shape\": [",
                               mixt_dtype_name(tensor->dtype));
            for (uint32_t k = 0; k < tensor->rank; k++) {
                mixt_buffer_format(out, "%s%lld", k == 0 ? "" : ", ", (long long)tensor->shape[k]);
            }
            mixt_buffer_format(out, "], \"crc32c\": %lu}", (unsigned long)tensor->crc);
        }
        mixt_buffer_text(out, "]}");
    }
    mixt_buffer_text(out, "]");
    if (out->failed) {
        return;
    }
    char hash[MIXT_SHA256_HEX];
    mixt_sha256 sum;
    mixt_sha256_init(&sum);
    mixt_sha256_update(&sum, out->data + start, out->length - start);
    mixt_sha256_final_hex(&sum, hash);
    mixt_buffer_format(out, SEAL_BEGIN "%s" SEAL_END, hash);
}

/* -- Reading -------------------------------------------------------------------------------- */

static mixt_status check_seal(const char *text, size_t length, const char *path, mixt_error *error)
{
    if (length < SEAL_LENGTH) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: too short (cut off?)", path);
    }
    size_t covered = length - SEAL_LENGTH;
    char wanted[SEAL_LENGTH + 1];
    char hash[MIXT_SHA256_HEX];
    mixt_sha256 sum;
    mixt_sha256_init(&sum);
    mixt_sha256_update(&sum, text, covered);
    mixt_sha256_final_hex(&sum, hash);
    snprintf(wanted, sizeof wanted, SEAL_BEGIN "%s" SEAL_END, hash);
    if (memcmp(text + covered, wanted, SEAL_LENGTH) != 0) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: does not match its own SHA-256", path);
    }
    return MIXT_OK;
}

static mixt_status read_tensor(const mixt_json_object *object, mixt_arena *arena,
                               mixt_manifest_tensor *tensor)
{
    const char *name;
    const char *dtype;
    const json_t *shape;
    int64_t crc;
    MIXT_TRY(mixt_json_string(object, "name", &name));
    MIXT_TRY(mixt_json_string(object, "dtype", &dtype));
    MIXT_TRY(mixt_json_array(object, "shape", &shape));
    MIXT_TRY(mixt_json_integer(object, "crc32c", (mixt_json_range){0, UINT32_MAX}, &crc));
    tensor->dtype = mixt_dtype_from_name(dtype);
    tensor->crc = (uint32_t)crc;
    tensor->rank = (uint32_t)json_array_size(shape);
    tensor->name = mixt_arena_string(arena, name);
    if (tensor->name == NULL) {
        return mixt_fail(object->error, MIXT_ERROR_MEMORY, "%s: no memory", object->file);
    }
    if (json_array_size(shape) > MIXT_CHECKPOINT_RANK_MAX) {
        return mixt_json_fail(object, "shape", "more than %d dimensions", MIXT_CHECKPOINT_RANK_MAX);
    }
    for (uint32_t i = 0; i < tensor->rank; i++) {
        tensor->shape[i] = json_integer_value(json_array_get(shape, i));
    }
    if (tensor->dtype == MIXT_DTYPE_UNKNOWN ||
        !mixt_tensor_bytes(tensor->dtype, tensor->rank, tensor->shape, &tensor->bytes)) {
        return mixt_json_fail(object, "shape", "impossible shape or dtype of \"%.100s\"", name);
    }
    return MIXT_OK;
}

static mixt_status read_file(const mixt_json_object *object, mixt_arena *arena,
                             mixt_manifest_file *file)
{
    const char *name;
    const char *hash;
    const json_t *tensors;
    int64_t bytes;
    MIXT_TRY(mixt_json_string(object, "name", &name));
    MIXT_TRY(mixt_json_integer(object, "bytes", (mixt_json_range){0, EXACT_MAX}, &bytes));
    MIXT_TRY(mixt_json_string(object, "sha256", &hash));
    MIXT_TRY(mixt_json_array(object, "tensors", &tensors));
    if (!mixt_name_is_plain(name, strlen(name))) {
        return mixt_json_fail(object, "name", "\"%.100s\" is not a plain file name", name);
    }
    if (strlen(hash) != MIXT_SHA256_HEX - 1) {
        return mixt_json_fail(object, "sha256", "must have 64 digits");
    }
    memcpy(file->sha256, hash, MIXT_SHA256_HEX);
    file->bytes = (uint64_t)bytes;
    file->name = mixt_arena_string(arena, name);
    file->tensor_count = json_array_size(tensors);
    file->tensors = mixt_arena_allocate(arena, file->tensor_count, sizeof *file->tensors);
    if (file->name == NULL || file->tensors == NULL) {
        return mixt_fail(object->error, MIXT_ERROR_MEMORY, "%s: no memory", object->file);
    }
    uint64_t total = 0;
    for (size_t i = 0; i < file->tensor_count; i++) {
        mixt_json_object one = *object;
        one.json = json_array_get(tensors, i);
        one.place = "files.tensors.";
        MIXT_TRY(read_tensor(&one, arena, &file->tensors[i]));
        if (__builtin_add_overflow(total, file->tensors[i].bytes, &total) || total > file->bytes) {
            return mixt_json_fail(&one, "shape", "tensors are larger than their file");
        }
    }
    return MIXT_OK;
}

static mixt_status read_members(const mixt_json_object *object, mixt_manifest *manifest)
{
    const char *format;
    const char *hash;
    const json_t *files;
    int64_t version;
    MIXT_TRY(mixt_json_string(object, "format", &format));
    if (strcmp(format, FORMAT_NAME) != 0) {
        return mixt_json_fail(object, "format", "\"%.100s\" is not \"" FORMAT_NAME "\"", format);
    }
    MIXT_TRY(mixt_json_integer(object, "version", (mixt_json_range){1, 1e9}, &version));
    if (version > MIXT_CHECKPOINT_VERSION) {
        return mixt_fail(object->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: checkpoint format version %lld; this mixt reads up to version %d",
                         object->file, (long long)version, MIXT_CHECKPOINT_VERSION);
    }
    MIXT_TRY(mixt_json_integer(object, "step", (mixt_json_range){0, MIXT_CHECKPOINT_STEP_MAX},
                               &manifest->step));
    MIXT_TRY(mixt_json_string(object, "config_hash", &hash));
    MIXT_TRY(mixt_json_array(object, "files", &files));
    manifest->file_count = json_array_size(files);
    if (manifest->file_count > FILES_MAX) {
        return mixt_json_fail(object, "files", "more than %d", FILES_MAX);
    }
    manifest->config_hash = mixt_arena_string(manifest->arena, hash);
    manifest->files =
        mixt_arena_allocate(manifest->arena, manifest->file_count, sizeof *manifest->files);
    if (manifest->config_hash == NULL || manifest->files == NULL) {
        return mixt_fail(object->error, MIXT_ERROR_MEMORY, "%s: no memory", object->file);
    }
    for (size_t i = 0; i < manifest->file_count; i++) {
        mixt_json_object one = *object;
        one.json = json_array_get(files, i);
        one.place = "files.";
        MIXT_TRY(read_file(&one, manifest->arena, &manifest->files[i]));
    }
    return MIXT_OK;
}

mixt_status mixt_manifest_parse(const char *text, size_t length, const char *path,
                                mixt_manifest *manifest, mixt_error *error)
{
    *manifest = (mixt_manifest){.arena = mixt_arena_create()};
    json_t *root = NULL;
    if (manifest->arena == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = check_seal(text, length, path, error);
    if (status == MIXT_OK) {
        status = mixt_json_parse(text, length, path, &root, error);
    }
    if (status == MIXT_OK) {
        mixt_json_object object = {root, path, "", error};
        status = read_members(&object, manifest);
    }
    json_decref(root);
    return status;
}

mixt_status mixt_manifest_read(const char *folder, mixt_manifest *manifest, mixt_error *error)
{
    *manifest = (mixt_manifest){0};
    char *path = mixt_path_join(folder, MIXT_MANIFEST_NAME), *text = NULL;
    size_t length = 0;
    mixt_status status = path == NULL
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder)
                             : mixt_file_read(path, MIXT_MANIFEST_MAX, &text, &length, error);
    if (status == MIXT_OK) {
        status = mixt_manifest_parse(text, length, path, manifest, error);
    }
    free(text);
    free(path);
    return status;
}

mixt_status mixt_manifest_copy_tensors(mixt_arena *arena, mixt_manifest_file *file,
                                       mixt_error *error)
{
    const mixt_manifest_tensor *from = file->tensors;
    file->tensors = mixt_arena_allocate(arena, file->tensor_count, sizeof *file->tensors);
    for (size_t i = 0; i < file->tensor_count && file->tensors != NULL; i++) {
        file->tensors[i] = from[i];
        file->tensors[i].name = mixt_arena_string(arena, from[i].name);
        if (file->tensors[i].name == NULL) {
            file->tensors = NULL;
        }
    }
    return file->tensors != NULL ? MIXT_OK
                                 : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", file->name);
}

void mixt_manifest_free(mixt_manifest *manifest)
{
    mixt_arena_free(manifest->arena);
    *manifest = (mixt_manifest){0};
}

/* -- Verifying ------------------------------------------------------------------------------ */

typedef struct file_check {
    int descriptor;
    const char *path;
    unsigned char *chunk; /* [VERIFY_CHUNK] */
    mixt_sha256 sum;
    uint64_t at;
} file_check;

/* Reads the next `length` bytes into the SHA-256 and a checksum of their own. */
static mixt_status check_piece(file_check *check, uint64_t length, uint32_t *crc, mixt_error *error)
{
    *crc = 0;
    while (length != 0) {
        size_t step = length < VERIFY_CHUNK ? (size_t)length : VERIFY_CHUNK;
        MIXT_TRY(
            mixt_read_at(check->descriptor, check->chunk, step, check->at, check->path, error));
        mixt_sha256_update(&check->sum, check->chunk, step);
        *crc = mixt_crc32c(*crc, check->chunk, step);
        check->at += step;
        length -= step;
    }
    return MIXT_OK;
}

static mixt_status check_content(file_check *check, const mixt_manifest_file *file,
                                 mixt_error *error)
{
    uint64_t front = file->bytes; /* what stands before the tensors: a header, or everything */
    for (size_t i = 0; i < file->tensor_count; i++) {
        front -= file->tensors[i].bytes;
    }
    uint32_t crc;
    MIXT_TRY(check_piece(check, front, &crc, error));
    for (size_t i = 0; i < file->tensor_count; i++) {
        MIXT_TRY(check_piece(check, file->tensors[i].bytes, &crc, error));
        if (crc != file->tensors[i].crc) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: tensor \"%.200s\" does not match its checksum", check->path,
                             file->tensors[i].name);
        }
    }
    char hash[MIXT_SHA256_HEX];
    mixt_sha256_final_hex(&check->sum, hash);
    if (strcmp(hash, file->sha256) != 0) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: %s does not match the manifest's SHA-256",
                         check->path, file->tensor_count != 0 ? "header" : "content");
    }
    return MIXT_OK;
}

mixt_status mixt_manifest_verify_file(const char *folder, const mixt_manifest_file *file,
                                      mixt_error *error)
{
    char *path = mixt_path_join(folder, file->name);
    file_check check = {.descriptor = -1, .path = path, .chunk = malloc(VERIFY_CHUNK)};
    mixt_status status = MIXT_OK;
    if (path == NULL || check.chunk == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    } else {
        mixt_error local = MIXT_ERROR_INIT;
        uint64_t size;
        check.descriptor = mixt_file_open(path, &size, &local);
        if (check.descriptor < 0) {
            status = mixt_fail(error, local.status, "%s", local.message);
        } else if (size != file->bytes) {
            status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: %llu bytes, the manifest says %llu",
                               path, (unsigned long long)size, (unsigned long long)file->bytes);
        } else {
            mixt_sha256_init(&check.sum);
            status = check_content(&check, file, error);
        }
    }
    if (check.descriptor >= 0) {
        close(check.descriptor);
    }
    free(check.chunk);
    free(path);
    return status;
}
