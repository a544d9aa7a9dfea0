/* GGUF: keys, values and tensors changed one by one, and the file laid out anew, so that offsets
 * and sizes agree with what the tensors say. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mutate.h"
#include "quant/types.h"

#define KEYS_MAX 512
#define TENSORS_MAX 512
#define RANK_MAX 6
#define KINDS 13 /* of values: formats/gguf.h */
#define KIND_STRING 8
#define KIND_ARRAY 9

static const size_t kind_bytes[KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

typedef struct bytes {
    const uint8_t *at;
    size_t size;
} bytes;

typedef struct entry {
    bytes name;
    uint32_t kind;
    bytes value; /* as it lies behind the kind */
} entry;

typedef struct tensor {
    bytes name;
    uint32_t rank;
    uint64_t size[RANK_MAX];
    uint32_t type;
    bytes data;
} tensor;

typedef struct gguf_file {
    uint32_t version;
    uint64_t alignment;
    entry keys[KEYS_MAX];
    size_t key_count;
    tensor tensors[TENSORS_MAX];
    size_t tensor_count;
    uint8_t *pool; /* room for new bytes */
    size_t pool_used, pool_size;
    int key_lie, tensor_lie; /* added to the counts that the header says */
    uint64_t offset_lie;     /* added to the last tensor's offset */
} gguf_file;

/* ---- reading */

typedef struct reader {
    const uint8_t *at;
    size_t left;
    bool good;
} reader;

static bytes take(reader *in, uint64_t size)
{
    bytes result = {in->at, (size_t)size};
    if (!in->good || size > in->left) {
        in->good = false;
        return (bytes){in->at, 0};
    }
    in->at += size;
    in->left -= (size_t)size;
    return result;
}

static uint64_t take_number(reader *in, size_t size)
{
    uint64_t value = 0;
    bytes from = take(in, size);
    memcpy(&value, from.at, from.size);
    return value;
}

static bytes take_string(reader *in)
{
    return take(in, take_number(in, 8));
}

static void skip_value(reader *in, uint32_t kind, int depth)
{
    if (kind == KIND_STRING) {
        take_string(in);
    } else if (kind == KIND_ARRAY && depth < 2) {
        uint32_t of = (uint32_t)take_number(in, 4);
        uint64_t count = take_number(in, 8);
        if (of < KINDS && kind_bytes[of] != 0) {
            in->good = in->good && count <= in->left;
            take(in, in->good ? count * kind_bytes[of] : 0);
        }
        for (uint64_t i = 0; of < KINDS && kind_bytes[of] == 0 && i < count && in->good; i++) {
            skip_value(in, of, depth + 1);
        }
        in->good = in->good && of < KINDS;
    } else if (kind < KINDS) {
        take(in, kind_bytes[kind]);
    } else {
        in->good = false;
    }
}

static uint64_t tensor_bytes(const tensor *t)
{
    mixt_type type = mixt_type_from_number(t->type);
    uint64_t count = 1;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (__builtin_mul_overflow(count, t->size[i], &count) || count > 1 << 24) {
            return UINT64_MAX;
        }
    }
    if (type == MIXT_TYPE_COUNT) {
        return count;
    }
    const mixt_type_row *row = mixt_type_info(type);
    return (count + (uint64_t)row->elements - 1) / (uint64_t)row->elements * (uint64_t)row->bytes;
}

static bool read_tensors(gguf_file *file, reader *in, const uint8_t *begin, size_t size)
{
    uint64_t offsets[TENSORS_MAX];
    for (size_t i = 0; i < file->tensor_count && in->good; i++) {
        tensor *t = &file->tensors[i];
        t->name = take_string(in);
        t->rank = (uint32_t)take_number(in, 4);
        if (t->rank > RANK_MAX) {
            return false;
        }
        for (uint32_t j = 0; j < t->rank; j++) {
            t->size[j] = take_number(in, 8);
        }
        t->type = (uint32_t)take_number(in, 4);
        offsets[i] = take_number(in, 8);
    }
    size_t front = (size_t)(in->at - begin);
    front = (front + file->alignment - 1) / file->alignment * file->alignment;
    for (size_t i = 0; i < file->tensor_count && in->good; i++) {
        uint64_t wanted = tensor_bytes(&file->tensors[i]);
        if (front > size || offsets[i] > size - front) {
            file->tensors[i].data = (bytes){begin, 0};
            continue;
        }
        size_t left = size - front - (size_t)offsets[i];
        file->tensors[i].data =
            (bytes){begin + front + offsets[i], wanted < left ? (size_t)wanted : left};
    }
    return in->good;
}

