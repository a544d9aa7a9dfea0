"""A GGUF file of every kind of value, as the gguf package (llama.cpp's) writes it.

python3 tests/reference/gguf_fixture.py [FOLDER WITH THE PACKAGE]
    Writes tests/fixtures/gguf/kinds.gguf, which tests/test_gguf.c reads and, written anew by mixt,
    compares byte for byte.

python3 tests/reference/gguf_fixture.py --read FILE [FOLDER WITH THE PACKAGE]
    Prints what the package reads from a file that mixt wrote: keys, tensors and sums of their data.
"""
import sys

import numpy as np

if len(sys.argv) > 1 and not sys.argv[-1].endswith(".gguf"):
    sys.path.insert(0, sys.argv[-1])
import gguf  # noqa: E402


def write(path):
    generator = np.random.default_rng(3)
    out = gguf.GGUFWriter(path, "olmoe")
    out.add_uint8("kind.u8", 200)
    out.add_int8("kind.i8", -100)
    out.add_uint16("kind.u16", 60000)
    out.add_int16("kind.i16", -30000)
    out.add_uint32("kind.u32", 4000000000)
    out.add_int32("kind.i32", -2000000000)
    out.add_float32("kind.f32", 1e-5)
    out.add_bool("kind.bool", True)
    out.add_string("kind.string", "Grüße\n")
    out.add_uint64("kind.u64", 1 << 63)
    out.add_int64("kind.i64", -(1 << 62))
    out.add_float64("kind.f64", 0.1)
    out.add_array("array.i32", [1, -2, 3])
    out.add_array("array.f32", [0.5, -0.25])
    out.add_array("array.string", ["a", "", "ü", "three"])
    out.add_array("array.bool", [True, False])
    out.add_tensor("matrix", np.arange(6, dtype=np.float32).reshape(2, 3))
    out.add_tensor("halves", np.arange(5, dtype=np.float16))
    blocks = generator.integers(0, 255, (2, 3, 34 * 2), np.uint8)
    out.add_tensor("experts", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    out.add_tensor("four", generator.integers(0, 255, (2, 1, 2, 144), np.uint8),
                   raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def read(path):
    reader = gguf.GGUFReader(path)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF."):
            print(key, [t.name for t in field.types], str(field.contents())[:60])
    for tensor in reader.tensors:
        data = np.ascontiguousarray(tensor.data).view(np.uint8)
        print(tensor.name, tensor.tensor_type.name, list(map(int, tensor.shape)), int(data.sum()))


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--read":
        read(sys.argv[2])
    else:
        write("tests/fixtures/gguf/kinds.gguf")
