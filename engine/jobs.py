"""What the engine can be asked for: the table of jobs, and how one is run.

A job is a function ``run(params, context) -> dict`` in `engine/tasks/<name>.py`. Parameters and
results are JSON values; paths are strings.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .context import JobContext
from .errors import UserError
from .outputs import check_outputs

#: Parameters that every job takes: budget in MB, processors, "auto" | "cpu" | "cuda".
COMMON = ("memory_mb", "threads", "device")
#: Parameters that are lists of paths; a single path may be given as it is.
PATHS = ("input", "before", "after", "sources", "parts")


@dataclass(frozen=True)
class Job:
    """One line of the table.

    Attributes:
        summary: what it does, one sentence.
        parameters: names of the parameters that it takes, beside `COMMON`.
        required: those that must be given.
    """

    summary: str
    parameters: tuple[str, ...]
    required: tuple[str, ...]


def _job(summary: str, required: str, optional: str) -> Job:
    return Job(summary, tuple((required + " " + optional).split()), tuple(required.split()))


_HEAD = ("labels layer band ignored more_labels more_labels_layer field features model cutoff "
         "folds block_m seed")

JOBS: dict[str, Job] = {
    "build_stack": _job(
        "Read dates, sensors and bands of rasters and write a stack.",
        "output", "sources folder sensor dates mask grid bands weather weather_units"),
    "encode": _job(
        "Turn a stack into embeddings.",
        "input output", "encoder extent start end upsample weather weather_units"),
    "train_head": _job(
        "Train a head of classes or of numbers on embeddings, band series or both.",
        "input labels output", f"{_HEAD} target unit encoder extent report command"),
    "apply_head": _job(
        "Map classes with a trained head.",
        "input head output",
        "encoder extent cutoff weather weather_units smooth min_area_ha confidence unlike reason "
        "unknown"),
    "suggest_samples": _job(
        "Propose the next places to label: uncertain and unlike each other.",
        "input head output",
        "labels layer more_labels more_labels_layer field count min_distance_m extent seed"),
    "crop_classification": _job(
        "From a stack and labels (or a head) to a crop map with an accuracy report.",
        "input output",
        f"{_HEAD} encoder head ready_head weather weather_units smooth min_area_ha extent "
        "confidence unlike reason unknown embeddings report head_output command"),
    "land_cover_segmentation": _job(
        "From rasters to a land cover map, by a ready-made head or one learned from labels.",
        "input output",
        f"{_HEAD} encoder head ready_head smooth min_area_ha extent confidence unlike reason "
        "unknown embeddings report head_output command"),
    "cluster_embeddings": _job(
        "Group alike pixels without labels.",
        "input output", "encoder clusters extent seed"),
    "visualize_embeddings": _job(
        "Paint embeddings in three colours that stay the same across tiles and years.",
        "input output", "encoder basis basis_output extent seed"),
    "change_detection": _job(
        "Find where the ground changed between two dates or within a series, and when.",
        "before output",
        "after preset method head encoder threshold min_area_ha min_clear extent distance "
        "confidence date polygons report command"),
    "flood_detection": _job(
        "Map the water that came between two dates, by thresholds and a learned detector.",
        "before after output",
        "method permanent_water dem max_slope max_height zones zones_layer min_area_ha "
        "extent confidence polygons disagreement zone_areas report command"),
    "import_embeddings": _job(
        "Bring other people's embeddings into one embeddings file.",
        "output", "input address format year crs extent"),
    "import_checkpoint": _job(
        "Turn a file of official weights into an encoder.",
        "file", "parts variant name accept_licence calibrate output overwrite look"),
    "import_model": _job(
        "Turn any ONNX model of images into an encoder, or into an encoder with a head.",
        "file",
        "kind sensor bands scale mean std ground_size window classes licence name output "
        "overwrite"),
    "list_models": _job("List encoders and heads with their cards.", "", ""),
    "remove_model": _job(
        "Remove an encoder or head of the user's folder of models.", "name", "kind"),
    "similarity_search": _job(
        "Find everything like some places.",
        "input", "point examples examples_layer counterexamples counterexamples_layer k "
        "min_distance_m threshold min_area_ha extent similarity matches polygons"),
    "pretrain": _job(
        "Let a small encoder learn from rasters without labels (needs PyTorch).",
        "input system", "minutes steps seed name output overwrite folder"),
    "doctor": _job(
        "Try whether the engine works here, and write what a report of a bug needs.",
        "", "report host"),
    "forecast": _job(
        "Predict the scene of a day from the scenes before it and daily weather.",
        "input date output", "weather weather_units extent report command"),
    "sampling_design": _job(
        "Draw the points to visit for a test of a map.",
        "map output", "target_error min_per_class expected seed show_class"),
    "assess_accuracy": _job(
        "Estimate accuracy and areas of a map from places of known class, or compare it with a "
        "raster of classes.",
        "map reference",
        "field reference_layer strata strata_field band ignored report table command"),
    "simulate_season": _job(
        "Make a synthetic Sentinel-1/2 season with known truth.",
        "output", "size seed"),
}


def describe() -> dict[str, dict[str, object]]:
    """The table as JSON values."""
    return {
        name: {"summary": job.summary, "required": list(job.required),
               "parameters": list(job.parameters) + list(COMMON)}
        for name, job in JOBS.items()
    }


def run(name: str, params: dict[str, object], context: JobContext) -> dict[str, object]:
    """Run a job in a temporary folder of its own.

    Raises:
        UserError: unknown job or parameter, or whatever the job finds wrong.
        Cancelled: when the context says so.
    """
    if name not in JOBS:
        raise UserError(f"There is no job {name}. Choose one of {', '.join(JOBS)}.")
    job = JOBS[name]
    unknown = set(params) - set(job.parameters) - set(COMMON)
    if unknown:
        raise UserError(
            f"{name} takes no parameter {', '.join(sorted(unknown))}. It takes "
            f"{', '.join(job.parameters + COMMON)}.")
    lacking = [p for p in job.required if params.get(p) in (None, "", [])]
    if lacking:
        raise UserError(f"{name} needs the parameter {', '.join(lacking)}.")
    given = {key: [value] if key in PATHS and isinstance(value, str) else value
             for key, value in params.items() if value is not None}
    check_outputs(given)
    budget = {key: given.pop(key) for key in COMMON if key in given}
    task: Callable[[dict, JobContext], dict] = importlib.import_module(
        f"earthprint.engine.tasks.{name}").run
    from .block_cache import block_cache  # the table of jobs needs no GDAL

    folder = Path(tempfile.mkdtemp(prefix="earthprint-"))
    context = replace(context, folder=folder, **budget)
    try:
        with block_cache(context.memory_mb):
            return task(given, context)
    except OSError as failure:
        raise _storage_error(failure) from failure
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _storage_error(failure: OSError) -> Exception:
    """A full disk, a file that may not be opened or a read-only folder in words, or as it is."""
    where = failure.filename or "the output folder"
    if failure.errno == 28:
        return UserError(f"The disk is full ({where}). Free some space or choose another folder.")
    if failure.errno == 13:
        return UserError(f"There is no permission to open {where}. Choose another file or folder, "
                         "or change its permissions.")
    if failure.errno == 30:
        return UserError(f"Folder {Path(where).parent} is read-only. Choose another.")
    return failure
