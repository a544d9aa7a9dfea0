#!/usr/bin/env python3
"""Makes tests/fixtures/safetensors/ with the safetensors package (0.8.0), and with --check FILE...
opens files that mixt wrote with that package and prints what they hold.

  types.safetensors     one tensor of each common type, an empty one and a scalar, metadata
  rounding.bin          floats with the halves and bfloat16 that numpy and torch round them to
  verdicts.bin          255 x size bits: for byte i and change x in 1..255, whether the package
                        reads types.safetensors with byte i replaced by byte i ^ x
"""
import json
import os
import sys

import numpy as np
import safetensors
import safetensors.numpy
import torch
from safetensors.torch import save

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "safetensors")


def make():
    os.makedirs(HERE, exist_ok=True)
    tensors = {
        "double": torch.tensor([1.5, -2.25], dtype=torch.float64),
        "float.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4,
        "half": torch.tensor([1.0, -0.5, 65504.0], dtype=torch.float16),
        "brain": torch.tensor([1.0, -3.0], dtype=torch.bfloat16),
        "long": torch.tensor([-(2**62)], dtype=torch.int64),
        "int": torch.tensor([[7], [-8]], dtype=torch.int32),
        "short": torch.tensor([-9, 10], dtype=torch.int16),
        "tiny": torch.tensor([-1, 2, 3], dtype=torch.int8),
        "byte": torch.tensor([255], dtype=torch.uint8),
        "flag": torch.tensor([True, False], dtype=torch.bool),
        "empty": torch.zeros((0, 5), dtype=torch.float32),
        "scalar": torch.tensor(3.25, dtype=torch.float32),
    }
    data = save(tensors, metadata={"format": "pt", "note": 'a "quoted"\n\u00fc \U0001f600 text'})
    with open(os.path.join(HERE, "types.safetensors"), "wb") as file:
        file.write(data)
    bits = np.zeros((len(data), 256), dtype=bool)
    for i in range(len(data)):
        changed = bytearray(data)
        for x in range(1, 256):
            changed[i] = data[i] ^ x
            try:
                safetensors.deserialize(bytes(changed))
                bits[i, x] = True
            except safetensors.SafetensorError:
                pass
    packed = np.packbits(bits, axis=1, bitorder="little")
    # Data bytes are never looked at: keep the header's rows only.
    header = 8 + int.from_bytes(data[:8], "little")
    assert bits[header:, 1:].all()
    packed[:header].tofile(os.path.join(HERE, "verdicts.bin"))
    print(len(data), "bytes,", int(bits[:header].sum()), "of", 255 * header, "header changes accepted")
    for i in range(len(data)):
        try:
            safetensors.deserialize(data[:i])
            raise SystemExit(f"prefix of {i} bytes accepted")
        except safetensors.SafetensorError:
            pass
    everything = np.arange(65536, dtype=np.uint16)
    halves = everything.view(np.float16).astype(np.float32)
    brains = torch.from_numpy(everything.view(np.int16).copy()).view(torch.bfloat16).float().numpy()
    # 512 KiB of table shrink to their hash: FNV-1a over the bit patterns, NaN as 7fc00000 with sign.
    def fnv(values):
        bits = values.view(np.uint32).copy()
        nan = (bits & 0x7FFFFFFF) > 0x7F800000
        bits[nan] = (bits[nan] & 0x80000000) | 0x7FC00000
        h = 0xCBF29CE484222325
        for b in bits.tobytes():
            h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        return h
    print("f16 -> f32  0x%016x" % fnv(halves))
    print("bf16 -> f32 0x%016x" % fnv(brains))
    # Rounding: floats around every half and between, by numpy; and by torch for bfloat16.
    rng = np.random.default_rng(1)
    values = np.concatenate([
        rng.integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32).view(np.float32),
        (rng.standard_normal(20000) * np.exp(rng.uniform(-20, 14, 20000))).astype(np.float32),
        np.array([0.0, -0.0, np.inf, -np.inf, 65504, 65519.996, 65520, 2**-24, 2**-25,
                  np.nextafter(np.float32(2**-25), np.float32(1)), 2**-14, 6.1e-5], np.float32)])
    values = values[~np.isnan(values)]
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).view(np.uint16)
    brain = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    pick = slice(0, None, 10)
    with open(os.path.join(HERE, "rounding.bin"), "wb") as file:
        tail = values[-12:]
        chosen = np.concatenate([values[pick], tail])
        file.write(np.uint32(len(chosen)).tobytes())
        file.write(chosen.tobytes())
        file.write(np.concatenate([half[pick], half[-12:]]).tobytes())
        file.write(np.concatenate([brain[pick], brain[-12:]]).tobytes())


def check(paths):
    for path in paths:
        with open(path, "rb") as file:
            raw = file.read()
        with safetensors.safe_open(path, "np") as file:
            print(path, len(raw), "bytes, metadata", json.dumps(file.metadata(), sort_keys=True))
        for name, entry in safetensors.deserialize(raw):
            sums = {"BF16": lambda b: torch.frombuffer(b, dtype=torch.bfloat16).double().sum(),
                    "BOOL": lambda b: np.frombuffer(b, np.bool_).sum()}
            numpy_name = {"F": "f", "I": "i", "U": "u"}.get(entry["dtype"][0])
            plain = lambda b: np.frombuffer(b, f"<{numpy_name}{int(entry['dtype'][1:]) // 8}").sum()
            total = sums.get(entry["dtype"], plain)(entry["data"])
            print(" ", name, entry["dtype"], entry["shape"], float(total))


if __name__ == "__main__":
    check(sys.argv[2:]) if sys.argv[1:2] == ["--check"] else make()
