"""Hover and click: real events on a real canvas, the real engine behind."""

from __future__ import annotations

import pytest
from qgis.PyQt.QtCore import QEvent, QPoint, Qt
from qgis.PyQt.QtGui import QImage

from tests.qgis.events import ALT, CTRL, LEFT, PLAIN, RIGHT, SIZE, let, until
from tests.qgis.live.pictures import colour, heat_of, painted, to_layer


def test_hover_lights_up_what_is_alike(ready, canvas, hand):
    hand.move(200, 150)
    until(lambda: ready.session.answer is not None)
    answer = ready.session.answer
    assert answer["kind"] == "cosine" and answer["hover_valid"]
    assert -1 <= answer["low"] < answer["high"] <= 1
    image = painted(ready, canvas)
    here = colour(image, 200, 150)
    assert here.alphaF() == pytest.approx(0.85 * 0.8, abs=0.02)  # alike, times opacity
    assert here.red() > 240 and here.green() > 240  # the bright end of the ramp
    assert colour(image, 5, 5).alpha() == 0  # beside the raster
    hand.move(210, 100)
    until(lambda: ready.session.answer is not answer)
    assert colour(painted(ready, canvas), 210, 100).green() > 240


def test_hovering_never_waits_for_the_engine(ready, hand, monkeypatch):
    """2 in flight would be one too many; the newest of what waits is what is asked next."""
    asked = []
    send = ready.link._request.send
    monkeypatch.setattr(
        ready.link._request, "send",
        lambda method, params: (asked.append(params["hover"]), send(method, params)),
    )
    for x in range(150, 190):
        hand.move(x, 150)
    assert len(asked) == 1
    until(lambda: not ready.link.busy and not ready.link._due)
    assert len(asked) == 2
    last = ready.link.canvas.getCoordinateTransform().toMapCoordinates(189, 150)
    assert asked[-1][:2] == pytest.approx([last.x(), last.y()])


def test_clicks_keep_and_reject(ready, canvas, layer, hand):
    session = ready.session
    for count, (x, held, kind) in enumerate(
        ((150, PLAIN, "example"), (170, CTRL, "counterexample"), (190, ALT, "counterexample"),
         (210, PLAIN, "example")), 1):
        hand.click(x, 140, held=held)
        until(lambda wanted=count: len(session.examples) == wanted)
        place = to_layer(canvas, layer, x, 140)
        assert session.examples[-1].kind == kind
        assert (session.examples[-1].x, session.examples[-1].y) == pytest.approx(
            (place.x(), place.y()))
    until(lambda: session.matches and session.answer["kind"] == "linear head")
    assert session.status == "Ready. 2 examples, 2 counterexamples."
    assert len(session.matches) <= 100
    assert [m.cosine for m in session.matches] == sorted(
        (m.cosine for m in session.matches), reverse=True)
    hand.click(190, 140, RIGHT)
    assert [e.kind for e in session.examples] == ["example", "counterexample", "example"]
    hand.click(30, 250, RIGHT)  # no marker there
    assert len(session.examples) == 3


def test_a_double_click_keeps_one(ready, hand):
    hand.click(200, 150)
    hand._send(QEvent.Type.MouseButtonDblClick, QPoint(200, 150), LEFT, LEFT, PLAIN)
    hand.release(200, 150)
    let(0.3)
    assert len(ready.session.examples) == 1


def test_a_dragged_box_is_one_example(ready, canvas, layer, hand):
    hand.drag((160, 120), (200, 150))
    (example,) = ready.session.examples
    first, last = to_layer(canvas, layer, 160, 120), to_layer(canvas, layer, 200, 150)
    assert example.box == pytest.approx((first.x(), last.y(), last.x(), first.y()))
    assert (example.x, example.y) == pytest.approx(
        ((first.x() + last.x()) / 2, (first.y() + last.y()) / 2))
    until(lambda: ready.session.matches)
    hand.drag((200, 150), (230, 180), held=PLAIN)  # a plain drag keeps nothing
    let(0.1)
    assert len(ready.session.examples) == 1


def test_nodata_and_outside(ready, canvas, hand):
    session = ready.session
    hand.move(200, 150)
    until(lambda: session.answer is not None)
    hand.move(3, 150)
    until(lambda: canvas.cursor().shape() == Qt.CursorShape.ForbiddenCursor)
    assert session.status == "No embeddings here (cloud or edge)."
    hand.click(3, 150)
    let(0.1)
    assert not session.examples
    hand.move(200, 150)
    until(lambda: canvas.cursor().shape() != Qt.CursorShape.ForbiddenCursor)
    assert session.status == "Move over the map, click to keep a place."


def test_leaving_the_map_shows_what_is_kept(ready, hand):
    hand.click(200, 150)
    until(lambda: ready.session.matches)
    kept = ready.session.answer
    hand.move(120, 80)
    until(lambda: ready.session.answer["thresholds"] != kept["thresholds"])
    hand.leave()
    until(lambda: ready.session.answer["thresholds"] == kept["thresholds"])


def test_style_asks_nothing(ready, canvas, hand):
    session = ready.session
    hand.move(200, 150)
    until(lambda: session.answer is not None)
    answer, requests = session.answer, ready.link._request._number
    session.set_opacity(0.5)
    assert colour(painted(ready, canvas), 200, 150).alphaF() == pytest.approx(0.425, abs=0.02)
    session.set_show("matches")
    image = painted(ready, canvas)
    assert colour(image, 200, 150).alphaF() == pytest.approx(0.3, abs=0.02)
    covered = _covered(image)
    session.set_share(20.0)
    assert _covered(painted(ready, canvas)) > 3 * covered
    session.set_show("nothing")
    assert not heat_of(ready, canvas).isVisible()
    session.set_show("heat")
    assert heat_of(ready, canvas).isVisible()
    assert (session.answer, ready.link._request._number) == (answer, requests)


def _covered(image: QImage) -> int:
    return sum(
        colour(image, x, y).alpha() > 0 for x in range(0, SIZE[0], 2) for y in range(0, SIZE[1], 2)
    )
