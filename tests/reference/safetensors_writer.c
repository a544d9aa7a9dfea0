/* Writes a folder of shards and a single file of every common type, for
 * tests/reference/safetensors_fixtures.py --check:
 *   cc -Iinclude -Isrc tests/reference/safetensors_writer.c build/release/libmixt.a ... */
#include <stdio.h>
#include <string.h>

#include "formats/safetensors.h"

static int write_file(const char *path, uint64_t shard_bytes)
{
    static const mixt_dtype types[] = {MIXT_DTYPE_F32, MIXT_DTYPE_F16,  MIXT_DTYPE_BF16,
                                       MIXT_DTYPE_I32, MIXT_DTYPE_U16,  MIXT_DTYPE_I8,
                                       MIXT_DTYPE_U8,  MIXT_DTYPE_BOOL, MIXT_DTYPE_I64};
    const int64_t shape[2] = {3, 4};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_safetensors_writer *writer;
    mixt_status status = mixt_safetensors_writer_create(path, shard_bytes, &writer, &error);
    mixt_safetensors_writer_metadata(writer, "format", "pt", &error);
    mixt_safetensors_writer_metadata(writer, "note", "\"\xc3\xbc\"\n", &error);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char name[40];
        snprintf(name, sizeof name, "layer.%zu.%s", i, mixt_dtype_name(types[i]));
        mixt_safetensors_writer_add(writer, name, types[i], 2, shape, &error);
    }
    mixt_safetensors_writer_add(writer, "scalar", MIXT_DTYPE_F32, 0, NULL, &error);
    status = mixt_safetensors_writer_begin(writer, &error);
    for (size_t i = 0; i < sizeof types / sizeof types[0] && status == MIXT_OK; i++) {
        unsigned char data[12 * 8] = {0};
        size_t size = mixt_dtype_bits(types[i]) / 8;
        for (size_t j = 0; j < 12; j++) { /* each element 0 or 1 of its type */
            float one = (float)(j % 2);
            uint16_t half;
            if (types[i] == MIXT_DTYPE_F32) {
                memcpy(data + j * size, &one, size);
            } else if (types[i] == MIXT_DTYPE_F16 || types[i] == MIXT_DTYPE_BF16) {
                (types[i] == MIXT_DTYPE_F16 ? mixt_f32_to_f16 : mixt_f32_to_bf16)(&one, &half, 1);
                memcpy(data + j * size, &half, size);
            } else {
                data[j * size] = (unsigned char)(j % 2);
            }
        }
        status = mixt_safetensors_writer_write(writer, data, 12 * size, &error);
    }
    float scalar = 6;
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_write(writer, &scalar, sizeof scalar, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_finish(writer, &error);
    }
    mixt_safetensors_writer_free(writer);
    if (status != MIXT_OK) {
        fprintf(stderr, "%s\n", error.message);
    }
    return status != MIXT_OK;
}

int main(int count, char **words)
{
    if (count != 2) {
        fprintf(stderr, "usage: safetensors_writer FOLDER\n");
        return 2;
    }
    char path[1000];
    snprintf(path, sizeof path, "%s/types.safetensors", words[1]);
    int failed = write_file(path, 0);
    snprintf(path, sizeof path, "%s/model.safetensors", words[1]);
    return write_file(path, 100) || failed;
}
