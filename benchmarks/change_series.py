"""Dates of change and lost forest in series: known breaks, real labels, false alarms.

    PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python \
        benchmarks/change_series.py
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import rasterio
from rasterio.warp import transform
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score

from earthprint.engine import jobs
from earthprint.engine.change.breaks import SURE, find_breaks
from earthprint.engine.change.forest import ForestHead
from earthprint.engine.change.indices import index_of, needed
from earthprint.engine.change.series import LEAST_STEP, STANDS_OUT, Dater
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.heads.classifiers import Classifier, fit_forest, fit_logistic
from earthprint.engine.stacks.reading import StackReader
from earthprint.engine.stacks.stack import open_input

SERIES = 2000
#: Dates, years, share of clear dates, noise, share of unmasked clouds, amplitude of the season.
KNOWN = (
    ("one year, 24 dates, all clear", 24, 1, 1.0, 0.05, 0.0, 0.0),
    ("one year, 24 dates, 30 % gaps, 10 % clouds unmasked", 24, 1, 0.7, 0.05, 0.1, 0.0),
    ("three years, 100 dates, 30 % gaps, 10 % clouds unmasked, season 0.1", 100, 3, 0.7, 0.05, 0.1,
     0.1),
    ("six years, 137 dates, 3 % clouds unmasked, season 0.2", 137, 6, 1.0, 0.08, 0.03, 0.2),
)
STEPS = (0.0, 0.1, 0.3, 0.5)
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)
FOLDS = 5
FALLS = (-0.2, -0.3, -0.5)
BASELINE = "random forest of the set's own series"


def known() -> Iterator[str]:
    """Breaks planted into noise."""
    yield ("| synthetic series of an index | step | found, % | in the right gap, % of found | "
           "error in days, median and 90 % |")
    yield "|-|-|-|-|-|"
    for title, dates, years, clear, noise, cloud, season in KNOWN:
        rng = np.random.default_rng(0)
        for step in STEPS:
            days = np.datetime64("2015-01-01") + np.sort(
                rng.choice(365 * years, dates, replace=False))
            t = (days - days[0]).astype(float)
            at = rng.integers(dates // 4, 3 * dates // 4, SERIES)
            y = 0.7 + season * np.cos(2 * np.pi * t / 365.25)[:, None] + rng.normal(
                0, noise, (dates, SERIES)) - step * (np.arange(dates)[:, None] >= at)
            y = np.where(rng.random(y.shape) < cloud, rng.uniform(0, 0.4, y.shape), y)
            y[rng.random(y.shape) > clear] = np.nan
            found = find_breaks(days, y.astype(np.float32), least_step=0.1 if step else 0.0)
            sure = (found.after > 0) & (found.probability >= SURE)
            if not step:
                loud = find_breaks(days, y.astype(np.float32), least_step=0.1)
                loud_share = ((loud.after > 0) & (loud.probability >= SURE)).mean()
                yield (f"| {title} | none | {100 * sure.mean():.1f} ({100 * loud_share:.1f} with "
                       "the least step of 0.1) | | |")
                continue
            inside = ((found.before < at) & (found.after >= at))[sure].mean()
            error = np.abs(t[found.after] - t[at])[sure]
            yield (f"| {title} | {step:g} | {100 * sure.mean():.0f} | {100 * inside:.0f} | "
                   f"{np.median(error):.0f}, {np.percentile(error, 90):.0f} |")
    yield ""


def amazon(shared: Path) -> Iterator[str]:
    """Classes of the deforestation series: our logistic head and a random forest."""
    yield ("| Amazon series, classes of the whole series | training, validation | model | OA | "
           "macro F1 | F1 of deforestation |")
    yield "|-|-|-|-|-|-|"
    folder = shared / "data" / "deforestation-amazon-series"
    for file, title, axis in (("para_226_064_mixl8mod", "Para, 3 classes", "lat"),
                              ("rondonia_landsat8", "Rondonia, 4 classes", "lon")):
        with np.load(folder / f"{file}.npz") as held:
            x, label, train = held["X"], held["label"].astype(object), held["split"] == "train"
            place = held[axis][train]
        label = np.array(["Deforestation" if n.startswith("Deforestation") else n for n in label])
        names, y = np.unique(label, return_inverse=True)
        table = np.clip(x, -1, 1.5).reshape(len(x), -1).astype(np.float32)
        count = f"{train.sum()}, {(~train).sum()}"
        forests = []
        for seed in range(3):
            model = RandomForestClassifier(500, class_weight="balanced", random_state=seed)
            forests.append(figures(y, model.fit(table[train], y[train]).predict(table), train,
                                   names))
        middle, spread = np.median(forests, 0), np.ptp(forests, 0) / 2
        yield (f"| {title} | {count} | baseline: random forest, 3 seeds | " + " | ".join(
            f"{m:.3f} ± {s:.3f}" for m, s in zip(middle, spread, strict=True)) + " |")
        kind, model = chosen(table[train], y[train], place, len(names))
        found = model.probabilities(table).argmax(1)
        hold = np.flatnonzero(~train)
        rng = np.random.default_rng(0)
        draws = [figures(y[p], found[p], np.zeros(len(p), bool), names)
                 for p in (rng.choice(hold, len(hold)) for _ in range(300))]
        yield (f"| {title} | {count} | head, chosen in blocks: {kind} | " + " | ".join(
            f"{m:.3f} ± {s:.3f}" for m, s in zip(
                figures(y, found, train, names), np.std(draws, 0), strict=True)) + " |")
    yield ""


def chosen(x: np.ndarray, y: np.ndarray, place: np.ndarray, size: int
           ) -> tuple[str, Classifier]:
    """Logistic regression or random forest, as blocks of the training side say."""
    fold = place.argsort().argsort() * FOLDS // len(place)

    def fit(kind: object, a: np.ndarray, b: np.ndarray) -> Classifier:
        if kind == "forest":
            return fit_forest(a, b, size, 0, 1)
        return fit_logistic(a, b, size, (kind,))[-1]

    scores = {}
    for kind in ("forest", *STRENGTHS):
        found = np.zeros(len(y), int)
        for k in range(FOLDS):
            model = fit(kind, x[fold != k], y[fold != k])
            found[fold == k] = model.probabilities(x[fold == k]).argmax(1)
        scores[kind] = f1_score(y, found, average="macro")
    best = max(scores, key=scores.get)
    name = "random forest" if best == "forest" else "logistic regression"
    return name, fit(best, x, y)


def figures(y: np.ndarray, found: np.ndarray, train: np.ndarray, names: np.ndarray
            ) -> tuple[float, ...]:
    """OA, macro F1, F1 of deforestation on the validation side."""
    y, found = y[~train], found[~train]
    k = int(np.flatnonzero(names == "Deforestation")[0])
    return (accuracy_score(y, found),
            f1_score(y, found, average="macro", labels=range(len(names)), zero_division=0),
            f1_score(y == k, found == k, zero_division=0))


def forest_head() -> Iterator[str]:
    """What the card of the bundled forest head says about held-back ground."""
    yield ("| forest or not, validation sides | n, forest | bundled head | the same, 1 to 8 dates "
           "only | head that never saw the set | baseline: random forest of the set's own series |")
    yield "|-|-|-|-|-|-|"
    for name, said in ForestHead.open().card["validation"].items():
        yield (f"| {name} | {said['n']}, {said['forest']} | {said['head']} | "
               f"{said['head, parts of the dates']} | {said['head that never saw the set']} | "
               f"{said[BASELINE]} |")
    yield ""


def mato_grosso(shared: Path) -> str:
    """The preset deforestation on the MODIS cube beside the labels that lie in it."""
    folder = shared / "data" / "crop-matogrosso-modis" / "cube"
    with tempfile.TemporaryDirectory() as scratch:
        out, when = Path(scratch) / "c.tif", Path(scratch) / "d.tif"
        result = jobs.run("change_detection", {
            "before": [str(p) for p in sorted(folder.glob("*.tif"))], "preset": "deforestation",
            "min_area_ha": 0, "output": str(out), "date": str(when)}, JobContext())
        with rasterio.open(out) as one, rasterio.open(when) as two:
            change, last, first, crs = one.read(1), two.read(2), two.read(3), two.crs
            with open(folder / "samples.csv", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            xs, ys = transform("EPSG:4326", crs, [float(r["longitude"]) for r in rows],
                               [float(r["latitude"]) for r in rows])
            places = [two.index(x, y) for x, y in zip(xs, ys, strict=True)]
    forest = kept = cleared = wrong = 0
    for row, place in zip(rows, places, strict=True):
        began, ended = (number(row[k]) for k in ("from", "to"))
        if row["label"] == "Forest":
            forest += 1
            kept += change[place] == 2 or (change[place] == 1 and first[place] >= ended)
        elif change[place] == 1:
            cleared += 1
            wrong += last[place] > began
    return (f"**Mato Grosso**, MODIS, 137 dates of six years (preset deforestation, the whole cube "
            f"as one series): {result['changed_ha']:.0f} ha lost, by year "
            f"{json.dumps(result['years'])}. Of {forest} forest labels {kept} agree (none may be "
            f"cut before its label ends); {cleared} crop labels lie on lost forest, "
            f"{wrong} of them earlier than the date found. The labels do not say when a forest was "
            "cut, so this is agreement, not accuracy; and the forest head was trained on other "
            "samples of the same state.")


def number(day: str) -> int:
    """Days since 1970."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days


