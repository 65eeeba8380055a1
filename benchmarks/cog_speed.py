"""Writing 128-band embeddings: our tile-by-tile COG against GDAL's COG driver, in one run."""

import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.crs import CRS

from earthprint.engine.rasters.embeddings import (
    ENCODER_TAG,
    EmbeddingsFile,
    EmbeddingsWriter,
    quantise,
)
from earthprint.engine.rasters.grid import Grid

SIDE, DIMS, SCALE = 1536, 128, 0.5 / 127


def season_like(seed=0):
    """Smooth patches with a little noise, as embeddings of fields are."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(SIDE // 16, SIDE // 16, DIMS)).repeat(16, 0).repeat(16, 1)
    vectors = (coarse + 0.2 * rng.normal(size=coarse.shape)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return quantise(vectors.reshape(-1, DIMS), SCALE).reshape(SIDE, SIDE, DIMS)


def ours(path, grid, codes):
    with EmbeddingsWriter(path, grid, DIMS, SCALE, {ENCODER_TAG: "benchmark"}) as out:
        for block in grid.blocks(256, 512):
            out.write(block.row, block.col, codes[block.slices])


def gdal(path, grid, codes):
    flat = path.with_suffix(".flat.tif")
    with rasterio.open(flat, "w", driver="GTiff", width=SIDE, height=SIDE, count=DIMS,
                       dtype="uint8", nodata=0, crs=grid.crs, transform=grid.affine, tiled=True,
                       interleave="pixel", compress="ZSTD", zstd_level=1) as out:
        for block in grid.blocks(256, 512):
            out.write(np.moveaxis(codes[block.slices], -1, 0),
                      window=((block.row, block.row + block.rows),
                              (block.col, block.col + block.cols)))
    rasterio.shutil.copy(flat, path, driver="COG", compress="ZSTD", level=1, blocksize=256,
                         overview_resampling="average")


def main():
    codes = season_like()
    grid = Grid(CRS.from_epsg(32631).to_wkt(), (10.0, 0.0, 5e5, 0.0, -10.0, 5.6e6), (SIDE, SIDE))
    million = SIDE * SIDE / 1e6
    with tempfile.TemporaryDirectory() as folder:
        seconds = {}
        for name, write in (("ours", ours), ("GDAL COG", gdal)):
            path = Path(folder) / f"{name}.tif"
            write(path, grid, codes)  # the first run compiles and warms up
            start = time.perf_counter()
            write(path, grid, codes)
            seconds[name] = time.perf_counter() - start
            print(f"{name:10s} {million / seconds[name]:7.3f} M pixels/s, "
                  f"{path.stat().st_size / 1e6:.0f} MB")
        print(f"ratio {seconds['GDAL COG'] / seconds['ours']:.1f}")
        start = time.perf_counter()
        with EmbeddingsFile(Path(folder) / "ours.tif") as file:
            file.codes(grid.full)
        direct = time.perf_counter() - start
        start = time.perf_counter()
        with rasterio.open(Path(folder) / "ours.tif") as dataset:
            np.ascontiguousarray(np.moveaxis(dataset.read(), 0, -1))
        through = time.perf_counter() - start
        print(f"read: ours {million / direct:.1f}, GDAL {million / through:.1f} M pixels/s, "
              f"ratio {through / direct:.1f}")


if __name__ == "__main__":
    main()
