"""The heat map follows the view, in any coordinates, on several canvases."""

from __future__ import annotations

import pytest
from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsPointXY, QgsRectangle
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QPoint

from tests.qgis.events import SIZE, Hand, let, until
from tests.qgis.live.pictures import colour, heat_of, painted, to_layer


def test_the_heat_map_follows_pan_and_zoom(ready, canvas, hand):
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    spot = canvas.getCoordinateTransform().toMapCoordinates(200, 150)
    view = ready.link._view.number
    box = canvas.extent()
    canvas.setExtent(QgsRectangle(
        box.xMinimum() + box.width() / 4, box.yMinimum() + box.height() / 4,
        box.xMaximum() - box.width() / 8, box.yMaximum() - box.height() / 8))
    at = canvas.getCoordinateTransform().transform(spot)
    image = painted(ready, canvas)  # the old picture, in its new place
    assert colour(image, round(at.x()), round(at.y())).green() > 200
    until(lambda: ready.link._view.number not in (view, None) and not ready.link._due)
    until(lambda: heat_of(ready, canvas).grid is ready.link._view.grid)
    at = canvas.getCoordinateTransform().transform(spot)
    assert colour(painted(ready, canvas), round(at.x()), round(at.y())).green() > 200


@pytest.mark.parametrize(("turn", "crs"), [(33.0, None), (0.0, "EPSG:3857"), (-70.0, "EPSG:4326")])
def test_rotated_and_in_other_coordinates(ready, canvas, layer, hand, project, turn, crs):
    if crs is not None:
        project.setCrs(QgsCoordinateReferenceSystem(crs))
        canvas.setDestinationCrs(project.crs())
        canvas.setExtent(QgsCoordinateTransform(layer.crs(), project.crs(), project)
                         .transformBoundingBox(layer.extent()))
    canvas.setRotation(turn)
    let(0.2)
    until(lambda: ready.link.ready)
    hand.move(200, 150)
    until(lambda: ready.session.answer is not None)
    assert colour(painted(ready, canvas), 200, 150).green() > 240
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    place = to_layer(canvas, layer, 200, 150)
    (example,) = ready.session.examples
    assert (example.x, example.y) == pytest.approx((place.x(), place.y()))
    marker = next(p.markers for p in ready._places if p.canvas is canvas)
    assert marker.at(QPoint(200, 150)) == 0
    best = ready.session.matches[0]
    assert QgsPointXY(best.x, best.y).distance(place) < 15


def test_fine_screens_get_their_pixels_and_huge_ones_fewer(ready, canvas, monkeypatch):
    from earthprint.plugin.search import overlay

    monkeypatch.setattr(canvas, "devicePixelRatioF", lambda: 2.0, raising=False)
    grid = overlay.canvas_grid(canvas)
    assert (grid.rows, grid.cols) == (600, 800)
    monkeypatch.setattr(overlay, "MOST_PIXELS", 120_000)
    small = overlay.canvas_grid(canvas)
    assert small.rows * small.cols <= 120_000
    assert small.cols / small.rows == pytest.approx(4 / 3, rel=0.01)
    corner = canvas.getCoordinateTransform().toMapCoordinates(*SIZE)
    for found in (grid, small):
        assert found.to_map().map(float(found.cols), float(found.rows)) == pytest.approx(
            (corner.x(), corner.y()))


def test_two_canvases(ready, qgis_window, canvas, layer, hand):
    second = qgis_window.new_canvas()
    qgis_window.canvases.append(second)
    second.setExtent(layer.extent().buffered(-200))
    second.show()
    until(lambda: len(ready._places) == 2, 3)
    other = Hand(second)
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    assert all(len(place.markers._examples) == 1 for place in ready._places)
    other.move(180, 140)
    until(lambda: ready.link.canvas is second and heat_of(ready, second).isVisible())
    assert not heat_of(ready, canvas).isVisible()
    other.click(180, 140)
    until(lambda: len(ready.session.examples) == 2)
    hand.move(150, 150)
    until(lambda: heat_of(ready, canvas).isVisible())
    assert not heat_of(ready, second).isVisible()
    qgis_window.canvases.remove(second)
    sip.delete(second)
    let(0.1)
    assert len(ready._places) == 1
    hand.move(160, 150)
    until(lambda: not ready.link.busy)
