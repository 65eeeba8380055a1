"""Windows with their surroundings: what an answer needs to know of the pixels around it."""

from __future__ import annotations

from .grid import Window


def grown(window: Window, margin: int, limit: Window) -> tuple[Window, tuple[slice, slice]]:
    """A window with a margin within a limit, and where the window lies in it."""
    top, left = max(window.row - margin, limit.row), max(window.col - margin, limit.col)
    bottom = min(window.row + window.rows + margin, limit.row + limit.rows)
    right = min(window.col + window.cols + margin, limit.col + limit.cols)
    return Window(top, left, bottom - top, right - left), (
        slice(window.row - top, window.row - top + window.rows),
        slice(window.col - left, window.col - left + window.cols))
