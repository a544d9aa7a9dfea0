/* Any bytes as a GGUF file. What is accepted must hold together: tensors aligned, inside the file
 * and apart, every key and name found again; and a copy that the writer makes must read back as the
 * same file. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/gguf.h"
#include "quant/quant.h"
#include "shared/mutate.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz_mutate_gguf(data, size, max_size, seed);
}

static char folder[] = "/tmp/mixt-fuzz-XXXXXX";
static char path[64];
static volatile uint64_t sink;

static void remove_files(void)
{
    unlink(path);
    rmdir(folder);
}

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_values(const mixt_gguf *file)
{
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    const mixt_gguf_range any = {-1e300, 1e300};
    for (size_t i = 0; i < mixt_gguf_key_count(file); i++) {
        mixt_gguf_kind kind;
        const char *key = mixt_gguf_key_at(file, i, &kind);
        int64_t integer;
        double number;
        bool flag;
        const char *text;
        mixt_gguf_array array;
        uint64_t sum = 0;
        require(mixt_gguf_has(file, key));
        mixt_gguf_integer(file, key, any, &integer, NULL);
        mixt_gguf_number(file, key, any, &number, NULL);
        require((mixt_gguf_bool(file, key, &flag, NULL) == MIXT_OK) == (kind == MIXT_GGUF_BOOL));
        if (mixt_gguf_string(file, key, &text, NULL) == MIXT_OK) {
            sum += strlen(text);
        }
        for (int k = 0; k <= MIXT_GGUF_F64; k++) {
            if (mixt_gguf_array_of(file, key, (mixt_gguf_kind)k, &array, NULL) != MIXT_OK) {
                continue;
            }
            for (size_t j = 0; j < array.count * sizes[k]; j++) {
                sum += ((const uint8_t *)array.data)[j];
            }
            for (size_t j = 0; k == MIXT_GGUF_STRING && j < array.count; j++) {
                for (uint64_t c = 0; c < array.lengths[j]; c++) {
                    sum += (uint8_t)array.strings[j][c];
                }
            }
        }
        sink = sum; /* so that the bytes are really read */
    }
}

static void check_tensors(const mixt_gguf *file, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < mixt_gguf_tensor_count(file); i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(file, i);
        const uint8_t *at = tensor->data;
        require(mixt_gguf_find(file, tensor->name) == tensor);
        require(at >= data && tensor->bytes <= size && (size_t)(at - data) <= size - tensor->bytes);
        require(tensor->bytes == 0 || (at - data) % 8 == 0);
        size_t rows = (size_t)(tensor->size[1] * tensor->size[2] * tensor->size[3]);
        size_t row_bytes = mixt_type_row_bytes(tensor->type, tensor->size[0]);
        require(row_bytes * rows == tensor->bytes);
        if (tensor->bytes != 0) {
            float values[512];
            int elements = mixt_type_info(tensor->type)->elements;
            mixt_dequantise(tensor->type, at, values, elements);
        }
    }
}

/* Every key and tensor through the writer and back. */
static void round_trip(const mixt_gguf *file)
{
    mixt_gguf_writer *writer;
    require(mixt_gguf_writer_create(path, 0, &writer, NULL) == MIXT_OK);
    for (size_t i = 0; i < mixt_gguf_key_count(file); i++) {
        const char *key = mixt_gguf_key_at(file, i, NULL);
        require(mixt_gguf_writer_copy(writer, file, key, NULL) == MIXT_OK);
    }
    size_t count = mixt_gguf_tensor_count(file);
    for (size_t i = 0; i < count; i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(file, i);
        require(mixt_gguf_writer_add(writer, tensor->name, tensor->type, tensor->rank, tensor->size,
                                     NULL) == MIXT_OK);
    }
    require(mixt_gguf_writer_begin(writer, NULL) == MIXT_OK);
    for (size_t i = 0; i < count; i++) {
        const mixt_gguf_tensor *tensor = mixt_gguf_tensor_at(file, i);
        require(mixt_gguf_writer_write(writer, tensor->data, tensor->bytes, NULL) == MIXT_OK);
    }
    require(mixt_gguf_writer_finish(writer, NULL) == MIXT_OK);
    mixt_gguf_writer_free(writer);
    mixt_gguf *again;
    require(mixt_gguf_open(path, &again, NULL) == MIXT_OK);
    require(mixt_gguf_tensor_count(again) == count);
    for (size_t i = 0; i < count; i++) {
        const mixt_gguf_tensor *a = mixt_gguf_tensor_at(file, i);
        const mixt_gguf_tensor *b = mixt_gguf_tensor_at(again, i);
        require(strcmp(a->name, b->name) == 0 && a->type == b->type && a->rank == b->rank &&
                a->bytes == b->bytes && memcmp(a->size, b->size, sizeof a->size) == 0);
        require(a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
    }
    mixt_gguf_close(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (path[0] == '\0') {
        require(mkdtemp(folder) != NULL);
        snprintf(path, sizeof path, "%s/a.gguf", folder);
        atexit(remove_files);
    }
    mixt_gguf *file;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_gguf_open_memory(data, size, "input", &file, &error);
    if (status != MIXT_OK) {
        require(file == NULL && status == error.status && strchr(error.message, '\n') == NULL &&
                strncmp(error.message, "input: ", 7) == 0);
        return 0;
    }
    check_values(file);
    check_tensors(file, data, size);
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum = sum * 31 + data[i];
    }
    if (sum % 32 == 0) { /* now and then: it syncs a file */
        round_trip(file);
    }
    mixt_gguf_close(file);
    return 0;
}