static bool read_gguf(gguf_file *file, const uint8_t *data, size_t size)
{
    static const char alignment[] = "general.alignment";
    reader in = {data, size, true};
    if (take_number(&in, 4) != 0x46554747) {
        return false;
    }
    file->version = (uint32_t)take_number(&in, 4);
    uint64_t tensors = take_number(&in, 8), keys = take_number(&in, 8);
    if (!in.good || tensors > TENSORS_MAX || keys > KEYS_MAX) {
        return false;
    }
    file->tensor_count = (size_t)tensors;
    file->key_count = (size_t)keys;
    file->alignment = 32;
    for (size_t i = 0; i < file->key_count && in.good; i++) {
        entry *e = &file->keys[i];
        e->name = take_string(&in);
        e->kind = (uint32_t)take_number(&in, 4);
        e->value.at = in.at;
        skip_value(&in, e->kind, 0);
        e->value.size = (size_t)(in.at - e->value.at);
        if (in.good && e->name.size == sizeof alignment - 1 && e->value.size == 4 &&
            memcmp(e->name.at, alignment, e->name.size) == 0) {
            uint32_t value;
            memcpy(&value, e->value.at, 4);
            file->alignment = value >= 1 && value <= 4096 ? value : 32;
        }
    }
    return in.good && read_tensors(file, &in, data, size);
}

/* ---- writing */

typedef struct writer {
    uint8_t *to;
    size_t used, room;
    bool good;
} writer;

static void put(writer *out, const void *data, size_t size)
{
    if (!out->good || size > out->room - out->used) {
        out->good = false;
        return;
    }
    if (size > 0) {
        memcpy(out->to + out->used, data, size);
    }
    out->used += size;
}

static void put_number(writer *out, uint64_t value, size_t size)
{
    put(out, &value, size);
}

static void put_string(writer *out, bytes text)
{
    put_number(out, text.size, 8);
    put(out, text.at, text.size);
}

static void pad(writer *out, uint64_t alignment)
{
    while (out->good && out->used % alignment != 0) {
        put_number(out, 0, 1);
    }
}

static size_t write_gguf(const gguf_file *file, uint8_t *to, size_t room)
{
    writer out = {to, 0, room, true};
    uint64_t offset = 0;
    put(&out, "GGUF", 4);
    put_number(&out, file->version, 4);
    put_number(&out, file->tensor_count + (uint64_t)(int64_t)file->tensor_lie, 8);
    put_number(&out, file->key_count + (uint64_t)(int64_t)file->key_lie, 8);
    for (size_t i = 0; i < file->key_count; i++) {
        put_string(&out, file->keys[i].name);
        put_number(&out, file->keys[i].kind, 4);
        put(&out, file->keys[i].value.at, file->keys[i].value.size);
    }
    for (size_t i = 0; i < file->tensor_count; i++) {
        const tensor *t = &file->tensors[i];
        put_string(&out, t->name);
        put_number(&out, t->rank, 4);
        for (uint32_t j = 0; j < t->rank; j++) {
            put_number(&out, t->size[j], 8);
        }
        put_number(&out, t->type, 4);
        put_number(&out, offset + (i + 1 == file->tensor_count ? file->offset_lie : 0), 8);
        offset += (t->data.size + file->alignment - 1) / file->alignment * file->alignment;
    }
    for (size_t i = 0; i < file->tensor_count; i++) {
        pad(&out, file->alignment);
        put(&out, file->tensors[i].data.at, file->tensors[i].data.size);
    }
    pad(&out, file->alignment);
    return out.good ? out.used : 0;
}

/* ---- changing */

static uint8_t *more(gguf_file *file, size_t size)
{
    if (size > file->pool_size - file->pool_used) {
        return NULL;
    }
    uint8_t *at = file->pool + file->pool_used;
    file->pool_used += size;
    return at;
}

/* A copy with room for `extra` bytes behind it; NULL where the pool is empty. */
static uint8_t *copy_of(gguf_file *file, bytes from, size_t extra)
{
    uint8_t *at = more(file, from.size + extra);
    if (at != NULL && from.size > 0) {
        memcpy(at, from.at, from.size);
    }
    return at;
}

static void mutate_bytes(gguf_file *file, bytes *which)
{
    uint8_t *at = copy_of(file, *which, 32);
    if (at != NULL) {
        *which = (bytes){at, LLVMFuzzerMutate(at, which->size, which->size + 32)};
    }
}

