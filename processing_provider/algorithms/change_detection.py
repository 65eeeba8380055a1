"""Change detection: where the embeddings of two dates differ by more than chance."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterVectorDestination,
)

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import (
    Parameter,
    encoder,
    extent,
    number,
    raster_output,
    rasters,
    with_help,
)
from ..translation import tr


class ChangeDetection(EarthprintAlgorithm):
    """Form of the job `change_detection`."""

    ID, JOB, NAME = "changedetection", "change_detection", "Change detection"
    GROUP = "mapping"
    SUMMARY = "Finds where two seasons of one place differ by more than chance."
    HELP = (
        "<p><b>Needs</b> the same place in two seasons: embeddings of one encoder, stacks, or "
        "rasters. Their pixels must lie on each other.</p>"
        "<p><b>Gives</b> a map of changed and unchanged, the cosine distance (0 alike, 2 "
        "opposite), and areas of change with hectares. The threshold is the median of all angles "
        "between the two seasons plus three robust deviations; the log states it.</p>"
        "<p><b>Limits</b> Any difference counts: another crop in the rotation, another sowing "
        "date, or clouds that a mask has missed. If more than about half of the area has changed, "
        "give a threshold.</p>"
    )
    TAGS = (
        "change, difference, before, after, two years, deforestation, clear-cut, construction, "
        "anomaly, monitoring"
    )
    STYLES = {
        "OUTPUT": styling.Style(styling.CLASSES, "Change", "change", order=1),
        "DISTANCE": styling.Style(styling.NUMBERS, "Cosine distance", "change", False, 2),
        "POLYGONS": styling.Style(styling.OUTLINES, "Areas of change", "change"),
    }

    def parameters(self) -> list[Parameter]:
        """Two seasons, and what counts as change."""
        threshold = number(
            "THRESHOLD",
            tr("Smallest cosine distance of a change"),
            None,
            tr("From 0 (alike) to 2 (opposite). Empty: found from the distances themselves."),
            minimum=0,
            maximum=2,
            whole=False,
        )
        threshold.setMetadata({"widget_wrapper": {"decimals": 4}})
        return [
            rasters(
                "BEFORE",
                tr("Before"),
                tr("Embeddings of the first season, or its rasters or stack to be encoded."),
            ),
            rasters(
                "AFTER",
                tr("After"),
                tr("Embeddings of the second season, or its rasters or stack to be encoded."),
            ),
            encoder(),
            threshold,
            number(
                "MIN_AREA",
                tr("Smallest area (ha)"),
                0.1,
                tr("Smaller patches of change are left out. 0 keeps everything."),
                minimum=0,
                whole=False,
                advanced=False,
            ),
            extent(),
            raster_output("OUTPUT", tr("Change"), tr("Changed and unchanged pixels.")),
            raster_output(
                "DISTANCE",
                tr("Cosine distance"),
                tr("How far apart the two embeddings of each pixel are, from 0 to 2."),
                optional=True,
            ),
            with_help(
                QgsProcessingParameterVectorDestination(
                    "POLYGONS",
                    tr("Areas of change"),
                    QgsProcessing.SourceType.TypeVectorPolygon,
                    optional=True,
                    createByDefault=False,
                ),
                tr("A polygon a patch, with hectares and mean cosine distance, largest first."),
            ),
        ]

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Read the inputs; the later season names the group of layers."""
        good = super().prepareAlgorithm(parameters, context, feedback)
        self._source = styling.source_name(self._job.get("after") or [])
        return good
