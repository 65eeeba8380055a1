"""Maps on disk: class and number rasters as cloud-optimised GeoTIFFs that carry their style.

A map is written by windows under a temporary name and becomes a file only when it is complete.
Class maps hold colours, names and a raster attribute table in the file and its ``.aux.xml``, and
a ``.qml`` beside it, so that QGIS shows the legend in any project.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from rasterio import shutil as rasterio_shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from ..errors import UserError
from .grid import Grid, Window
from .legend import Legend
from .styles import Ramp, classes_qml


class RasterWriter:
    """Writes one raster by windows; a with-block. Leaving it by an exception leaves no file.

    Args:
        path: of the finished GeoTIFF.
        grid: where the pixels lie.
        dtype, nodata: of all bands.
        bands: how many.
        legend: names and colours of a class raster.
        tags: metadata of the file; `plain` says what becomes of odd characters.
        overview: "nearest" for classes, "average" for numbers.
        ramp: colours of a raster of numbers.
        scale: physical value = scale * stored value, for all bands.
        descriptions: names of the bands.
        unit: of the values, such as "t/ha" or "m"; "" for none.
    """

    def __init__(self, path: Path, grid: Grid, dtype: str, nodata: float, *, bands: int = 1,
                 legend: Legend | None = None, tags: dict[str, str] | None = None,
                 overview: str = "nearest", ramp: Ramp | None = None, scale: float = 1.0,
                 descriptions: Sequence[str] = (), unit: str = "") -> None:
        self.path, self._legend, self._ramp = Path(path), legend, ramp
        self._overview = overview
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._final = self._part.with_suffix(".final")
        check_writable(self.path)
        # the raster as it is written and its final copy, at worst without any compression
        check_space(self.path, 2 * bands * grid.full.size * np.dtype(dtype).itemsize)
        self._dataset = rasterio.open(
            self._part, "w", driver="GTiff", width=grid.shape[1], height=grid.shape[0],
            count=bands, dtype=dtype, nodata=nodata, crs=grid.crs, transform=grid.affine,
            tiled=True, blockxsize=256, blockysize=256, compress="deflate", zlevel=1,
            BIGTIFF="IF_SAFER", SPARSE_OK=True)
        self._dataset.update_tags(**plain(tags or {}))
        self._dataset.scales = (scale,) * bands
        if unit:
            self._dataset.units = (unit,) * bands
        for band, text in enumerate(descriptions, 1):
            self._dataset.set_band_description(band, text)
        if legend is not None:
            self._dataset.write_colormap(1, {
                c.value: tuple(int(c.color[i : i + 2], 16) for i in (1, 3, 5)) + (255,)
                for c in legend.classes})

    def __enter__(self) -> RasterWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._dataset.close()
            if kind is None:
                self._finish()
        except (RasterioError, CPLE_BaseError) as failure:
            if kind is None:
                raise UserError(f"{self.path.name} could not be written ({failure}). Free some "
                                "space or choose another folder.") from failure
        finally:
            for leftover in (self._part, self._final,
                             Path(f"{self._final}.aux.xml"), Path(f"{self._part}.aux.xml")):
                leftover.unlink(missing_ok=True)

    def write(self, window: Window, array: np.ndarray) -> None:
        """Write (rows, cols) or (bands, rows, cols) values of a window."""
        place = RasterioWindow(window.col, window.row, window.cols, window.rows)
        if array.ndim == 2:
            self._dataset.write(array, 1, window=place)
        else:
            self._dataset.write(array, window=place)

    def _finish(self) -> None:
        rasterio_shutil.copy(
            self._part, self._final, driver="COG", compress="DEFLATE", blocksize=256,
            overview_resampling=self._overview, BIGTIFF="IF_SAFER")
        sidecars = {".qml": self._qml(), ".tif.aux.xml": self._aux()}
        os.replace(self._final, self.path)
        for ending, text in sidecars.items():
            target = self.path.with_suffix(ending) if ending == ".qml" else Path(
                f"{self.path}.aux.xml")
            if text:
                target.write_text(text, encoding="utf-8")
            else:
                target.unlink(missing_ok=True)

    def _qml(self) -> str:
        if self._legend is not None:
            return classes_qml(self._legend)
        return self._ramp.qml() if self._ramp is not None else ""

    def _aux(self) -> str:
        """GDAL's sidecar with category names and attribute table; empty without a legend."""
        if self._legend is None:
            return ""
        classes = {c.value: c for c in self._legend.classes}
        names = "".join(
            f"<Category>{escape(classes[v].name) if v in classes else ''}</Category>"
            for v in range(max(classes) + 1))
        fields = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
        table = "".join(
            f'<FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage>'
            "</FieldDefn>" for i, (name, kind, usage) in enumerate(fields))
        for row, c in enumerate(self._legend.classes):
            cells = (c.value, escape(c.name), *(int(c.color[i : i + 2], 16) for i in (1, 3, 5)))
            table += f'<Row index="{row}">' + "".join(f"<F>{cell}</F>" for cell in cells) + "</Row>"
        return (f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames>'
                f'<GDALRasterAttributeTable tableType="thematic">{table}'
                "</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>\n")


def plain(tags: dict[str, str]) -> dict[str, str]:
    """Tags as a GeoTIFF can hold them, whatever file names and class names they are made of.

    Bytes of file names that are no UTF-8 become question marks, as GDAL would refuse them; a NUL
    is left out, as it would end the value.
    """
    return {key: str(value).encode("utf-8", "replace").decode("utf-8").replace("\0", "")
            for key, value in tags.items()}


def check_writable(path: Path) -> None:
    """Raise a `UserError` unless a file can be made in the folder of `path`."""
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise UserError(f"Folder {folder} does not exist. Make it or choose another.")
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder, no file. Give the name of a file in it.")
    probe = folder / f".{os.getpid()}.earthprint"
    try:
        probe.touch()
        probe.unlink()
    except OSError as failure:
        raise UserError(f"Folder {folder} is read-only. Choose another.") from failure


def check_space(path: Path, needed: float) -> None:
    """Raise a `UserError` unless the disk of `path` has `needed` bytes free."""
    folder = Path(path).resolve().parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{folder} has {_size(free)} free, {_size(needed)} are needed. Choose "
                        "another folder.")


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
