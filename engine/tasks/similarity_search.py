"""Job `similarity_search`: everything like some places, ranked, as a raster and as areas."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..context import JobContext, Pace
from ..errors import UserError
from ..rasters.cog import TILE
from ..rasters.grid import Window
from ..rasters.vector import VectorFile
from ..search.archive import Archive, Part, Reader, discs, pixel_metres
from ..search.background import Background, Significance, sample
from ..search.examples import at_point, of_layer
from ..search.heatmap import codes_of, similarity_writer
from ..search.kernel import scan
from ..search.matches import Outlines, write_matches
from ..search.query import Query, learn
from ..search.ranking import Places, Ranking, thin

_SHARE = 0.01  # of the background that counts as alike by default
_SPACING = 10  # pixels between matches by default
_MOST_HELD = 1_000_000  # candidates in one pass over the raster
_BLOCK_PIXELS = 2**20

Sink = Callable[[Window, np.ndarray], None]


def run(params: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Search embeddings for places like the examples.

    Args:
        params: input (paths of embeddings of one encoder: tiles, years); point [x, y, CRS],
            examples and examples_layer (points or polygons), counterexamples and
            counterexamples_layer; k (100), min_distance_m (10 pixels), threshold (a cosine;
            default: what 1 % of the background reaches), min_area_ha (0; smaller polygons are left
            out), extent; similarity, matches, polygons (paths to write).
        context: surroundings.

    Returns:
        found: matches, best first, with rank, cosine, percentile, x, y, source; threshold and
        its percentile; query (kind); areas (number of polygons, if written); season; and the
        paths that were written.
    """
    start = time.monotonic()
    k, threshold = _number(params, "k", 100, 1), params.get("threshold")
    paths = [params["input"]] if isinstance(params["input"], str) else params["input"]
    archive = Archive.open(paths, params.get("extent"))
    if archive.mosaic is None and (params.get("similarity") or params.get("polygons")):
        raise UserError("The embeddings do not lie on one grid, so that one similarity raster "
                        "cannot hold them. Search them one by one, or ask for matches only.")
    with Reader() as reader, ExitStack() as files:
        query, background = _query(params, archive, reader, context.part(0, 0.1))
        significance = background.scale_of(query.directions)
        threshold = significance.threshold(_SHARE) if threshold is None else float(threshold)
        if not -1 <= threshold <= 1:
            raise UserError(f"Smallest cosine is {threshold:g}; choose -1 to 1.")
        spacing = _SPACING * pixel_metres(archive.tiles[0].grid)
        metres = _number(params, "min_distance_m", spacing, 0)
        outputs = _Outputs(params, archive, threshold, files, context)
        search = _Search(archive, reader, query, context)
        places = search.best(int(k), metres, outputs.take)
        outputs.finish(places, significance)
    share = 100 - float(significance.percentile(np.array([threshold]))[0])
    context.log(f"Search: {query.kind}, {len(places)} matches; cosine {threshold:.2f} is reached "
                f"by {share:.1f} % of the background; {archive.pixels / 1e6:.1f} million pixels, "
                f"{time.monotonic() - start:.0f} s")
    if len(places) < k:
        context.warn(f"{len(places)} places lie {metres:g} m apart, fewer than the {k:g} asked "
                     "for. Lower the minimum distance for more.")
    written = {name: str(params[name]) for name in ("similarity", "matches", "polygons")
               if params.get(name)}
    return {**written, "found": _records(places, archive, significance), "threshold": threshold,
            "percentile": 100 - share, "query": query.kind, "areas": outputs.areas,
            "season": [archive.dates[0], archive.dates[-1]] if archive.dates else []}


def _number(params: dict[str, Any], name: str, default: float, least: float) -> float:
    value = params.get(name)
    value = default if value is None else float(value)
    if not least <= value < float("inf"):
        words = {"k": "Number of matches", "min_distance_m": "Minimum distance",
                 "min_area_ha": "Smallest area"}
        raise UserError(f"{words[name]} is {value:g}; choose {least:g} or more.")
    return value


def _query(params: dict[str, Any], archive: Archive, reader: Reader, context: JobContext
           ) -> tuple[Query, Background]:
    """What to look for, and beside what."""
    examples, counterexamples = [], np.zeros((0, archive.dims))
    if params.get("point"):
        examples.append(at_point(params["point"], archive, reader))
    if params.get("examples"):
        examples.append(of_layer(Path(params["examples"]), params.get("examples_layer"), archive,
                                 reader, context))
    if not examples:
        raise UserError("Give a place or examples.")
    if params.get("counterexamples"):
        counterexamples = of_layer(
            Path(params["counterexamples"]), params.get("counterexamples_layer"), archive, reader,
            context)
    background = sample(archive, reader, context)
    query = learn(np.concatenate(examples), counterexamples, background.units())
    if not query.directions.any():
        raise UserError("The examples cancel each other out. Remove one.")
    return query, background


