"""The self-test: what works is told, what fails is told and written down."""

import pytest

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import UserError
from earthprint.engine.tasks import doctor
from earthprint.models import catalogue


@pytest.fixture(autouse=True)
def one_encoder(monkeypatch):
    """The rest of them is tried by tests/qgis, through the form."""
    name = catalogue.DEFAULT
    path = catalogue.bundled()[name]
    monkeypatch.setattr(doctor.catalogue, "bundled", lambda *_: {name: path})
    return name


def test_what_works_is_told(one_encoder, tmp_path):
    page = tmp_path / "page.html"
    found = jobs.run("doctor", {"report": str(page), "host": {"QGIS": "4.2"}}, JobContext())
    assert found["encoders"][one_encoder] > 10 and not found["left_out"]
    assert found["facts"]["QGIS"] == "4.2" and "numpy" in found["facts"]["Packages"]
    text = page.read_text("utf-8")
    assert f"{one_encoder}: works" in text and "Live search: works" in text


def test_a_failure_is_told_and_written_down(one_encoder, tmp_path, monkeypatch):
    def fail(*_):
        raise UserError("The wheel is broken.")

    monkeypatch.setattr(doctor, "_encode", fail)
    page = tmp_path / "page.html"
    with pytest.raises(UserError, match=f"{one_encoder}: The wheel is broken. .*Repair"):
        jobs.run("doctor", {"report": str(page)}, JobContext())
    assert f"{one_encoder}: failed: The wheel is broken." in page.read_text("utf-8")


def test_the_home_folder_is_not_named(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.Path, "home", lambda: tmp_path)
    assert doctor._without_home(tmp_path / "a" / "engine") == "~/a/engine"
    assert doctor._without_home(tmp_path.parent / "b") == str(tmp_path.parent / "b")
