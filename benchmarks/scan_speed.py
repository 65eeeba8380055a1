"""Scan of 8-bit embeddings for one query: share of the memory bandwidth read in the same run.

``python benchmarks/scan_speed.py [MILLIONS OF ROWS]``; 4 million without it.

The limit: a scan reads each code once, so it cannot be faster than the sum over the same bytes.
The gap: a row also costs two sums of products, their reduction and a square root, 5.6 ns on one
Zen 4 core (6.7 centred); where memory gives a core more than a row in that time (23 GB/s of
128 dimensions), arithmetic is the limit. Measured shares for 10 million x 128, on a machine that
others kept busy: first scan 0.84 and 0.69, centred 0.68 and 0.58, in two runs. The goal of 0.9
was reached in one run of 4 million. `scan_libraries.md` keeps the tables.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from rasterio.crs import CRS

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.rasters.embeddings import ENCODER_TAG, EmbeddingsWriter, quantise
from earthprint.engine.rasters.grid import Grid
from earthprint.engine.search.kernel import Coding, inverse_lengths, nearest

DIMS, SCALE, BEST, RUNS = 128, 0.5 / 127, 100, 7
THREADS = len(os.sched_getaffinity(0))


@numba.njit(nogil=True)
def total(numbers):
    result = 0
    for i in range(numbers.size):
        result += numbers[i]
    return result


def in_parts(work, count):
    """Run work(first, last) over parts of a range, one a thread."""
    edges = np.linspace(0, count, THREADS + 1).astype(int)
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, edges[:-1], edges[1:]))


def integer_product(rows, query):
    """ONNX Runtime's 8-bit matrix product, (n, d) x (d, 1)."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["codes", "query"], ["dots"])], "scan",
        [helper.make_tensor_value_info("codes", TensorProto.UINT8, ["n", DIMS]),
         helper.make_tensor_value_info("query", TensorProto.INT8, [DIMS, 1])],
        [helper.make_tensor_value_info("dots", TensorProto.INT32, ["n", 1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(onnx.ModelProto.SerializeToString(model), options)
    return lambda: session.run(None, {"codes": rows, "query": query})


def fastest(calls):
    """Shortest seconds of each call, all in turn, so that a busy moment hits them alike."""
    seconds = dict.fromkeys(calls, np.inf)
    for _ in range(RUNS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def from_disk(folder):
    """Million pixels a second of the whole job on a raster of smooth fields, cached."""
    side, rng = 1536, np.random.default_rng(0)
    coarse = rng.normal(size=(side // 16, side // 16, DIMS)).repeat(16, 0).repeat(16, 1)
    vectors = (coarse + 0.2 * rng.normal(size=coarse.shape)).astype(np.float32).reshape(-1, DIMS)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    codes = quantise(vectors, SCALE).reshape(side, side, DIMS)
    grid = Grid(CRS.from_epsg(32631).to_wkt(), (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6), codes.shape[:2])
    path = Path(folder) / "e.tif"
    with EmbeddingsWriter(path, grid, DIMS, SCALE, {ENCODER_TAG: "benchmark"}) as out:
        for block in grid.blocks(256, 512):
            out.write(block.row, block.col, codes[block.slices])
    point = [5e5 + 4005, 5.6e6 - 4005, grid.crs_wkt]
    more = {"matches": str(path.with_name("m.gpkg"))}, {
        "matches": str(path.with_name("m.gpkg")), "similarity": str(path.with_name("s.tif"))}
    seconds = fastest({name: lambda extra=extra: jobs.run(
        "similarity_search", {"input": str(path), "point": point, **extra}, JobContext())
        for name, extra in zip(("matches", "matches and raster"), more)})
    for name, spent in seconds.items():
        print(f"| whole job on a file, {name} | {side**2 / spent / 1e6:.2f} million pixels/s |")


def main():
    count = int(float(sys.argv[1] if len(sys.argv) > 1 else 4) * 1e6)
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 256, (count, DIMS), dtype=np.uint8)
    query = rng.normal(size=DIMS)
    query /= np.linalg.norm(query)
    coding, words = Coding(SCALE, np.zeros(DIMS)), codes.view(np.int64).ravel()
    centred = Coding(SCALE, 0.4 * query[::-1])
    inverse = np.concatenate(in_parts(lambda a, b: inverse_lengths(codes[a:b], coding), count))
    floats = codes[: count // 4].astype(np.float32) - 128  # a quarter: 4 bytes a value
    single = query.astype(np.float32)
    short = np.rint(query / np.abs(query).max() * 127).astype(np.int8)[:, None]

    def numpy_best():
        dots = floats @ single
        np.argpartition(-dots, BEST)

    calls = {
        "read bandwidth (sum over int64)": lambda: in_parts(
            lambda a, b: total(words[a:b]), words.size),
        f"ours, lengths kept, top {BEST} included": lambda: nearest(
            codes, query[None], coding, BEST, THREADS, inverse),
        f"ours, first scan, top {BEST} included": lambda: nearest(
            codes, query[None], coding, BEST, THREADS),
        f"ours, first scan, centred, top {BEST} included": lambda: nearest(
            codes, query[None], centred, BEST, THREADS),
        "ONNX Runtime MatMulInteger, scan only": integer_product(codes, short),
        f"NumPy float32 sgemv and argpartition, top {BEST} included": numpy_best,
    }
    for call in calls.values():  # compile and warm up
        call()
    seconds = fastest(calls)
    size = dict.fromkeys(calls, codes.nbytes)
    size[list(calls)[-1]] = floats.size  # in the bytes that the codes of these rows take
    speed = {name: size[name] / spent / 1e9 for name, spent in seconds.items()}
    bandwidth = next(iter(speed.values()))
    print(f"{count / 1e6:g} million x {DIMS} codes, one query, {THREADS} threads, best of {RUNS}\n")
    print("| scan | GB/s of codes | share of bandwidth |\n| --- | --- | --- |")
    for name, value in speed.items():
        print(f"| {name} | {value:.1f} | {value / bandwidth:.2f} |")
    print()
    with tempfile.TemporaryDirectory() as folder:
        from_disk(folder)


if __name__ == "__main__":
    main()
