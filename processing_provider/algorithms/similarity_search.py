"""Similarity search: everything like some places."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterPoint,
    QgsProcessingParameterVectorDestination,
)

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import Parameter, extent, number, raster_output, rasters, with_help
from ..translation import tr

_POINTS_OR_POLYGONS = [
    QgsProcessing.SourceType.TypeVectorPoint,
    QgsProcessing.SourceType.TypeVectorPolygon,
]


class SimilaritySearch(EarthprintAlgorithm):
    """Form of the job `similarity_search`."""

    ID, JOB, NAME = "similaritysearch", "similarity_search", "Similarity search"
    GROUP = "embeddings"
    SUMMARY = "Finds everything like a place, or like some examples."
    HELP = (
        "<p><b>Needs</b> embeddings (one or several files of one encoder: tiles, years), and a "
        "place or examples as points or polygons.</p>"
        "<p><b>Gives</b> a raster of cosines (1 alike, 0 unrelated, -1 opposite), the best matches "
        "as ranked points, and on demand the areas above a cosine. The percentile of a match is "
        "the share of all places that are less alike.</p>"
        "<p><b>How</b> One example: cosine to it. Several: to the nearest of one to four "
        "prototypes, whichever separates better. With counterexamples: a linear classifier is "
        "fitted, and the cosine is to its direction.</p>"
        "<p><b>Limits</b> Alike means alike to the encoder, in the season that it saw; a high "
        "cosine is no proof of the same class.</p>"
    )
    TAGS = (
        "similarity, find similar, search, look-alike, nearest, cosine, example, query by example, "
        "matches, heat map"
    )
    STYLES = {
        "SIMILARITY": styling.Style(styling.NUMBERS, "Similarity", "similarity", order=2),
        "MATCHES": styling.Style(styling.MATCHES, "Matches", "similarity"),
        "POLYGONS": styling.Style(styling.AREAS, "Areas alike", "similarity", order=1),
    }

    def parameters(self) -> list[Parameter]:
        """Where to search, what for, and what to write."""
        threshold = number(
            "THRESHOLD",
            tr("Smallest cosine for areas"),
            None,
            tr("From -1 to 1. Empty: what the most alike 1 % of the background reaches."),
            minimum=-1,
            maximum=1,
            whole=False,
        )
        threshold.setMetadata({"widget_wrapper": {"decimals": 4}})
        return [
            rasters(
                "INPUT",
                tr("Embeddings"),
                tr("Embeddings of one encoder, made by Encode rasters; several are one search."),
            ),
            with_help(
                QgsProcessingParameterPoint("POINT", tr("Place"), optional=True),
                tr(
                    "Everything like this place is looked for. With several rasters, the first one "
                    "that has embeddings there counts."
                ),
            ),
            _examples("EXAMPLES", tr("Examples"), tr(
                "Points or polygons of what to look for, in any coordinate system; a polygon "
                "counts as the mean of its pixels. Give these, a place, or both."
            )),
            _examples("COUNTEREXAMPLES", tr("Counterexamples"), tr(
                "Points or polygons of what looks similar but is not meant."
            )),
            number(
                "K",
                tr("Number of matches"),
                100,
                tr("The best places, best first."),
                minimum=1,
                maximum=100_000,
                advanced=False,
            ),
            number(
                "MIN_DISTANCE",
                tr("Minimum distance (m)"),
                None,
                tr("Of two matches closer than this on the ground, the better is kept. Empty: 10 "
                   "pixels."),
                minimum=0,
                whole=False,
            ),
            threshold,
            number(
                "MIN_AREA",
                tr("Smallest area (ha)"),
                0,
                tr("Smaller areas alike are left out of the polygons. 0 keeps all."),
                minimum=0,
                whole=False,
            ),
            extent(),
            raster_output(
                "SIMILARITY",
                tr("Similarity"),
                tr("Cosine of each pixel, never rescaled, so that values compare between runs."),
                optional=True,
                wanted=True,
            ),
            _vectors(
                "MATCHES",
                tr("Matches"),
                QgsProcessing.SourceType.TypeVectorPoint,
                tr("Points with rank, cosine, percentile, coordinates and the file they lie in."),
                wanted=True,
            ),
            _vectors(
                "POLYGONS",
                tr("Areas alike"),
                QgsProcessing.SourceType.TypeVectorPolygon,
                tr("Outlines of all that reaches the smallest cosine, with hectares and mean "
                   "cosine, largest first."),
                wanted=False,
            ),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """A place or examples must be given."""
        given = any(parameters.get(name) not in (None, "") for name in ("POINT", "EXAMPLES"))
        return "" if given else tr("Give a place or examples.")


def _examples(name: str, label: str, text: str) -> Parameter:
    return with_help(
        QgsProcessingParameterFeatureSource(name, label, _POINTS_OR_POLYGONS, optional=True), text
    )


def _vectors(name: str, label: str, kind: Any, text: str, *, wanted: bool) -> Parameter:
    return with_help(
        QgsProcessingParameterVectorDestination(
            name, label, kind, optional=True, createByDefault=wanted
        ),
        text,
    )
