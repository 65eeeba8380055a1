"""What all algorithms share: one run of the engine with progress, log, cancel and styled outputs.

A subclass states its words and parameters; `values.py` turns the parameters into a job for the
engine, `styling.py` dresses the layers that come back.
"""

from __future__ import annotations

import os
import shlex
import time
from typing import Any

from qgis.core import (
    Qgis,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingUtils,
)
from qgis.PyQt.QtGui import QIcon

from ..engine import environment
from ..engine.client import EngineCancelled, EngineError, shared_client
from . import styling
from .identity import icon, icon_path, metadata
from .parameters import Parameter, resources
from .provenance import Provenance
from .translation import tr
from .values import KEYS, Values, flat

GROUPS = {
    "preparation": "Preparation",
    "embeddings": "Embeddings",
    "mapping": "Mapping",
    "accuracy": "Accuracy",
    "models": "Models and set-up",
}

#: What a map's next round with more labels goes on from: outputs that are kept until QGIS closes
#: where the form skips them, and the names of their files.
FOR_NEXT_ROUND = {"HEAD_OUTPUT": "map.head.onnx", "EMBEDDINGS": "embeddings.tif"}

#: Seconds between two progress sentences in the log, and the share of the time that has passed
#: where that is more; the bar moves at each report.
SENTENCE_S, SENTENCE_SHARE = 5.0, 0.02


