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


class Answers:
    """Takes what `post` answers."""

    def __init__(self):
        self.got, self.threads, self._new = [], set(), threading.Condition()

    def __call__(self, result, failure):
        with self._new:
            self.got.append((result, failure))
            self.threads.add(threading.get_ident())
            self._new.notify_all()

    def wait(self, count):
        with self._new:
            assert self._new.wait_for(lambda: len(self.got) >= count, 30)
        return self.got


def test_posts_are_answered_once_in_order_elsewhere(engine):
    answers = Answers()
    engine.post("describe", {}, answers)
    engine.post("dance", {}, answers)
    engine.post("live/dance", {}, answers)
    engine.post("describe", {}, answers)
    got = answers.wait(4)
    assert threading.get_ident() not in answers.threads
    described = [result for result, failure in got if failure is None]
    assert len(described) == 2 and all("encode" in result for result in described)
    sentences = sorted(str(failure) for result, failure in got if result is None)
    assert sentences[0].startswith("There is no job dance")
    assert sentences[1].startswith("There is no request live/dance")
    engine.run("describe", {})
    assert len(answers.got) == 4


def test_posting_never_waits(fake, monkeypatch):
    """Neither for a slow start nor for a slow engine."""
    real, answers = subprocess.Popen, Answers()

    def slow(*args, **kwargs):
        time.sleep(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", slow)
    engine = fake("""
        import json, sys, time
        for line in sys.stdin:
            time.sleep(0.2)
            number = json.loads(line)["id"]
            print(json.dumps({"jsonrpc": "2.0", "method": "$/progress", "params": {"id": number}}))
            print(json.dumps({"jsonrpc": "2.0", "id": number, "result": {"number": number}}))
            sys.stdout.flush()
    """)
    start = time.monotonic()
    for _ in range(3):
        engine.post("anything", {}, answers)
        time.sleep(0.05)
    assert time.monotonic() - start < 0.6
    assert [result["number"] for result, _ in answers.wait(3)] == [1, 2, 3]
    engine.close()


def test_a_dying_engine_answers_all_posts(fake):
    answers = Answers()
    engine = fake("import sys; sys.stdin.readline(); sys.stdin.readline()")
    for _ in range(2):
        engine.post("anything", {}, answers)
    got = answers.wait(2)
    assert all(result is None and "stopped unexpectedly" in str(failure) for result, failure in got)
    time.sleep(0.2)
    assert len(answers.got) == 2
    engine.close()


def test_a_silent_engine_is_given_up_by_posts(fake, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_S", 0.3)
    monkeypatch.setattr(client, "WATCH_S", 0.1)
    engine, answers = fake("import time; time.sleep(60)"), Answers()
    engine.post("anything", {}, answers)
    assert isinstance(answers.wait(1)[0][1], EngineError)
    assert engine.pid is None


def test_posts_without_an_environment_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHPRINT_ENV", str(tmp_path))
    answers = Answers()
    EngineClient().post("describe", {}, answers)
    assert "engine is not set up" in str(answers.wait(1)[0][1])


def test_closing_answers_posts_and_starts_nothing(fake):
    """What was posted just before the end neither hangs nor wakes another engine."""
    answers, threads = Answers(), threading.active_count()
    engine = fake("import sys\nfor line in sys.stdin: pass")
    for _ in range(50):
        engine.post("anything", {}, answers)
    engine.close()
    got = answers.wait(50)
    assert all(isinstance(failure, (EngineError, EngineCancelled)) for _, failure in got)
    assert engine.pid is None
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


def test_an_asker_that_is_gone_disturbs_nobody(engine):
    answers = Answers()

    def gone(result, failure):
        raise RuntimeError("wrapped C++ object has been deleted")

    engine.post("describe", {}, gone)
    engine.post("describe", {}, answers)
    assert "encode" in answers.wait(1)[0][0]
    with pytest.raises(TypeError):
        engine.post("describe", {"number": object()}, answers)
    assert engine.run("describe", {})
