"""The live search: an archive that stays open, a view of it on a map canvas, queries as the
pointer moves.

A session answers from memory. Its pictures lie in a file that the client maps too, so that
nothing but places and numbers goes through the pipe.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.errors import CRSError
from scipy.spatial import cKDTree

from ..context import JobContext
from ..errors import UserError
from ..rasters.grid import Grid
from .archive import Archive, Reader, ground, pixel_metres
from .background import Significance, sample
from .examples import vector_of
from .kernel import inverse_lengths, scan
from .placement import moved
from .query import Learner, Query
from .view import View

#: Pictures in a file: one is painted while the other is looked at.
SLOTS = 2
#: Shares of the background (%) whose cosines are told with each answer.
SHARES = (50, 30, 20, 15, 10, 7, 5, 3, 2, 1.5, 1, 0.7, 0.5, 0.3, 0.2, 0.15, 0.1)

_RAMP = 0.5, 0.999  # quantiles of the background at the ramp's ends
_NARROWEST = 1e-4  # cosine between the ramp's ends, so that flat backgrounds have a ramp
_SPACING = 10  # pixels between matches by default
_MOST_PIXELS = 40_000_000  # of a picture
_FEWEST_CANDIDATES, _MOST_CANDIDATES = 4_000, 200_000  # for matches: at first, and at the most

Params = dict[str, Any]


class Session:
    """One archive, opened for live queries."""

    def __init__(self, paths: list[str], threads: int, folder: Path) -> None:
        self._archive = Archive.open(paths, None)
        with Reader() as reader:
            self._background = sample(self._archive, reader, JobContext())
        self._learner = Learner(self._background.units())
        self._inverses = [inverse_lengths(codes, coding)
                          for coding, codes in self._background.parts]
        self._pool, self._threads = ThreadPoolExecutor(threads), threads
        self._pictures = _Pictures(folder)
        self._view: View | None = None
        self._places: dict[tuple, np.ndarray | None] = {}

    def describe(self) -> dict[str, Any]:
        """What `live/open` answers."""
        archive, grid = self._archive, self._archive.tiles[0].grid
        boxes = np.array([t.grid.bounds if grid.crs is None else t.grid.bounds_in(grid.crs)
                          for t in archive.tiles])
        return {"encoder": archive.encoder, "dims": archive.dims, "crs": grid.crs_wkt,
                "bounds": [*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()],
                "pixel_m": pixel_metres(grid), "dates": list(archive.dates),
                "pixels": archive.pixels}

    def look(self, number: int, picture: Grid) -> dict[str, Any]:
        """Read what a canvas shows; replaces the view before it."""
        self._view = None  # its memory is needed
        view = View(self._archive, picture, self._pool, self._threads)
        path = self._pictures.start(number, picture.shape)
        self._view = view
        finest = pixel_metres(self._archive.tiles[0].grid)
        return {"view": number, "file": str(path), "shape": list(picture.shape), "slots": SLOTS,
                "valid": view.valid, "pixel_m": finest * 2**view.level, "embeddings": view.size}

    def query(self, params: Params) -> dict[str, Any]:
        """Paint a query into the next slot and say what it means."""
        start = time.perf_counter()
        if self._view is None or params["view"] != self._pictures.number:
            raise UserError("This view of the map was replaced by a newer one. Move the map.")
        slot, picture = self._pictures.next()
        shown = [self._vector_of(place) for place in params.get("examples") or []]
        against = [self._vector_of(place) for place in params.get("counterexamples") or []]
        hover = self._hovered(params.get("hover"))
        answer = {"slot": slot, "hover_valid": hover is not None,
                  "lost": [i for i, v in enumerate(shown) if v is None],
                  "lost_counterexamples": [i for i, v in enumerate(against) if v is None]}
        query = self._learnt(shown, against, hover)
        if query is None:
            picture[:] = 0
            answer |= {"kind": "none", "low": 0.0, "high": 1.0, "hectares": [0.0] * 256,
                       "thresholds": [[share, 1.0] for share in SHARES]}
        else:
            alike = self._significance(query.directions).similarities
            low, high = np.quantile(alike, _RAMP).tolist()
            high = max(high, low + _NARROWEST)
            levels = np.quantile(alike, 1 - np.array(SHARES) / 100)
            hectares = self._view.paint(query.directions, low, high, picture)
            answer |= {"kind": query.kind, "low": low, "high": high,
                       "hectares": hectares.round(4).tolist(),
                       "thresholds": [[share, cosine] for share, cosine in zip(
                           SHARES, levels.tolist(), strict=True)]}
        answer["matches"] = self._matches(query, params)
        answer["ms"] = 1e3 * (time.perf_counter() - start)
        return answer

    def close(self) -> None:
        """Give back memory and files."""
        self._view = None
        self._pool.shutdown()
        self._pictures.close()

    def _vector_of(self, place: Params) -> np.ndarray | None:
        """(d,) unit vector at full resolution; None where there is no embedding."""
        key = (*(place.get("box") or (place["x"], place["y"])), place.get("crs"))
        if key not in self._places:
            shape = shapely.box(*place["box"]) if place.get("box") else shapely.Point(
                place["x"], place["y"])
            crs = place.get("crs")
            with Reader() as reader:  # no file stays open, so that it can be encoded anew
                self._places[key] = vector_of(shape, _crs(crs).to_wkt() if crs else None,
                                            self._archive, reader)
        return self._places[key]

    def _hovered(self, hover: list | None) -> np.ndarray | None:
        if hover is None:
            return None
        x, y, crs = hover
        picture = self._view.picture
        if crs and picture.crs_wkt:
            x, y = (float(v[0]) for v in moved(_crs(crs), _crs(picture.crs_wkt), [x], [y]))
        return self._view.vector(x, y)

    def _learnt(self, shown: list, against: list, hover: np.ndarray | None) -> Query | None:
        """The query; None where nothing is shown."""
        shown, against = ([v for v in vectors if v is not None] for vectors in (shown, against))
        if not shown and hover is None:
            return None
        none = np.zeros((0, self._archive.dims))
        query = self._learner.learn(np.array(shown) if shown else none,
                                    np.array(against) if against else none, hover)
        if not query.directions.any():
            raise UserError("The examples cancel each other out. Remove one.")
        return query

    def _significance(self, directions: np.ndarray) -> Significance:
        """How alike the background is, to the few millionths that the scan is right to."""
        values = [scan(codes, directions, coding, inverse).values for (coding, codes), inverse in
                  zip(self._background.parts, self._inverses, strict=True)]
        return Significance(np.sort(np.concatenate(values)))

    def _matches(self, query: Query | None, params: Params) -> list[dict[str, float]]:
        """The best places of the view, none closer than `min_distance_m` to a better one."""
        k = int(params.get("rank") or 0)
        if query is None or k <= 0:
            return []
        grid = self._archive.tiles[0].grid
        pixel = pixel_metres(grid) * 2**self._view.level
        least = params.get("min_distance_m")
        metres = _SPACING * pixel if least is None else float(least)
        size, chosen = max(_FEWEST_CANDIDATES, k), np.zeros(0, np.int64)
        while len(chosen) < k:  # of more candidates the same are chosen, and others behind them
            x, y, similar = self._view.best(query.directions, size)
            chosen = _apart(ground(grid.crs, x, y), metres, k) if len(x) else chosen
            if len(x) < size or size > _MOST_CANDIDATES:
                break
            size *= 8
        share = self._background.scale_of(query.directions).percentile(similar[chosen])
        return [{"x": east, "y": north, "cosine": cosine, "percentile": percentile}
                for east, north, cosine, percentile in zip(
                    x[chosen].tolist(), y[chosen].tolist(), similar[chosen].tolist(),
                    share.tolist(), strict=True)]


class _Pictures:
    """The file of a session's newest view; those that a client still maps go when they can."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._old = folder, []
        self._map: np.memmap | None = None
        self._slot, self.number = 0, 0

    def start(self, number: int, shape: tuple[int, int]) -> Path:
        """A new file of `SLOTS` black pictures."""
        self.close()
        path = self._folder / f"view-{number}.bytes"
        self._old.append(path)
        try:  # written and not only promised, since a full disk kills whoever writes to a map
            path.write_bytes(bytes(SLOTS * shape[0] * shape[1]))
        except OSError as failure:
            raise UserError(f"The disk is full ({self._folder}). Free some space.") from failure
        self._map = np.memmap(path, np.uint8, "r+", shape=(SLOTS, *shape))
        self.number = number
        return path

    def next(self) -> tuple[int, np.ndarray]:
        """The slot that is not looked at."""
        self._slot = (self._slot + 1) % SLOTS
        return self._slot, self._map[self._slot]

    def close(self) -> None:
        """Remove the file, or as soon as the client lets go of it."""
        self._map, self.number = None, 0
        for path in self._old[:]:
            with contextlib.suppress(PermissionError):
                path.unlink(missing_ok=True)
                self._old.remove(path)


