"""Parameters of all forms that learn: places of known class, and how a head learns from them.

As for `parameters.py`, names are public and are never changed.
"""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterBand,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from .parameters import FEATURES, MODELS, Parameter, choice, number, with_help
from .translation import tr


def labels(*, raster: bool = True) -> list[Parameter]:
    """LABELS and FIELD: places of known class; `raster` tells whether the form has one instead.

    Both may stay empty; forms ask `unmet_labels` whether what they need is there.
    """
    instead = tr(" A raster of classes will do instead: Raster of labels, an advanced parameter.")
    return [
        with_help(
            QgsProcessingParameterFeatureSource(
                "LABELS",
                tr("Labels"),
                [
                    QgsProcessing.SourceType.TypeVectorPoint,
                    QgsProcessing.SourceType.TypeVectorPolygon,
                ],
                optional=True,
            ),
            tr(
                "Points or polygons of known class, in any coordinate system. A few parcels of "
                "each class are enough for a first map."
            )
            + (instead if raster else ""),
        ),
        with_help(
            QgsProcessingParameterField(
                "FIELD", tr("Class field"), parentLayerParameterName="LABELS", optional=True
            ),
            tr("The field of the labels that holds the class, as text or as a number."),
        ),
    ]


def label_raster() -> list[Parameter]:
    """LABEL_RASTER, LABEL_BAND, LABEL_IGNORE: a raster of classes instead of LABELS and FIELD."""
    return [
        with_help(
            QgsProcessingParameterRasterLayer(
                "LABEL_RASTER", tr("Raster of labels"), optional=True
            ),
            tr(
                "A raster of classes in place of Labels and Class field: whole numbers, in any "
                "coordinate system and pixel size, such as WorldCover, CDL or rasterised parcels. "
                "At most 1000 pixels of each class are drawn, evenly over the ground. Names and "
                "colours come from its legend. Nodata is no class; where a raster declares no "
                "nodata, 0 is none either, unless its legend names it or it is a mask of 0 and "
                "one other value."
            ),
            advanced=True,
        ),
        *band_of_classes(
            "LABEL",
            tr("Band of the raster of labels"),
            tr("Values of the raster that are no class"),
        ),
    ]


def band_of_classes(start: str, band: str, ignored: str) -> list[Parameter]:
    """<start>_BAND and <start>_IGNORE: which values of the raster <start>_RASTER are classes."""
    return [
        with_help(
            QgsProcessingParameterBand(
                f"{start}_BAND", band, parentLayerParameterName=f"{start}_RASTER", optional=True
            ),
            tr("The band that holds the classes. Empty: the first one."),
            advanced=True,
        ),
        with_help(
            QgsProcessingParameterString(f"{start}_IGNORE", ignored, optional=True),
            tr("Left out beside its nodata, with commas between them, such as 0, 99."),
            advanced=True,
        ),
    ]


def unmet_labels(parameters: dict[str, Any], *, needed: bool = False) -> str:
    """One sentence where labels are given twice, without their field, or not at all; else ""."""
    features, raster = bool(parameters.get("LABELS")), bool(parameters.get("LABEL_RASTER"))
    if features and raster:
        return tr("Give either Labels with their Class field or a Raster of labels, not both.")
    if features and not parameters.get("FIELD"):
        return tr("Choose the Class field of the labels.")
    if needed and not features and not raster:
        return tr("Give Labels with their Class field, or a Raster of labels.")
    return ""


def more_labels() -> Parameter:
    """MORE_LABELS: a second layer of labels, which is how labels grow."""
    return with_help(
        QgsProcessingParameterFeatureSource(
            "MORE_LABELS",
            tr("More labels"),
            [
                QgsProcessing.SourceType.TypeVectorPoint,
                QgsProcessing.SourceType.TypeVectorPolygon,
            ],
            optional=True,
        ),
        tr(
            "Added to Labels, such as labelled places of Suggest samples. The class field has "
            "the same name; features without a class are ignored. Beside a raster of labels the "
            "field is called class, and where both know a pixel these labels count."
        ),
        advanced=True,
    )


def training() -> list[Parameter]:
    """From LABEL_RASTER to BLOCK: how a head is trained and tested."""
    return [
        *label_raster(),
        more_labels(),
        choice(
            "FEATURES",
            tr("Learn from"),
            FEATURES,
            tr(
                "Embeddings, the rasters' own band series, or both. Automatic tests all three on "
                "blocks of ground that were held back and takes the best; the report shows them."
            ),
            advanced=True,
        ),
        choice(
            "MODEL",
            tr("Kind of head"),
            MODELS,
            tr(
                "Automatic joins the calibrated probabilities of four models, two on embeddings "
                "and two on the band series, and takes something simpler where that is clearly "
                "better on blocks of ground that were held back; it maps about 100 000 pixels a "
                "second and processor. Logistic regression is the fast choice, small and good on "
                "embeddings; a random forest or boosting suit band series; nearest neighbours "
                "suit very few labels; mlp is a small neural network. The convolutional decoder "
                "looks at the ground around each pixel: for textures and edges, slower to train, "
                "for classes only. For numbers automatic compares ridge regression, a forest and "
                "boosting, and logistic means ridge regression."
            ),
            advanced=True,
        ),
        number(
            "FOLDS",
            tr("Folds"),
            5,
            tr("Into how many parts the labels are split for the test of accuracy."),
            minimum=2,
            maximum=20,
        ),
        number(
            "BLOCK",
            tr("Block size (m)"),
            None,
            tr(
                "Labels within one block of ground are held back together, so that the test is "
                "not made on neighbours of the training pixels. Empty: chosen from the labels."
            ),
            minimum=0,
            whole=False,
        ),
    ]
