"""Job `cluster_embeddings`: groups of alike pixels without labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from ..context import JobContext, Pace
from ..encoding.pipeline import window_in
from ..errors import UserError
from ..heads.inputs import Inputs
from ..rasters.areas import AreaCount
from ..rasters.embeddings import EmbeddingsFile
from ..rasters.grid import Window
from ..rasters.legend import COLORS, NODATA, Legend, LegendClass
from ..rasters.overlap import within
from ..rasters.raster import RasterWriter, check_writable
from ..rasters.sampling import even_places
from .apply_head import records

_SAMPLE = 40_000  # pixels from which the groups are found
_BLOCK = 512


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Group pixels by k-means on unit vectors (for which Euclid and cosine agree).

    Args:
        params: input (embeddings, or rasters to encode), output; encoder, clusters (8), extent,
            seed (0).
        context: surroundings.

    Returns:
        output, areas, season. Groups are numbered from the largest in the sample, 1, 2, ...
    """
    start = time.monotonic()
    clusters = int(params.get("clusters") or 8)
    if not 2 <= clusters <= 254:
        raise UserError(f"Number of groups is {clusters}; choose 2 to 254.")
    output = Path(params["output"])
    check_writable(output)
    inputs = Inputs.open(params["input"], params.get("extent"), None, context)
    inputs = inputs.encoded(params.get("encoder") or "automatic",
                            context.folder / "embeddings.tif", context.part(0, 0.6))
    with EmbeddingsFile(inputs.embeddings) as file:
        area = window_in(file.grid, params.get("extent"))
        grid = file.grid.part(area)
        seed = int(params.get("seed") or 0)
        sample = _sample(file, area, seed, context.part(0.6, 0.75))
        if len(sample) < clusters:
            raise UserError(f"{inputs.embeddings.name} has {len(sample)} pixels with embeddings "
                            f"for {clusters} groups. Choose fewer groups or another area.")
        centres = _centres(sample, clusters, seed)
        legend = _legend(clusters)
        count = AreaCount(grid)
        pace = Pace(context.part(0.75, 0.98), grid.full.size, "pixels", "Grouping")
        with RasterWriter(output, grid, "uint8", NODATA, legend=legend) as out:
            for window in grid.blocks(_BLOCK, _BLOCK):
                vectors, valid = file.vectors(within(window, area))
                group = np.full(valid.shape, NODATA, np.uint8)
                group[valid] = _nearest(vectors[valid], centres) + 1
                out.write(window, group)
                count.add(window.row, group)
                pace.add(window.size)
    areas = count.areas(legend)
    context.log(f"Groups: {clusters} on {areas.total:,.0f} ha; {time.monotonic() - start:.0f} s"
                .replace(",", " "))
    return {"output": str(output), "areas": records(areas), "season": inputs.season()}


def _sample(file: EmbeddingsFile, area: Window, seed: int, context: JobContext) -> np.ndarray:
    """(n, d) vectors evenly over an area, at most `_SAMPLE`."""
    places, parts = even_places((area.rows, area.cols), _SAMPLE, seed), []
    for done, (window, rows, cols) in enumerate(places, 1):
        context.progress(done / len(places), "Finding groups")
        vectors, valid = file.vectors(within(window, area))
        chosen = valid[rows, cols]
        parts.append(vectors[rows[chosen], cols[chosen]])
    return np.concatenate(parts)


def _centres(sample: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """(clusters, d) means, the most frequent group first."""
    model = MiniBatchKMeans(clusters, batch_size=4096, n_init=3, random_state=seed).fit(sample)
    order = np.argsort(-np.bincount(model.labels_, minlength=clusters), kind="stable")
    return model.cluster_centers_[order].astype(np.float32)


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n,) index of the nearest centre by Euclid."""
    return np.argmax(vectors @ centres.T - (centres**2).sum(1) / 2, axis=1).astype(np.uint8)


def _legend(clusters: int) -> Legend:
    """Groups in the default colours, then in tints of them."""
    classes = []
    for k in range(clusters):
        turn, base = divmod(k, len(COLORS))
        parts = [int(COLORS[base][i:i + 2], 16) for i in (1, 3, 5)]
        mixed = [round(p + (160 - p) * (1 - 0.75**turn)) for p in parts]
        classes.append(LegendClass(k + 1, f"Group {k + 1}", "#{:02x}{:02x}{:02x}".format(*mixed)))
    return Legend(tuple(classes))
