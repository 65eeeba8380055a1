"""Points and polygons out: a vector file that appears only when it is complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import shapely

from ..errors import UserError
from .raster import check_writable

#: File endings and GDAL's drivers for them.
DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".geojson": "GeoJSON", ".fgb": "FlatGeobuf"}


class VectorFile:
    """A vector file that appears only when it is complete; a with-block.

    It is written into a hidden folder beside its place, since some formats are several files.

    Args:
        path: of the finished file; its ending, one of `DRIVERS`, says the format.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        check_writable(self.path)
        self._driver = DRIVERS.get(self.path.suffix.lower())
        if self._driver is None:
            raise UserError(f"No vector format ends with {self.path.suffix or 'nothing'} "
                            f"({self.path.name}). Choose {', '.join(DRIVERS)}.")
        self._folder = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self) -> VectorFile:
        self._folder.mkdir()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for file in sorted(self._folder.iterdir()):
                    os.replace(file, self.path.with_name(file.name))
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, geometry: np.ndarray, kind: str, columns: dict[str, np.ndarray], crs: str
              ) -> None:
        """Write one layer, called like the file.

        Args:
            geometry: (n,) shapely geometries.
            kind: "Point" or "Polygon".
            columns: name to (n,) values.
            crs: WKT, empty where unknown.
        """
        # the newest version of GeoPackage makes QGIS with an older GDAL complain
        options = {"VERSION": "1.2"} if self._driver == "GPKG" else {}
        try:
            pyogrio.raw.write(
                self._folder / self.path.name, shapely.to_wkb(geometry), list(columns.values()),
                list(columns), geometry_type=kind, crs=crs or None, layer=self.path.stem,
                driver=self._driver, dataset_options=options)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError,
                pyogrio.errors.FeatureError, pyogrio.errors.FieldError) as failure:
            raise UserError(f"{self.path.name} could not be written ({failure}). Choose .gpkg."
                            ) from failure
