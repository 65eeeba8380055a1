"""The honest probe: `python -m earthprint.models.training.probe --table build/training/probe.md`.

Frozen features of every encoder, of random starts and of the plain series go through the same
simple classifiers on spatially separated halves. Nothing is tuned but the C of the regression, by
block-wise cross-validation on the first training side.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ..cards import read_card
from ..catalogue import adapter_of, bundled
from ..fast.network import Fast
from . import pool, tasks, teachers
from .distill import finish

LOG = logging.getLogger(__name__)
_STRENGTHS = (0.01, 0.1, 1.0)
_NEIGHBOURS, _SHARPNESS = 20, 0.07
_TREES = 200
_BATCH = 512


@dataclass(frozen=True)
class Features:
    """A way to describe pixels.

    Attributes:
        name: for the table.
        of: task to (n, f), or None where the input is not enough.
        classifiers: columns to score: "RF", "LR", "kNN".
        equal_axes: standardise each feature; an encoder whose axes are scaled on purpose wants
            one scale for all.
    """

    name: str
    of: Callable[[tasks.Task], np.ndarray | None]
    classifiers: tuple[str, ...] = ("LR", "kNN")
    equal_axes: bool = True


def of_encoder(path: Path) -> Features:
    """An ONNX encoder, fed by its own adapter as in the engine."""
    card = read_card(path)
    adapter = adapter_of(card)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def of(task: tasks.Task) -> np.ndarray | None:
        cube = task.cube
        if adapter.missing({sensor: s.bands for sensor, s in cube.series.items()}):
            return None
        out = np.zeros((len(task.rows), card.dimensions), np.float32)
        for batch in adapter.batches(cube, _BATCH, card):
            (out[batch.pixels],) = session.run(["embedding"], batch.inputs)
        return out

    return Features(card.identity, of, equal_axes=False)


def of_teacher(name: str, teacher: teachers.Teacher) -> Features:
    """An official or random network on calendar months."""
    return Features(name, lambda task: teacher(*teachers.month_means(task.rows)))


def of_series(task: tasks.Task) -> np.ndarray:
    """The plain series, each value standardised over the set."""
    return StandardScaler().fit_transform(task.raw)


def of_random_start(seed: int) -> Features:
    """The architecture of `fast` without training, with its output axes fitted all the same."""
    torch.manual_seed(seed)
    rows, source = pool.build(seed)
    rng = np.random.default_rng(seed)
    views = pool.degrade(rows[pool.draw(source, 10_000, rng)], rng)
    encoder = finish(Fast().eval(), torch.from_numpy(pool.network_input(views)))

    def of(task: tasks.Task) -> np.ndarray:
        with torch.inference_mode():
            return encoder(torch.from_numpy(pool.network_input(task.rows))).numpy()

    return Features("fast, random start", of, equal_axes=False)


def neighbours(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Classes of `test` by the 20 nearest in cosine after centring, weight exp(sim / 0.07)."""
    mean = train.mean(axis=0)
    a, b = (x - mean for x in (train, test))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12) for x in (a, b))
    similarity = b @ a.T
    nearest = np.argsort(-similarity, axis=1)[:, :_NEIGHBOURS]
    weight = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1) / _SHARPNESS)
    classes = np.unique(labels)
    votes = [(weight * (labels[nearest] == c)).sum(axis=1) for c in classes]
    return classes[np.argmax(votes, axis=0)]


def regression(strength: float, equal_axes: bool) -> Pipeline:
    """Scaling and a balanced logistic regression."""
    if equal_axes:
        scaling = StandardScaler()
    else:  # unit vectors: components of about one, the axes' own proportions kept
        scaling = FunctionTransformer(lambda x: x * np.sqrt(x.shape[1]))
    return make_pipeline(
        scaling, LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
    )


def best_strength(x: np.ndarray, y: np.ndarray, blocks: np.ndarray, equal_axes: bool) -> float:
    """The C with the best macro-F1 in block-wise cross-validation on one training side."""
    folds = GroupKFold(min(3, len(np.unique(blocks))))
    scores = [
        cross_val_score(regression(c, equal_axes), x, y, groups=blocks, cv=folds,
                        scoring="f1_macro").mean()
        for c in _STRENGTHS
    ]  # fmt: skip
    return _STRENGTHS[int(np.argmax(scores))]


