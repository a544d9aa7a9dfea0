"""Blocks of every quantised type with the fp32 values that ggml makes of them.

python3 tests/reference/quant.py LIBGGML_BASE
    LIBGGML_BASE: libggml-base.so of a llama.cpp build, or another library that has it (the binding
    xllamacpp is one: xllamacpp.abi3.so of its package). Writes tests/fixtures/quant/TYPE.bin: u32
    number of elements, the blocks, then the values as fp32. Half of the blocks are random bytes
    with finite scales, the others what ggml_quantize_chunk made of normal numbers. And
    tests/fixtures/quant/chunks.bin: u32 rows and columns, fp32 values and importance of the columns,
    then for each type that mixt writes u32 number and what ggml_quantize_chunk makes of them, without
    importance and with it. And tests/fixtures/quant/grids.bin: for each type with a codebook u32
    number, u32 number of blocks, SHA-256 of the values that ggml makes of them, and the blocks, in
    which every entry of the codebook stands.

python3 tests/reference/quant.py LIBGGML_BASE LIBMIXT_QUANT COUNT
    Compares COUNT random blocks of every type with a shared library of src/quant instead
    (cc -O2 -shared -fPIC -ffp-contract=off -Isrc -Iinclude -D_DEFAULT_SOURCE src/quant/*.c
    src/core/half.c src/core/error.c), bit for bit, then the errors of both quantisers.
"""
import ctypes
import hashlib
import sys

import numpy as np

# name, number in ggml and in mixt, elements, bytes, offset of the 16-bit scales in a block
TYPES = [
    ("F16", 1, 1, 1, 2, (0,)),
    ("BF16", 30, 2, 1, 2, ()),
    ("Q4_0", 2, 3, 32, 18, (0,)),
    ("Q4_1", 3, 4, 32, 20, (0, 2)),
    ("Q5_0", 6, 5, 32, 22, (0,)),
    ("Q5_1", 7, 6, 32, 24, (0, 2)),
    ("Q8_0", 8, 7, 32, 34, (0,)),
    ("Q2_K", 10, 8, 256, 84, (80, 82)),
    ("Q3_K", 11, 9, 256, 110, (108,)),
    ("Q4_K", 12, 10, 256, 144, (0, 2)),
    ("Q5_K", 13, 11, 256, 176, (0, 2)),
    ("Q6_K", 14, 12, 256, 210, (208,)),
    ("IQ4_NL", 20, 13, 32, 18, (0,)),
    ("IQ4_XS", 23, 14, 256, 136, (0,)),
    ("MXFP4", 39, 15, 32, 17, ()),
]
# what mixt reads only
READ = [
    ("IQ1_S", 19, 16, 256, 50, (0,)),
    ("IQ1_M", 29, 17, 256, 56, ()),
    ("IQ2_XXS", 16, 18, 256, 66, (0,)),
    ("IQ2_XS", 17, 19, 256, 74, (0,)),
    ("IQ2_S", 22, 20, 256, 82, (0,)),
    ("IQ3_XXS", 18, 21, 256, 98, (0,)),
    ("IQ3_S", 21, 22, 256, 110, (0,)),
    ("TQ1_0", 34, 23, 256, 54, (52,)),
    ("TQ2_0", 35, 24, 256, 66, (64,)),
    ("NVFP4", 40, 25, 64, 36, ()),
    ("Q1_0", 41, 26, 128, 18, (0,)),
    ("Q2_0", 42, 27, 64, 18, (0,)),
]
VOID, I64, FLOATS = ctypes.c_void_p, ctypes.c_int64, np.ctypeslib.ndpointer(np.float32)


class Traits(ctypes.Structure):
    _fields_ = [
        ("type_name", ctypes.c_char_p),
        ("blck_size", I64),
        ("blck_size_interleave", I64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, VOID, VOID, I64)),
        ("from_float_ref", ctypes.CFUNCTYPE(None, VOID, VOID, I64)),
    ]


def load(path):
    ggml = ctypes.CDLL(path)
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, VOID, VOID, I64, I64, I64, VOID]
    return ggml


def dequantise(ggml, number, blocks, count):
    values = np.empty(count, np.float32)
    traits = ggml.ggml_get_type_traits(number).contents
    traits.to_float(blocks.ctypes.data, values.ctypes.data, count)
    return values


