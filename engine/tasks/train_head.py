"""Job `train_head`: labels and rasters to a head that can be used again."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from ..context import JobContext
from ..errors import UserError
from ..heads.head import write_head
from ..heads.inputs import Inputs
from ..heads.labels import Labels, read_labels
from ..heads.layout import KINDS
from ..heads.training import Training, train
from ..rasters.raster import check_writable
from ..reports.observations import sensor_rows, usable_days
from ..reports.report import Report, Section, data_section, labels_section, method_section
from ..reports.scorecard import accuracy_section, model_name, trust_section


@dataclass(frozen=True)
class Learned:
    """A training with the inputs that it used (embeddings were perhaps made for it)."""

    training: Training
    inputs: Inputs


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Train, validate on held-back blocks, write the head and its report.

    Args:
        params: input (paths), labels, field, output; layer, features ("auto", "embeddings",
            "bands", "both"), model ("logistic", "forest", "neighbours"), encoder, cutoff, folds,
            block_m, seed, report.
        context: surroundings.

    Returns:
        output, report (paths), scores (figures of the cross-validation).
    """
    start = time.monotonic()
    context, warnings = collecting(context)
    output = Path(params["output"])
    for path in filter(None, (output, params.get("report"))):
        check_writable(Path(path))
    inputs = Inputs.open(params["input"], params.get("extent"), params.get("cutoff"), context)
    learned = learn(params, inputs, context.folder / "embeddings.tif", context.part(0, 0.93))
    save(learned, output, params.get("cutoff"))
    context.log(f"Head: {model_name(learned.training.chosen.model)} on "
                f"{learned.training.chosen.kind}; {time.monotonic() - start:.0f} s")
    if params.get("report"):
        context.progress(0.95, "Writing the report")
        training = learned.training
        page = Report(
            f"Head, {inputs.name}", headline(training), tuple(warnings),
            (accuracy_section(training), trust_section(training, None),
             data_of(inputs, context), labels_section(training.labels),
             method_section(method(learned, params), again("train_head", params))),
            date.today())
        page.write(Path(params["report"]))
    return {"output": str(output), "report": params.get("report"),
            "scores": scores(learned)}


def learn(params: dict[str, Any], inputs: Inputs, embeddings: Path,
          context: JobContext) -> Learned:
    """Read labels, make embeddings where they are wanted, and train.

    Args:
        params: as for `run`.
        inputs: stack, embeddings or both.
        embeddings: where to write embeddings if they must be made.
        context: surroundings.
    """
    features = str(params.get("features") or "auto").lower()
    if features not in ("auto", *KINDS):
        raise UserError(f"There are no features {features}. Choose auto, {', '.join(KINDS)}.")
    seed = int(params.get("seed") or 0)
    labels = _labels(params, inputs, context)
    if features != "bands":
        inputs = _encoded(params, features, inputs, embeddings, context.part(0, 0.6))
    with inputs.source() as source:
        kinds = source.kinds if features == "auto" else (features,)
        layout = source.layout("both" if len(kinds) == len(KINDS) else kinds[-1])
        table, known = source.at(labels.rows, labels.cols, layout, context.part(0.6, 0.7))
        if not known.all():
            context.log(f"{int((~known).sum())} of {len(labels)} samples lie where the input has "
                        "no data and were left out")
            if not known.any():
                raise UserError(f"None of the labels of {labels.source} lies where the input has "
                                "data. Check Cloud mask, or label elsewhere.")
            labels, table = labels.keep(known).without_empty_classes(), table[known]
            labels.require_two_each(params["field"])
        training = train(
            table, layout, labels, source.grid, context.part(0.7, 1), kinds=kinds,
            model=str(params.get("model") or "logistic").lower(),
            count=int(params.get("folds") or 5), block_m=params.get("block_m") or None, seed=seed)
    return Learned(training, inputs)


def save(learned: Learned, output: Path, cutoff: str | None) -> None:
    """Write the head of a training."""
    training = learned.training
    card = training.card({"labels": training.labels.source, "input": learned.inputs.name},
                         cutoff or "")
    write_head(output, training.classifier, card, training.gate, training.features[:2000])


def _labels(params: dict[str, Any], inputs: Inputs, context: JobContext) -> Labels:
    """Labels on the grid to work on, before anything slow is done."""
    with inputs.source() as source:
        return read_labels(Path(params["labels"]), params["field"], source.grid, context,
                           layer=params.get("layer"))


def _encoded(params: dict[str, Any], features: str, inputs: Inputs, embeddings: Path,
             context: JobContext) -> Inputs:
    """With embeddings, unless `auto` finds that the encoder cannot read the rasters."""
    encoder = params.get("encoder") or "automatic"
    lacking = inputs.lacking(encoder, context.device)
    if lacking and features == "auto":
        context.warn(f"{' '.join(lacking)} So only the band series are used.")
        return inputs
    return inputs.encoded(encoder, embeddings, context)


def collecting(context: JobContext) -> tuple[JobContext, list[str]]:
    """A context that also keeps the warnings in a list, for the report."""
    warnings: list[str] = []

    def on_log(level: str, text: str) -> None:
        if level == "warning":
            warnings.append(text)
        context.on_log(level, text)

    return replace(context, on_log=on_log), warnings


def headline(training: Training) -> tuple[tuple[str, str], ...]:
    """Figures at the top of a report."""
    best = training.chosen
    return ((f"{best.scores.macro_f1:.2f} <small>± {best.spread:.2f}</small>",
             "macro F1 on held-back blocks"),
            (f"{100 * best.scores.overall:.0f} %", "overall accuracy on the same"),
            (str(len(training.labels.legend)), "classes"))


def data_of(inputs: Inputs, context: JobContext) -> Section:
    """The section on the input."""
    if inputs.stack is None:
        return Section("Data", f"<p>Embeddings {inputs.embeddings.name}.</p>")
    return data_section(usable_days(inputs.stack, context), sensor_rows(inputs.stack),
                        inputs.stack.left_out)


def method(learned: Learned, params: dict[str, Any]) -> dict[str, str]:
    """What the report says about how the head came about."""
    training, best = learned.training, learned.training.chosen
    strength = f", C {best.strength:g}" if best.model == "logistic" else ""
    encoder = training.offered.encoder
    if encoder and not training.layout.encoder:
        encoder += ", compared but not used"
    return {
        "Classifier": f"{model_name(best.model)}{strength}, classes balanced",
        "Features": f"{best.kind} ({training.layout.size} numbers a pixel"
                    + ("" if len(training.trials) == 1 else ", chosen by held-back blocks") + ")",
        "Encoder": encoder,
        "Blocks": f"{len(training.folds.places)} of {training.folds.side_m:g} m in "
                  f"{training.folds.count} folds; parcels are never cut",
        "Last date used": str(params.get("cutoff") or ""),
        "Random seed": str(training.seed)}


def scores(learned: Learned) -> dict[str, Any]:
    """The figures of the cross-validation as the card holds them."""
    return learned.training.card({}, "").validation


def again(job: str, params: dict[str, Any]) -> str:
    """How to run a job again: the given command, or the engine's own with its job file."""
    if params.get("command"):
        return str(params["command"])
    given = {k: v for k, v in params.items() if v not in (None, "", [])}
    document = json.dumps({"job": job, "params": given}, indent=1, ensure_ascii=False)
    return f"python -m earthprint.engine run job.json\n\njob.json:\n{document}"
