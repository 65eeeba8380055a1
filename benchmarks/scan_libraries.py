"""One exact query over 8-bit embeddings: other libraries and layouts beside ours, in one run.

    PYTHONPATH=build/plugins .venv/engine/bin/python benchmarks/scan_libraries.py [MILLIONS] [DIMS]

The libraries are no requirement of Earthprint; those that cannot be imported are left out with
the reason. To have them, install faiss-cpu, usearch, simsimd, numkong and hnswlib into a folder
(`pip install --no-deps --target FOLDER ...`) and put it at the end of PYTHONPATH. All search the
same unit vectors for the same 100 best, two threads, and take turns, since a busy machine slows
whoever is at work; the best of the rounds counts. Recall is the share of the 100 best by float64
on the same codes. Libraries that have no top-k, or no cosine, get the cheapest that makes them
comparable: lengths that are known beforehand, `np.argpartition` after.
"""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from earthprint.engine.rasters.embeddings import quantise
from earthprint.engine.search.kernel import Coding, exact, inverse_lengths, nearest

SCALE, BEST, ROUNDS = 0.5 / 127, 100, 7
THREADS = len(os.sched_getaffinity(0))
PLANAR = 4096  # rows of a block of the layout band by band
GRAPH = 200_000  # vectors of the graph indices, which take long to build for all

Search = Callable[[], np.ndarray]  # gives the rows found


def make(count: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) codes of unit vectors that gather around 500 centres, and a unit query near one."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(500, dims)).astype(np.float32)
    codes = np.empty((count, dims), np.uint8)
    for start in range(0, count, 100_000):
        n = min(100_000, count - start)
        vectors = centres[rng.integers(0, 500, n)] + rng.standard_normal((n, dims), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        codes[start : start + n] = quantise(vectors, SCALE)
    return codes, (centres[7] / np.linalg.norm(centres[7])).astype(np.float64)


@numba.njit(nogil=True)
def total(numbers):
    result = 0
    for i in range(numbers.size):
        result += numbers[i]
    return result


@numba.njit(nogil=True)
def band_by_band(blocks, direction, out):
    """Dots of (blocks, d, PLANAR) codes, of which each band lies together."""
    for b in range(blocks.shape[0]):
        dots = np.zeros(PLANAR, np.int32)
        for j in range(blocks.shape[1]):
            for i in range(PLANAR):
                dots[i] += np.int32(blocks[b, j, i]) * np.int32(direction[j])
        out[b] = dots


def parts(work: Callable, count: int) -> list:
    """work(first, last) over parts of a range, one a thread."""
    edges = np.linspace(0, count, THREADS + 1).astype(int)
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, edges[:-1], edges[1:]))


def best_of(similarities: np.ndarray) -> np.ndarray:
    """Rows of the largest."""
    return np.argpartition(similarities, -BEST)[-BEST:]


def faiss_codes(codes: np.ndarray, short: np.ndarray) -> Search:
    """faiss, 8-bit codes as they are; it takes the query for 8-bit numbers too."""
    import faiss

    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexScalarQuantizer(codes.shape[1], faiss.ScalarQuantizer.QT_8bit_direct_signed,
                                       faiss.METRIC_INNER_PRODUCT)
    for start in range(0, len(codes), 100_000):
        index.add(codes[start : start + 100_000].astype(np.float32) - 128)
    asked = short.astype(np.float32)
    return lambda: index.search(asked, BEST)[1][0]


def usearch_exact(signed: np.ndarray, short: np.ndarray) -> Search:
    """usearch, exact search, 8 bits, cosine."""
    from usearch.index import search

    return lambda: search(signed, short[0], BEST, "cos", exact=True, threads=THREADS).keys


def usearch_graph(signed: np.ndarray, short: np.ndarray) -> Search:
    """usearch, graph index, 8 bits, cosine."""
    from usearch.index import Index

    index = Index(ndim=signed.shape[1], metric="cos", dtype="i8")
    index.add(np.arange(len(signed)), signed, threads=THREADS)
    return lambda: index.search(short[0], BEST, threads=THREADS).keys


def simsimd_cosine(signed: np.ndarray, short: np.ndarray) -> Search:
    """SimSIMD, 8 bits, cosine."""
    import simsimd

    return lambda: best_of(-np.asarray(simsimd.cdist(signed, short, "cosine", threads=THREADS)
                                       ).ravel())


def numkong_cosine(signed: np.ndarray, short: np.ndarray) -> Search:
    """NumKong, 8 bits, cosine."""
    import numkong

    return lambda: best_of(-np.concatenate(parts(
        lambda a, b: np.asarray(numkong.cdist(signed[a:b], short, "angular")).ravel(),
        len(signed))))


