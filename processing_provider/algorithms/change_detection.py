"""Change detection: where the ground changed between two dates or in a series, and when."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterVectorDestination,
)

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import (
    Parameter,
    choice,
    encoder,
    extent,
    head,
    number,
    raster_output,
    rasters,
    report,
    with_help,
)
from ..translation import tr

PRESETS = ("any", "deforestation")
METHODS = ("automatic", "embeddings", "bands", "head", "series")


class ChangeDetection(EarthprintAlgorithm):
    """Form of the job `change_detection`."""

    ID, JOB, NAME = "changedetection", "change_detection", "Change detection"
    GROUP = "mapping"
    SUMMARY = "Finds where the ground changed between two dates or within a long series, and when."
    HELP = (
        "<p><b>Needs</b> the same place before and after: rasters, stacks, or embeddings of one "
        "encoder; or one long series in Before and nothing in After. Deforestation needs "
        "reflectance with red and near infrared, better with short-wave infrared.</p>"
        "<p><b>Gives</b> a map of change (with a head: what became what), areas of change with "
        "hectares, confidence and, where the dates suffice, the interval in which they changed; a "
        "layer with the date; a report. <b>Methods:</b> <i>bands</i> measures how far the bands "
        "moved, in units of what unchanged ground differs by, so digital numbers and two sensors "
        "can be compared; <i>embeddings</i> cuts the angle between embeddings; <i>head</i> maps "
        "both dates with a trained head (deforestation: with the bundled forest head); "
        "<i>series</i> looks for one break in each pixel's series of NBR, NDVI or radar. "
        "<i>automatic</i>: bands for single dates, embeddings for seasons (4 dates or more on "
        "both sides) and for embeddings, head where one is given or for deforestation, series "
        "where After is empty.</p>"
        "<p><b>Limits</b> For the preset any, everything counts: another crop in the rotation, "
        "another stage of growth, clouds that a mask has missed. If more than about half of the "
        "area has changed, give a threshold. A series shorter than 18 months cannot tell a season "
        "from a change. In one of less than three years only a step counts that stands out of the "
        "series' own swing, as every change of crop would be one; with a threshold all sure "
        "steps count. Of several changes of a pixel the largest is dated.</p>"
    )
    TAGS = (
        "change, difference, before, after, two years, deforestation, forest loss, clear-cut, "
        "logging, date of change, break, time series, trend, BFAST, CVA, IR-MAD, transition, "
        "construction, anomaly, monitoring, abholzung, déforestation, deforestación, desmatamento"
    )
    STYLES = {
        "OUTPUT": styling.Style(styling.CLASSES, "Change", "change", order=1),
        "DATE": styling.Style(styling.NUMBERS, "Date of change", "change", False, 2),
        "DISTANCE": styling.Style(styling.NUMBERS, "Strength of change", "change", False, 3),
        "CONFIDENCE": styling.Style(styling.PERCENT, "Confidence", "change", False, 4),
        "POLYGONS": styling.Style(styling.OUTLINES, "Areas of change", "change"),
    }

    def parameters(self) -> list[Parameter]:
        """What to compare, what counts as change, how it is found; then the outputs."""
        threshold = number(
            "THRESHOLD",
            tr("Threshold of change"),
            None,
            tr(
                "Empty: automatic. bands: 1 is the automatic one, 1.5 finds less; embeddings: "
                "cosine distance from 0 to 2; head and series: probability from 0 to 1."
            ),
            minimum=0,
            whole=False,
        )
        threshold.setMetadata({"widget_wrapper": {"decimals": 4}})
        ready = head(optional=True)
        ready.setHelp(
            tr(
                "A head made by Train head: classes are compared. For deforestation its classes "
                "called forest or trees; empty: the bundled forest head."
            )
        )
        network = encoder()
        network.setFlags(network.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        least = number(
            "MIN_AREA",
            tr("Smallest area (ha)"),
            None,
            tr(
                "Smaller patches of change are left out. Empty: 0.1, for deforestation 0.5. "
                "0 keeps everything."
            ),
            minimum=0,
            whole=False,
            advanced=False,
        )
        return [
            rasters(
                "BEFORE",
                tr("Before, or one long series"),
                tr("Rasters, a stack or embeddings of the first date or season."),
            ),
            rasters(
                "AFTER",
                tr("After"),
                tr(
                    "The same of the second date or season. Empty: change is looked for within "
                    "the series in Before."
                ),
                optional=True,
            ),
            choice(
                "PRESET",
                tr("Kind of change"),
                PRESETS,
                tr("any: whatever changed; deforestation: forest before, no forest after."),
                default="any",
            ),
            choice(
                "METHOD",
                tr("Method"),
                METHODS,
                tr(
                    "automatic: bands for single dates, embeddings for seasons and embeddings, "
                    "head where one is given or for deforestation, series where After is empty."
                ),
            ),
            ready,
            network,
            threshold,
            least,
            number(
                "MIN_CLEAR",
                tr("Clear observations on each side of a date"),
                4,
                tr("A date is told only where so many clear dates lie before and after it."),
                minimum=2,
                whole=True,
            ),
            extent(),
            raster_output(
                "OUTPUT", tr("Change"), tr("Changed and unchanged, or what became what.")
            ),
            _vectors(),
            raster_output(
                "DATE",
                tr("Date of change"),
                tr(
                    "Band 1: decimal year; bands 2 and 3: last clear day before and first after "
                    "(days since 1970-01-01); band 4: confidence (%). Needs dated rasters."
                ),
                optional=True,
            ),
            raster_output(
                "DISTANCE",
                tr("Strength of change"),
                tr(
                    "What the threshold cuts: bands: 1 at the automatic threshold; embeddings: "
                    "cosine distance; else a probability."
                ),
                optional=True,
            ),
            raster_output(
                "CONFIDENCE",
                tr("Confidence (%)"),
                tr("Probability of the mapped answer, as the method sees it."),
                optional=True,
            ),
            report(),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """A head is for the method head; the preset knows no cosine distances."""
        preset = _word(parameters.get("PRESET"), PRESETS)
        method = _word(parameters.get("METHOD"), METHODS)
        if method == "head" and not parameters.get("HEAD") and preset == "any":
            return tr("The method head needs Head. Give one, or choose another method.")
        if parameters.get("HEAD") and method not in ("automatic", "head"):
            return tr("Head is used by the method head only. Choose it, or leave Head empty.")
        if preset == "deforestation" and method in ("embeddings", "bands"):
            return tr("Deforestation needs the method automatic, head or series. Choose one.")
        return ""

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Read the inputs; the later date names the group of layers."""
        good = super().prepareAlgorithm(parameters, context, feedback)
        self._source = styling.source_name(self._job.get("after") or self._job.get("before") or [])
        return good

    def extras(self) -> dict[str, Any]:
        """The command line, for the report."""
        return {"command": self.command()}


def _word(value: Any, words: tuple[str, ...]) -> str:
    """The word of a choice, which may be given by its place; the first one by default."""
    if isinstance(value, int):
        return words[value] if 0 <= value < len(words) else ""
    return value or words[0]


def _vectors() -> Parameter:
    return with_help(
        QgsProcessingParameterVectorDestination(
            "POLYGONS",
            tr("Areas of change"),
            QgsProcessing.SourceType.TypeVectorPolygon,
            optional=True,
            createByDefault=False,
        ),
        tr(
            "A polygon a patch, largest first: hectares, what it became, confidence, and between "
            "which days it changed."
        ),
    )