/* A number of this kind at `to`. */
static void draw_scalar(uint32_t kind, uint8_t *to, fuzz_dice *dice)
{
    int64_t integer = fuzz_integer(dice);
    double number = fuzz_chance(dice, 6)   ? NAN
                    : fuzz_chance(dice, 6) ? INFINITY
                                           : fuzz_number(dice);
    float single = (float)(fabs(number) > 3e38 && isfinite(number) ? 3e38 : number);
    if (kind == 6) {
        memcpy(to, &single, 4);
    } else if (kind == 12) {
        memcpy(to, &number, 8);
    } else if (kind == 7) {
        *to = fuzz_chance(dice, 95) ? (uint8_t)fuzz_below(dice, 2) : 2;
    } else {
        memcpy(to, &integer, kind_bytes[kind]);
    }
}

/* Another number of elements, as many as it says; or another element. */
static void change_array(gguf_file *file, entry *e, fuzz_dice *dice)
{
    uint32_t of;
    uint64_t count;
    memcpy(&of, e->value.at, 4);
    memcpy(&count, e->value.at + 4, 8);
    uint8_t *at = copy_of(file, e->value, 64);
    if (at == NULL || of >= KINDS || kind_bytes[of] == 0) {
        if (at != NULL) { /* strings: the bytes behind the count */
            LLVMFuzzerMutate(at + 12, e->value.size - 12, e->value.size - 12);
            e->value.at = at;
        }
        return;
    }
    size_t size = kind_bytes[of];
    if (count > 0 && fuzz_chance(dice, 60)) {
        draw_scalar(of, at + 12 + fuzz_below(dice, (size_t)count) * size, dice);
    } else if (fuzz_chance(dice, 50)) {
        count = fuzz_below(dice, (size_t)count + 1);
    } else if (count > 0) {
        size_t added = fuzz_below(dice, 64 / size);
        memcpy(at + e->value.size, at + 12, added < count ? added * size : 0);
        count += added < count ? added : 0;
    }
    memcpy(at + 4, &count, 8);
    e->value = (bytes){at, 12 + (size_t)count * size};
}

static void change_kind(gguf_file *file, entry *e, fuzz_dice *dice)
{
    uint8_t *at = more(file, 12);
    e->kind = (uint32_t)fuzz_below(dice, KINDS);
    if (at == NULL) {
        return;
    }
    memset(at, 0, 12);
    size_t size = e->kind == KIND_STRING ? 8 : e->kind == KIND_ARRAY ? 12 : kind_bytes[e->kind];
    if (kind_bytes[e->kind] != 0) {
        draw_scalar(e->kind, at, dice);
    }
    e->value = (bytes){at, size};
}

static void change_value(gguf_file *file, entry *e, fuzz_dice *dice)
{
    if (e->kind == KIND_STRING) {
        bytes text = {e->value.at + 8, e->value.size - 8};
        mutate_bytes(file, &text);
        uint8_t *at = more(file, 8 + text.size);
        if (at != NULL) {
            uint64_t length = text.size;
            memcpy(at, &length, 8);
            memcpy(at + 8, text.at, text.size);
            e->value = (bytes){at, 8 + text.size};
        }
    } else if (e->kind == KIND_ARRAY) {
        change_array(file, e, dice);
    } else {
        uint8_t *at = more(file, 8);
        if (at != NULL) {
            draw_scalar(e->kind, at, dice);
            e->value.at = at;
        }
    }
}

static void change_key(gguf_file *file, fuzz_dice *dice)
{
    if (file->key_count == 0) {
        return;
    }
    entry *e = &file->keys[fuzz_below(dice, file->key_count)];
    switch (fuzz_below(dice, 12)) {
    case 0:
        change_kind(file, e, dice);
        break;
    case 1:
        *e = file->keys[--file->key_count];
        break;
    case 2:
        mutate_bytes(file, &e->name);
        break;
    case 3:
        e->name = file->keys[fuzz_below(dice, file->key_count)].name;
        break;
    case 4:
        if (file->key_count < KEYS_MAX) {
            file->keys[file->key_count++] = *e;
            mutate_bytes(file, &file->keys[file->key_count - 1].name);
        }
        break;
    default:
        change_value(file, e, dice);
    }
}

/* The tensor's bytes anew: as many as its shape and type want, from what it had, over and over. */
static void lay_out(gguf_file *file, tensor *t)
{
    uint64_t wanted = tensor_bytes(t);
    if (wanted <= t->data.size) {
        t->data.size = (size_t)wanted;
        return;
    }
    uint8_t *at = wanted < file->pool_size ? more(file, (size_t)wanted) : NULL;
    if (at != NULL) {
        for (size_t i = 0; i < wanted; i++) {
            at[i] = t->data.size > 0 ? t->data.at[i % t->data.size] : 0;
        }
        t->data = (bytes){at, (size_t)wanted};
    }
}

