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
from ..heads import decoder, decoder_validation, regression
from ..heads.features import FeatureSource
from ..heads.head import write_head
from ..heads.inputs import Inputs
from ..heads.label_raster import ignored_values, is_raster
from ..heads.labels import Labels, read_labels
from ..heads.layout import KINDS, FeatureLayout
from ..heads.measurements import holds_numbers, read_measurements
from ..heads.number_head import write_number_head
from ..heads.origin import KEY, Origin
from ..heads.regression import NumberTraining
from ..heads.samples import Samples
from ..heads.sensors import Sensors
from ..heads.training import AUTOMATIC, Training, drawn, train
from ..rasters.raster import check_writable
from ..reports.number_scorecard import (
    number_accuracy_section,
    number_headline,
    number_labels_section,
    number_model_name,
    number_trust_section,
)
from ..reports.observations import sensor_rows, usable_days
from ..reports.report import Report, Section, data_section, labels_section, method_section
from ..reports.scorecard import accuracy_section, model_name, trust_section

TARGETS = ("auto", "classes", "numbers")
"""What a field may hold; auto looks at its values."""


@dataclass(frozen=True)
class Learned:
    """A training with the inputs that it used (embeddings were perhaps made for it)."""

    training: Training
    inputs: Inputs


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Train, validate on held-back blocks, write the head and its report.

    Args:
        params: input (paths), labels (points, polygons or a raster of classes), output; field,
            layer (not for a raster), band and ignored (of a raster: values that are no class, a
            list or a text with commas), more_labels and more_labels_layer
            (classes only), features ("auto", "embeddings", "bands", "both"), target ("auto",
            "classes", "numbers"), unit, model ("auto", "convolutional" or one of
            `classifiers.MODELS`; for numbers see `regression.train_numbers`), encoder, cutoff,
            folds, block_m, seed, report.
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
    if _wants_numbers(params, inputs, context):
        return _run_numbers(params, inputs, output, warnings, start, context)
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


def _wants_numbers(params: dict[str, Any], inputs: Inputs, context: JobContext) -> bool:
    """Whether the field is to be learnt as numbers."""
    target = str(params.get("target") or "auto").lower()
    if target not in TARGETS:
        raise UserError(f"There is no target {target}. Choose {', '.join(TARGETS)}.")
    if is_raster(Path(params["labels"])):
        if target == "numbers":
            raise UserError("A raster of labels holds classes. Give measured numbers as points or "
                            "polygons with a number field.")
        return False
    if not params.get("field"):
        raise UserError("No field was given. Choose the field of the labels to learn.")
    if target != "auto":
        return target == "numbers"
    with inputs.source() as source:
        found = holds_numbers(Path(params["labels"]), params["field"], source.grid, context,
                              params.get("layer"))
    if found:
        context.log(f"Field {params['field']} holds measurements and is learnt as numbers; "
                    "choose classes to change that")
    return found


def _run_numbers(params: dict[str, Any], inputs: Inputs, output: Path, warnings: list[str],
                 start: float, context: JobContext) -> dict[str, Any]:
    """Train a head of numbers and report on it."""
    if params.get("more_labels"):
        raise UserError("More labels are for classes. Merge the two layers to learn numbers.")
    training, inputs = _learn_numbers(params, inputs, context)
    measured = training.measured
    card = training.card(_source(measured.source, inputs, measured.samples, training.layout),
                         params.get("cutoff") or "")
    write_number_head(output, training.regressor, card, training.gate, training.features[:2000])
    best = training.chosen
    context.log(f"Head: {number_model_name(best.model)} on {best.kind}; "
                f"{time.monotonic() - start:.0f} s")
    if params.get("report"):
        context.progress(0.95, "Writing the report")
        strength = f", penalty {best.penalty:g}" if best.model == "ridge" else ""
        entries = {
            "Model": number_model_name(best.model) + strength,
            "Features": f"{best.kind} ({training.layout.size} numbers a pixel)",
            "Encoder": training.layout.encoder,
            "Blocks": f"{len(training.folds.places)} of {training.folds.side_m:g} m in "
                      f"{training.folds.count} folds; parcels are never cut",
            "Last date used": str(params.get("cutoff") or ""),
            "Random seed": str(training.seed)}
        page = Report(
            f"Head of {card.title}, {inputs.name}", number_headline(training), tuple(warnings),
            (number_accuracy_section(training), number_trust_section(training),
             data_of(inputs, context), number_labels_section(training),
             method_section(entries, again("train_head", params))), date.today())
        page.write(Path(params["report"]))
    return {"output": str(output), "report": params.get("report"), "scores": card.validation}