def _records(places: Places, archive: Archive, significance: Significance) -> list[dict]:
    tiles, rows, cols = places.pixels(archive)
    x, y = archive.position(tiles, rows, cols)
    columns = zip(places.similarities.tolist(),
                  significance.percentile(places.similarities).tolist(), x.tolist(), y.tolist(),
                  tiles.tolist(), strict=True)
    return [{"rank": rank, "cosine": cosine, "percentile": percentile, "x": east, "y": north,
             "source": archive.tiles[tile].path.name}
            for rank, (cosine, percentile, east, north, tile) in enumerate(columns, 1)]


class _Outputs:
    """The files that were asked for; they appear when `files` is left without an exception."""

    def __init__(self, params: dict[str, Any], archive: Archive, threshold: float,
                 files: ExitStack, context: JobContext) -> None:
        self._archive, self._check, self.areas = archive, context.check, None
        self._min_area_ha = _number(params, "min_area_ha", 0, 0)
        vectors = {name: files.enter_context(VectorFile(Path(params[name])))
                   for name in ("matches", "polygons") if params.get(name)}
        self._matches, self._polygons = vectors.get("matches"), vectors.get("polygons")
        self._raster = self._outlines = None
        if params.get("similarity"):
            self._raster = files.enter_context(similarity_writer(
                Path(params["similarity"]), archive.mosaic,
                {"EARTHPRINT_SEARCHED": archive.encoder}))
        if self._polygons is not None:
            self._outlines = Outlines(archive.mosaic, threshold, context.folder)

    @property
    def take(self) -> Sink | None:
        """What wants the similarities of each window; None where nobody does."""
        return self._take if self._raster is not None or self._outlines is not None else None

    def _take(self, window: Window, similarities: np.ndarray) -> None:
        codes = codes_of(similarities)
        if self._raster is not None:
            self._raster.write(window, codes)
        if self._outlines is not None:
            self._outlines.add(window, codes)

    def finish(self, places: Places, significance: Significance) -> None:
        """Write what needs the whole scan."""
        if self._matches is not None:
            write_matches(self._matches, places, self._archive, significance)
        if self._outlines is not None:
            self.areas = self._outlines.write(self._polygons, self._min_area_ha, self._check)


class _Search:
    """Passes over the archive by blocks, in threads."""

    def __init__(self, archive: Archive, reader: Reader, query: Query, context: JobContext
                 ) -> None:
        self._archive, self._reader, self._context = archive, reader, context
        self._directions = query.directions
        per_pixel = archive.dims + 40  # codes; lengths and similarities
        blocks = context.memory_mb * 1e6 / 2 / per_pixel / TILE**2
        self._threads = int(min(max(blocks - 1, 1), context.threads))
        self._pixels = int(min(blocks / (self._threads + 1) * TILE**2, _BLOCK_PIXELS))

    def best(self, k: int, metres: float, sink: Sink | None) -> Places:
        """The k best places at least `metres` apart, exactly.

        A chosen place hides at most the pixels of a disc, so that k discs of candidates are
        enough. Where those are too many to hold, or tiles overlap, further passes go on behind
        the last candidate.
        """
        size = min(k * max(discs(metres, t) for t in self._archive.tiles) if metres else k,
                   _MOST_HELD)
        chosen, after = Places.none(), None
        while True:
            ranking = Ranking(size, after)
            self._pass(ranking, sink if after is None else None, after is not None)
            candidates = ranking.best()
            chosen = thin(candidates, chosen, self._archive, metres, k)
            if len(chosen) == k or len(candidates) < size:
                return chosen
            after = float(candidates.similarities[-1]), int(candidates.keys[-1])

    def _pass(self, ranking: Ranking, sink: Sink | None, again: bool) -> None:
        part = self._context.part(*((0.9, 0.95) if again else (0.1, 0.9)))
        pace = Pace(part, self._archive.pixels, "pixels", "Searching")
        for window, similarities, parts in self._blocks(ranking, sink is not None):
            for _, places in parts:
                ranking.add(places)
            if sink is not None:
                sink(window, similarities)
            pace.add(sum(part.window.size for part, _ in parts))

    def _blocks(self, ranking: Ranking, wanted: bool) -> Iterator[tuple]:
        """Results of `_block` in the order of the blocks."""
        with ThreadPoolExecutor(self._threads) as pool:
            waiting: deque = deque()
            try:
                for window, parts in self._archive.blocks(self._pixels):
                    waiting.append(pool.submit(self._block, ranking, window, parts, wanted))
                    if len(waiting) > self._threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _block(self, ranking: Ranking, window: Window, parts: tuple[Part, ...], wanted: bool
               ) -> tuple[Window, np.ndarray | None, list[tuple[Part, Places]]]:
        similarities = np.full((window.rows, window.cols), np.nan, np.float32) if wanted else None
        selected = []
        for part in parts:
            tile = self._archive.tiles[part.tile]
            codes = self._reader.codes(tile, part.window).reshape(-1, self._archive.dims)
            found = scan(codes, self._directions, tile.coding)
            selected.append((part, ranking.select(found, codes, self._directions, tile.coding,
                                                  part, tile.grid.shape[1])))
            if wanted:
                target = similarities[part.row : part.row + part.window.rows,
                                      part.col : part.col + part.window.cols]
                np.fmax(target, found.values.reshape(target.shape), out=target)
        return window, similarities, selected
