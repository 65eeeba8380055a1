"""What one canvas shows of the open embeddings: its pixels, the engine's pictures of them."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCoordinateReferenceSystem
from qgis.gui import QgsMapCanvas
from qgis.PyQt import sip

from .overlay import HeatMap, Pictures, canvas_grid
from .session import SearchSession
from .wanted import crs_text


class LiveView:
    """The view of the canvas that is live.

    Args:
        canvas: where, None for nowhere.
        overlay: its heat map.

    Attributes:
        canvas, overlay: as given.
        number: the engine's for the view, None while it has none.
        grid: the canvas's pixels that the engine was asked for, None without any.
    """

    def __init__(self, canvas: QgsMapCanvas | None = None, overlay: HeatMap | None = None) -> None:
        self.canvas, self.overlay = canvas, overlay
        self.number: int | None = None
        self.grid: Any = None
        self._pictures: Pictures | None = None

    def signs(self) -> tuple[Any, ...]:
        """What the canvas says when it may show something else; nothing once it is gone."""
        canvas = self.canvas
        if canvas is None or sip.isdeleted(canvas):
            return ()
        return (
            canvas.extentsChanged, canvas.rotationChanged, canvas.destinationCrsChanged,
            canvas.renderStarting,
        )

    def moved(self) -> Any:
        """The canvas's pixels where they are others than those that were asked for, else None."""
        if self.canvas is None or sip.isdeleted(self.canvas):
            return None
        grid = canvas_grid(self.canvas)
        return grid if grid is not None and grid != self.grid else None

    def question(self, grid: Any, layer_crs: QgsCoordinateReferenceSystem) -> dict[str, Any]:
        """Other pixels in the engine's words; the picture that is shown becomes a copy."""
        self.release()
        self.grid = grid
        return {"crs": self.crs(layer_crs), "transform": list(grid.transform),
                "shape": [grid.rows, grid.cols]}

    def crs(self, layer_crs: QgsCoordinateReferenceSystem) -> str:
        """The view's coordinate system; a map without any shows layers as they are."""
        crs = self.grid.crs
        return crs_text(crs if crs.isValid() else layer_crs)

    def take(self, result: dict[str, Any]) -> None:
        """The engine has read the pixels."""
        self._pictures = Pictures(result["file"], self.grid)
        self.number = result["view"]

    def show(self, slot: int) -> None:
        """Show one of the engine's pictures."""
        self.overlay.show_picture(self._pictures.image(slot), self.grid)

    @property
    def outdated(self) -> bool:
        """Whether the picture that is shown is of other pixels."""
        return self.overlay.grid is not self.grid

    def restyle(self, session: SearchSession) -> None:
        """Colour the picture as the session wants it."""
        if self.overlay is not None:
            self.overlay.set_style(session.show, session.opacity, session.threshold_index())

    def clear(self) -> None:
        """Show nothing."""
        if self.overlay is not None and not sip.isdeleted(self.overlay):
            self.overlay.clear()

    def release(self) -> None:
        """Go on with a copy of the picture; the engine may replace its file."""
        self.number = None
        if self._pictures is not None:
            if self.overlay is not None and not sip.isdeleted(self.overlay):
                self.overlay.keep()
            self._pictures.close()
            self._pictures = None

    def drop(self) -> None:
        """Show nothing and ask for nothing."""
        self.clear()
        self.release()
        self.grid = None
