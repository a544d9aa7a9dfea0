/* Opens a tokenizer by its path. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "text/tokenizer.h"

#define FILE_LIMIT ((size_t)64 << 20)

static mixt_status open_file(const char *path, mixt_tokenizer **tokenizer, mixt_error *error)
{
    char *text = NULL;
    size_t length;
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_file_read(path, FILE_LIMIT, &text, &length, &local);
    if (status != MIXT_OK) {
        status = mixt_fail(error, status, "%s", local.message);
    } else {
        status = mixt_tokenizer_from_json(text, length, tokenizer, &local);
        if (status != MIXT_OK) {
            status = mixt_fail(error, status, "%s: %s", path, local.message);
        }
    }
    free(text);
    return status;
}

static mixt_status open_folder(const char *folder, mixt_tokenizer **tokenizer, mixt_error *error)
{
    char *path = mixt_path_join(folder, "tokenizer.json");
    if (path == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    mixt_status status = open_file(path, tokenizer, error);
    if (status == MIXT_OK) {
        status = mixt_tokenizer_read_config(*tokenizer, folder, error);
    }
    free(path);
    return status;
}

mixt_status mixt_tokenizer_open(const char *path, mixt_tokenizer **tokenizer, mixt_error *error)
{
    *tokenizer = NULL;
    mixt_status status = mixt_path_is_folder(path) ? open_folder(path, tokenizer, error)
                                                   : open_file(path, tokenizer, error);
    if (status != MIXT_OK) {
        mixt_tokenizer_free(*tokenizer);
        *tokenizer = NULL;
    }
    return status;
}
