"""What the forms of all class maps end with: their layers and files, and how these look."""

from __future__ import annotations

from . import styling
from .parameters import HEAD_FILTER, Parameter, file_output, raster_output, report
from .translation import tr
from .trust import confidence, reason, unlike


def styles(title: str, group: str) -> dict[str, styling.Style]:
    """Looks of the layers; what explains the map lies above it, to be seen when switched on."""
    return {
        "UNLIKE": styling.Style(styling.CLASSES, "Unlike the training data", group, False, 0),
        "REASON": styling.Style(styling.CLASSES, "Why pixels are empty", group, False, 1),
        "OUTPUT": styling.Style(styling.CLASSES, title, group, True, 2),
        "CONFIDENCE": styling.Style(styling.PERCENT, "Confidence", group, False, 3),
        "EMBEDDINGS": styling.Style(styling.EMBEDDINGS, "Embeddings", group, False, 4),
    }


def outputs(title: str) -> list[Parameter]:
    """The map called `title`, its layers of doubt, report, embeddings and head."""
    return [
        raster_output("OUTPUT", title, tr("Classes with names and colours.")),
        confidence(),
        unlike(),
        reason(),
        report(),
        raster_output(
            "EMBEDDINGS",
            tr("Embeddings"),
            tr("Kept for other maps; not written when the input is embeddings already."),
            optional=True,
        ),
        file_output(
            "HEAD_OUTPUT",
            tr("Trained head"),
            HEAD_FILTER,
            tr("Kept for other places and years, see Apply head."),
            optional=True,
            wanted=False,
        ),
    ]
