"""Land cover: rasters of one date or a season become a map of trees, crops, water and houses."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterFile

from .. import class_map
from ..base import EarthprintAlgorithm
from ..learning import labels, training, unmet_labels
from ..parameters import (
    HEAD_FILTER,
    Parameter,
    choice,
    cutoff,
    encoder,
    extent,
    input_rasters,
    seed,
    smoothing,
    with_help,
)
from ..ready_heads import ready_heads
from ..translation import tr
from ..trust import unknown

READY = "land_cover"


class LandCoverSegmentation(EarthprintAlgorithm):
    """Form of the job `land_cover_segmentation`."""

    ID, JOB, NAME = "landcoversegmentation", "land_cover_segmentation", "Land cover segmentation"
    GROUP = "mapping"
    SUMMARY = "Maps land cover from one date or a season, ready-made or from labels of your own."
    HELP = (
        "<p><b>Needs</b> rasters of one date or of a season: Sentinel-2, Landsat, Sentinel-1, or "
        "several of them. Without labels the ready-made head maps seven classes of ESA WorldCover "
        "(tree cover, shrubland, grassland, cropland, built-up, bare, water). With labels, as "
        "points, polygons or a raster of classes, your own classes are learned; then any bands "
        "will do, aerial RGB too.</p>"
        "<p><b>Gives</b> a map with names and colours, areas in hectares, a report to hand over; "
        "on request confidence, what is unlike the training data, why pixels are empty, "
        "embeddings and the trained head. Labels that hold WorldCover's numbers or names get its "
        "names and colours.</p>"
        "<p><b>Limits</b> The ready-made head learned from points worldwide and was right on 7 of "
        "10 held-back points with a season and on 5 of 10 with a single date: a first map, "
        "not the last. Snow, wetlands and mangroves are missing from it, shrubland and bare "
        "ground are weak, aerial images it has never seen. Some labels of your own make a "
        "better map.</p>"
    )
    TAGS = (
        "land cover, land use, LULC, landcover, WorldCover, forest, trees, grassland, shrub, "
        "urban, built-up, water, bare, segmentation, classification, map, CORINE, occupation du "
        "sol, Landbedeckung, cobertura del suelo"
    )
    STYLES = class_map.styles("Land cover", "land cover")

    def parameters(self) -> list[Parameter]:
        """Input, what knows the classes; then how to learn, to test and to tidy up."""
        return [
            input_rasters(),
            *labels(),
            choice(
                "READY_HEAD",
                tr("Ready-made head"),
                ready_heads(READY) or [READY],
                tr(
                    "Maps where neither Labels nor a Head from a file are given. Its card (Models "
                    "dialog) tells classes, region, training sets and how right it was."
                ),
                default=READY,
            ),
            with_help(
                QgsProcessingParameterFile(
                    "HEAD", tr("Head from a file"), fileFilter=HEAD_FILTER, optional=True
                ),
                tr(
                    "A head that you trained before (.head.onnx), instead of labels. It must "
                    "belong to the encoder of the embeddings."
                ),
                advanced=True,
            ),
            encoder(),
            cutoff(),
            *training(),
            *smoothing(),
            unknown(),
            extent(),
            seed(),
            *class_map.outputs(tr("Land cover map")),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """Labels with their field, a raster of them, a head's file, or nothing."""
        labelled = parameters.get("LABELS") or parameters.get("LABEL_RASTER")
        if labelled and parameters.get("HEAD"):
            return tr(
                "Give either Labels with their Class field, or a Raster of labels, or a Head from "
                "a file, not both."
            )
        return unmet_labels(parameters)

    def extras(self) -> dict[str, Any]:
        """The command line, for the report."""
        return {"command": self.command()}
