"""How early, how far and how strange: the crop heads within a season and away from home.

    PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/crops.py \
        [--write]

Prints three tables; `--write` puts them into docs/evaluation.md. About five minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tools")]

from crop_sets import CANADA, PATCHES, Pixels, canada, embedded, patch, slovenia  # noqa: E402
from train_crops import OPTICAL, RADAR, fit, table  # noqa: E402

from earthprint.engine.encoding.encoder import Encoder  # noqa: E402
from earthprint.engine.heads import accuracy  # noqa: E402
from earthprint.engine.heads.applicability import Gate  # noqa: E402
from earthprint.engine.heads.classifiers import fit_forest  # noqa: E402
from earthprint.engine.heads.features import band_series  # noqa: E402
from earthprint.engine.heads.head import Head  # noqa: E402
from earthprint.engine.heads.layout import SensorSeries  # noqa: E402

PAGE = ROOT / "docs" / "evaluation.md"
BEGIN, END = "<!-- crops: begin -->\n", "<!-- crops: end -->\n"
ENDS = ("05-31", "06-30", "07-31", "08-31", "09-30", "10-31", "12-31")
DRAWS, SPLITS, PARTS = 300, 5, 20
BOTH = (*RADAR, *OPTICAL)
ENCODER = Encoder.open("fast")


def scored(mapped: np.ndarray, pixels: Pixels, size: int) -> str:
    """Macro-F1 with its standard error over draws of the test's blocks, and overall accuracy."""
    def f1(rows: np.ndarray) -> float:
        return accuracy.scores(accuracy.confusion(
            mapped[rows], pixels.classes[rows], size)).macro_f1

    rng, blocks = np.random.default_rng(0), np.unique(pixels.blocks)
    members = [np.flatnonzero(pixels.blocks == b) for b in blocks]
    draws = [f1(np.concatenate([members[k] for k in rng.integers(0, len(blocks), len(blocks))]))
             for _ in range(DRAWS)]
    overall = float((mapped == pixels.classes).mean())
    return f"{f1(np.arange(len(mapped))):.2f} ± {np.std(draws):.2f}, {overall:.2f}"


def bands(pixels: Pixels, last: str) -> np.ndarray:
    """Gap-filled band series up to a day, as heads on bands see them."""
    cube = pixels.part(last=last)
    return np.concatenate([
        band_series(s, SensorSeries(name, s.bands, 24), slice(None))
        for name, s in sorted(cube.series.items())], 1)


