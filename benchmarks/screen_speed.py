"""From pointer move to painted heat map: 1 million picture pixels x 128 dimensions.

``python benchmarks/screen_speed.py`` plays both sides of the border. The engine's environment
makes the embeddings, reads the memory's bandwidth and prints the table; QGIS's Python (`QGIS`,
off screen) moves a pointer over a window, asks an engine of its own through `EngineClient.post`
and paints the answer from the file that both map.

The limit: a query has to read every embedding in view once, 10^6 x 128 bytes = 128 MB, so it takes
128 ms / (bandwidth in GB/s); all else (index 4 MB, picture 1 MB, background 2.5 MB, painting) is
small beside it. The gap that the table shows is mostly arithmetic: one core makes the 10^6 sums of
128 products in 5 ms a direction, gathers the picture in 1 ms and ranks the background in 0.5 ms,
and the GUI, which converts and blends a picture in 3 ms, wants one of two cores meanwhile. The goal
is 30 pictures a second with the GUI's thread held for no more than 16 ms.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

QGIS = "/usr/bin/python3"
SIDE, DIMS, SCALE = 1000, 128, 0.5 / 127
ORIGIN, CRS_NAME = (5e5, 5.6e6), "EPSG:32631"
SECONDS = 4.0  # of each measurement
POINTER_MS = 4  # between two moves: a mouse of 250 Hz


def write_embeddings(path):
    """Smooth fields with noise, a little larger than the picture."""
    from rasterio.crs import CRS

    from earthprint.engine.rasters.embeddings import ENCODER_TAG, EmbeddingsWriter, quantise
    from earthprint.engine.rasters.grid import Grid

    side, rng = 1280, np.random.default_rng(0)
    coarse = rng.normal(size=(side // 16, side // 16, DIMS)).astype(np.float32)
    grid = Grid(CRS.from_user_input(CRS_NAME).to_wkt(),
                (10.0, 0.0, ORIGIN[0], 0.0, -10.0, ORIGIN[1]), (side, side))
    with EmbeddingsWriter(path, grid, DIMS, SCALE, {ENCODER_TAG: "benchmark"}) as out:
        for block in grid.blocks(256, 256):
            rows, cols = (np.arange(a, a + n) // 16 for a, n in (
                (block.row, block.rows), (block.col, block.cols)))
            vectors = coarse[rows][:, cols] + 0.3 * rng.normal(
                size=(block.rows, block.cols, DIMS)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
            out.write(block.row, block.col, quantise(vectors.reshape(-1, DIMS), SCALE).reshape(
                vectors.shape))


def bandwidth():
    """GB/s at which all cores together read 128 MB (sum over int64), best of 15."""
    words = np.random.default_rng(0).integers(0, 9, SIDE * SIDE * DIMS // 8)
    threads, best = len(os.sched_getaffinity(0)), np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(15):
            start = time.perf_counter()
            list(pool.map(np.sum, np.array_split(words, threads)))
            best = min(best, time.perf_counter() - start)
    return words.nbytes / best / 1e9


class Engine:
    """A live session of an engine in a process of its own."""

    def __init__(self, python, path):
        from earthprint.engine.client import EngineClient

        self.client = EngineClient(python)
        self.session = self.ask("live/open", input=[path])["session"]
        matrix = [10.0, 0.0, ORIGIN[0] + 1000, 0.0, -10.0, ORIGIN[1] - 1000]
        self.view = self.ask("live/view", session=self.session, grid={
            "crs": CRS_NAME, "transform": matrix, "shape": [SIDE, SIDE]})
        self.pictures = np.memmap(self.view["file"], np.uint8, "r", shape=(2, SIDE, SIDE))

    def ask(self, method, **params):
        """Wait for an answer."""
        answered, answer = threading.Event(), []
        self.client.post(method, params, lambda *got: (answer.extend(got), answered.set()))
        answered.wait()
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def query(self, col, row, kept):
        """Parameters of a query with the pointer at a pixel."""
        at = ORIGIN[0] + 1005 + 10 * col, ORIGIN[1] - 1005 - 10 * row
        return {"session": self.session, "view": self.view["view"], "hover": [*at, CRS_NAME],
                **kept}


def cases():
    """What is kept besides the pointer: names and parameters of queries."""
    rng = np.random.default_rng(1)
    places = [{"x": ORIGIN[0] + x, "y": ORIGIN[1] - y, "crs": CRS_NAME}
              for x, y in rng.uniform(1000, 11000, (12, 2)).tolist()]
    return {"pointer alone (cosine)": {},
            "8 examples (prototypes)": {"examples": places[:8]},
            "8 examples, 4 counterexamples (linear head)": {
                "examples": places[:8], "counterexamples": places[8:]}}


def colours():
    """256 half-transparent colours, none for 0."""
    return [0] + [round(140 + 0.3 * i) << 24 | i << 16 | 255 - i << 8 for i in range(1, 256)]


def round_trips(engine, kept):
    """Seconds of queries that follow each other, each picture converted as QGIS paints it."""
    from qgis.PyQt.QtGui import QImage

    table, spent, inside = colours(), [], []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        answer = engine.ask("live/query", **engine.query(*np.random.randint(0, SIDE, 2).tolist(),
                                                         kept))
        image = QImage(engine.pictures[answer["slot"]].data, SIDE, SIDE, SIDE,
                       QImage.Format.Format_Indexed8)
        image.setColorTable(table)
        image.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied)
        spent.append(time.perf_counter() - start)
        inside.append(answer["ms"] / 1e3)
    return spent, inside


def paint(python, path):
    """The GUI's side: prints what it measured as JSON."""
    from qgis.PyQt.QtCore import QEvent, QObject, QPointF, Qt, QTimer, pyqtSignal
    from qgis.PyQt.QtGui import QColor, QImage, QMouseEvent, QPainter, QPixmap
    from qgis.PyQt.QtWidgets import QApplication, QWidget

    class Link(QObject):
        answered = pyqtSignal(object, object)

    class Map(QWidget):
        """Latest wins: one query in flight, the newest move waits; answers are painted at once."""

        def __init__(self, engine, kept):
            super().__init__()
            self.resize(SIDE, SIDE)
            self.setMouseTracking(True)
            self.engine, self.kept, self.image, self.table = engine, kept, None, colours()
            self.base = QPixmap(SIDE, SIDE)
            self.base.fill(QColor("darkgreen"))
            self.link, self.asked, self.waiting = Link(), None, None
            self.link.answered.connect(self.show_answer)
            self.latencies, self.held, self.busy, self.moves = [], [], [], []

        def mouseMoveEvent(self, event):  # noqa: N802 (Qt's name)
            start = time.perf_counter()
            self.waiting = start, event.pos().x(), event.pos().y()
            self.send()
            self.moves.append(time.perf_counter() - start)

        def send(self):
            if self.asked is None and self.waiting is not None:
                (self.asked, col, row), self.waiting = self.waiting, None
                self.engine.client.post("live/query", self.engine.query(col, row, self.kept),
                                        self.link.answered.emit)

        def show_answer(self, answer, failure):
            if failure is not None:
                raise failure
            start, worked, moved = time.perf_counter(), time.thread_time(), self.asked
            self.asked = None
            self.send()  # the engine works on the next while this one is painted
            self.image = QImage(self.engine.pictures[answer["slot"]].data, SIDE, SIDE, SIDE,
                                QImage.Format.Format_Indexed8)
            self.image.setColorTable(self.table)
            self.repaint()
            end = time.perf_counter()
            self.held.append(end - start)
            self.busy.append(time.thread_time() - worked)
            self.latencies.append(end - moved)

        def paintEvent(self, _event):  # noqa: N802 (Qt's name)
            painter = QPainter(self)
            painter.drawPixmap(0, 0, self.base)
            if self.image is not None:
                painter.drawImage(0, 0, self.image)
            painter.end()

    application = QApplication(sys.argv[:1])
    engine, measured = Engine(python, path), {}
    for name, kept in cases().items():
        engine.ask("live/query", **engine.query(1, 1, kept))  # compile and read the examples
        spent, inside = round_trips(engine, kept)
        window = Map(engine, kept)
        window.show()
        application.processEvents()
        timer, moves = QTimer(), iter(range(10**9))

        def move(window=window, moves=moves):
            at = QPointF(next(moves) * 7 % SIDE, next(moves) * 3 % SIDE)
            QApplication.sendEvent(window, QMouseEvent(
                QEvent.Type.MouseMove, at, at, Qt.MouseButton.NoButton, Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier))

        timer.setTimerType(Qt.TimerType.PreciseTimer)
        timer.timeout.connect(move)
        timer.start(POINTER_MS)
        QTimer.singleShot(int(1000 * SECONDS), application.quit)
        application.exec()
        timer.stop()
        while window.asked is not None:
            application.processEvents()
        window.hide()
        measured[name] = {"spent": spent, "inside": inside, "latencies": window.latencies,
                          "held": window.held, "busy": window.busy, "moves": window.moves,
                          "painted": len(window.latencies) / SECONDS}
    engine.client.close()
    sys.stdout.write(json.dumps(measured) + "\n")


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.tif"
        write_embeddings(path)
        before = bandwidth()
        child = subprocess.run(
            [QGIS, __file__, "paint", sys.executable, str(path)], stdout=subprocess.PIPE,
            check=True, env={**os.environ, "QT_QPA_PLATFORM": "offscreen"})
        speed = max(before, bandwidth())
    limit = SIDE * SIDE * DIMS / speed / 1e6
    print(f"{SIDE} x {SIDE} pixels x {DIMS} dimensions, {len(os.sched_getaffinity(0))} cores; "
          f"bandwidth {speed:.1f} GB/s, so a query takes at least {limit:.1f} ms\n")
    print("| query | engine, ms | limit / engine | round trips/s | pictures/s | move to picture, "
          "ms | GUI thread a picture, ms | of it at work, ms | a move, ms |")
    print("| --- |" + " --- |" * 8)
    for name, found in json.loads(child.stdout.splitlines()[-1]).items():
        inside, spent = (1e3 * np.median(found[key]) for key in ("inside", "spent"))
        spread = " | ".join("{:.1f} ({:.1f})".format(*(1e3 * np.quantile(found[key], (0.5, 0.99))))
                            for key in ("latencies", "held", "busy", "moves"))
        print(f"| {name} | {inside:.1f} | {limit / inside:.2f} | {1e3 / spent:.0f} | "
              f"{found['painted']:.0f} | {spread} |")
    print("\nMedians, with the 99th percentile in brackets.")


if __name__ == "__main__":
    paint(*sys.argv[2:]) if sys.argv[1:2] == ["paint"] else main()
