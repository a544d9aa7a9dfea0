/* Opening GGUF files: the metadata say the shapes, the tensors stay mapped. */
#include "model/config_gguf.h"
#include "model/storage.h"
#include "quant/mix.h"

static mixt_status lay_out(const mixt_gguf *file, mixt_model **model, mixt_error *error)
{
    const char *path = mixt_gguf_path(file, 0);
    mixt_model_options options;
    const mixt_family *family = NULL;
    mixt_status status = mixt_model_config_gguf(file, &options, &family, error);
    if (status == MIXT_OK) {
        status = mixt_model_check_file(&options, path, error);
    }
    return status == MIXT_OK ? mixt_model_layout(&options, family, path, model, error) : status;
}

/* The name of general.file_type, which is for people: tensors have types of their own. */
static const char *name_file_type(const mixt_gguf *file)
{
    const mixt_gguf_range range = {0, UINT32_MAX};
    int64_t number;
    if (mixt_gguf_integer(file, "general.file_type", range, &number, NULL) != MIXT_OK) {
        return NULL;
    }
    return mixt_file_type_name(number & ~(int64_t)MIXT_FILE_TYPE_GUESSED);
}

mixt_status mixt_model_open_gguf(const char *path, mixt_model **model, mixt_error *error)
{
    mixt_gguf *file;
    mixt_source *source;
    MIXT_TRY(mixt_gguf_open(path, &file, error));
    mixt_status status = lay_out(file, model, error);
    if (status != MIXT_OK) {
        mixt_gguf_close(file);
        return status;
    }
    (*model)->file_type = name_file_type(file);
    status = mixt_source_take_gguf(file, &source, error);
    return status == MIXT_OK ? mixt_model_hold(*model, source, (mixt_f8_blocks){0}, error) : status;
}