def alarms(shared: Path) -> Iterator[str]:
    """Share of real pixels with a sure break."""
    data = shared / "data"
    patches = data / "crop-worldcereal-patches"
    yield ("| real series without labels of change | series | any, % of the area | deforestation, "
           "%, smallest area 0 and 0.5 ha |")
    yield "|-|-|-|-|"
    for title, paths in (
            ("CBERS-4, Bahia, one year", sorted((data / "cbers4-awfi-bahia-stack").glob("*.tif"))),
            ("Sentinel-2, Flanders 2018, 16 months of fields",
             [patches / "belgium-2018-polders" / p for p in ("s2_10m", "s2_20m")]),
            ("Sentinel-2, Flanders 2019, 16 months of fields", [patches / "belgium-2019-north"]),
            ("Sentinel-2, Tanzania, two years of fields", [patches / "tanzania-2021"])):
        said: list[str] = []
        context = JobContext(on_log=lambda _, text, said=said: said.append(text))
        shares = [share(paths, preset, least, context) for preset, least in (
            ("any", 0.0), ("deforestation", 0.0), ("deforestation", 0.5))]
        series = next(t for t in said if t.startswith("Series: ")).split(" ", 1)[1]
        yield f"| {title} | {series} | {shares[0]} | {shares[1]}, {shares[2]} |"
    yield ""


