# SPDX-License-Identifier: MIT
"""npy and safetensors files by hand, so that the tests need nothing but Python."""
import ast
import json
import struct

# name: struct code, npy descr, safetensors type
TYPES = {
    "f32": ("f", "<f4", "F32"),
    "f16": ("e", "<f2", "F16"),
    "bf16": ("H", "<V2", "BF16"),
    "f64": ("d", "<f8", "F64"),
    "i8": ("b", "|i1", "I8"),
    "bool": ("?", "|b1", "BOOL"),
    "u8": ("B", "|u1", "U8"),
    "f8_e4m3": ("B", None, "F8_E4M3"),  # as bits
    "i16": ("h", "<i2", "I16"),
    "u16": ("H", "<u2", "U16"),
    "i32": ("i", "<i4", "I32"),
    "u32": ("I", "<u4", "U32"),
    "i64": ("q", "<i8", "I64"),
    "u64": ("Q", "<u8", "U64"),
}


def bf16_bits(value):
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    if value != value:
        return bits >> 16 | 0x40
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def bf16_value(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def count(shape):
    n = 1
    for d in shape:
        n *= d
    return n


class Array:
    """A flat list of Python numbers with a dtype and a shape."""

    def __init__(self, dtype, shape, values):
        self.dtype, self.shape, self.values = dtype, tuple(shape), list(values)
        assert len(self.values) == count(shape), (shape, len(self.values))

    def data(self):
        code = TYPES[self.dtype][0]
        values = map(bf16_bits, self.values) if self.dtype == "bf16" else self.values
        return struct.pack("<%d%s" % (len(self.values), code), *values)

    @staticmethod
    def of(dtype, shape, data):
        values = struct.unpack("<%d%s" % (count(shape), TYPES[dtype][0]), data)
        return Array(dtype, shape, map(bf16_value, values) if dtype == "bf16" else values)

    def rounded(self):
        """As the file will hold it."""
        return Array.of(self.dtype, self.shape, self.data())

    def rows(self):
        n = self.shape[-1]
        return [self.values[i * n:i * n + n] for i in range(count(self.shape[:-1]))]

    def same(self, other):
        return self.dtype == other.dtype and self.shape == other.shape and self.data() == other.data()

    def __repr__(self):
        return "%s %s %s" % (self.dtype, self.shape, self.values[:40])


def npy_bytes(array, descr=None, shape=None, fortran=False):
    head = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (
        descr or TYPES[array.dtype][1], fortran, shape or array.shape)
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + array.data()


def save_npy(path, array, **how):
    with open(path, "wb") as f:
        f.write(npy_bytes(array, **how))


def load_npy(path):
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    end = 10 + struct.unpack("<H", data[8:10])[0]
    head = ast.literal_eval(data[10:end].decode())
    assert not head["fortran_order"] and end % 64 == 0
    dtype = next(name for name, t in TYPES.items() if t[1] == head["descr"])
    return Array.of(dtype, head["shape"], data[end:])


def save_safetensors(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        part = array.data()
        header[name] = {"dtype": TYPES[array.dtype][2], "shape": array.shape,
                        "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def load_safetensors(path, wanted=lambda name: True):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        tensors = {}
        for name, entry in header.items():
            if name == "__metadata__" or not wanted(name):
                continue
            begin, end = entry["data_offsets"]
            f.seek(8 + size + begin)
            dtype = next(key for key, t in TYPES.items() if t[2] == entry["dtype"])
            tensors[name] = Array.of(dtype, entry["shape"], f.read(end - begin))
    return tensors