def _learn_numbers(params: dict[str, Any], inputs: Inputs,
                   context: JobContext) -> tuple[NumberTraining, Inputs]:
    features, seed = _features(params), int(params.get("seed") or 0)
    with inputs.source() as source:
        measured = read_measurements(
            Path(params["labels"]), params["field"], source.grid, context.part(0, 0.02),
            unit=str(params.get("unit") or ""), layer=params.get("layer"))
    measured = regression.drawn(measured, seed, context)
    if features != "bands":
        inputs = _encoded(params, features, inputs, context.folder / "embeddings.tif",
                          context.part(0.02, 0.6))
    with inputs.source() as source:
        kinds, layout = _wanted(features, source)
        s = measured.samples
        table, known = source.at(s.rows, s.cols, layout, context.part(0.6, 0.7))
        if not known.any():
            raise UserError(f"None of the labels of {measured.source} lies where the input has "
                            "data. Check Cloud mask, or measure elsewhere.")
        if not known.all():
            context.log(f"{int((~known).sum())} of {len(measured)} samples lie where the input "
                        "has no data and were left out")
            measured, table = measured.keep(known), table[known]
            measured.require_enough()
        training = regression.train_numbers(
            table, layout, measured, source.grid, context.part(0.7, 0.93), kinds=kinds,
            model=str(params.get("model") or AUTOMATIC).lower(),
            count=int(params.get("folds") or 5), block_m=params.get("block_m") or None, seed=seed)
    return training, inputs


def _features(params: dict[str, Any]) -> str:
    features = str(params.get("features") or "auto").lower()
    if features not in ("auto", *KINDS):
        raise UserError(f"There are no features {features}. Choose auto, {', '.join(KINDS)}.")
    return features


def _wanted(features: str, source: FeatureSource) -> tuple[tuple[str, ...], FeatureLayout]:
    """The kinds of features to compare, and the layout that holds them all."""
    kinds = source.kinds if features == "auto" else (features,)
    return kinds, source.layout("both" if len(kinds) == len(KINDS) else kinds[-1])


def learn(params: dict[str, Any], inputs: Inputs, embeddings: Path,
          context: JobContext) -> Learned:
    """Read labels, make embeddings where they are wanted, and train.

    Args:
        params: as for `run`.
        inputs: stack, embeddings or both.
        embeddings: where to write embeddings if they must be made.
        context: surroundings.
    """
    features, seed = _features(params), int(params.get("seed") or 0)
    labels = drawn(_labels(params, inputs, context.part(0, 0.02)), seed, context)
    if features != "bands":
        inputs = _encoded(params, features, inputs, embeddings, context.part(0.02, 0.6))
    with inputs.source() as source:
        kinds, layout = _wanted(features, source)
        table, known = source.at(labels.rows, labels.cols, layout, context.part(0.6, 0.7))
        if not known.all():
            context.log(f"{int((~known).sum())} of {len(labels)} samples lie where the input has "
                        "no data and were left out")
            if not known.any():
                raise UserError(f"None of the labels of {labels.source} lies where the input has "
                                "data. Check Cloud mask, or label elsewhere.")
            labels, table = labels.keep(known).without_empty_classes(), table[known]
            enough = labels.learnable(params.get("field") or "", context)
            labels, table = labels.keep(enough).without_empty_classes(), table[enough]
        model, rest = str(params.get("model") or AUTOMATIC).lower(), context.part(0.7, 1)
        options = {"kinds": kinds, "count": int(params.get("folds") or 5),
                   "block_m": params.get("block_m") or None, "seed": seed}
        if model == decoder.MODEL:
            training = decoder_validation.train(source, table, layout, labels, rest, **options)
        else:
            training = train(table, layout, labels, source.grid, rest, model=model, **options)
    return Learned(training, inputs)


def save(learned: Learned, output: Path, cutoff: str | None) -> None:
    """Write the head of a training."""
    training = learned.training
    source = _source(training.labels.source, learned.inputs, training.labels, training.layout)
    card = training.card(source, cutoff or "")
    if training.chosen.model == decoder.MODEL:
        card = replace(card, margin=training.classifier.margin)
    write_head(output, training.classifier, card, training.gate, training.features[:2000])


def _source(labels: str, inputs: Inputs, samples: Labels | Samples,
            layout: FeatureLayout) -> dict[str, Any]:
    """What a card says about where its head comes from: names, places, season and sensors."""
    with inputs.source() as source:
        origin = Origin.of(source.grid, samples.rows, samples.cols, inputs.season())
    read = inputs.bands_read(layout)
    return {"labels": labels, "input": inputs.name, KEY: origin.record(),
            **(Sensors.of(read).record() if read else {})}


def _labels(params: dict[str, Any], inputs: Inputs, context: JobContext) -> Labels:
    """Labels on the grid to work on, before anything slow is done."""
    more = None
    if params.get("more_labels"):
        more = Path(params["more_labels"]), params.get("more_labels_layer")
    with inputs.source() as source:
        return read_labels(Path(params["labels"]), params.get("field"), source.grid, context,
                           layer=params.get("layer"), band=params.get("band"),
                           ignored=ignored_values(params.get("ignored")), more=more)


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
    if best.model == decoder.MODEL:
        side = 2 * training.classifier.margin + 1
        strength = f" of {side} x {side} pixels, {best.strength:g} steps"
    whole = "small patches" if training.labels.pixels else "parcels"
    encoder = training.offered.encoder
    if encoder and not training.layout.encoder:
        encoder += ", compared but not used"
    return {
        "Classifier": f"{model_name(best.model)}{strength}, classes balanced",
        "Features": f"{best.kind} ({training.layout.size} numbers a pixel"
                    + ("" if len(training.trials) == 1 else ", chosen by held-back blocks") + ")",
        "Encoder": encoder,
        "Blocks": f"{len(training.folds.places)} of {training.folds.side_m:g} m in "
                  f"{training.folds.count} folds; {whole} are never cut",
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
