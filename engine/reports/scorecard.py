"""The sections of a report that say how far a trained head can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from ..heads import accuracy
from ..heads.accuracy import Scores
from ..heads.training import Training, Trial
from ..rasters.legend import Legend
from . import charts
from .charts import Interval
from .report import Section, chip, number, table

_KINDS = {"embeddings": "embeddings", "bands": "band series", "both": "both together"}
_MODELS = {"logistic": "logistic regression", "forest": "random forest",
           "neighbours": "nearest neighbours", "boosting": "gradient boosting",
           "mlp": "neural network", "convolutional": "convolutional decoder",
           "joined": "joined models (calibrated mean)"}


def model_name(model: str) -> str:
    """A classifier in words."""
    return _MODELS.get(model, model)


def accuracy_section(training: Training) -> Section:
    """Figures on held-back blocks: summary, candidates, matrix, classes."""
    folds, best = training.folds, training.chosen
    gap = training.random.scores.macro_f1 - best.scores.macro_f1
    intro = (
        f"<p>Measured on labels that the model had not seen: {len(folds.places)} blocks of "
        f"{number(folds.side_m)} m in {folds.count} folds, each held back once. Macro F1 is "
        f"<b>{best.scores.macro_f1:.2f}</b>, overall accuracy {100 * best.scores.overall:.0f} %. "
        f"A random split of the same pixels would have said "
        f"{training.random.scores.macro_f1:.2f}"
        + (f", {gap:.2f} too much, because neighbouring pixels are alike" if gap > 0.02 else "")
        + ".</p>")
    return Section("Accuracy", intro + _comparison(training)
                   + matrix_table(training.chosen.scores, training.labels.legend)
                   + _classes(training))


def trust_section(training: Training, unlike_share: float | None) -> Section:
    """Whether probabilities mean what they say, and how much of the map is unfamiliar ground."""
    y = training.labels.classes
    before, after = (
        accuracy.calibration_bins(p.max(1), p.argmax(1) == y)
        for p in (training.chosen.probabilities, training.calibrated))
    sure = training.chosen.probabilities.max(1).mean() - training.chosen.scores.overall
    bias = f"{'too sure' if sure > 0 else 'too modest'} by {100 * abs(sure):.0f} points on average"
    if training.temperature == 1.0:
        done = (f"{bias}. A temperature would not have brought it nearer to the line, so its "
                "probabilities were left as they are. Mean distance from the line (expected "
                f"calibration error): {100 * training.ece[0]:.1f} points before and after.")
    else:
        done = (f"{bias}, so its probabilities were tempered ({training.temperature:.2f}). Mean "
                "distance from the line (expected calibration error): "
                f"{100 * training.ece[0]:.1f} points before, {100 * training.ece[1]:.1f} after, "
                "each fold tempered by what the others showed.")
    words = ("A confidence of 80 % should be right 8 times in 10: the dashed line. On held-back "
             f"blocks the classifier was {done} Grey bars: samples.")
    unlike = ""
    if unlike_share is not None:
        unlike = (f"<p><b>{100 * unlike_share:.1f} %</b> of the map is unlike the training data: "
                  "its features are farther from every label than held-back labels were from "
                  "the others. Do not rely on the accuracy figures there, but add labels; the "
                  "layer Unlike the training data shows where.</p>")
    alt = (f"Accuracy against stated probability; calibration error "
           f"{100 * training.ece[0]:.1f} percent before, {100 * training.ece[1]:.1f} after")
    return Section("Trust", f'<div class="pair"><figure>'
                            f"{charts.reliability(before, after, alt)}</figure>"
                            f'<div style="flex:1 1 300px"><p>{words}</p>{unlike}</div></div>')


def _comparison(training: Training) -> str:
    rows = [_interval(t, _title(t), "best" if t is training.chosen else "plain")
            for t in training.trials]
    base = training.baseline
    if base is not None and all(t is not base for t in training.trials):
        rows.append(_interval(base, "forest on band series",
                              "best" if base is training.chosen else "plain"))
    rows.append(_interval(training.random, "random split", "open"))
    alt = "Macro F1 of " + "; ".join(f"{r.name} {r.mean:.2f} ± {r.spread:.2f}" for r in rows)
    places, fold = _block_folds(training)
    picture = charts.blocks(places, training.folds.side_m, fold,
                            f"{len(places)} blocks in {training.folds.count} folds")
    others = [r for r in rows[:-1] if r.style != "best"]
    verdict = ""
    if others:
        rival = max(others, key=lambda r: r.mean)
        ahead = training.chosen.scores.macro_f1 - rival.mean
        clear = ahead > max(training.chosen.spread, rival.spread) / np.sqrt(training.folds.count)
        verdict = (f" The runner-up, {escape(rival.name)}, is {abs(ahead):.2f} "
                   f"{'behind' if ahead >= 0 else 'ahead'}; "
                   f"{'more' if clear and ahead > 0 else 'no more'} than chance would give.")
    return (f'<h3>Candidates on the same blocks</h3><div class="pair">'
            f'<figure class="wide">{charts.intervals(rows, "macro F1", alt)}'
            f"<figcaption>Large dot: all held-back samples together; line: one standard deviation "
            f"of the folds (small dots).{verdict}</figcaption></figure>"
            f'<figure class="slim">{picture}<figcaption>The blocks, in the colour of the fold in '
            "which they were held back.</figcaption></figure></div>")


def _title(trial: Trial) -> str:
    return _KINDS[trial.kind]


def _interval(trial: Trial, name: str, style: str = "plain") -> Interval:
    return Interval(name, trial.scores.macro_f1, trial.spread, tuple(trial.fold_f1), style)


def _block_folds(training: Training) -> tuple[np.ndarray, np.ndarray]:
    """Corners and fold of the blocks."""
    folds = training.folds
    fold = np.zeros(len(folds.places), np.int64)
    fold[folds.block] = folds.fold
    return folds.places, fold


def matrix_table(s: Scores, legend: Legend) -> str:
    """A confusion matrix, shaded by the share of the true class."""
    share = s.matrix / np.maximum(s.matrix.sum(0), 1)
    head = "".join(f"<th><span>{escape(c.name)}</span></th>" for c in legend.classes)
    rows = []
    for i, c in enumerate(legend.classes):
        cells = "".join(_cell(int(s.matrix[i, j]), float(share[i, j]), i == j)
                        for j in range(len(legend)))
        rows.append(f"<tr><th scope='row'>{chip(c.color)}{escape(c.name)}</th>{cells}"
                    f'<td class="sum">{number(int(s.matrix[i].sum()))}</td></tr>')
    sums = "".join(f'<td class="sum">{number(int(n))}</td>' for n in s.matrix.sum(0))
    return (
        "<h3>Confusion matrix</h3><p class='soft'>Rows: mapped as; columns: true class; pixels. "
        "Shade: share of the true class.</p>"
        f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}<th><span '
        f'class="soft">all</span></th></tr></thead><tbody>{"".join(rows)}<tr><th scope="row" '
        f'class="soft">all</th>{sums}<td class="sum">{number(int(s.matrix.sum()))}</td></tr>'
        "</tbody></table></div>")


def _cell(count: int, share: float, diagonal: bool) -> str:
    if not count:
        return '<td class="zero">0</td>'
    tone = "--right" if diagonal else "--wrong"
    strength = 0.12 + 0.6 * share
    return f'<td style="background:rgba(var({tone}), {strength:.2f})">{number(count)}</td>'


def _classes(training: Training) -> str:
    groups = [c["groups"] for c in training.labels.counts()]
    return class_table(training.chosen.scores, training.labels.legend, training.labels.heading,
                       groups)


def class_table(s: Scores, legend: Legend, noun: str, groups: Sequence[int]) -> str:
    """Precision, recall, F1 and IoU of each class, with how many samples and groups it has."""
    rows = [(chip(c.color) + escape(c.name), *(_ratio(v[k]) for v in (s.precision, s.recall)),
             _ratio(s.f1[k]),
             charts.bar(0 if np.isnan(s.f1[k]) else float(s.f1[k]), c.color, 150),
             _ratio(s.iou[k]), number(int(s.samples[k])), number(groups[k]))
            for k, c in enumerate(legend.classes)]
    f1 = s.f1[~np.isnan(s.f1)]
    body = table(("Class", "Precision", "Recall", "F1", "", "IoU", "Pixels",
                  noun), rows, numeric=(1, 2, 3, 5, 6, 7),
                 foot=("Mean", _ratio(accuracy.mean_known(s.precision)),
                       _ratio(accuracy.mean_known(s.recall)), _ratio(s.macro_f1), "",
                       _ratio(accuracy.mean_known(s.iou)), number(int(s.samples.sum())),
                       number(sum(groups))))
    undefined = len(f1) < len(s.f1) or np.isnan(s.precision).any()
    note = ("<p class='soft' style='margin-top:8px'>n/a: never mapped, so the ratio is 0/0; left "
            "out of the mean.</p>" if undefined else "")
    return ("<h3>Classes</h3><p class='soft'>Precision (user's accuracy): of what is mapped so, "
            "how much is. Recall (producer's accuracy): of what is so, how much is mapped. F1: "
            "their harmonic mean.</p>" + body + note)


def _ratio(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.2f}"
