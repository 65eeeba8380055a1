"""Self-test: whether everything works on this computer, as a page for the report of a bug."""

from __future__ import annotations

import platform
from typing import Any

from qgis.core import Qgis
from qgis.PyQt.QtCore import QT_VERSION_STR

from ..base import EarthprintAlgorithm
from ..parameters import REPORT_FILTER, Parameter, file_output
from ..translation import tr


class Doctor(EarthprintAlgorithm):
    """Form of the job `doctor`."""

    ID, JOB, NAME, GROUP = "doctor", "doctor", "Self-test", "models"
    SUMMARY = "Tries whether everything works on this computer and tells how fast it is."
    HELP = (
        "<p><b>Needs</b> nothing but the engine; it makes a tiny season of its own.</p>"
        "<p><b>Gives</b> a table in the log and a page: versions, memory, devices, and for each "
        "encoder whether it works and how many embeddings a second it makes here. The end of the "
        "page is text to copy into the report of a bug.</p>"
        "<p><b>Limits</b> The season is tiny, so speeds are lower than in long runs. Names of "
        "your own models are listed, other files are not.</p>"
    )
    TAGS = (
        "doctor, self-test, test, check, diagnose, help, bug report, versions, speed, engine, "
        "troubleshooting, support, GPU"
    )

    def parameters(self) -> list[Parameter]:
        """Where the page goes."""
        return [
            file_output(
                "REPORT",
                tr("Report"),
                REPORT_FILTER,
                tr("One HTML page with what was tried and what was found, to read or to send."),
                optional=True,
            )
        ]

    def extras(self) -> dict[str, Any]:
        """What only QGIS knows."""
        return {
            "host": {
                "QGIS": Qgis.QGIS_VERSION,
                "Qt": QT_VERSION_STR,
                "Python of QGIS": platform.python_version(),
            }
        }
