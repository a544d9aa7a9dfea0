"""The codebooks of the IQ types, in the words of src/quant/grids.c.

python3 tests/reference/grids.py > src/quant/grids_table.txt
    Takes the grids of the gguf package (0.19) and prints them as the arrays that stand in
    src/quant/grids.c: one number an entry, the codes of its values from the lowest bits on: two
    bits each for eight values (IQ1 and IQ2), three for four (IQ3). A check unpacks them again.
"""
import numpy as np
from gguf import quants

# name, class of the package, bits of a code
GRIDS = [
    ("iq1", quants.IQ1_S, 2),
    ("iq2_xxs", quants.IQ2_XXS, 2),
    ("iq2_xs", quants.IQ2_XS, 2),
    ("iq2_s", quants.IQ2_S, 2),
    ("iq3_xxs", quants.IQ3_XXS, 3),
    ("iq3_s", quants.IQ3_S, 3),
]


def pack(grid, values, bits):
    codes = np.searchsorted(values, grid)
    shifts = bits * np.arange(grid.shape[1])
    words = (codes << shifts).sum(1)
    again = values[words[:, None] >> shifts & ((1 << bits) - 1)]
    assert (again == grid).all() and words.max() < 1 << 16
    return words


for name, kind, bits in GRIDS:
    kind.init_grid()
    values = np.array(kind.grid_map)
    grid = kind.grid.reshape(kind.grid_shape)
    words = pack(grid, values, bits)
    print(f"/* {', '.join(str(int(v)) for v in values)} */")
    print(f"static const uint16_t {name}[{len(words)}] = {{")
    for i in range(0, len(words), 12):
        print("    " + " ".join(f"0x{w:04x}," for w in words[i : i + 12]))
    print("};\n")
