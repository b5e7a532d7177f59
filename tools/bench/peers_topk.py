#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times the peers of clmoe's topk on this machine, in f32: NumPy (argpartition, then a sort of the k) and torch.topk,
on the CPU and, where torch sees a GPU, there. A part whose module is missing is named as skipped on stderr.

Prints a JSON list of objects: op, peer, version, device, shape, fill, median_us, p10_us, p90_us, repeats.
  CPU    the host's clock around one call, default threads, a buffer larger than the caches read before each call
  CUDA   events around one call; a buffer of 256 MiB is written before each (so the caches hold none of the rows), and
         the GPU is kept busy while the host enqueues, so that the cost of a launch is not in the time
The fills are those of `clmoe bench topk --fill`, so the same shapes and fills can be put side by side:
  peers_topk.py --shape 4096x1024x8,128x131072x50 --fill random,equal
  clmoe bench topk --dtype f32 --shape 4096x1024x8,128x131072x50 --json ours.json"""
import argparse
import json
import sys
import time

SHAPES = "16384x128x8,4096x1024x8,4096x4096x64,1024x32768x64,128x131072x50,16x1048576x100"
FILLS = ("random", "equal", "ascending", "descending", "clustered")
FLUSH_BYTES = 256 << 20
SPIN_CYCLES = 2_000_000  # about 1 ms: longer than the host needs to enqueue a flush and a call


def parse_shapes(text):
    shapes = []
    for part in text.split(","):
        rows, n, k = (int(v) for v in part.split("x"))
        if min(rows, n, k) < 1 or k > n:
            raise argparse.ArgumentTypeError(f"rows = {rows}, n = {n}, k = {k}")
        shapes.append((rows, n, k))
    return shapes


def parse_fills(text):
    fills = text.split(",")
    for fill in fills:
        if fill not in FILLS:
            raise argparse.ArgumentTypeError(f"fill {fill!r}: expected one of {', '.join(FILLS)}")
    return fills


def summary(times_us):
    times_us.sort()
    n = len(times_us)
    return {"median_us": times_us[n // 2], "p10_us": times_us[n // 10], "p90_us": times_us[n - 1 - n // 10],
            "repeats": n}


def repeat(once, options):
    """once() gives the microseconds of one call. At least --repeats of them after two warm-ups, more (up to three
    times as many) while they take less than two seconds; a call too long for that is cut to what --budget allows."""
    once()
    once()
    times, begin = [], time.perf_counter()
    while len(times) < 3 * options.repeats:
        times.append(once())
        spent = time.perf_counter() - begin
        if spent > options.budget and len(times) >= 5:
            break
        if spent > 2 and len(times) >= options.repeats:
            break
    return summary(times)


class NumpyPeer:
    name = "numpy"

    def __init__(self):
        import numpy
        self.np = numpy
        self.version = numpy.__version__
        self.device = "cpu"
        self.cold = numpy.ones(FLUSH_BYTES // 4, numpy.float32)

    def rows(self, rows, n, fill):
        np = self.np
        if fill == "random":
            return np.random.default_rng(1).standard_normal((rows, n), np.float32)
        if fill == "clustered":
            near = np.random.default_rng(1).integers(0, 256, (rows, n), np.uint32)
            return (near + np.uint32(0x3F800000)).view(np.float32)
        row = {"equal": np.ones(n, np.float32), "ascending": np.linspace(-1, 1, n, dtype=np.float32),
               "descending": np.linspace(1, -1, n, dtype=np.float32)}[fill]
        return np.tile(row, (rows, 1))

    def topk(self, x, k):
        np = self.np
        n = x.shape[1]
        ids = np.argpartition(x, n - k, axis=1)[:, n - k:]
        values = np.take_along_axis(x, ids, 1)
        order = np.argsort(-values, axis=1)
        return np.take_along_axis(values, order, 1), np.take_along_axis(ids, order, 1)

    def time(self, rows, n, k, fill, options):
        x = self.rows(rows, n, fill)

        def once():
            self.cold.sum()
            begin = time.perf_counter()
            self.topk(x, k)
            return (time.perf_counter() - begin) * 1e6

        return repeat(once, options)


class TorchPeer:
    """torch.topk, largest and sorted: what `clmoe bench topk` does."""

    def __init__(self, device):
        import torch
        self.torch = torch
        self.version = torch.__version__
        self.cuda = device == "cuda"
        if self.cuda and not torch.cuda.is_available():
            raise ImportError("torch sees no GPU")
        self.name = "torch-cuda" if self.cuda else "torch-cpu"
        self.where = device
        self.device = torch.cuda.get_device_name() if self.cuda else f"cpu, {torch.get_num_threads()} threads"
        self.cold = torch.ones(FLUSH_BYTES // 4, dtype=torch.float32, device=device)

    def rows(self, rows, n, fill):
        torch = self.torch
        torch.manual_seed(1)
        if fill == "random":
            return torch.randn(rows, n, device=self.where)
        if fill == "clustered":
            near = torch.randint(0, 256, (rows, n), device=self.where, dtype=torch.int32)
            return (near + 0x3F800000).view(torch.float32)
        row = {"equal": lambda: torch.ones(n, device=self.where),
               "ascending": lambda: torch.linspace(-1, 1, n, device=self.where),
               "descending": lambda: torch.linspace(1, -1, n, device=self.where)}[fill]()
        return row.repeat(rows, 1)

    def time(self, rows, n, k, fill, options):
        x = self.rows(rows, n, fill)
        outputs = self.torch.topk(x, k)
        once = self.once_cuda if self.cuda else self.once_cpu
        return repeat(lambda: once(x, k, outputs), options)

    def once_cpu(self, x, k, outputs):
        self.cold.sum()
        begin = time.perf_counter()
        self.torch.topk(x, k, out=outputs)
        return (time.perf_counter() - begin) * 1e6

    def once_cuda(self, x, k, outputs):
        cuda = self.torch.cuda
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        cuda._sleep(SPIN_CYCLES)
        self.cold.zero_()
        begin.record()
        self.torch.topk(x, k, out=outputs)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3


MAKERS = {"numpy": NumpyPeer, "torch-cpu": lambda: TorchPeer("cpu"), "torch-cuda": lambda: TorchPeer("cuda")}


def measure(options):
    for name in options.peers.split(","):
        try:
            peer = MAKERS[name]()
        except ImportError as error:
            print(f"{name}: skipped: {error}", file=sys.stderr)
            continue
        for rows, n, k in options.shape:
            for fill in options.fill:
                row = {"op": "topk", "peer": peer.name, "version": peer.version, "device": peer.device,
                       "shape": f"{rows}x{n}x{k}", "fill": fill}
                row.update(peer.time(rows, n, k, fill, options))
                print(f"{peer.name} {row['shape']} {fill}: {row['median_us']:.1f} us "
                      f"({row['p10_us']:.1f}..{row['p90_us']:.1f})", file=sys.stderr, flush=True)
                yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=parse_shapes, default=parse_shapes(SHAPES), metavar="ROWSxNxK,...",
                        help=f"{SHAPES} by default")
    parser.add_argument("--fill", type=parse_fills, default=["random"], metavar="NAME,...",
                        help=f"of {', '.join(FILLS)}; random by default")
    parser.add_argument("--peers", default=",".join(MAKERS), metavar="NAME,...",
                        help=f"{','.join(MAKERS)} by default")
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help="timed calls, at least; 20 by default")
    parser.add_argument("--budget", type=float, default=30, metavar="S",
                        help="seconds for one shape, after which 5 calls do; 30 by default")
    parser.add_argument("--json", metavar="F", help="write the list to a file instead")
    options = parser.parse_args()
    for name in options.peers.split(","):
        if name not in MAKERS:
            parser.error(f"--peers: no {name!r}")
    text = json.dumps(list(measure(options)), indent=1)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            out.write(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
