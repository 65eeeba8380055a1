"""Cluster embeddings: groups of alike pixels without labels."""

from __future__ import annotations

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import Parameter, encoder, extent, input_rasters, number, raster_output, seed
from ..translation import tr


class ClusterEmbeddings(EarthprintAlgorithm):
    """Form of the job `cluster_embeddings`."""

    ID, JOB, NAME = "clusterembeddings", "cluster_embeddings", "Cluster embeddings"
    GROUP = "embeddings"
    SUMMARY = "Finds groups of pixels with similar seasons, without labels."
    HELP = (
        "<p><b>Needs</b> embeddings, or rasters of a season or a stack.</p>"
        "<p><b>Gives</b> a map of numbered groups, to look at before labels exist or to see where "
        "to collect them.</p>"
        "<p><b>Limits</b> Groups have no meaning of their own, and their numbers differ from area "
        "to area.</p>"
    )
    TAGS = "cluster, k-means, unsupervised, segmentation, groups, ISODATA, stratification, explore"
    STYLES = {"OUTPUT": styling.Style(styling.CLASSES, "Groups", "groups")}

    def parameters(self) -> list[Parameter]:
        """Input and the number of groups."""
        return [
            input_rasters(),
            encoder(),
            number(
                "CLUSTERS",
                tr("Number of groups"),
                8,
                tr("From 2 to 255; more groups tell finer differences."),
                minimum=2,
                maximum=255,
                advanced=False,
            ),
            extent(),
            seed(),
            raster_output("OUTPUT", tr("Groups"), tr("Numbered groups with colours.")),
        ]
