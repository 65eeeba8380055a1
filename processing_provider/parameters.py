"""Parameters that several algorithms share: name, label, default and help in one place.

Names are public (models, scripts and command lines hold them) and are never changed. The name in
lower case is the job's key, apart from those in `values.KEYS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
)

from ..engine import environment
from .identity import ROOT
from .translation import tr

STACK_FILTER = "Stack (*.stack.json)"
HEAD_FILTER = "Head (*.head.onnx)"
REPORT_FILTER = "HTML (*.html)"
WEIGHTS_FILTER = "Weights (*.pt *.pth *.ckpt *.bin *.safetensors)"
MODEL_FILTER = "ONNX (*.onnx)"

AUTOMATIC = "automatic"
SENSORS = (AUTOMATIC, "sentinel-2", "sentinel-1", "landsat", "modis", "cbers", "aerial", "optical")
MASKS = (
    AUTOMATIC, "none", "scl", "fmask", "cfmask", "cmask", "landsat-qa", "pixel-qa", "theia-clm",
    "theia-mg2", "planet-udm", "cloud", "valid",
)
FEATURES = (AUTOMATIC, "embeddings", "bands", "both")
MODELS = (AUTOMATIC, "logistic", "forest", "neighbours", "boosting", "mlp", "convolutional")
TARGETS = (AUTOMATIC, "classes", "numbers")
DEVICES = (AUTOMATIC, "cpu", "cuda")

Parameter = QgsProcessingParameterDefinition


def with_help(parameter: Parameter, text: str, *, advanced: bool = False) -> Parameter:
    """The parameter with its help, among the advanced ones if so."""
    parameter.setHelp(text)
    if advanced:
        parameter.setFlags(
            parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced
        )
    return parameter


def encoders() -> list[str]:
    """Names of the encoders: those beside the code, then those in the user's folder of models.

    The file names are enough; `models/catalogue.py` does the same in the engine.
    """
    found = sorted((ROOT / "models").glob("*/*.onnx"))
    found += sorted(environment.models_folder().glob("*.onnx"))
    names = [path.stem for path in found if not path.name.endswith(".head.onnx")]
    return list(dict.fromkeys(names))


def systems() -> list[str]:
    """Systems that a small encoder can be trained of, as `models/training/pretrain.py` has them."""
    return sorted(path.parent.name for path in (ROOT / "models").glob("*/small.py"))


def rasters(name: str, label: str, text: str, *, optional: bool = False) -> Parameter:
    """Raster layers or paths of rasters, stacks and folders.

    The type is raster, so that dialogs offer the project's layers and the modeler the outputs of
    other algorithms; `base.py` accepts stacks and folders too.
    """
    return with_help(
        QgsProcessingParameterMultipleLayers(
            name, label, QgsProcessing.SourceType.TypeRaster, optional=optional
        ),
        text,
    )


def input_rasters(*, embeddings: bool = True) -> Parameter:
    """INPUT: what an encoder or a head reads; `embeddings` tells whether these will do too."""
    if embeddings:
        return rasters(
            "INPUT",
            tr("Rasters, stack or embeddings"),
            tr(
                "Raster layers or files of one place and several dates, one stack (.stack.json), "
                "or embeddings made by Encode rasters. Dates and sensors come from names and "
                "metadata."
            ),
        )
    return rasters(
        "INPUT",
        tr("Rasters or stack"),
        tr(
            "Raster layers or files of one place and several dates, or one stack (.stack.json). "
            "Dates and sensors come from names and metadata."
        ),
    )


def choice(
    name: str,
    label: str,
    options: Sequence[str],
    text: str,
    *,
    default: str = AUTOMATIC,
    advanced: bool = False,
) -> Parameter:
    """One of several words; the word itself is the value, so lists may grow."""
    return with_help(
        QgsProcessingParameterEnum(
            name, label, options=list(options), defaultValue=default, usesStaticStrings=True
        ),
        text,
        advanced=advanced,
    )


def encoder() -> Parameter:
    """ENCODER: which network reads the rasters."""
    return choice(
        "ENCODER",
        tr("Encoder"),
        (AUTOMATIC, *encoders()),
        tr(
            "The network that turns a pixel's season into an embedding; automatic takes the best "
            "one for the sensors at hand, the Models dialog tells what each reads. Not used when "
            "the input is embeddings already."
        ),
    )


def extent() -> Parameter:
    """EXTENT: the part to process."""
    return with_help(
        QgsProcessingParameterExtent("EXTENT", tr("Area to process"), optional=True),
        tr("Only this part is read and written, snapped outwards to whole pixels. Empty: all."),
        advanced=True,
    )


def day(name: str, label: str, text: str, *, advanced: bool = False) -> Parameter:
    """A calendar day, or nothing."""
    return with_help(
        QgsProcessingParameterDateTime(
            name, label, type=QgsProcessingParameterDateTime.Type.Date, optional=True
        ),
        text,
        advanced=advanced,
    )


def cutoff() -> Parameter:
    """CUTOFF_DATE: for maps within the season."""
    return day(
        "CUTOFF_DATE",
        tr("Last date to use"),
        tr("Later rasters are left out, for maps within the season. Empty: all dates are used."),
    )


def head(*, optional: bool = False) -> Parameter:
    """HEAD: a trained head from a file."""
    return with_help(
        QgsProcessingParameterFile(
            "HEAD", tr("Head from a file"), fileFilter=HEAD_FILTER, optional=optional
        ),
        tr(
            "A head that was trained before (.head.onnx). It must belong to the encoder of the "
            "embeddings."
        ),
    )


def smoothing() -> list[Parameter]:
    """SMOOTH and MIN_AREA: how the map is made calm."""
    return [
        with_help(
            QgsProcessingParameterBoolean(
                "SMOOTH", tr("Smooth probabilities before choosing the class"), defaultValue=True
            ),
            tr("A weighted mean over 3 x 3 pixels removes single wrong pixels."),
            advanced=True,
        ),
        number(
            "MIN_AREA",
            tr("Smallest area (ha)"),
            0.1,
            tr("Smaller patches join their surroundings. 0 keeps everything."),
            minimum=0,
            whole=False,
        ),
    ]


def number(
    name: str,
    label: str,
    default: float | None,
    text: str,
    *,
    minimum: float,
    maximum: float = 2**31 - 1,
    whole: bool = True,
    advanced: bool = True,
) -> Parameter:
    """A number; with no default it may stay empty."""
    kind = QgsProcessingParameterNumber.Type
    parameter = QgsProcessingParameterNumber(
        name,
        label,
        kind.Integer if whole else kind.Double,
        defaultValue=default,
        optional=default is None,
        minValue=minimum,
        maxValue=maximum,
    )
    if not whole:
        parameter.setMetadata({"widget_wrapper": {"decimals": 2}})
    return with_help(parameter, text, advanced=advanced)


def seed() -> Parameter:
    """SEED: same seed, same result."""
    return number(
        "SEED", tr("Random seed"), 0, tr("The same seed gives the same result."), minimum=0
    )


def overwrite() -> Parameter:
    """OVERWRITE: nothing of the user's is replaced unasked."""
    return with_help(
        QgsProcessingParameterBoolean(
            "OVERWRITE", tr("Replace a model of this name"), defaultValue=False
        ),
        tr(
            "Heads that were trained on the former model no longer fit the new one. Not ticked: a "
            "name that is taken is refused."
        ),
        advanced=True,
    )