def early() -> str:
    """Macro-F1 by the last date used."""
    sets = canada()
    train, size = sets["train"], len(CANADA)
    whole = fit(embedded(train.part(), ENCODER), train.classes, size)
    x, y, _, _ = table([train], ENCODER, PARTS)
    cuts = fit(x, y, size)
    lines = ["| last date | head of these dates | head of whole seasons | head of random parts of "
             "seasons | random forest on bands of these dates |", "|-|-|-|-|-|"]
    for end in ENDS:
        last, test = f"2017-{end}", sets["val"]
        seen = embedded(test.part(last=last), ENCODER)
        own = fit(embedded(train.part(last=last), ENCODER), train.classes, size)
        forest = fit_forest(bands(train, last), train.classes, size, 0, 1)
        cells = [scored(head.probabilities(seen).argmax(1), test, size)
                 for head in (own, whole, cuts)]
        cells.append(scored(forest.probabilities(bands(test, last)).argmax(1), test, size))
        lines.append(f"| {end} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def away() -> str:
    """The bundled head of eastern Canada as it ships, by region and sensor."""
    head = Head.open(ROOT / "resources" / "heads" / "crops_eastern_canada.head.onnx")
    lines = ["| region | Sentinel-1 and -2 | Sentinel-1 alone | Sentinel-2 alone |", "|-|-|-|-|"]
    for name, title in (("val", "eastern Ontario and Quebec"),
                        ("val_newbrunswick", "New Brunswick")):
        pixels, cells = canada()[name], []
        for sensors in (BOTH, RADAR, OPTICAL):
            seen = embedded(pixels.part(sensors=sensors), ENCODER)
            known = ~np.isnan(seen[:, 0])
            cells.append(scored(head.probabilities(seen[known]).argmax(1), pixels.keep(known),
                                len(CANADA)))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def strange() -> str:
    """Share of pixels that the gate of a head of the polders calls unlike."""
    polders, tests = patch(PATCHES[0]), {}
    tests["same patch, other blocks"] = polders
    tests["Flanders 2019, 40 km away"] = patch(PATCHES[1])
    tests["Tanzania 2021"] = patch("tanzania-2021")
    tests["eastern Canada 2017, monthly"] = canada()["val"]
    tests["Slovenia 2015, five dates"] = slovenia()
    lines = ["| gate of the polders 2018, applied to | Sentinel-1 and -2 | Sentinel-1 alone | "
             "Sentinel-2 alone |", "|-|-|-|-|"]
    cells = {name: [] for name in tests}
    for sensors in (BOTH, RADAR, OPTICAL):
        home = embedded(polders.part(sensors=sensors), ENCODER)
        seen = {name: embedded(p.part(sensors=sensors), ENCODER) for name, p in tests.items()
                if set(sensors) <= set(p.cube.series)}
        shares = {name: [] for name in tests}
        for split in range(SPLITS):
            order = np.random.default_rng(split).permutation(int(polders.blocks.max()) + 1)
            fold = order[polders.blocks] % 2
            mine = (fold == 0) & ~np.isnan(home[:, 0])
            blocks = order[polders.blocks[mine]] // 2 % 5
            gate = Gate.of(home[mine], polders.classes[mine], blocks, True, split)
            for name, x in seen.items():
                some = ~np.isnan(x[:, 0]) & (fold == 1 if x is seen["same patch, other blocks"]
                                             else True)
                shares[name].append(100 * gate.unlike(x[some]).mean())
        for name, found in shares.items():
            cells[name].append(f"{np.mean(found):.0f} ± {np.std(found, ddof=1):.0f} %"
                               if found else "no radar")
    lines += [f"| {n} | {' | '.join(c)} |" for n, c in cells.items()]
    lines += ["", "| gate of the bundled head | its own region | the other continent |", "|-|-|-|"]
    for name, near, far in (
            ("crops_eastern_canada", canada()["val"], polders),
            ("crops_flanders", tests["Flanders 2019, 40 km away"], canada()["val"])):
        gate = Head.open(ROOT / "resources" / "heads" / f"{name}.head.onnx").gate
        shares = [100 * gate.unlike(embedded(p.part(sensors=BOTH), ENCODER)).mean()
                  for p in (near, far)]
        lines.append(f"| {name} | " + " | ".join(f"{s:.0f} %" for s in shares) + " |")
    return "\n".join(lines)


def section() -> str:
    """The text for docs/evaluation.md."""
    return f"""**Crops within a season.** Eastern Canada 2017 (monthly Sentinel-1 and -2, seven
crops; trained west of 79 W, tested in eastern Ontario and Quebec): macro-F1 ± its standard error
over {DRAWS} draws of the test's blocks of half a degree, then overall accuracy. Logistic regression
on embeddings of `fast`; `benchmarks/crops.py --write` makes this section.

{early()}

A head that learned from whole seasons is of no use in July: train with the same Last date to use
(second column), or take a head that learned from random parts of seasons, as the bundled ones did.
`cropclassification` trains and maps with the same cut, and warns where a head's season differs by
more than a month. From June to September the head on embeddings is ahead of the forest in macro-F1,
which is ahead in overall accuracy: it serves the large classes. At the end they are level in
macro-F1.

**The bundled head of eastern Canada** as it ships, macro-F1 ± standard error, overall accuracy.
New Brunswick is about 1000 km from its training data: the report of a map there says so.

{away()}

**Applicability.** Share of pixels that the gate calls unlike its training data, for a head of half
of the blocks of a patch of 640 m in Flanders; mean ± standard deviation of {SPLITS} halves. A gate
that worked perfectly would show little in the first row and much in the others. It is cautious:
other fields of the same region in another year are as strange to it as another continent, if it has
seen one patch only. (Own region of the bundled heads: eastern Ontario and Quebec, of which the
Canadian head has seen nothing; the patch of 2019, which the Flemish head was trained on.)

{strange()}

"""


def main() -> None:
    """Print, and write where asked to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    text = section()
    print(text)
    if parser.parse_args().write:
        page = PAGE.read_text(encoding="utf-8")
        if BEGIN not in page:
            page = page.rstrip("\n") + f"\n\n{BEGIN}{END}"
        start, stop = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text(page[:start] + text + page[stop:], encoding="utf-8")


if __name__ == "__main__":
    main()