def quantise(ggml, number, size, values, importance=None):
    rows, columns = values.shape
    blocks = np.zeros(rows * columns // size[0] * size[1], np.uint8)
    weights = None if importance is None else importance.ctypes.data
    ggml.ggml_quantize_chunk(number, values.ctypes.data, blocks.ctypes.data, 0, rows, columns, weights)
    return blocks


def random_blocks(generator, count, size, scales):
    blocks = generator.integers(0, 256, (count, size), np.uint8)
    for at in scales:
        halves = (generator.standard_normal(count) * 0.02).astype(np.float16)
        halves[::5] = generator.integers(1, 0x3FF, len(halves[::5]), np.uint16).view(np.float16)
        blocks[:, at : at + 2] = halves.view(np.uint8).reshape(count, 2)
    if size == 56:  # IQ1_M: a half in the upper four bits of four words
        halves = (generator.standard_normal(count) * 0.02).astype(np.float16).view(np.uint16)
        for i in range(4):
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | (halves >> 4 * i & 15) << 4
    return blocks.reshape(-1)


def write_fixture(ggml, row, blocks):
    name, number, _, elements, size, _ = row
    total = len(blocks) // size * elements
    with open(f"tests/fixtures/quant/{name}.bin", "wb") as out:
        out.write(np.uint32(total).tobytes())
        out.write(blocks.tobytes())
        out.write(dequantise(ggml, number, blocks, total).tobytes())


def read_fixtures(ggml):
    """Of the types that are not written."""
    generator = np.random.default_rng(13)
    for row in READ:
        name, number, _, elements, size, scales = row
        blocks = random_blocks(generator, 512 // elements, size, scales)
        values = generator.standard_normal((1, 256)).astype(np.float32) * np.float32(0.05)
        importance = np.exp(generator.standard_normal(256)).astype(np.float32)
        made = quantise(ggml, number, (elements, size), values, importance)
        write_fixture(ggml, row, np.concatenate([blocks, made]))


def with_all_entries(generator, row, entries, count_in_block):
    """Random blocks, in which every entry stands; d is 1."""
    name, _, _, _, size, _ = row
    count = entries // count_in_block
    blocks = random_blocks(generator, count, size, ()).reshape(count, size)
    codes = generator.permutation(entries).reshape(count, count_in_block)
    at = np.arange(count_in_block)
    one = np.array([1], np.float16).view(np.uint8)
    if name == "IQ1_M":
        for i in range(4):
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | (0x3C00 >> 4 * i & 15) << 4
        blocks[:, at] = codes & 255
        high = codes >> 8
        blocks[:, 32:48] = blocks[:, 32:48] & 0x88 | high[:, ::2] | high[:, 1::2] << 4
        return blocks.reshape(-1)
    blocks[:, :2] = one
    if name == "IQ2_XXS":
        blocks[:, 2 + at // 4 * 8 + at % 4] = codes
    elif name == "IQ2_XS":
        words = blocks[:, 2:66].copy().view(np.uint16)
        blocks[:, 2:66] = (words & 0xFE00 | codes.astype(np.uint16)).view(np.uint8)
    elif name == "IQ2_S":
        blocks[:, 2 + at] = codes & 255
        high = codes >> 8
        blocks[:, 66:74] = sum(high[:, i::4] << 2 * i for i in range(4))
    elif name == "IQ3_XXS":
        blocks[:, 2 + at] = codes
    elif name == "IQ3_S":
        blocks[:, 2 + at] = codes & 255
        high = codes >> 8
        blocks[:, 66:74] = sum(high[:, i::8] << i for i in range(8))
    else:  # IQ1_S
        blocks[:, 2 + at] = codes & 255
        high = (codes >> 8).astype(np.uint16)
        words = blocks[:, 34:50].copy().view(np.uint16)
        words = words & 0xF000 | sum(high[:, i::4] << 3 * i for i in range(4))
        blocks[:, 34:50] = words.astype(np.uint16).view(np.uint8)
    return blocks.reshape(-1)


def grid_fixture(ggml):
    generator = np.random.default_rng(14)
    sizes = {"IQ1_S": 2048, "IQ1_M": 2048, "IQ2_XXS": 256, "IQ2_XS": 512, "IQ2_S": 1024, "IQ3_XXS": 256, "IQ3_S": 512}
    with open("tests/fixtures/quant/grids.bin", "wb") as out:
        for row in READ[:7]:
            blocks = with_all_entries(generator, row, sizes[row[0]], 64 if row[0][2] == "3" else 32)
            count = len(blocks) // row[4]
            values = dequantise(ggml, row[1], blocks, count * 256)
            out.write(np.array([row[1], count], np.uint32).tobytes())
            out.write(hashlib.sha256(values.tobytes()).digest() + blocks.tobytes())


def fixtures(ggml):
    generator = np.random.default_rng(11)
    for name, number, _, elements, size, scales in TYPES:
        count = 512 // elements
        blocks = random_blocks(generator, count, size, scales)
        if name == "BF16":
            blocks = (generator.standard_normal(count) * 3).astype(np.float32).view(np.uint8)
            blocks = blocks.reshape(-1, 4)[:, 2:].copy().reshape(-1)
        if name == "MXFP4":
            blocks.reshape(count, size)[:, 0] = generator.choice([0, 1, 2, 100, 127, 131, 240], count)
        if elements > 1:
            values = generator.standard_normal((2, 256)).astype(np.float32) * np.float32(0.05)
            blocks = np.concatenate([blocks, quantise(ggml, number, (elements, size), values)])
        write_fixture(ggml, (name, number, _, elements, size, scales), blocks)
    rows, columns = 4, 512
    values = generator.standard_normal((rows, columns)).astype(np.float32) * np.float32(0.02)
    importance = np.exp(generator.standard_normal(columns)).astype(np.float32)
    with open("tests/fixtures/quant/chunks.bin", "wb") as out:
        out.write(np.array([rows, columns], np.uint32).tobytes())
        out.write(values.tobytes() + importance.tobytes())
        for name, number, _, elements, size, _ in TYPES:
            out.write(np.uint32(number).tobytes())
            for weights in (None, importance):
                out.write(quantise(ggml, number, (elements, size), values, weights).tobytes())


def error_of(values, again, importance):
    squares = (values.astype(np.float64) - again.reshape(values.shape)) ** 2
    return np.sqrt((squares * importance).sum() / (importance.sum() * len(values)))


def compare(ggml, mixt, count):
    mixt.mixt_dequantise.argtypes = [ctypes.c_int, VOID, VOID, I64]
    mixt.mixt_quantise.argtypes = [ctypes.c_int, VOID, I64, I64, VOID, VOID, VOID]
    generator = np.random.default_rng(12)
    print("blocks that differ in a bit")
    for name, number, ours, elements, size, scales in TYPES + READ:
        blocks = random_blocks(generator, count, size, scales)
        theirs = dequantise(ggml, number, blocks, count * elements)
        values = np.empty_like(theirs)
        mixt.mixt_dequantise(ours, blocks.ctypes.data, values.ctypes.data, len(values))
        differ = (values.view(np.uint32) != theirs.view(np.uint32)) & ~(np.isnan(values) & np.isnan(theirs))
        print(f"{name:8} {differ.reshape(count, elements).any(1).sum()} of {count}")
    rows, columns = 64, 2048
    normal = generator.standard_normal((rows, columns)).astype(np.float32) * np.float32(0.02)
    heavy = (normal * np.exp(generator.standard_normal((rows, columns)) * 0.5)).astype(np.float32)
    importance = np.exp(generator.standard_normal(columns) * 1.5).astype(np.float32)
    ones = np.ones(columns)
    print("error * 1e6    normal: mixt     ggml  ratio   heavy: mixt     ggml  ratio   weighted: mixt     ggml  ratio")
    for name, number, ours, elements, size, _ in TYPES:
        line = f"{name:12}"
        for values, weights in ((normal, None), (heavy, None), (normal, importance)):
            blocks = quantise(ggml, number, (elements, size), values, weights)
            theirs = error_of(values, dequantise(ggml, number, blocks, values.size), ones if weights is None else weights)
            pointer = None if weights is None else weights.ctypes.data
            if mixt.mixt_quantise(ours, values.ctypes.data, rows, columns, pointer, blocks.ctypes.data, None):
                sys.exit(f"{name}: refused")
            again = np.empty(values.size, np.float32)
            mixt.mixt_dequantise(ours, blocks.ctypes.data, again.ctypes.data, values.size)
            own = error_of(values, again, ones if weights is None else weights)
            line += f"  {own * 1e6:12.2f} {theirs * 1e6:8.2f} {own / theirs:6.3f}"
        print(line)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        compare(load(sys.argv[1]), ctypes.CDLL(sys.argv[2]), int(sys.argv[3]))
    else:
        library = load(sys.argv[1])
        fixtures(library)
        read_fixtures(library)
        grid_fixture(library)