class LiveSearch:
    """The methods `live/*`; one thread calls them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="earthprint-live-",
                                                   ignore_cleanup_errors=True)
        self._sessions: dict[int, Session] = {}
        self._numbers = itertools.count(1)

    def answer(self, method: str, params: Params) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            UserError: unknown method, missing or wrong parameters, or whatever is wrong with them.
        """
        if method not in METHODS:
            raise UserError(f"There is no request {method}. Choose one of {', '.join(METHODS)}.")
        work, required = METHODS[method]
        lacking = [name for name in required if name not in params]
        if lacking:
            raise UserError(f"{method} needs the parameter {', '.join(lacking)}.")
        return work(self, params)

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._folder.cleanup()

    def _open(self, params: Params) -> dict[str, Any]:
        number = next(self._numbers)
        folder = Path(self._folder.name) / str(number)
        folder.mkdir()
        threads = params.get("threads") or JobContext().threads
        paths = [params["input"]] if isinstance(params["input"], str) else params["input"]
        session = self._sessions[number] = Session(paths, int(threads), folder)
        return {"session": number, **session.describe()}

    def _view(self, params: Params) -> dict[str, Any]:
        session, given = self._session(params), params["grid"]
        shape, matrix = given["shape"], given["transform"]
        crs = _crs(given["crs"]).to_wkt() if given.get("crs") else ""
        a, b, _, d, e, _ = (float(v) for v in matrix)
        if min(shape) < 1 or shape[0] * shape[1] > _MOST_PIXELS or not np.isfinite(
                matrix).all() or a * e == b * d:
            raise UserError("The map canvas has no area or is too large to search in. Resize it.")
        picture = Grid(crs, tuple(float(v) for v in matrix), (int(shape[0]), int(shape[1])))
        return session.look(next(self._numbers), picture)

    def _query(self, params: Params) -> dict[str, Any]:
        return self._session(params).query(params)

    def _close(self, params: Params) -> dict[str, Any]:
        session = self._sessions.pop(params["session"], None)
        if session is not None:
            session.close()
        return {}

    def _session(self, params: Params) -> Session:
        if params["session"] not in self._sessions:
            raise UserError("This live search is closed. Choose the embeddings again.")
        return self._sessions[params["session"]]


Method = Callable[[LiveSearch, Params], dict[str, Any]]

#: Interactive requests: what answers them and the parameters that must be given.
METHODS: dict[str, tuple[Method, tuple[str, ...]]] = {
    "live/open": (LiveSearch._open, ("input",)),
    "live/view": (LiveSearch._view, ("session", "grid")),
    "live/query": (LiveSearch._query, ("session", "view")),
    "live/close": (LiveSearch._close, ("session",)),
}


@lru_cache(maxsize=64)
def _crs(text: str) -> CRS:
    try:
        return CRS.from_user_input(text)
    except CRSError as failure:
        raise UserError(f"The coordinate reference system {text[:60]} is not known. Choose "
                        "another for the project.") from failure


def _apart(at: np.ndarray, metres: float, k: int) -> np.ndarray:
    """Indices of at most k of (n, 3) positions, best first, none near a better one."""
    if metres <= 0:
        return np.arange(min(k, len(at)))
    tree, free, chosen = cKDTree(at), np.ones(len(at), bool), []
    for i in range(len(at)):
        if len(chosen) == k:
            break
        if free[i]:
            chosen.append(i)
            free[tree.query_ball_point(at[i], metres * 0.999)] = False
    return np.array(chosen, np.int64)
