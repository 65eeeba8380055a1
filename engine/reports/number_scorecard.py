"""The sections of a report that say how far a head of numbers can be trusted."""

from __future__ import annotations

from html import escape

import numpy as np

from ..heads.regression import NumberScores, NumberTraining
from . import charts
from .charts import line, svg, text
from .report import Section, number, table

_KINDS = {"embeddings": "embeddings", "bands": "band series", "both": "both together"}
_MODELS = {"ridge": "ridge regression", "forest": "random forest",
           "boosting": "gradient boosting", "joined": "forest and boosting, mean"}
_MOST_DOTS = 1500  # of a scatter plot; more would only make the page heavy


def number_model_name(model: str) -> str:
    """A regressor in words."""
    return _MODELS[model]


def number_headline(training: NumberTraining) -> tuple[tuple[str, str], ...]:
    """Figures at the top of a report."""
    s, interval = training.chosen.scores, training.interval
    unit = f" <small>{escape(training.measured.unit)}</small>" if training.measured.unit else ""
    return ((_plain(s.r2), "R² on held-back blocks"),
            (f"{s.rmse:.4g}{unit}", "RMSE on the same"),
            (f"± {interval.half_width:.4g}{unit}",
             f"{100 * interval.level:.0f} % prediction interval"))


def number_accuracy_section(training: NumberTraining) -> Section:
    """Figures on held-back blocks: summary, scatter plot, candidates, blocks."""
    folds, best, other = training.folds, training.chosen, training.random.scores
    s, unit = best.scores, training.measured.unit
    said = (
        f"<p>Measured on labels that the model had not seen: {len(folds.places)} blocks of "
        f"{number(folds.side_m)} m in {folds.count} folds, each held back once. "
        f"R² is <b>{_plain(s.r2)}</b>: the share of the spread that is explained, 0 for a map "
        f"that says the mean everywhere. A typical error (RMSE) is {s.rmse:.4g} {escape(unit)}, "
        f"and the map is {abs(s.bias):.4g} {escape(unit)} too {'high' if s.bias > 0 else 'low'} on "
        f"average. A random split of the same pixels would have said R² {_plain(other.r2)}.</p>")
    alt = (f"Predicted against measured {training.measured.field}; R² {_plain(s.r2)}, "
           f"RMSE {s.rmse:.4g} {unit}")
    plot = (f'<div class="pair"><figure>{scatter(training, alt)}<figcaption>Each pixel when it '
            f"was held back. Dashed: agreement; orange: the {100 * training.interval.level:.0f} % "
            "interval.</figcaption></figure>"
            f'<figure class="slim">{_blocks(training)}<figcaption>The blocks, in the colour of '
            "the fold in which they were held back.</figcaption></figure></div>")
    rows = [(escape(f"{_MODELS[t.model]} on {_KINDS[t.kind]}"), *_figures(t.scores),
             f"{t.fold_rmse.min():.4g} to {t.fold_rmse.max():.4g}") for t in training.trials]
    rows.append(("the chosen one, random split", *_figures(other), ""))
    body = table(("Model", "R²", "RMSE", "MAE", "Bias", "RMSE of folds"), rows,
                 numeric=(1, 2, 3, 4, 5))
    note = (f"All in {escape(unit)}. " if unit else "") + (
        "MAE: mean absolute error. Bias: mean of predicted minus measured.")
    return Section("Accuracy", f"{said}{plot}<h3>Candidates on the same blocks</h3>{body}"
                               f"<p class='soft' style='margin-top:8px'>{note}</p>")


def number_trust_section(training: NumberTraining) -> Section:
    """The prediction interval with its measured coverage."""
    i, unit = training.interval, escape(training.measured.unit)
    low, high = i.fold_coverage.min(), i.fold_coverage.max()
    return Section("Trust", (
        f"<p>A pixel's true value should lie within <b>± {i.half_width:.4g} {unit}</b> of the map "
        f"{100 * i.level:.0f} times in 100: the half-width that so many held-back errors stayed "
        f"within (conformal prediction). Measured with each fold judged by the errors of the "
        f"others, it held <b>{100 * i.coverage:.1f} %</b> ({100 * low:.0f} to {100 * high:.0f} % "
        "in single folds). The promise is for ground like that of the labels; the layer Unlike the "
        "training data (Apply head) shows where it is not.</p>"))


def number_labels_section(training: NumberTraining) -> Section:
    """How the measured values are spread."""
    m = training.measured
    count, edges = np.histogram(m.values, 8)
    rows = [(f"{low:.4g} to {high:.4g}", number(int(n)),
             charts.bar(n / count.max(), "#0f7a5a", 320))
            for n, low, high in zip(count, edges[:-1], edges[1:], strict=True)]
    title = m.field + (f" ({m.unit})" if m.unit else "")
    body = table((escape(title), "Pixels used", ""), rows, numeric=(1,))
    outside = m.samples.outside
    return Section("Labels", f'{body}<p class="soft" style="margin-top:10px">{len(m)} pixels of '
                             f"{m.number_of_groups} {m.noun}s from {escape(m.source)}"
                             + (f"; {outside} lie outside the rasters and were ignored"
                                if outside else "") + ".</p>")


def scatter(training: NumberTraining, alt: str, width: float = 400) -> str:
    """Predicted against measured numbers, with the line of agreement and the interval."""
    true, predicted = training.measured.values, training.chosen.predicted
    shown = np.linspace(0, len(true) - 1, min(len(true), _MOST_DOTS)).astype(int)
    low = float(min(true.min(), predicted.min()))
    high = float(max(true.max(), predicted.max()))
    span = max(high - low, 1e-12)
    left, top, size = 58.0, 10.0, width - 76
    base = top + size

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - low) / span * size, base - (y - low) / span * size

    parts = []
    for k in range(5):
        value = low + span * k / 4
        x, y = place(value, value)
        parts += [line(left, y, left + size, y), line(x, top, x, base),
                  text(left - 8, y + 4, f"{value:.3g}", "soft", "end"),
                  text(x, base + 18, f"{value:.3g}", "soft", "middle")]
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" class="dot accent"/>'
              for x, y in (place(t, p) for t, p in zip(true[shown], predicted[shown],
                                                       strict=True))]
    parts.append(line(*place(low, low), *place(high, high), "dashed"))
    wide = training.interval.half_width
    for shift in (-wide, wide):
        ends = [(v, v + shift) for v in (max(low, low - shift), min(high, high - shift))]
        if ends[0][0] < ends[1][0]:
            parts.append(line(*place(*ends[0]), *place(*ends[1]), "curve warm"))
    parts += [text(left + size / 2, base + 36, "measured", "soft", "middle"),
              f'<g transform="translate(11 {top + size / 2:.0f}) rotate(-90)">'
              + text(0, 0, "predicted, held back", "soft", "middle") + "</g>"]
    return svg(width, base + 44, alt, parts)


def _blocks(training: NumberTraining) -> str:
    folds = training.folds
    fold = np.zeros(len(folds.places), np.int64)
    fold[folds.block] = folds.fold
    return charts.blocks(folds.places, folds.side_m, fold,
                         f"{len(folds.places)} blocks in {folds.count} folds")


def _figures(scores: NumberScores) -> tuple[str, str, str, str]:
    return (_plain(scores.r2), f"{scores.rmse:.4g}", f"{scores.mae:.4g}", f"{scores.bias:+.4g}")


def _plain(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.2f}"
