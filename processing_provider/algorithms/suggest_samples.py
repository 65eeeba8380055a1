"""Suggest samples: the places whose label would teach a head most."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessing, QgsProcessingParameterVectorDestination

from .. import styling
from ..base import EarthprintAlgorithm
from ..learning import labels, more_labels, unmet_labels
from ..parameters import (
    Parameter,
    extent,
    head,
    input_rasters,
    number,
    seed,
    with_help,
)
from ..translation import tr


class SuggestSamples(EarthprintAlgorithm):
    """Form of the job `suggest_samples`."""

    ID, JOB, NAME, GROUP = "suggestsamples", "suggest_samples", "Suggest samples", "mapping"
    SUMMARY = "Proposes the next places to label: those that a head is unsure of, all different."
    HELP = (
        "<p><b>Needs</b> a trained head and the rasters or embeddings that it maps; the labels "
        "that exist, so that no place is suggested twice.</p>"
        "<p><b>Gives</b> points with a form: choose the class of each; squares turn into circles. "
        "Give them as More labels to Train head or Crop classification, and map again. Places that "
        "stay empty are ignored. The dock Label Places does all this by clicks on the map.</p>"
        "<p><b>How</b> Places are chosen for doubt between classes and for being unlike each "
        "other, and lie apart on the ground.</p>"
        "<p><b>Limits</b> Many lie on edges and in odd fields, because that is where a head is "
        "unsure; leave out what cannot be told. They are no random sample: never measure accuracy "
        "with them, see Sampling design.</p>"
    )
    TAGS = (
        "active learning, samples, labels, uncertainty, next points, training data, fewer labels, "
        "suggest, propose, field survey, label"
    )
    # the engine writes symbols and form beside the points
    STYLES = {"OUTPUT": styling.Style(styling.FORM, "Places to label", "map")}

    def parameters(self) -> list[Parameter]:
        """What is mapped by which head; how many places, how far apart."""
        return [
            input_rasters(),
            head(),
            *labels(raster=False),
            more_labels(),
            number(
                "COUNT",
                tr("Number of places"),
                30,
                tr("So many are suggested at most, the most telling first."),
                minimum=1,
                maximum=10_000,
                advanced=False,
            ),
            number(
                "MIN_DISTANCE",
                tr("Minimum distance (m)"),
                None,
                tr(
                    "Between two places, and from a place to a label. Empty: a fifth of the "
                    "distance that evenly spread places would have."
                ),
                minimum=0,
                whole=False,
            ),
            extent(),
            seed(),
            with_help(
                QgsProcessingParameterVectorDestination(
                    "OUTPUT",
                    tr("Places to label"),
                    QgsProcessing.SourceType.TypeVectorPoint,
                ),
                tr("Points with the mapped class, why they were chosen, and an empty class."),
            ),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """Labels come with their field, which the suggested places are to share."""
        return unmet_labels(parameters)
