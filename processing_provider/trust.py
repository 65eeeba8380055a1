"""UNLIKE, REASON and UNKNOWN: what tells where not to trust a map, alike in every form."""

from __future__ import annotations

from qgis.core import QgsProcessingParameterBoolean

from .parameters import Parameter, raster_output, with_help
from .translation import tr


def confidence() -> Parameter:
    """CONFIDENCE: the layer of how sure a head is."""
    return raster_output(
        "CONFIDENCE",
        tr("Confidence (%)"),
        tr("Probability of the mapped class."),
        optional=True,
    )


def unlike() -> Parameter:
    """UNLIKE: the layer of what the training data do not cover."""
    return raster_output(
        "UNLIKE",
        tr("Unlike the training data"),
        tr(
            "Where not to trust the map: 1 where nothing alike was in the labels, 2 where place "
            "or season lie outside what the head has seen."
        ),
        optional=True,
    )


def reason() -> Parameter:
    """REASON: the layer that explains empty pixels."""
    return raster_output(
        "REASON",
        tr("Why pixels are empty"),
        tr(
            "For each pixel without an answer: outside the rasters, no data or cloud on all "
            "dates, a needed band is missing, or an answer that was withheld."
        ),
        optional=True,
    )


def unknown() -> Parameter:
    """UNKNOWN: whether answers are withheld where the gate says so."""
    return with_help(
        QgsProcessingParameterBoolean(
            "UNKNOWN", tr("Withhold answers unlike the training data"), defaultValue=False
        ),
        tr(
            "Pixels that are farther from all labels than held-back labels were become the class "
            "Unknown (254), in place of the class most alike."
        ),
        advanced=True,
    )