def resources() -> list[Parameter]:
    """DEVICE and MEMORY: what the engine may use; every algorithm has them."""
    return [
        choice(
            "DEVICE",
            tr("Device"),
            DEVICES,
            tr(
                "Automatic uses a graphics card where the engine has one. cuda fails rather than "
                "falling back to the processor unseen."
            ),
            advanced=True,
        ),
        number(
            "MEMORY",
            tr("Memory budget (MB)"),
            2000,
            tr("How much the engine may hold at one time. Smaller is slower."),
            minimum=200,
        ),
    ]


def raster_output(
    name: str, label: str, text: str, *, optional: bool = False, wanted: bool = False
) -> Parameter:
    """A raster to write; an optional one is skipped unless asked for, or `wanted`."""
    return with_help(
        QgsProcessingParameterRasterDestination(
            name, label, optional=optional, createByDefault=wanted or not optional
        ),
        text,
    )


def file_output(
    name: str, label: str, filters: str, text: str, *, optional: bool = False, wanted: bool = True
) -> Parameter:
    """A file to write; `wanted` tells whether an optional one is written unless refused."""
    return with_help(
        QgsProcessingParameterFileDestination(
            name, label, filters, optional=optional, createByDefault=wanted
        ),
        text,
    )


def report() -> Parameter:
    """REPORT: the page with accuracy, areas and method."""
    return file_output(
        "REPORT",
        tr("Report"),
        REPORT_FILTER,
        tr(
            "One HTML page to hand over: what was found, how, and how far to trust it; for a "
            "browser or a printer."
        ),
        optional=True,
    )
