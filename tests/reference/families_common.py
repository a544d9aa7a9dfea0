"""Shared by the scripts that make tests/fixtures/families: random tensors, files, comparison.

A fixture is a Hugging Face folder of a tiny random model: config.json with the keys of the
family's published file, model.safetensors with its tensor names, and expected.safetensors with
`tokens` i32 [T] and `logits` f32 [T, V]. Weights are bfloat16 so that the files stay small; every
implementation reads them as the same real numbers. Needs numpy only, so that it runs beside any
implementation.
"""

import argparse
import hashlib
import json
import pathlib
import sys

import numpy

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "families"
TOKENS = 24
TOLERANCE = 2e-5  # two fp32 implementations, relative to the largest |logit| above 1


def generator(*words):
    """A random generator that depends on these words alone, not on what was drawn before."""
    digest = hashlib.sha256("/".join(str(word) for word in words).encode()).digest()
    return numpy.random.Generator(numpy.random.PCG64(int.from_bytes(digest[:8], "little")))


def to_bfloat16(values):
    """float array -> uint16 bit patterns, rounded to nearest even."""
    bits = numpy.ascontiguousarray(values, dtype=numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


def from_bfloat16(bits):
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


DTYPES = {"uint16": "BF16", "float32": "F32", "int32": "I32", "uint8": "U8"}


def save(path, tensors):
    """A safetensors file. tensors: {name: array}; uint16 arrays hold bfloat16."""
    header, offset, data = {"__metadata__": {"format": "pt"}}, 0, []
    # wide types first, so that each tensor stays aligned; then by name
    for name in sorted(tensors, key=lambda key: (-tensors[key].itemsize, key)):
        piece = numpy.ascontiguousarray(tensors[name])
        header[name] = {"dtype": DTYPES[str(piece.dtype)], "shape": list(piece.shape),
                        "data_offsets": [offset, offset + piece.nbytes]}
        offset += piece.nbytes
        data.append(piece.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))


def load(path):
    """{name: array}; bfloat16 becomes float32."""
    data = pathlib.Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    kinds = {"BF16": numpy.uint16, "F32": numpy.float32, "I32": numpy.int32, "U8": numpy.uint8}
    result = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        array = numpy.frombuffer(data[8 + size + begin:8 + size + end], kinds[entry["dtype"]])
        array = array.reshape(entry["shape"])
        result[name] = from_bfloat16(array) if entry["dtype"] == "BF16" else array
    return result


def draw(kind, shape, random):
    """One tensor. Matrices keep the size of what goes through them; the router is sharper, so that
    routes are far from ties; nothing is left at the value that would hide a missing step."""
    noise = random.standard_normal(shape)
    if kind == "norm":
        return 1.0 + 0.3 * noise
    if kind == "bias":
        return 0.5 * noise
    if kind == "small":  # selection biases of scores in [0, 1]
        return 0.3 * noise
    if kind == "sinks":
        return 1.0 + noise
    if kind == "embed":
        return noise
    scale = {"matrix": 1.2, "strong": 2.5, "wide": 4.0, "router": 3.0, "gentle": 0.6}
    fan_in = int(numpy.prod(shape[1:])) if not kind.endswith("_in_out") else shape[-2]
    return scale[kind.removesuffix("_in_out")] * noise / numpy.sqrt(fan_in)


def tokens_of(name, vocab_size):
    """TOKENS ids with repeats: positions, and not only tokens, must matter."""
    ids = generator(name, "tokens").integers(0, vocab_size, TOKENS)
    ids[9] = ids[4]
    ids[17] = ids[16]
    return ids.astype(numpy.int32)


def folders(description, argv=None):
    """Arguments of a reference script: which folders, write or check."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true",
                        help="compare with expected.safetensors instead of writing it")
    parser.add_argument("names", nargs="*", help="fixture folders (default: all it can run)")
    return parser.parse_args(argv)


def relative(first, second):
    """Largest difference, divided by the largest |value| where that exceeds 1."""
    return float(numpy.max(numpy.abs(first - second)) / max(1.0, numpy.max(numpy.abs(second))))


def record(folder, logits, check, tolerance=TOLERANCE):
    """Writes expected.safetensors, or compares with it. Returns True when all is well."""
    path = folder / "expected.safetensors"
    logits = numpy.asarray(logits, dtype=numpy.float64)
    assert numpy.isfinite(logits).all()
    if check:
        difference = relative(logits, load(path)["logits"])
        print(f"{folder.name:24} difference {difference:.2e}", "" if difference <= tolerance
              else "  <-- too large")
        return difference <= tolerance
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    assert logits.shape == (TOKENS, vocab_size)
    save(path, {"tokens": tokens_of(folder.name, vocab_size),
                "logits": logits.astype(numpy.float32)})
    print(f"{folder.name:24} logits: largest {numpy.abs(logits).max():.2f}, "
          f"deviation {logits.std():.2f}")
    return True


def read_tokens(folder):
    return tokens_of(folder.name, json.loads((folder / "config.json").read_text())["vocab_size"])


def run(description, default_names, logits_of):
    """Main of a reference script: logits_of(folder) -> [T, V] for each named fixture."""
    arguments = folders(description)
    good = True
    for name in arguments.names or default_names:
        folder = FIXTURES / name
        good &= record(folder, logits_of(folder), arguments.check)
    sys.exit(0 if good else 1)
