#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ONNX's own tests of TopK against libclmoe, by ctypes: onnx_topk.py LIBCLMOE [unittest options]

With a recent ONNX (pip install onnx) by its official runner, onnx.backend.test. With the 1.12 that Debian packages as
python3-onnx, whose runner lacks its data and does not work with Debian's NumPy, its node tests alone. The environment
variable CLMOE_TEST_DEVICE picks a device as in the other tests: a part of "platform / device". Exits with 77, which
meson calls skipped, where there is no onnx."""
import ctypes
import os
import sys
import unittest
import warnings
from ctypes import byref, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

try:
    import numpy as np
    import onnx
    from onnx.backend.base import Backend, BackendRep
except ImportError as e:
    print(f"no onnx here: {e}")
    sys.exit(77)

# enum clmoe_dtype, by NumPy's names
DTYPES = {name: i for i, name in enumerate(["float32", "float16", "bfloat16", "int32", "uint32", "uint8", None, "float64",
                                            "int8", "int16", "uint16", "int64", "uint64"])}
SORTED, ANY = 0, 2


class Scalar(ctypes.Union):
    _fields_ = [("f", c_double), ("i", c_int64), ("u", c_uint64)]


class PlanOptions(ctypes.Structure):
    _fields_ = [("kernel", c_char_p), ("external_workspace", c_int)]


class Params(ctypes.Structure):
    """struct clmoe_topk_params"""
    _fields_ = [("plan", PlanOptions), ("max_rows", c_int64), ("n", c_int64), ("k", c_int64), ("dtype", c_int),
                ("smallest", c_int), ("order", c_int), ("nan", c_int), ("ties", c_int), ("index_dtype", c_int),
                ("pad", c_int), ("row_begin", c_int), ("row_length", c_int), ("row_k", c_int), ("outputs", c_uint32),
                ("dense_fill", Scalar), ("pad_value", Scalar), ("dense_scale", c_float)]


class Tensor(ctypes.Structure):
    _fields_ = [("mem", c_void_p), ("offset", c_uint64), ("dtype", c_int), ("ndim", c_int32), ("shape", c_int64 * 4),
                ("stride", c_int64 * 4)]


class Args(ctypes.Structure):
    """struct clmoe_topk_args"""
    _fields_ = [(name, Tensor) for name in ("x", "row_begin", "row_length", "row_k", "values", "indices", "mask", "bitmask",
                                            "dense", "threshold", "cut", "counts")]


LOG = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p)


class ContextParams(ctypes.Structure):
    _fields_ = [("log", LOG), ("log_priv", c_void_p), ("log_level", c_int), ("cache", c_void_p), ("work_group", c_size_t),
                ("local_mem", c_uint64), ("max_alloc", c_uint64), ("compute_units", c_uint32), ("features", c_uint32),
                ("emulate", c_uint32)]


@LOG
def say(_, level, text):
    print(text.decode(), file=sys.stderr)


def checked(status, what):
    if status != 0:
        raise RuntimeError(f"{what} returned {status}")


class OpenCL:
    """A context with a queue on the chosen device."""

    def __init__(self):
        self.cl = ctypes.CDLL("libOpenCL.so.1")
        for name in ("clCreateContext", "clCreateCommandQueue", "clCreateBuffer"):
            getattr(self.cl, name).restype = c_void_p
        error, device = c_int(), self.device()
        devices = (c_void_p * 1)(device)
        self.context = c_void_p(self.cl.clCreateContext(None, 1, devices, None, None, byref(error)))
        checked(error.value, "clCreateContext")
        self.queue = c_void_p(self.cl.clCreateCommandQueue(self.context, c_void_p(device), c_uint64(0),
                                                           byref(error)))
        checked(error.value, "clCreateCommandQueue")

    def text(self, function, thing, what):
        buffer = ctypes.create_string_buffer(256)
        checked(function(c_void_p(thing), what, c_size_t(256), buffer, None), "clGet..Info")
        return buffer.value.decode()

    def device(self):
        wanted, number = os.environ.get("CLMOE_TEST_DEVICE", ""), c_uint32()
        checked(self.cl.clGetPlatformIDs(0, None, byref(number)), "clGetPlatformIDs")
        platforms = (c_void_p * number.value)()
        checked(self.cl.clGetPlatformIDs(number, platforms, None), "clGetPlatformIDs")
        for platform in platforms:
            every = c_uint64(0xffffffff)
            if self.cl.clGetDeviceIDs(c_void_p(platform), every, 0, None, byref(number)) != 0:
                continue
            devices = (c_void_p * number.value)()
            checked(self.cl.clGetDeviceIDs(c_void_p(platform), every, number, devices, None), "clGetDeviceIDs")
            for device in devices:
                name = " / ".join([self.text(self.cl.clGetPlatformInfo, platform, 0x0902),
                                   self.text(self.cl.clGetDeviceInfo, device, 0x102b)])
                if wanted in name:
                    self.name, self.id = name, c_void_p(device)
                    return device
        raise RuntimeError(f"no OpenCL device with \"{wanted}\" in its name")

    def buffer(self, array):
        """A buffer with the array's bytes, at least one."""
        error, size = c_int(), max(array.nbytes, 1)
        held = ctypes.create_string_buffer(array.tobytes(), size + 1)
        mem = self.cl.clCreateBuffer(self.context, c_uint64(1 | 32), c_size_t(size), held, byref(error))
        checked(error.value, "clCreateBuffer")
        return c_void_p(mem)

    def read(self, mem, array):
        if array.nbytes:
            checked(self.cl.clEnqueueReadBuffer(self.queue, mem, 1, c_size_t(0), c_size_t(array.nbytes),
                                                array.ctypes.data_as(c_void_p), 0, None, None), "clEnqueueReadBuffer")


