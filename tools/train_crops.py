"""Train the bundled crop heads on the training sides of the labelled sets.

    PYTHONPATH=build/plugins .venv/engine/bin/python tools/train_crops.py [NAME ...]

Writes resources/heads/crops_*.head.onnx. Each pixel is shown to the head whole and in parts: one
sensor, a late start, a cut in the season, bands missing; so that one head serves them all. The
figures in the cards are of blocks of ground that were held back, whole seasons of all sensors, and
of another region or year. A few minutes on one processor.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from crop_sets import (  # noqa: E402
    CANADA,
    FLANDERS,
    PATCHES,
    Pixels,
    canada,
    embedded,
    flanders_points,
    patch,
)

from earthprint.engine.encoding.encoder import Encoder  # noqa: E402
from earthprint.engine.heads import accuracy  # noqa: E402
from earthprint.engine.heads.applicability import Gate  # noqa: E402
from earthprint.engine.heads.classifiers import Logistic, balanced_draw, fit_logistic  # noqa: E402
from earthprint.engine.heads.head import HeadCard, write_head  # noqa: E402
from earthprint.engine.heads.layout import FeatureLayout  # noqa: E402
from earthprint.engine.heads.origin import KEY, Origin  # noqa: E402
from earthprint.engine.rasters.legend import Legend  # noqa: E402

LOG = logging.getLogger(__name__)
FOLDS, SEED = 5, 0
STRENGTH = 0.01
REFERENCES = 500  # of the gate: a fifth of a megabyte in the file
MOST = 1200  # pixels of a patch, as evenly over its classes as they allow
RADAR, OPTICAL = ("sentinel-1",), ("sentinel-2",)
#: Month and day of the earliest cut and the latest start that the heads are trained on.
CORE = ("04-15", "07-31")
SENSOR_SETS = ((), RADAR, OPTICAL, ("sentinel-1", "sentinel-2"))


@dataclass(frozen=True)
class Recipe:
    """One head: how its pixels come about, and what its card says of them."""

    name: str
    legend: tuple[str, ...]
    region: str
    training: Callable[[], list[Pixels]]
    elsewhere: Callable[[], dict[str, Pixels]]
    sets: tuple[dict[str, str], ...]
    limits: tuple[str, ...]


def variants(pixels: Pixels, rng: np.random.Generator, count: int) -> list:
    """Cubes of the same pixels: whole, then parts at random that always hold the core."""
    first, last = (np.datetime64(d) for d in pixels.season)
    year = pixels.season[1][:4]
    start, end = (np.datetime64(f"{year}-{day}") for day in CORE)
    cubes = [pixels.part()]
    for n in range(count):
        begin = first + rng.integers(0, (start - first).astype(int) + 1) if n % 2 else first
        # squared, so that more cuts are early, where they differ most
        stop = end + int(rng.random() ** 2 * (last - end).astype(int))
        without = () if rng.random() < 0.6 else (("nir08",), ("swir16", "swir22"))[n % 2]
        cubes.append(pixels.part(str(begin), str(stop), SENSOR_SETS[n % len(SENSOR_SETS)],
                                 without))
    return cubes


def table(sets: list[Pixels], encoder: Encoder, parts: int) -> tuple[np.ndarray, ...]:
    """Embeddings of all variants, with class, block (numbered over the sets) and variant."""
    rng, rows, offset = np.random.default_rng(SEED), [], 0
    for pixels in sets:
        for number, cube in enumerate(variants(pixels, rng, parts)):
            x = embedded(cube, encoder)
            known = ~np.isnan(x[:, 0])
            rows.append((x[known], pixels.classes[known], offset + pixels.blocks[known],
                         np.full(known.sum(), number)))
        offset += int(pixels.blocks.max()) + 1
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def fit(x: np.ndarray, y: np.ndarray, size: int) -> Logistic:
    """A strongly penalised regression: what travels best to the other patch and region."""
    return fit_logistic(x, y, size, (STRENGTH,), x.shape[1])[0]


def few(pixels: Pixels) -> Pixels:
    """At most `MOST` pixels of a set."""
    mask = np.zeros(len(pixels), bool)
    mask[balanced_draw(pixels.classes, MOST, SEED)] = True
    return pixels.keep(mask)


def folds_of(blocks: np.ndarray) -> np.ndarray:
    """(n,) fold of each sample: blocks in an order drawn at random."""
    order = np.random.default_rng(SEED).permutation(int(blocks.max()) + 1)
    return order[blocks] % FOLDS


def plain(value: float) -> float | None:
    """A number for JSON."""
    return None if np.isnan(value) else round(float(value), 4)


def bins_of(p: np.ndarray, y: np.ndarray) -> list[list[float | None]]:
    """Calibration bins for JSON."""
    bins = accuracy.calibration_bins(p.max(1), p.argmax(1) == y)
    return [[plain(float(v)) for v in row] for row in bins]


def train(recipe: Recipe, parts: int = 20) -> None:
    """Cross-validate, fit on everything, test elsewhere, write."""
    encoder = Encoder.open("fast")
    sets = [few(s) for s in recipe.training()]
    x, y, block, variant = table(sets, encoder, parts)
    fold, size, whole = folds_of(block), len(recipe.legend), variant == 0
    held = np.zeros((len(y), size))
    for f in range(FOLDS):
        test = (fold == f) & whole
        fitted = fit(x[fold != f], y[fold != f], size)
        held[test] = fitted.probabilities(x[test])
    held, truth, of = held[whole], y[whole], fold[whole]
    s = accuracy.scores(accuracy.confusion(held.argmax(1), truth, size))
    by_fold = [accuracy.scores(accuracy.confusion(held[of == f].argmax(1), truth[of == f], size)
                               ).macro_f1 for f in range(FOLDS)]
    heat = accuracy.temperature(held, truth)
    calm = np.empty_like(held)
    for f in range(FOLDS):
        calm[of == f] = accuracy.tempered(held[of == f], accuracy.temperature(
            held[of != f], truth[of != f]))
    final = fit(x, y, size)
    validation = {
        "folds": FOLDS, "blocks": len(np.unique(block)), "macro_f1": plain(s.macro_f1),
        "macro_f1_spread": plain(float(np.std(by_fold, ddof=1))), "overall": plain(s.overall),
        "strength": STRENGTH,
        "classes": [{"value": k + 1, "precision": plain(s.precision[k]),
                     "recall": plain(s.recall[k]), "f1": plain(s.f1[k]), "iou": plain(s.iou[k])}
                    for k in range(size)],
        "matrix": s.matrix.tolist(), "reliability": [bins_of(held, truth), bins_of(calm, truth)],
        "ece_before": plain(accuracy.expected_calibration_error(
            held.max(1), held.argmax(1) == truth)),
        "ece_after": plain(accuracy.expected_calibration_error(
            calm.max(1), calm.argmax(1) == truth)),
        "elsewhere": elsewhere(recipe, sets, encoder, parts)}
    LOG.info("%s: blocks macro F1 %.3f +- %.3f, OA %.3f; %s", recipe.name, s.macro_f1,
             np.std(by_fold, ddof=1), s.overall, validation["elsewhere"])
    some = balanced_draw(y, REFERENCES, SEED)
    gate = Gate.of(x[some], y[some], fold[some], True, SEED)
    classes = np.concatenate([p.classes for p in sets])
    parcels = [np.concatenate([p.parcels[p.classes == k] + 100_000 * i
                               for i, p in enumerate(sets)]) for k in range(size)]
    legend = Legend.of_names(recipe.legend)
    places = np.unique(np.rint(np.concatenate([p.places for p in sets]) * 5) / 5, axis=0)
    origin = Origin(tuple((float(a), float(b)) for a, b in places),
                    tuple(dict.fromkeys(p.season for p in sets)), CORE, recipe.region)
    card = HeadCard(
        FeatureLayout("embeddings", encoder.card.identity, encoder.card.dimensions), legend,
        "logistic",
        tuple({"value": c.value, "name": c.name, "samples": int((classes == k).sum()),
               "groups": len(np.unique(parcels[k]))} for k, c in enumerate(legend.classes)),
        validation, heat, SEED,
        {"labels": "; ".join(one["name"] for one in recipe.sets), "input": recipe.region,
         "sets": [{**one, "samples": len(p)} for one, p in zip(recipe.sets, sets, strict=True)],
         "limits": list(recipe.limits), KEY: origin.record()})
    path = ROOT / "resources" / "heads" / f"{recipe.name}.head.onnx"
    write_head(path, final, card, gate, x[:2000])
    LOG.info("%s: %.0f kB", path.name, path.stat().st_size / 1e3)


def elsewhere(recipe: Recipe, sets: list[Pixels], encoder: Encoder, parts: int) -> list[dict]:
    """Scores in another region or year: of heads that have not seen it."""
    found, size = [], len(recipe.legend)
    for where, pixels in recipe.elsewhere().items():
        others = [s for s in sets if s.season != pixels.season] or sets
        x, y, _, _ = table(others, encoder, parts)
        fitted = fit(x, y, size)
        test = embedded(pixels.part(), encoder)
        known = ~np.isnan(test[:, 0])
        s = accuracy.scores(accuracy.confusion(
            fitted.probabilities(test[known]).argmax(1), pixels.classes[known], size))
        found.append({"where": where, "macro_f1": plain(s.macro_f1), "overall": plain(s.overall),
                      "pixels": int(known.sum())})
    return found


def _canada_elsewhere() -> dict[str, Pixels]:
    sets = canada()
    return {"eastern Ontario and Quebec, same year": sets["val"],
            "New Brunswick, same year": sets["val_newbrunswick"]}


_COPERNICUS = "contains modified Copernicus Sentinel data"
RECIPES = (
    Recipe(
        "crops_flanders", FLANDERS, "Flanders, Belgium", lambda: [
            *(patch(name) for name in PATCHES), flanders_points()],
        lambda: {f"the patch of {name.split('-')[1]}, when the head was trained without it":
                 patch(name) for name in PATCHES},
        tuple({"name": name, "licence": f"MIT; labels Flemish field register (open); {_COPERNICUS}"}
              for name in ("WorldCereal patch Flanders 2018 (polders)",
                           "WorldCereal patch Flanders 2019 (north)",
                           "WorldCereal points Flanders 2021")),
        ("Two patches of 640 m and some forty points: few fields, so other fields may differ.",
         "Other land is other crops (potatoes, cereals, beet, vegetables), farmyards, roads, woods "
         "and gardens: the two patches do not carry more classes.")),
    Recipe(
        "crops_eastern_canada", CANADA, "south-western Ontario, Canada",
        lambda: [canada()["train"]], _canada_elsewhere,
        ({"name": "WorldCereal points Canada 2017, west of 79 W",
          "licence": "repository without a licence file; labels Agriculture and Agri-Food Canada, "
                     f"Open Government Licence; {_COPERNICUS}"},),
        ("Monthly composites of one year; only fields of these crops were seen, so the head has "
         "no class for woods, towns or water: mask them first.",
         "Potatoes, winter and spring cereals are taken for each other.")))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for each in RECIPES:
        if not sys.argv[1:] or each.name in sys.argv[1:]:
            train(each)
