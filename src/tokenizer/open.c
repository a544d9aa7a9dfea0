/* Opens a tokenizer by its path. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "tokenizer/tokenizer.h"

#define FILE_LIMIT ((size_t)64 << 20)

/* tokenizer.json begins with a brace; a SentencePiece message cannot. */
static bool is_json(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length && strchr(" \t\r\n", text[at]) != NULL && text[at] != '\0') {
        at++;
    }
    return at < length && text[at] == '{';
}

static mixt_status open_file(const char *path, mixt_tokenizer **tokenizer, mixt_error *error)
{
    char *text = NULL;
    size_t length;
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_file_read(path, FILE_LIMIT, &text, &length, &local);
    if (status != MIXT_OK) {
        status = mixt_fail(error, status, "%s", local.message);
    } else {
        bool json = strstr(path, ".model") == NULL && is_json(text, length);
        json = json || mixt_ends_with(path, ".json");
        status = json ? mixt_tokenizer_from_json(text, length, tokenizer, &local)
                      : mixt_tokenizer_from_model(text, length, NULL, tokenizer, &local);
        if (status != MIXT_OK) {
            status = mixt_fail(error, status, "%s: %s", path, local.message);
        }
    }
    free(text);
    return status;
}

static mixt_status open_gguf(const char *path, mixt_tokenizer **tokenizer, mixt_error *error)
{
    mixt_gguf *file;
    mixt_status status = mixt_gguf_open(path, &file, error);
    if (status == MIXT_OK) {
        status = mixt_tokenizer_from_gguf(file, tokenizer, error);
        status = status == MIXT_OK ? mixt_gguf_intact(file, error) : status;
        mixt_gguf_close(file);
    }
    return status;
}

mixt_status mixt_tokenizer_open(const char *path, mixt_tokenizer **tokenizer, mixt_error *error)
{
    *tokenizer = NULL;
    mixt_status status = mixt_path_is_folder(path)
                             ? mixt_tokenizer_open_folder(path, tokenizer, error)
                         : mixt_gguf_is(path) ? open_gguf(path, tokenizer, error)
                                              : open_file(path, tokenizer, error);
    if (status != MIXT_OK) {
        mixt_tokenizer_free(*tokenizer);
        *tokenizer = NULL;
    }
    return status;
}
