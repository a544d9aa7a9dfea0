"""An importance matrix in llama.cpp's two forms, small.

python3 tests/reference/importance.py
    Writes tests/fixtures/importance/experts.gguf and experts.dat: what llama-imatrix would write of
    the same sums and counts (tools/imatrix/imatrix.cpp; save_imatrix and save_imatrix_legacy). A
    dense tensor of 8 columns and a stack of 4 experts of 6 columns, whose third no token reached. In
    the older form an entry has one number of calls (chunks, rounded up) and means times that.
"""
import struct

import gguf
import numpy as np

CHUNK = 512
generator = np.random.default_rng(5)


def entry(matrices, columns, counts):
    sums = generator.random((matrices, columns), np.float32) * np.float32(1000)
    counts = np.array(counts, np.float32)
    sums[counts == 0] = 0
    return sums, counts


entries = {
    "blk.0.attn_q.weight": entry(1, 8, [3 * CHUNK]),
    "blk.0.ffn_gate_exps.weight": entry(4, 6, [700, 100, 0, 2 * CHUNK + 1]),
}

writer = gguf.GGUFWriter("tests/fixtures/importance/experts.gguf", "imatrix")
writer.add_string("general.type", "imatrix")
writer.add_array("imatrix.datasets", ["text.txt"])
writer.add_uint32("imatrix.chunk_count", 3)
writer.add_uint32("imatrix.chunk_size", CHUNK)
for name, (sums, counts) in entries.items():
    writer.add_tensor(name + ".in_sum2", sums)
    writer.add_tensor(name + ".counts", counts.reshape(-1, 1))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

with open("tests/fixtures/importance/experts.dat", "wb") as out:
    out.write(struct.pack("<i", len(entries)))
    for name, (sums, counts) in sorted(entries.items()):
        calls = int(-(-counts.max() // CHUNK))
        reached = counts[:, None] > 0
        means = np.where(reached, sums / np.maximum(counts, 1)[:, None], np.float32(1)).astype(np.float32)
        out.write(struct.pack("<i", len(name)) + name.encode())
        out.write(struct.pack("<ii", calls, means.size) + (means * np.float32(calls)).tobytes())
    out.write(struct.pack("<ii", 3, 8) + b"text.txt")