static void change_shape(tensor *t, fuzz_dice *dice)
{
    if (t->rank > 1 && fuzz_chance(dice, 15)) {
        uint64_t kept = t->size[0];
        t->size[0] = t->size[1];
        t->size[1] = kept;
    } else if (t->rank < RANK_MAX && fuzz_chance(dice, 15)) {
        t->size[t->rank++] = fuzz_chance(dice, 70) ? 1 : fuzz_below(dice, 4);
    } else if (t->rank > 0 && fuzz_chance(dice, 10)) {
        t->rank--;
    } else if (t->rank > 0) {
        uint64_t *size = &t->size[fuzz_below(dice, t->rank)];
        switch (fuzz_below(dice, 4)) {
        case 0:
            *size += 1;
            break;
        case 1:
            *size -= *size > 0;
            break;
        case 2:
            *size *= 2;
            break;
        default:
            *size = (uint64_t)fuzz_integer(dice);
        }
    }
}

static void change_tensor(gguf_file *file, fuzz_dice *dice)
{
    if (file->tensor_count == 0) {
        return;
    }
    tensor *t = &file->tensors[fuzz_below(dice, file->tensor_count)];
    switch (fuzz_below(dice, 9)) {
    case 0:
        *t = file->tensors[--file->tensor_count];
        break;
    case 1:
        mutate_bytes(file, &t->name);
        break;
    case 2:
        t->name = file->tensors[fuzz_below(dice, file->tensor_count)].name;
        break;
    case 3:
        if (file->tensor_count < TENSORS_MAX) {
            file->tensors[file->tensor_count++] = *t;
            mutate_bytes(file, &file->tensors[file->tensor_count - 1].name);
        }
        break;
    case 4:
    case 5:
        t->type = (uint32_t)fuzz_below(dice, 44);
        lay_out(file, t);
        break;
    case 6:
        change_shape(t, dice);
        lay_out(file, t);
        break;
    default: {
        uint8_t *at = copy_of(file, t->data, 0);
        if (at != NULL) {
            fuzz_change_data(at, t->data.size, dice);
            t->data.at = at;
        }
    }
    }
}

/* What the file says of itself. */
static void change_frame(gguf_file *file, fuzz_dice *dice)
{
    switch (fuzz_below(dice, 4)) {
    case 0:
        file->key_lie = (int)fuzz_below(dice, 5) - 2;
        break;
    case 1:
        file->tensor_lie = (int)fuzz_below(dice, 5) - 2;
        break;
    case 2:
        file->offset_lie = (uint64_t)fuzz_integer(dice);
        break;
    default:
        file->version = (uint32_t)fuzz_below(dice, 5);
    }
}

void fuzz_change_data(uint8_t *data, size_t size, fuzz_dice *dice)
{
    static const uint32_t patterns[] = {0x7fc00000, 0x7f800000, 0xff800000, 0x7f7fffff, 0x00000001,
                                        0x7c007c00, 0x7e007e00, 0xffffffff, 0,          0x7f807f80,
                                        0x3f800000, 0xbf800000, 0x80000000, 0x7bff7bff, 0x01010101};
    for (size_t count = 1 + fuzz_below(dice, 4); count > 0 && size >= 4; count--) {
        uint32_t value = patterns[fuzz_below(dice, sizeof patterns / sizeof *patterns)];
        value = fuzz_chance(dice, 40) ? (uint32_t)fuzz_draw(dice) : value;
        size_t at = fuzz_below(dice, size / 2) * 2;
        memcpy(data + (at + 4 <= size ? at : size - 4), &value, 4);
    }
}

size_t fuzz_mutate_gguf(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    static gguf_file file;
    fuzz_dice dice = fuzz_dice_of(seed);
    file.key_lie = file.tensor_lie = 0;
    file.offset_lie = 0;
    if (fuzz_chance(&dice, 3) || !read_gguf(&file, data, size)) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    file.pool_size = 4 * max_size + 4096;
    file.pool_used = 0;
    file.pool = malloc(file.pool_size + max_size);
    FUZZ_REQUIRE(file.pool != NULL, "no memory");
    for (size_t changes = 1 + fuzz_below(&dice, 3); changes > 0; changes--) {
        if (fuzz_chance(&dice, 55)) {
            change_key(&file, &dice);
        } else if (fuzz_chance(&dice, 93)) {
            change_tensor(&file, &dice);
        } else {
            change_frame(&file, &dice);
        }
    }
    uint8_t *made = file.pool + file.pool_size;
    size_t length = write_gguf(&file, made, max_size);
    if (length > 0) {
        memcpy(data, made, length);
        length -= fuzz_chance(&dice, 1) ? fuzz_below(&dice, length) : 0;
    }
    free(file.pool);
    return length > 0 ? length : LLVMFuzzerMutate(data, size, max_size);
}