def hnswlib_graph(codes: np.ndarray, query: np.ndarray) -> Search:
    """hnswlib, graph index, float32, cosine."""
    import hnswlib

    index = hnswlib.Index("cosine", codes.shape[1])
    index.init_index(len(codes), ef_construction=100, M=16)
    index.add_items(codes.astype(np.float32) - 128, num_threads=THREADS)
    index.set_ef(2 * BEST)
    return lambda: index.knn_query(query.astype(np.float32), BEST, num_threads=1)[0][0]


def contenders(codes: np.ndarray, query: np.ndarray) -> dict[str, tuple[Callable, int]]:
    """Name to (what makes the search, rows that it searches)."""
    n, dims = codes.shape
    coding, inverse = Coding(SCALE, np.zeros(dims)), np.empty(n, np.float32)
    parts(lambda a, b: inverse.__setitem__(slice(a, b), inverse_lengths(codes[a:b], coding)), n)
    signed = (codes ^ 128).view(np.int8)  # code - 128
    short = np.rint(query / np.abs(query).max() * 127).astype(np.int8).reshape(1, -1)
    few = min(n, GRAPH)

    def planar() -> Search:
        blocks = codes[: n // PLANAR * PLANAR].reshape(-1, PLANAR, dims).transpose(0, 2, 1).copy()
        whole = np.rint(query / np.abs(query).max() * 32767).astype(np.int16)
        dots = np.empty((len(blocks), PLANAR), np.int32)
        shift = 128 * int(whole.sum(dtype=np.int64))

        def search() -> np.ndarray:
            parts(lambda a, b: band_by_band(blocks[a:b], whole, dots[a:b]), len(blocks))
            return best_of((dots.ravel() - shift) * inverse[: dots.size])
        return search

    return {
        "ours, first scan": (lambda: lambda: nearest(
            codes, query[None], coding, BEST, THREADS)[0], n),
        "ours, lengths kept": (lambda: lambda: nearest(
            codes, query[None], coding, BEST, THREADS, inverse)[0], n),
        "ours, band by band in blocks of 4096 (Numba), lengths kept": (planar, n),
        "faiss, 8 bits as they are, dot product": (lambda: faiss_codes(codes, short), n),
        "SimSIMD cdist, 8 bits, cosine": (lambda: simsimd_cosine(signed, short), n),
        "NumKong cdist, 8 bits, cosine": (lambda: numkong_cosine(signed, short), n),
        # behind SimSIMD, whose types fail when usearch is there first
        "usearch, exact, 8 bits, cosine": (lambda: usearch_exact(signed, short), n),
        "usearch, graph, 8 bits, cosine": (
            lambda: usearch_graph(signed[:few], short), few),
        "hnswlib, graph, float32, cosine": (lambda: hnswlib_graph(codes[:few], query), few),
    }


def main() -> None:
    """Print the table."""
    count = int(float(sys.argv[1] if len(sys.argv) > 1 else 2) * 1e6)
    dims = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    codes, query = make(count, dims)
    coding, words = Coding(SCALE, np.zeros(dims)), codes.view(np.int64).ravel()
    searches: dict[str, tuple[Search, int]] = {
        "read bandwidth (sum over int64)": (
            lambda: parts(lambda a, b: total(words[a:b]), words.size), count)}
    recall, absent = {}, []
    true = np.concatenate(parts(lambda a, b: exact(codes[a:b], query[None], coding), count))
    for name, (prepare, rows) in contenders(codes, query).items():
        try:
            search = prepare()
        except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as reason:
            absent.append(f"{name}: {type(reason).__name__}: {reason}")
            continue
        recall[name] = float(np.isin(np.asarray(search()).astype(np.int64),
                                     np.argsort(-true[:rows], kind="stable")[:BEST]).mean())
        searches[name] = search, rows
    seconds = dict.fromkeys(searches, np.inf)
    for _ in range(ROUNDS):
        for name, (search, _) in searches.items():
            start = time.perf_counter()
            search()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    bandwidth = codes.nbytes / next(iter(seconds.values()))
    print(f"{count / 1e6:g} million x {dims}, {BEST} best, {THREADS} threads, best of {ROUNDS}; "
          f"read bandwidth {bandwidth / 1e9:.1f} GB/s\n")
    print("| search | rows | ms | share of bandwidth | recall |\n|-|-:|-:|-:|-:|")
    for name, (_, rows) in searches.items():
        share = rows * dims / seconds[name] / bandwidth
        print(f"| {name} | {rows / 1e6:g} M | {1e3 * seconds[name]:.2f} | {share:.2f} | "
              f"{recall[name]:.2f} |" if name in recall else
              f"| {name} | {rows / 1e6:g} M | {1e3 * seconds[name]:.2f} | 1 | |")
    print("".join(f"\nLeft out: {line}" for line in absent))


if __name__ == "__main__":
    main()
