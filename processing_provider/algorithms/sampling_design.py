"""Sampling design: the points to visit for a test of a map."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import Parameter, number, seed, with_help
from ..translation import tr


class SamplingDesign(EarthprintAlgorithm):
    """Form of the job `sampling_design`."""

    ID, JOB, NAME, GROUP = "samplingdesign", "sampling_design", "Sampling design", "accuracy"
    SUMMARY = "Draws points at random in each class of a map, to be visited for a test of it."
    HELP = (
        "<p><b>Needs</b> a finished map of classes: after smoothing, sieving and editing, since "
        "the points are drawn from what the map says.</p>"
        "<p><b>Gives</b> points with a form: squares are to be visited, circles are done. Fill in "
        "the True class of each, then run Assess accuracy. How many points: enough for the wanted "
        "standard error of overall accuracy (Olofsson et al. 2014), shared by area, with a least "
        "number for each class.</p>"
        "<p><b>Why the mapped class is hidden</b> Who knows what the map says tends to confirm it. "
        "The class is in the layer, but neither form nor table shows it, and the points are in "
        "random order.</p>"
        "<p><b>Limits</b> Every point counts: those that are left out because they are hard to "
        "reach or to tell bias the test. If the map is edited later, keep the points and give "
        "Assess accuracy the old map as Strata.</p>"
    )
    TAGS = (
        "accuracy, sample, sampling, stratified, random points, validation, test points, "
        "ground truth, Olofsson, sample size, survey, response design"
    )
    # the engine writes symbols and form beside the points
    STYLES = {"OUTPUT": styling.Style(styling.FORM, "Points to visit", "accuracy")}

    def parameters(self) -> list[Parameter]:
        """The map, how sure the test shall be, and what is expected of it."""
        return [
            with_help(
                QgsProcessingParameterRasterLayer("MAP", tr("Map")),
                tr("A raster of classes in its first band, with or without names in its legend."),
            ),
            number(
                "TARGET_ERROR",
                tr("Standard error (%)"),
                1.0,
                tr(
                    "Of overall accuracy. 1 means that the 95 % interval will be about two points "
                    "to each side. Half of it needs four times as many points."
                ),
                minimum=0.05,
                maximum=20,
                whole=False,
                advanced=False,
            ),
            number(
                "MIN_PER_CLASS",
                tr("Least per class"),
                50,
                tr(
                    "Rare classes get so many points, 50 to 100 as a rule; with fewer their "
                    "accuracy stays uncertain. Never more than a class has pixels."
                ),
                minimum=2,
                maximum=10_000,
                advanced=False,
            ),
            with_help(
                QgsProcessingParameterString("EXPECTED", tr("Expected accuracy (%)"),
                                             optional=True),
                tr(
                    "User's accuracy that you expect, for the number of points: one number, or "
                    "class=number by name or value, such as forest=95, change=60, 85. Empty: 90 "
                    "for classes of at least a tenth of the area, 70 for rarer ones."
                ),
                advanced=True,
            ),
            with_help(
                QgsProcessingParameterBoolean(
                    "SHOW_CLASS", tr("Show the mapped class to the interpreter"),
                    defaultValue=False,
                ),
                tr("Only for teaching or checks: a test by someone who knows the answer is none."),
                advanced=True,
            ),
            seed(),
            with_help(
                QgsProcessingParameterVectorDestination(
                    "OUTPUT",
                    tr("Points to visit"),
                    QgsProcessing.SourceType.TypeVectorPoint,
                ),
                tr(
                    "Points in the centres of the drawn pixels, with the probability of being "
                    "drawn and an empty True class."
                ),
            ),
        ]

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Read the inputs; the map names the group of layers."""
        good = super().prepareAlgorithm(parameters, context, feedback)
        self._source = styling.source_name([self._job["map"]])
        return good
