"""The border: a real engine process, and processes that misbehave."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from earthprint.engine import client, environment, protocol
from earthprint.engine.client import EngineCancelled, EngineClient, EngineError


@pytest.fixture
def engine():
    running = EngineClient(sys.executable)
    yield running
    running.close()


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An engine whose program is given as text."""
    def make(program):
        script = tmp_path / "fake.py"
        script.write_text(textwrap.dedent(program), encoding="utf-8")
        monkeypatch.setattr(environment, "LAUNCHER", script)
        return EngineClient(sys.executable)

    return make


def test_stays_warm_and_answers_with_its_jobs(engine):
    jobs = engine.run("describe", {})
    first = engine.pid
    assert {"build_stack", "encode", "crop_classification"} <= set(jobs)
    assert "memory_mb" in jobs["encode"]["parameters"]
    engine.run("describe", {})
    assert engine.pid == first


def test_user_errors_are_one_sentence_and_leave_the_engine_alive(engine):
    with pytest.raises(EngineError, match="encode needs the parameter output"):
        engine.run("encode", {"input": ["a.tif"]})
    with pytest.raises(EngineError, match="takes no parameter colour"):
        engine.run("encode", {"input": ["a.tif"], "output": "b.tif", "colour": 1})
    with pytest.raises(EngineError, match="There is no job dance"):
        engine.run("dance", {})
    assert engine.run("describe", {})


def test_cancels_a_running_job_within_a_second(engine, tmp_path):
    said = []
    stop_at = []

    def cancelled():
        if said and not stop_at:
            stop_at.append(time.monotonic())
        return bool(stop_at)

    with pytest.raises(EngineCancelled):
        engine.run("simulate_season", {"output": str(tmp_path / "season"), "size": 512},
                   on_progress=lambda fraction, text: said.append(fraction), is_cancelled=cancelled)
    assert time.monotonic() - stop_at[0] < 2
    assert not list(tmp_path.iterdir())


def test_a_killed_engine_is_a_sentence_and_the_next_job_starts_another(engine, tmp_path):
    engine.run("describe", {})
    killer = threading.Timer(0.5, lambda: os.kill(engine.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(EngineError, match="stopped unexpectedly"):
        engine.run("simulate_season", {"output": str(tmp_path / "season"), "size": 512})
    assert engine.run("describe", {})


def running(pid):
    """Whether a process is there and no zombie that nobody has asked after."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_engine_dies_with_its_parent():
    program = textwrap.dedent(f"""
        import sys, time
        sys.path[:0] = {sys.path!r}
        from earthprint.engine.client import EngineClient
        engine = EngineClient({sys.executable!r})
        engine.run("describe", {{}})
        print(engine.pid, flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not running(pid):
            return
        time.sleep(0.1)
    pytest.fail("the engine outlived its parent")


def test_prints_on_stdout_do_not_disturb(fake):
    engine = fake("""
        import json, sys
        for line in sys.stdin:
            asked = json.loads(line)
            print("a stray print")
            print("[1, 2]")
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"fine": 1}}))
            sys.stdout.flush()
    """)
    assert engine.run("anything", {}) == {"fine": 1}
    engine.close()


def test_a_silent_engine_is_given_up(fake, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_S", 0.5)
    engine = fake("import time; time.sleep(60)")
    with pytest.raises(EngineError, match="no sign of life"):
        engine.run("anything", {})
    assert engine.pid is None


def test_an_engine_that_ignores_cancel_is_killed(fake, monkeypatch):
    monkeypatch.setattr(client, "CANCEL_S", 0.3)
    engine = fake("import time; time.sleep(60)")
    with pytest.raises(EngineCancelled):
        engine.run("anything", {}, is_cancelled=lambda: True)
    assert engine.pid is None


def test_a_missing_package_names_the_repair(fake):
    engine = fake("import nonexistent_package")
    with pytest.raises(EngineError, match=r"environment is broken.*Repair"):
        engine.run("anything", {})


def test_a_missing_environment_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHPRINT_ENV", str(tmp_path))
    with pytest.raises(EngineError, match="engine is not set up"):
        EngineClient().run("describe", {})


def test_an_unfinished_or_old_environment_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHPRINT_ENV", str(tmp_path))
    python = tmp_path / "engine" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert "not finished" in environment.problem()
    (tmp_path / "engine" / environment.STAMP).write_text("old")
    assert "another version" in environment.problem()
    (tmp_path / "engine" / environment.STAMP).write_text(environment.fingerprint())
    assert environment.problem() is None


def test_foreign_variables_stay_outside(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONHOME", "PROJ_LIB", "GDAL_DATA", "QT_PLUGIN_PATH",
                 "LD_LIBRARY_PATH", "QGIS_PREFIX_PATH"):
        monkeypatch.setenv(name, "elsewhere")
    kept = environment.clean_variables()
    assert "elsewhere" not in kept.values()
    assert kept["PATH"] == os.environ["PATH"]


def test_messages_survive_the_pipe():
    message = protocol.request(3, "encode", {"input": ["Äcker/ñandú ☔.tif"]})
    line = protocol.pack(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert protocol.unpack(line) == message
    assert protocol.unpack(b"hello\n") is None
    assert protocol.unpack(b"[1]\n") is None
    assert protocol.unpack(b'{"a": 1}\n') is None


def test_cancelling_a_job_that_waits_leaves_the_running_one_alone(engine, tmp_path):
    answers = {}

    def first():
        answers["first"] = engine.run(
            "simulate_season", {"output": str(tmp_path / "season"), "size": 128})

    running = threading.Thread(target=first)
    engine.run("describe", {})
    pid = engine.pid
    running.start()
    time.sleep(0.2)
    start = time.monotonic()
    with pytest.raises(EngineCancelled):
        engine.run("simulate_season", {"output": str(tmp_path / "other"), "size": 128},
                   is_cancelled=lambda: True)
    assert time.monotonic() - start < 1
    running.join()
    assert engine.pid == pid and answers["first"]["folder"]
    assert not (tmp_path / "other").exists()