def share(paths: list[Path], preset: str, least: float, context: JobContext) -> str:
    """Percent of a series' area that changed."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            result = jobs.run("change_detection", {
                "before": [str(p) for p in paths], "preset": preset, "min_area_ha": least,
                "output": str(Path(scratch) / "c.tif")}, context)
        except UserError:
            return "no red band"
    total = sum(a["hectares"] for a in result["areas"])
    return f"{100 * result['changed_ha'] / total:.1f}"


def tables(shared: Path) -> Iterator[str]:
    """All lines."""
    yield from known()
    yield mato_grosso(shared)
    yield ""
    yield from amazon(shared)
    yield from forest_head()
    yield from alarms(shared)
    yield from falls(shared)


def falls(shared: Path) -> Iterator[str]:
    """What the swing that a step must stand out of costs: falls planted into real series."""
    patches = shared / "data" / "crop-worldcereal-patches"
    yield ("| real series of fields | sure breaks, % of pixels, without and with the swing | "
           + " | ".join(f"planted fall of {-f:g} found, %" for f in FALLS) + " |")
    yield "|-|-|" + "-|" * len(FALLS)
    for title, path in (("Flanders 2018", patches / "belgium-2018-polders" / "s2_20m"),
                        ("Flanders 2019", patches / "belgium-2019-north"),
                        ("Tanzania", patches / "tanzania-2021")):
        rng = np.random.default_rng(0)
        stack = open_input([path], JobContext())
        dater = Dater(stack, stack.grid.full)
        bands = needed(dater.index, stack.sensors()[dater.sensor])
        reader = StackReader(stack, sensors=(dater.sensor,), bands={dater.sensor: bands})
        series = reader.read(stack.grid.full).series[dater.sensor]
        reader.close()
        dater.close()
        days, values = series.dates, index_of(series, dater.index).reshape(len(series.dates), -1)
        at = rng.integers(len(days) // 4, 3 * len(days) // 4, values.shape[1])
        later = np.arange(len(days))[:, None] >= at
        alone = sure(days, values)
        calm = ~alone[0]
        found = [sure(days, np.clip(values + fall * later, -1, 1)[:, calm]) for fall in FALLS]
        yield f"| {title} | " + " | ".join(
            f"{100 * every.mean():.0f}, {100 * standing.mean():.0f}"
            for every, standing in (alone, *found)) + " |"
    yield ""


def sure(days: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) sure breaks of (T, n) series, and those that stand out of their series' swing."""
    found = find_breaks(days, values.astype(np.float32), least_step=LEAST_STEP["index"])
    every = (found.after > 0) & (found.probability >= SURE)
    return every, every & (np.abs(found.step) >= STANDS_OUT * found.swing)


def main() -> None:
    """Print the tables."""
    shared = Path(os.environ.get("EARTHPRINT_SHARED",
                                 Path(__file__).resolve().parents[2] / "shared"))
    for line in tables(shared):
        print(line, flush=True)


if __name__ == "__main__":
    main()
