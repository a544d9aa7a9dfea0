/* Opening GGUF files: the metadata say the shapes, the tensors stay mapped. */
#include "model/config_gguf.h"
#include "model/storage.h"

static mixt_status lay_out(const mixt_gguf *file, mixt_model **model, mixt_error *error)
{
    const char *path = mixt_gguf_path(file, 0);
    mixt_model_options options;
    const mixt_family *family = NULL;
    mixt_status status = mixt_model_config_gguf(file, &options, &family, error);
    if (status == MIXT_OK) {
        status = mixt_model_check(&options, path, error);
        status = status == MIXT_ERROR_ARGUMENT ? MIXT_ERROR_FORMAT : status;
    }
    return status == MIXT_OK ? mixt_model_layout(&options, family, path, model, error) : status;
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
    status = mixt_source_take_gguf(file, &source, error);
    return status == MIXT_OK ? mixt_model_hold(*model, source, (mixt_f8_blocks){0}, error) : status;
}
