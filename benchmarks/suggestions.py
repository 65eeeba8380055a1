"""Suggested labels beside random ones: how fast a head learns from each.

``PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/suggestions.py``
prints the table that `heads.py` puts into `docs/evaluation.md`. A logistic head (C 0.1) on raw
bands starts with 20 random labels of the training side; five times 20 more are added, by chance or
by `choose`; the figure is macro-F1 on the test side, whose labels are never suggested.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
from sklearn.metrics import f1_score

from earthprint.engine.heads import classifiers
from earthprint.engine.heads.standard import Standard
from earthprint.engine.heads.suggestions import choose, uncertainty

SEEDS, START, STEP, ROUNDS = 20, 20, 20, 5
CANADA = (9120, 4100, 1200, 1120, 1110, 1520, 7920)
SLOVENIA = (2, 3, 4, 8)
Set = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]


def canada(folder: Path) -> Set:
    """Crop points in seven classes: features, classes, test side, metres, least distance."""
    data = np.load(folder / "crop-worldcereal-points/canada2017.npz")
    keep = np.isin(data["croptype_code"], CANADA) & np.isin(data["split"], ("train", "val"))
    x = data["X"][keep][:, :12, :11].astype(np.float32)
    x[x == 65535] = np.nan
    x[..., :2] = 20 * np.log10(x[..., :2]) - 83
    y = np.searchsorted(sorted(CANADA), data["croptype_code"][keep])
    lat, lon = data["lat"][keep], data["lon"][keep]
    places = np.column_stack([lon * 111320 * np.cos(np.radians(45)), lat * 110574])
    return x.reshape(len(x), -1), y, data["split"][keep] == "val", places, 1000.0


def slovenia(folder: Path) -> Set:
    """Pixels of a land cover patch in four classes, three clear scenes."""
    folder = folder / "landcover-slovenia-s2-patch"

    def read(name: str) -> np.ndarray:
        with rasterio.open(folder / name) as dataset:
            return dataset.read()

    bands = np.concatenate([read(f"S2_L1C_2015{day}.tif") for day in ("0711", "0830", "0909")])
    labels = read("landcover.tif")[0]
    rows, cols = np.indices(labels.shape)
    keep = np.isin(labels, SLOVENIA) & ((cols < 60) | (cols >= 80))
    places = 10.0 * np.column_stack([cols[keep], rows[keep]])
    return (bands[:, keep].T.astype(np.float32), np.searchsorted(SLOVENIA, labels[keep]),
            cols[keep] >= 80, places, 30.0)


def curve(data: Set, way: str, seed: int) -> list[float]:
    """Macro-F1 in % after each round of labelling."""
    x, y, test, places, metres = data
    rng, pool = np.random.default_rng(seed), np.flatnonzero(~test)
    z = Standard.of(x[pool])(x)
    size, present = int(y.max()) + 1, np.unique(y[test])
    labelled, scores = rng.choice(pool, START, replace=False), []
    for turn in range(ROUNDS + 1):
        head = classifiers.fit_logistic(x[labelled], y[labelled], size, (0.1,))[0]
        mapped = head.probabilities(x[test]).argmax(1)
        scores.append(100 * f1_score(y[test], mapped, average="macro", labels=present))
        if turn < ROUNDS:
            rest = np.setdiff1d(pool, labelled)
            p = head.probabilities(x[rest])
            if way == "random":
                more = rng.choice(len(rest), STEP, replace=False)
            elif way == "most uncertain":
                more = np.argsort(-uncertainty(p))[:STEP]
            else:
                more = choose(z[rest], p, places[rest], STEP, metres, places[labelled])
            labelled = np.concatenate([labelled, rest[more]])
    return scores


def lines() -> Iterator[str]:
    """The table: a line a set and way to choose."""
    folder = Path(os.environ.get("EARTHPRINT_SHARED", "../shared")) / "data"
    sets: tuple[Callable[[Path], Set], ...] = (canada, slovenia)
    yield ("| set | labels | " + " | ".join(str(START + STEP * r) for r in range(ROUNDS + 1))
           + " | suggested - random at the end |")
    yield "|-" * (ROUNDS + 4) + "|"
    for make in sets:
        data = make(folder)
        curves = {way: np.array([curve(data, way, seed) for seed in range(SEEDS)])
                  for way in ("random", "most uncertain", "suggested")}
        for way, found in curves.items():
            gain = (found - curves["random"])[:, -1]
            cells = [f"{m:.0f} ± {s:.0f}" for m, s in zip(found.mean(0), found.std(0, ddof=1),
                                                          strict=True)]
            last = "" if way == "random" else (
                f"{gain.mean():+.1f} ± {gain.std(ddof=1) / np.sqrt(SEEDS):.1f}")
            yield f"| {make.__name__} | {way} | {' | '.join(cells)} | {last} |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
