"""Job `crop_classification`: rasters and labels (or a head) to a crop map with its report."""

from __future__ import annotations

from typing import Any

from ..context import JobContext
from . import class_map


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """From rasters to a crop map; parameters and results as `class_map.run` has them."""
    return class_map.run(params, context,
                         class_map.Kind("crop_classification", "Crop map", "crop"))
