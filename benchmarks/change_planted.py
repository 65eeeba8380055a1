"""Known change in real seasons: squares of a Sentinel-2 patch moved to other ground.

    PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python \
        benchmarks/change_planted.py

Dates of the patch belgium-2018-polders (WorldCereal) by turns make two seasons in which nothing
changed; in the second, squares of 80 m changed places with squares of another land cover. Prints
what each method of the job finds, mean and spread of a few draws, with nothing planted too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from earthprint.engine import jobs
from earthprint.engine.context import JobContext

SIDE, SQUARES, DRAWS = 8, 8, 3
DATES = (30, 6, 1)  # of each season, at most
FIRST, LAST = "20180301", "20181031"


def clear_days(folder: Path) -> list[str]:
    """Days on which the scene classification shows at least 80 % clear ground."""
    days = []
    for path in sorted((folder / "s2_20m").glob("*.tif")):
        with rasterio.open(path) as dataset:
            names = [n.lower() for n in dataset.descriptions]
            scl = dataset.read(next(i for i, n in enumerate(names, 1) if "scl" in n))
        day = "".join(c for c in path.stem if c.isdigit())[:8]
        if np.isin(scl, (4, 5, 6, 7)).mean() > 0.8 and FIRST <= day <= LAST:
            days.append(day)
    return sorted(set(days))


def swaps(cover: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Pairs of squares of two covers, none used twice."""
    cells = [(r, c) for r in range(0, cover.shape[0], SIDE) for c in range(0, cover.shape[1], SIDE)]
    kind = {}
    for r, c in cells:
        part = cover[r:r + SIDE, c:c + SIDE]
        value = np.bincount(part.ravel()).argmax()
        if value and (part == value).mean() > 0.7:
            kind[r, c] = value
    free, found = list(kind), []
    while len(found) < SQUARES // 2 and free:
        one = free.pop(rng.integers(len(free)))
        others = [o for o in free if kind[o] != kind[one]]
        if others:
            other = others[rng.integers(len(others))]
            free.remove(other)
            found.append((*one, *other))
    return found


def copy(source: Path, target: Path, moved: list[tuple[int, int, int, int]]) -> None:
    """A file with squares exchanged."""
    with rasterio.open(source) as dataset:
        values, profile, names = dataset.read(), dataset.profile, dataset.descriptions
    factor = 64 // values.shape[1]
    for r, c, q, d in moved:
        a = (slice(None), slice(r // factor, (r + SIDE) // factor),
             slice(c // factor, (c + SIDE) // factor))
        b = (slice(None), slice(q // factor, (q + SIDE) // factor),
             slice(d // factor, (d + SIDE) // factor))
        values[a], values[b] = values[b].copy(), values[a].copy()
    target.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write(values)
        dataset.descriptions = names


def season(folder: Path, target: Path, days: list[str], moved: list) -> list[str]:
    """Files of some days in a folder of their own; their paths."""
    made = []
    for part in ("s2_10m", "s2_20m"):
        for path in sorted((folder / part).glob("*.tif")):
            if "".join(c for c in path.stem if c.isdigit())[:8] in days:
                copy(path, target / part / path.name, moved)
                made.append(str(target / part / path.name))
    return made


def table(shared: Path) -> Iterator[str]:
    """Lines of the table."""
    folder = shared / "data" / "crop-worldcereal-patches" / "belgium-2018-polders"
    with rasterio.open(folder / "labels_LC_CT_10m.tif") as dataset:
        cover = dataset.read(1).astype(int)
    days = clear_days(folder)
    yield ("| dates a season | method | area under the curve | F1 | kappa | found with nothing "
           "planted, % |")
    yield "|-|-|-|-|-|-|"
    for most in DATES:
        for method in ("bands", "embeddings"):
            rows, false = [], []
            for draw in range(DRAWS):
                rng = np.random.default_rng(draw)
                halves = [days[k::2][:most] if most > 1 else
                          [days[len(days) // 2 + 2 * draw + k]] for k in range(2)]
                planted = swaps(cover, rng)
                for moved in (planted, []):
                    with tempfile.TemporaryDirectory() as name:
                        scratch = Path(name)
                        before = season(folder, scratch / "a", halves[0], [])
                        after = season(folder, scratch / "b", halves[1], moved)
                        jobs.run("change_detection", {
                            "before": before, "after": after, "method": method, "min_area_ha": 0,
                            "output": str(scratch / "c.tif"),
                            "distance": str(scratch / "d.tif")}, JobContext())
                        with rasterio.open(scratch / "c.tif") as one, \
                                rasterio.open(scratch / "d.tif") as two:
                            found, strength = one.read(1), two.read(1)
                    truth = np.zeros(found.shape, bool)
                    for r, c, q, d in moved:
                        truth[r:r + SIDE, c:c + SIDE] = truth[q:q + SIDE, d:d + SIDE] = True
                    known = found != 255
                    if moved:
                        t, f = truth[known], found[known] == 1
                        rows.append((roc_auc_score(t, strength[known]),
                                     f1_score(t, f, zero_division=0), cohen_kappa_score(t, f)))
                    else:
                        false.append(100 * (found[known] == 1).mean())
            mean, spread = np.mean(rows, 0), np.std(rows, 0)
            cells = " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True))
            count = min(most, len(days) // 2)
            yield (f"| {count} | {method} | {cells} | "
                   f"{np.mean(false):.1f} ± {np.std(false):.1f} |")


def main() -> None:
    """Print the table."""
    shared = Path(os.environ.get("EARTHPRINT_SHARED",
                                 Path(__file__).resolve().parents[2] / "shared"))
    for line in table(shared):
        print(line, flush=True)


if __name__ == "__main__":
    main()