def few(labels: np.ndarray, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the rows from each class."""
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(rows[labels[rows] == c])[:count] for c in np.unique(labels[rows])]
    return np.sort(np.concatenate(parts))


def score(
    task: tasks.Task, features: Features, x: np.ndarray, per_class: int
) -> dict[str, list[float]]:
    """Macro-F1 of each classifier over the draws; `per_class` 0 uses all training labels."""
    y = task.labels
    first = task.splits[0][0]
    strength = best_strength(x[first], y[first], task.blocks[first], features.equal_axes)
    found: dict[str, list[float]] = {name: [] for name in features.classifiers}
    for seed in range(tasks.DRAWS):
        train, test = task.splits[seed % len(task.splits)]
        train = few(y, train, per_class, seed) if per_class else train
        repeated = len(task.splits) == 1 and not per_class and seed > 0
        for name in features.classifiers:
            if repeated and name != "RF":
                continue
            if name == "RF":
                forest = RandomForestClassifier(
                    _TREES, class_weight="balanced", random_state=seed, n_jobs=1
                )
                guess = forest.fit(x[train], y[train]).predict(x[test])
            elif name == "LR":
                model = regression(strength, features.equal_axes)
                guess = model.fit(x[train], y[train]).predict(x[test])
            else:
                guess = neighbours(x[train], y[train], x[test])
            macro = f1_score(y[test], guess, labels=np.unique(y[test]), average="macro",
                             zero_division=0)  # fmt: skip
            found[name].append(100 * macro)
    return found


def table(scores: dict[str, dict[str, list[float]]], title: str) -> str:
    """Markdown: a task a row, a classifier a column, mean and spread, and the mean of all rows."""
    columns = list(dict.fromkeys(c for row in scores.values() for c in row))
    lines = [f"## {title}", "", "| set | " + " | ".join(columns) + " |",
             "|-" * (len(columns) + 1) + "|"]
    for name, row in scores.items():
        cells = []
        for column in columns:
            values = row.get(column)
            spread = f"±{np.std(values):.0f}" if values and len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{spread}" if values else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    full = [
        f"{np.mean([np.mean(row[c]) for row in scores.values() if c in row]):.1f}"
        + ("" if all(c in row for row in scores.values()) else "*")
        for c in columns
    ]
    lines.append("| **mean** | " + " | ".join(f"**{cell}**" for cell in full) + " |")
    if any("*" in cell for cell in full):
        lines.append("\n\\* not on all sets.")
    return "\n".join(lines) + "\n"


def probe(
    described: Iterable[Features], per_class: int, sets: tuple[str, ...] = ("",)
) -> Iterator[dict[str, dict[str, list[float]]]]:
    """Scores by task, then by `classifier features`, one more task each time.

    Args:
        described: what to compare.
        per_class: labels a class; 0 for all.
        sets: only tasks whose name begins with one of these.
    """
    described = list(described)
    scores: dict[str, dict[str, list[float]]] = {}
    cache: dict[tuple[str, str], np.ndarray | None] = {}
    for task in tasks.every_task():
        if not task.name.startswith(sets):
            continue
        row: dict[str, list[float]] = {}
        for features in described:
            key = (task.name.split(",")[0], features.name)  # all tasks of a set share rows
            if key not in cache:
                cache[key] = features.of(task)
            if cache[key] is not None:
                found = score(task, features, cache[key], per_class)
                row |= {f"{kind} {features.name}": values for kind, values in found.items()}
        scores[task.name] = row
        best = max(row, key=lambda c: np.mean(row[c]))
        LOG.info("%s: best %s %.1f", task.name, best, np.mean(row[best]))
        yield scores


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", help="only sets whose name begins so")
    parser.add_argument("--table", type=Path, default=Path("build/training/probe.md"))
    parser.add_argument("--encoder", type=Path, action="append", default=[],
                        help="a further ONNX encoder")  # fmt: skip
    parser.add_argument("--per-class", type=int, default=0, help="labels a class; 0 = all")
    parser.add_argument("--only-encoders", action="store_true", help="leave the references out")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    described = []
    if not given.only_encoders:
        described = [
            Features("series", of_series, ("RF", "LR", "kNN")),
            of_random_start(given.seed),
            of_teacher("Presto, random start", teachers.random_presto(given.seed)),
            of_teacher("Presto", teachers.presto()),
            of_teacher("Galileo nano", teachers.galileo()),
        ]
    described += [of_encoder(path) for path in [*bundled().values(), *given.encoder]]
    labels = f"{given.per_class} labels a class" if given.per_class else "all training labels"
    given.table.parent.mkdir(parents=True, exist_ok=True)
    for scores in probe(described, given.per_class, tuple(given.sets) or ("",)):
        given.table.write_text(table(scores, f"Macro-F1 in %, {labels}"), "utf-8")
    LOG.info("written: %s", given.table)


if __name__ == "__main__":
    main()