class EarthprintAlgorithm(QgsProcessingAlgorithm):
    """One job of the engine as a Processing algorithm. Subclasses fill in the constants."""

    ID = ""
    JOB = ""
    NAME = ""
    GROUP = ""
    SUMMARY = ""
    HELP = ""
    TAGS = ""
    #: How each raster output is dressed and named, by parameter name.
    STYLES: dict[str, styling.Style] = {}

    def __init__(self) -> None:
        super().__init__()
        self._job: dict[str, Any] = {}
        self._command = ""
        self._source = ""

    def name(self) -> str:
        """Id without the provider; public, never changed."""
        return self.ID

    def displayName(self) -> str:
        """Name in the toolbox."""
        return tr(self.NAME)

    def group(self) -> str:
        """Group in the toolbox."""
        return tr(GROUPS[self.GROUP])

    def groupId(self) -> str:
        """Id of the group."""
        return self.GROUP

    def shortDescription(self) -> str:
        """One sentence for the tooltip in the toolbox."""
        return tr(self.SUMMARY)

    def shortHelpString(self) -> str:
        """The help panel: purpose, needs, gives, limits, command."""
        command = f"./run process {self.ID} KEY=VALUE ..."
        return f"<p>{tr(self.SUMMARY)}</p>{tr(self.HELP)}<p><code>{command}</code></p>"

    def tags(self) -> list[str]:
        """Words that find the algorithm, synonyms of the analyst included."""
        return [word.strip() for word in tr(self.TAGS).split(",")]

    def icon(self) -> QIcon:
        """Icon for the window's lightness."""
        return icon(self.ID)

    def svgIconPath(self) -> str:
        """Path of the same icon."""
        return icon_path(self.ID)

    def createInstance(self) -> EarthprintAlgorithm:
        """A new object for a run."""
        return type(self)()

    def parameters(self) -> list[Parameter]:
        """The algorithm's own parameters in the order of the form; subclasses name them."""
        return []

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Declare inputs, then what the engine may use, then outputs."""
        own = self.parameters()
        inputs = [parameter for parameter in own if not parameter.isDestination()]
        outputs = [parameter for parameter in own if parameter.isDestination()]
        for parameter in (*inputs, *resources(), *outputs):
            self.addParameter(parameter)

    def unmet(self, parameters: dict[str, Any]) -> str:
        """One sentence when the parameters don't go together, else ""."""
        return ""

    def checkParameterValues(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str]:
        """Refuse early, with the form still filled in: no engine, or values that cannot work."""
        checked = dict(parameters)
        for definition in self.parameterDefinitions():
            if isinstance(definition, QgsProcessingParameterMultipleLayers):
                given = flat(parameters.get(definition.name()), context)
                sentence = self._missing_input(definition, given, context)
                if sentence:
                    return False, sentence
                # QGIS would open each as a raster, which stacks and folders are not
                checked[definition.name()] = []
        good, sentence = super().checkParameterValues(checked, context)
        if not good:
            return good, sentence
        sentence = self.unmet(parameters) or environment.problem() or ""
        return not sentence, sentence

    @staticmethod
    def _missing_input(
        definition: Parameter, given: list[Any], context: QgsProcessingContext
    ) -> str:
        optional = definition.flags() & definition.Flag.FlagOptional
        if not given and not optional:
            return tr("{} is empty. Choose at least one.").format(definition.description())
        for value in given:
            if (
                isinstance(value, str)
                and not os.path.exists(value)
                and QgsProcessingUtils.mapLayerFromString(value, context) is None
            ):
                return tr("{} in {} is neither a file nor a layer of this project.").format(
                    value, definition.description()
                )
        return ""

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Read the inputs, on the main thread where layers may be touched."""
        values = Values(self, parameters, context, feedback)
        self._job = values.inputs()
        self._source = styling.source_name(self._job.get("input") or self._job.get("sources") or [])
        return True

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run the job in the engine's process."""
        values = Values(self, parameters, context, feedback)
        places = values.outputs()
        job = {**self._job, **{KEYS.get(name, name.lower()): path for name, path in places.items()}}
        self._command = shlex.join(["./run", "process", self.ID, *values.command(job)])
        job.update(self.extras())
        asked = dict(job)
        shown = [name for name in places if context.willLoadLayerOnCompletion(places[name])]
        if "OUTPUT" in shown and self._maps_classes() and _by_hand(feedback):
            job.update(self._for_next_round(places, bool(job.get("labels"))))
        feedback.pushInfo(
            "Earthprint {}, QGIS {}, {} MB".format(
                metadata()["version"], Qgis.QGIS_VERSION.split("-")[0], job["memory_mb"]
            )
        )
        result = self._run(job, feedback)
        if result is None:
            return {}
        feedback.pushInfo(f"Again: {self._command}")
        run = Provenance.of_run(self.ID, self.JOB, asked, {**job, **result})
        for name, style in self.STYLES.items():
            if name in shown:
                made_by = run if name == "OUTPUT" and self._maps_classes() else None
                styling.prepare(places[name], style, self._source, result, context, self, made_by)
        return {**places, **self.results(result)}

    def _maps_classes(self) -> bool:
        """Whether the output is a map of classes that labels or a head made."""
        names = {definition.name() for definition in self.parameterDefinitions()}
        style = self.STYLES.get("OUTPUT")
        return {"INPUT", "HEAD"} <= names and style is not None and style.kind == styling.CLASSES

    def _for_next_round(self, places: dict[str, str], learns: bool) -> dict[str, str]:
        """Files for embeddings, and for a head if one is learnt, that the form does not keep."""
        names = {definition.name() for definition in self.parameterDefinitions()}
        return {
            KEYS.get(name, name.lower()): QgsProcessingUtils.generateTempFilename(file)
            for name, file in FOR_NEXT_ROUND.items()
            if name in names and name not in places and (learns or name == "EMBEDDINGS")
        }

    def extras(self) -> dict[str, Any]:
        """Further values of the job that are not parameters."""
        return {}

    def results(self, result: dict[str, Any]) -> dict[str, Any]:
        """Further outputs, made of the engine's answer."""
        return {}

    def stopped(self, job: dict[str, Any], seconds: float) -> str:
        """One sentence for a run that was cancelled after so many seconds."""
        return tr("Stopped after {:.0f} s; nothing was written.").format(seconds)

    def command(self) -> str:
        """The command line that repeats this run."""
        return self._command

    def _run(self, job: dict[str, Any], feedback: QgsProcessingFeedback) -> dict[str, Any] | None:
        """The engine's answer, None when the run was cancelled."""
        start = time.monotonic()
        progress = _Progress(feedback)
        try:
            return shared_client().run(
                self.JOB, job, progress.report, progress.log, feedback.isCanceled
            )
        except EngineCancelled:
            feedback.pushInfo(self.stopped(job, time.monotonic() - start))
            return None
        except EngineError as failure:
            if failure.details:
                feedback.pushDebugInfo(failure.details)
            raise QgsProcessingException(str(failure)) from failure


def _by_hand(feedback: QgsProcessingFeedback) -> bool:
    """Whether a run is neither a row of a batch nor a step of a model."""
    many = ("QgsProcessingBatchFeedback", "QgsProcessingMultiStepFeedback")
    return feedback.metaObject().className() not in many


class _Progress:
    """Passes the engine's words on; the bar at each report, the sentence now and then."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self._feedback = feedback
        self._start = time.monotonic()
        self._step, self._said = "", 0.0

    def report(self, fraction: float, text: str) -> None:
        self._feedback.setProgress(100.0 * fraction)
        step, now = text.split(" ")[0], time.monotonic()
        rest = max(SENTENCE_S, SENTENCE_SHARE * (now - self._start))
        if text and (step != self._step or now - self._said > rest):
            self._step, self._said = step, now
            self._feedback.setProgressText(text)

    def log(self, level: str, text: str) -> None:
        if level == "warning":
            self._feedback.pushWarning(text)
        else:
            self._feedback.pushInfo(text)
