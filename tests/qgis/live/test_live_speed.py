"""The GUI thread is free while the search follows the cursor."""

from __future__ import annotations

import statistics
import time

from qgis.PyQt.QtGui import QImage, QPainter

from tests.qgis.events import let, until
from tests.qgis.live.pictures import heat_of

#: Seconds between two pictures of a smooth screen.
FRAME_S = 0.016


def test_the_gui_thread_is_free(ready, canvas, hand):
    """Handling a move, an answer and a paint each take less than a frame, in CPU time."""
    canvas.setFixedSize(1200, 850)
    until(lambda: ready.link.ready and ready.link._view.grid.cols == 1200)
    hand.move(600, 500)
    until(lambda: ready.session.answer is not None)
    moves, taken = [], []
    take = ready.link._take

    def timed(*values):
        start = time.thread_time()
        take(*values)
        taken.append(time.thread_time() - start)

    ready.link._request.answered.disconnect(take)
    ready.link._request.answered.connect(timed)
    while len(taken) < 40:
        start = time.thread_time()
        hand.move(300 + len(moves) % 600, 400)
        moves.append(time.thread_time() - start)
        let(0.008)
        assert len(moves) < 2000
    ready.link._request.answered.disconnect(timed)
    ready.link._request.answered.connect(take)
    heat = heat_of(ready, canvas)
    picture = QImage(1200, 850, QImage.Format.Format_ARGB32_Premultiplied)
    paints = []
    for show in ("heat", "matches", "both") * 5:
        ready.session.set_show(show)
        start = time.thread_time()
        painter = QPainter(picture)
        heat.paint(painter)
        painter.end()
        paints.append(time.thread_time() - start)
    for name, seconds in (("move", moves), ("answer", taken), ("paint", paints)):
        assert statistics.median(seconds) < FRAME_S, (name, seconds)
