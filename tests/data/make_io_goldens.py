#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints io_goldens.h: files written by numpy, safetensors and gguf themselves, as bytes, with what they hold.

Run where numpy, ml_dtypes, safetensors and gguf are installed:  make_io_goldens.py > io_goldens.h
The tests need none of them.
"""
import importlib.metadata
import io
import os
import sys
import tempfile

import gguf
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

NAMES = {
    "float32": "ARRAY_F32", "float16": "ARRAY_F16", "bfloat16": "ARRAY_BF16", "float64": "ARRAY_F64",
    "int8": "ARRAY_I8", "uint8": "ARRAY_U8", "int16": "ARRAY_I16", "uint16": "ARRAY_U16",
    "int32": "ARRAY_I32", "uint32": "ARRAY_U32", "int64": "ARRAY_I64", "uint64": "ARRAY_U64", "bool": "ARRAY_BOOL",
}


def literal(data, indent="     "):
    """C string literals of at most 100 characters; octal escapes end after three digits; no ? (trigraphs)."""
    lines, line = [], ""
    for byte in data:
        char = chr(byte)
        piece = "\\" + char if char in '"\\' else char if 32 <= byte < 127 and char != "?" else "\\%03o" % byte
        if len(line) + len(piece) > 96:
            lines.append(line)
            line = ""
        line += piece
    lines.append(line)
    return "\n".join('%s"%s"' % (indent, line) for line in lines)


def row(label, data, array, order_differs, version):
    shape = ", ".join(str(n) for n in array.shape) or "0"
    values = np.ascontiguousarray(array).tobytes()
    print('    {"%s",\n%s,\n     %d,' % (label, literal(data), len(data)))
    print("     %s, %d, {%s},\n%s,\n     %d, %s}," % (
        NAMES[str(array.dtype)], array.ndim, shape, literal(values), len(values),
        "true" if version == (1, 0) and not order_differs else "false"))


def npy(label, array, version=(1, 0)):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    fortran = array.ndim > 1 and array.flags.f_contiguous and not array.flags.c_contiguous
    row(label, out.getvalue(), array, fortran, version)


def gguf_file():
    """Every type of value, a nested list, an alignment of its own, five types of tensors."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "g.gguf")
        w = gguf.GGUFWriter(path, "qwen3moe")
        w.add_custom_alignment(64)
        w.add_uint8("v.u8", 255)
        w.add_int8("v.i8", -128)
        w.add_uint16("v.u16", 65535)
        w.add_int16("v.i16", -32768)
        w.add_uint32("qwen3moe.expert_count", 128)
        w.add_int32("v.i32", -2**31)
        w.add_float32("v.f32", 0.1)
        w.add_uint64("v.u64", 2**53)
        w.add_int64("v.i64", -2**40)
        w.add_float64("v.f64", 0.1)
        w.add_bool("v.bool", True)
        w.add_string("v.string", "\u00e9\n")
        w.add_array("v.list", [1, 2, 3])
        w.add_array("v.texts", ["a", "", "b"])
        w.add_array("v.nested", [[1, 2], [3]])
        w.add_tensor("blk.0.a.weight", np.arange(6, dtype=np.float32).reshape(1, 2, 3))
        w.add_tensor("blk.0.b.bias", np.array([1, -2, 0.5], np.float16))
        x = np.sin(np.arange(64, dtype=np.float32)).reshape(2, 32)
        for kind in "BF16", "Q8_0", "Q4_0":
            number = gguf.GGMLQuantizationType[kind]
            w.add_tensor("blk.0." + kind, gguf.quants.quantize(x, number), raw_dtype=number)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        with open(path, "rb") as f:
            return f.read()


def main():
    print("// SPDX-License-Identifier: MIT")
    print("//\n// Written by make_io_goldens.py beside this file with numpy %s, ml_dtypes %s, safetensors %s,\n// gguf %s." % (
        np.__version__, ml_dtypes.__version__, safetensors.__version__, importlib.metadata.version("gguf")))
    print("// clang-format off\n#include \"array.h\"\n\n#include <stddef.h>")
    print("\nstatic const struct npy_golden {")
    print("    const char *label;\n    const char *file;\n    size_t file_size;\n    enum array_dtype dtype;")
    print("    int ndim;\n    int64_t shape[ARRAY_MAX_DIMS];\n    const char *data; // in C order\n    size_t bytes;")
    print("    bool saved_alike; // npy_save() writes the same bytes\n} npy_goldens[] = {")
    special = [0.0, -0.0, 1.5, -2.25, np.inf, -np.inf, np.nan]
    npy("f32 (2, 3)", np.array([[1, -2, 0.5], [3e38, 1e-45, -0.0]], np.float32))
    npy("f32 ()", np.array(7.25, np.float32))
    npy("f32 (0,)", np.zeros((0,), np.float32))
    npy("f32 (0, 3)", np.zeros((0, 3), np.float32))
    npy("f32 (3, 0, 2)", np.zeros((3, 0, 2), np.float32))
    npy("f16 (7,)", np.array(special, np.float16))
    npy("bf16 (7,)", np.array(special, ml_dtypes.bfloat16))
    npy("bf16 ()", np.array(3.0, ml_dtypes.bfloat16))
    npy("f64 (1,)", np.array([1 / 3]))
    npy("i8 (3,)", np.array([-128, 0, 127], np.int8))
    npy("u8 (5, 1)", np.array([[0], [1], [2], [254], [255]], np.uint8))
    npy("i16 (1, 1, 3)", np.array([[[-32768, 5, 32767]]], np.int16))
    npy("i32 (2, 1)", np.array([[-2**31], [2**31 - 1]], np.int32))
    npy("u32 (2,)", np.array([0, 2**32 - 1], np.uint32))
    npy("i64 (2,)", np.array([-2**63, 2**63 - 1], np.int64))
    npy("u64 ()", np.array(2**64 - 1, np.uint64))
    npy("bool (5,)", np.array([True, False, True, True, False]))
    npy("i32 (1, 2, 1, 1, 3, 1, 1, 1)", np.arange(6, dtype=np.int32).reshape(1, 2, 1, 1, 3, 1, 1, 1))
    npy("fortran i32 (2, 3)", np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)))
    npy("fortran i8 (2, 3, 4)", np.asfortranarray(np.arange(24, dtype=np.int8).reshape(2, 3, 4)))
    npy("fortran f64 (3, 1, 2)", np.asfortranarray(np.arange(6, dtype=np.float64).reshape(3, 1, 2)))
    npy("version 2.0 f32 (3,)", np.array([1, 2, 3], np.float32), (2, 0))
    npy("version 3.0 i64 (2, 2)", np.array([[1, 2], [3, 4]], np.int64), (3, 0))
    print("};")

    tensors = {
        "b.weight": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        "a.bias": np.array([1, -1, 0.5], ml_dtypes.bfloat16),
        "ids": np.array([3, -1], np.int64),
        "scalar": np.array(2.5, np.float16),
        "none": np.zeros((0, 4), np.float32),
        "flag": np.array([True, False, True]),
        "\u00fcber \"x\"": np.array([9], np.uint8),
    }
    data = safetensors.numpy.save(tensors, metadata={"format": "np", "note": "a \"b\"\n\u00e9"})
    print("\n// Seven tensors and two strings of metadata; what they hold is in the test.")
    print("static const char safetensors_golden[] =\n%s;" % literal(data, "    "))
    print("\n// What it holds is in the test.")
    print("static const char gguf_golden[] =\n%s;" % literal(gguf_file(), "    "))
    return 0


if __name__ == "__main__":
    sys.exit(main())
