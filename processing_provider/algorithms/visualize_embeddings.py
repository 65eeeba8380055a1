"""Visualize embeddings: three colours that stay the same across tiles and years."""

from __future__ import annotations

from qgis.core import QgsProcessingParameterFile

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import (
    Parameter,
    encoder,
    extent,
    file_output,
    input_rasters,
    raster_output,
    seed,
    with_help,
)
from ..translation import tr

BASIS_FILTER = "Colour basis (*.json)"


class VisualizeEmbeddings(EarthprintAlgorithm):
    """Form of the job `visualize_embeddings`."""

    ID, JOB, NAME = "visualizeembeddings", "visualize_embeddings", "Visualize embeddings"
    GROUP = "embeddings"
    SUMMARY = "Paints embeddings in three colours: similar seasons get similar colours."
    HELP = (
        "<p><b>Needs</b> embeddings, or rasters of a season or a stack.</p>"
        "<p><b>Gives</b> a picture of red, green and blue: the first three principal components. "
        "Save the colour basis and give it to the next run, and the same embedding has the same "
        "colour in all tiles and years.</p>"
        "<p><b>Limits</b> Three colours hold a part of what embeddings tell; the log says how "
        "much. Colours have no meaning of their own, and a basis belongs to one encoder.</p>"
    )
    TAGS = (
        "visualize, visualise, PCA, principal components, RGB, false colour, composite, picture, "
        "explore, look"
    )
    STYLES = {"OUTPUT": styling.Style(styling.COLOURS, "Colours", "colours")}

    def parameters(self) -> list[Parameter]:
        """Input, and the basis of another run."""
        return [
            input_rasters(),
            encoder(),
            with_help(
                QgsProcessingParameterFile(
                    "BASIS", tr("Colour basis"), fileFilter=BASIS_FILTER, optional=True
                ),
                tr(
                    "The colour basis that an earlier run has saved: same basis, same colours in "
                    "all tiles and years. Empty: the best colours for this area."
                ),
            ),
            extent(),
            seed(),
            raster_output("OUTPUT", tr("Colours"), tr("Red, green and blue of each pixel.")),
            file_output(
                "BASIS_OUTPUT",
                tr("Colour basis to keep"),
                BASIS_FILTER,
                tr("A small file to give to other runs as their colour basis."),
                optional=True,
                wanted=False,
            ),
        ]