class Library:
    def __init__(self, path):
        self.lib, self.opencl, self.context = ctypes.CDLL(path), OpenCL(), c_void_p()
        params = ContextParams(log=say)
        checked(self.lib.clmoe_context_create(self.opencl.context, self.opencl.id, byref(params), byref(self.context)),
                "clmoe_context_create")
        print(f"ONNX {onnx.__version__} on {self.opencl.name}")

    def topk(self, x, k, axis, largest, order):
        """TopK of a NumPy array along an axis: (values, indices as int64)"""
        axis %= x.ndim
        n, outer = x.shape[axis], int(np.prod(x.shape[:axis], dtype=np.int64))
        inner = int(np.prod(x.shape[axis + 1:], dtype=np.int64))
        shape = x.shape[:axis] + (k,) + x.shape[axis + 1:]
        values, indices = np.zeros(shape, x.dtype), np.full(shape, -7, np.int64)
        params = Params(max_rows=outer * inner, n=n, k=k, dtype=DTYPES[x.dtype.name], smallest=not largest, order=order,
                        index_dtype=DTYPES["int64"])
        plan, args, mems = c_void_p(), Args(), []
        checked(self.lib.clmoe_topk_plan(self.context, byref(params), byref(plan)), "clmoe_topk_plan")
        for name, array, columns in (("x", np.ascontiguousarray(x), n), ("values", values, k), ("indices", indices, k)):
            mems.append(self.opencl.buffer(array))
            setattr(args, name, Tensor(mems[-1], 0, DTYPES[array.dtype.name], 3, (c_int64 * 4)(outer, columns, inner)))
        checked(self.lib.clmoe_topk_enqueue(plan, self.opencl.queue, byref(args), 0, None, None), "clmoe_topk_enqueue")
        self.opencl.read(mems[1], values)
        self.opencl.read(mems[2], indices)
        for mem in mems:
            self.opencl.cl.clReleaseMemObject(mem)
        self.lib.clmoe_plan_destroy(byref(plan))
        return values, indices


LIBRARY = None


class Rep(BackendRep):
    """A model of one node, TopK."""

    def __init__(self, model):
        (node,) = model.graph.node
        assert node.op_type == "TopK", node.op_type
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def run(self, inputs, **_):
        x, k = (np.asarray(i) for i in inputs)
        a = self.attributes
        return LIBRARY.topk(x, int(k.reshape(-1)[0]), a.get("axis", -1), a.get("largest", 1),
                            SORTED if a.get("sorted", 1) else ANY)


class Clmoe(Backend):
    @classmethod
    def prepare(cls, model, device="CPU", **_):
        return Rep(model)

    @classmethod
    def supports_device(cls, device):
        return device == "CPU"


def official():
    """The test case of the official runner, or None where its data is missing."""
    import onnx.backend.test.loader
    if not hasattr(onnx.backend.test.loader, "load_node_model_tests"):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it makes the tests of all operations
        tests = onnx.backend.test.BackendTest(Clmoe, __name__)
    tests.include("^test_top_k")
    return tests.test_cases["OnnxBackendNodeModelTest"]


def by_node_tests():
    import onnx.backend.test.case.node.topk as topk  # making its class makes its tests
    from onnx.backend.test.case.node import _NodeTestCases
    assert topk.TopK

    def test_of(case):
        def test(_):
            for inputs, outputs in case.data_sets:
                for wanted, got in zip(outputs, Clmoe.prepare(case.model).run(inputs)):
                    np.testing.assert_array_equal(got, wanted)
                    assert got.dtype == wanted.dtype
        return test
    return type("TopK", (unittest.TestCase,), {c.name: test_of(c) for c in _NodeTestCases if c.name.startswith("test_top_k")})


def load_tests(*_):
    cases = official() or by_node_tests()
    return unittest.TestSuite(cases(n) for n in sorted(dir(cases))
                              if n.startswith("test_top_k") and not n.endswith("_cuda"))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    LIBRARY = Library(sys.argv.pop(1))
    result = unittest.main(exit=False).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed")
    sys.exit(bad > 0 or result.testsRun == 0)
