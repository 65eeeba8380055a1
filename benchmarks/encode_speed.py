"""How fast an encoder is: its network, the preparation of its input, and the two together.

    PYTHONPATH=build/plugins .venv/engine/bin/python benchmarks/encode_speed.py [NAME or FILE]

Best of several rounds, since a machine that others use only ever makes things slower.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from earthprint.models.cards import read_card
from earthprint.models.catalogue import DEFAULT, adapter_of, bundled
from earthprint.models.cube import Cube, Series

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
SIDE, DATES, ROUNDS, SECONDS = 192, 30, 5, 0.5


def season(shape=(SIDE, SIDE)):
    """A year of 30 half-cloudy Sentinel-2 and 30 Sentinel-1 scenes of random pixels."""
    rng = np.random.default_rng(0)
    dates = np.datetime64("2022-01-01") + np.sort(rng.choice(365, DATES, replace=False))
    orbits = ("",) * DATES
    values = rng.random((DATES, len(S2), *shape), np.float32)
    cloudy = Series("sentinel-2", S2, dates, values, rng.random((DATES, *shape)) < 0.5, orbits)
    values = -20 * rng.random((DATES, 2, *shape), np.float32)
    valid = np.ones((DATES, *shape), bool)
    radar = Series("sentinel-1", ("vv", "vh"), dates, values, valid, orbits)
    return Cube(shape, {"sentinel-2": cloudy, "sentinel-1": radar})


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def speed(work, pixels):
    """Pixels a second of `work()`, which does `pixels`: the best of the rounds."""
    work()
    best = 0.0
    for _ in range(ROUNDS):
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            work()
            done += pixels
        best = max(best, done / (time.perf_counter() - start))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", nargs="?", default=DEFAULT)
    name = parser.parse_args().encoder
    path = bundled().get(name) or Path(name)
    card = read_card(path)
    adapter, cube = adapter_of(card), season()
    one, two = [session(path, 1) for _ in range(2)], session(path, 2)
    print(f"{card.identity}, pixels/s\n")
    print("| pixels a call | 1 call x 2 threads | 2 calls x 1 thread | preparation, 1 thread |")
    print("|-:|-:|-:|-:|")
    fastest = prepared = 0.0
    for size in (256, 512, 1024, 2048, 4096):
        batch = next(iter(adapter.batches(cube, size)))
        inputs, n = batch.inputs, len(batch.pixels)
        joint = speed(lambda inputs=inputs: two.run(None, inputs), n)
        with ThreadPoolExecutor(2) as workers:
            split = speed(
                lambda inputs=inputs: list(workers.map(lambda s: s.run(None, inputs), one)), 2 * n
            )
        ready = speed(lambda size=size: list(adapter.batches(cube, size)), SIDE * SIDE)
        print(f"| {size} | {joint:,.0f} | {split:,.0f} | {ready:,.0f} |", flush=True)
        fastest, prepared = max(fastest, joint, split), max(prepared, ready)
    print(f"\npreparation on one thread / network on two: {prepared / fastest:.1f}")


if __name__ == "__main__":
    main()
