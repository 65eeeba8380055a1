"""Import embeddings: other people's embeddings become an embeddings file."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterString,
)

from .. import styling
from ..base import EarthprintAlgorithm
from ..parameters import (
    AUTOMATIC,
    Parameter,
    choice,
    extent,
    number,
    raster_output,
    rasters,
    with_help,
)
from ..translation import tr
from ..values import flat

FORMATS = (
    AUTOMATIC, "tessera-npy", "tessera-geotiff", "tessera-zarr", "alphaearth", "patches", "geotiff",
)


class ImportEmbeddings(EarthprintAlgorithm):
    """Form of the job `import_embeddings`."""

    ID, JOB, NAME = "importembeddings", "import_embeddings", "Import embeddings"
    GROUP = "embeddings"
    SUMMARY = "Brings embeddings that others have published into one embeddings file."
    HELP = (
        "<p><b>Needs</b> files or folders of GeoTessera (NumPy tiles, GeoTIFF, Zarr), AlphaEarth "
        "(GeoTIFF), Clay or Earth Genome (GeoParquet with patches on a regular grid), or rasters "
        "of two or more float bands, or the https address of a Zarr store, of which only the area "
        "is fetched.</p>"
        "<p><b>Gives</b> one mosaic of 8-bit embeddings that remembers its encoder, its year and "
        "the sentence that its makers ask for; searches, groups and heads work on it.</p>"
        "<p><b>Limits</b> Versions of an encoder and years are never mixed. Tiles in another "
        "coordinate system lend their nearest pixels. Vectors are brought to unit length.</p>"
    )
    TAGS = (
        "embeddings, import, tessera, geotessera, alphaearth, satellite embedding, clay, "
        "earth genome, zarr, geoparquet, foundation model, mosaic"
    )
    STYLES = {"OUTPUT": styling.Style(styling.EMBEDDINGS, "Embeddings", "embeddings")}

    def parameters(self) -> list[Parameter]:
        """Input, format, year and place."""
        return [
            rasters(
                "INPUT",
                tr("Embeddings of others"),
                tr("Files, folders with all that they hold, or Zarr folders."),
                optional=True,
            ),
            with_help(
                QgsProcessingParameterString(
                    "ADDRESS", tr("Address of a Zarr store"), optional=True
                ),
                tr(
                    "An https address, such as https://example.org/embeddings.zarr, in place of "
                    "files or beside them."
                ),
            ),
            choice(
                "FORMAT",
                tr("Format"),
                FORMATS,
                tr("Automatic recognises it from the files; a name takes files of that alone."),
                advanced=True,
            ),
            number(
                "YEAR",
                tr("Year"),
                None,
                tr("Which year to take. Empty: the only one that there is."),
                minimum=1980,
                maximum=2100,
                advanced=False,
            ),
            with_help(
                QgsProcessingParameterCrs(
                    "CRS", tr("Coordinate system of the mosaic"), optional=True
                ),
                tr("Empty: that of most tiles, whose pixels then stay as they are."),
                advanced=True,
            ),
            extent(),
            raster_output(
                "OUTPUT", tr("Embeddings"), tr("One raster for every later search, map and group.")
            ),
        ]

    def unmet(self, parameters: dict[str, Any]) -> str:
        """Files, an address or both, and an address that is one."""
        address = str(parameters.get("ADDRESS") or "").strip()
        if not parameters.get("INPUT") and not address:
            return tr("Give either Embeddings of others or Address of a Zarr store.")
        if address and not _is_address(address):
            return tr("{} is not an address. Give one that starts with https://.").format(address)
        return ""

    @staticmethod
    def _missing_input(
        definition: QgsProcessingParameterDefinition,
        given: list[Any],
        context: QgsProcessingContext,
    ) -> str:
        """Addresses among the files, as scripts may give them, are looked for by the engine."""
        local = [value for value in given if not _is_address(value)]
        return EarthprintAlgorithm._missing_input(definition, local, context)

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Read the inputs; addresses go to the engine as they are."""
        given = flat(parameters.get("INPUT"), context)
        local = [value for value in given if not _is_address(value)]
        if not super().prepareAlgorithm({**parameters, "INPUT": local}, context, feedback):
            return False
        addresses = [value for value in given if _is_address(value)]
        self._job["input"] = self._job.get("input", []) + addresses
        crs = self.parameterAsCrs(parameters, "CRS", context)
        if crs.isValid():
            self._job["crs"] = crs.authid() or crs.toWkt()
        return True


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))
