"""The card of a SkySense or SkySense++ with official weights."""

from __future__ import annotations

from ..cards import Card, SensorBands, TrainingSet
from .adapter import LAYOUTS, PLUSPLUS
from .export import patch_of, window_of
from .network import Config
from .plusplus import PlusConfig

_PAPER = (
    "SkySense: A Multi-Modal Remote Sensing Foundation Model Towards Universal Interpretation for "
    "Earth Observation Imagery, CVPR 2024, arXiv 2312.10115."
)
_PLUS_PAPER = (
    "A semantic-enhanced multi-modal remote sensing foundation model for Earth observation "
    "(SkySense++), Nature Machine Intelligence 7, 1235-1249, 2025."
)
_LICENCE = "LicenseRef-SkySense-non-commercial-research"
_TERMS = (
    "The authors give the weights for non-commercial research only; for commercial use ask "
    "Yansheng Li, Wuhan University. Do not pass them on."
)
_UNITS = {"hr": "0..1", "s2": "reflectance 0..1", "s1": "dB"}
_FOUR = {"hr": ("red", "green", "blue", "nir"), "s2": ("blue", "green", "red", "nir")}
_RESULTS = ("Published (fine-tuned, not measured here): iSAID 70.91 mIoU; DIOR 78.73 mAP50.",)


def card_of(config: Config) -> Card:
    """The card of an encoder with official weights of this configuration and use.

    Raises:
        ValueError: a branch takes other bands than are known.
    """
    plus = isinstance(config, PlusConfig)
    system = "skysensepp" if plus else "skysense"
    branches, window, patch = config.use.split("+"), window_of(config), patch_of(config)
    hr = "hr" in branches
    return Card(
        name=f"{system}-{config.use.replace('+', '-')}",
        version="1.0",
        system="skysense",
        paper=_PLUS_PAPER if plus else _PAPER,
        licence_code="GPL-3.0-or-later",
        licence_weights=_LICENCE,
        sensors=tuple(entry for b in branches for entry in _sensors(b, config)),
        observations=_observations(config),
        unit="patch",
        patch=patch,
        ground_size_m=0.3 if hr else 10.0,
        dimensions=config.dimensions,
        prefixes=(),
        normalisation="Each band standardised by the constants of SkySense++'s pretraining: "
        "pictures in 0..1, Sentinel-2 as reflectance x 10000, Sentinel-1 in dB. Output: "
        + _output(config),
        missing_input="Pixels without data are 0 before standardisation, as the authors fill them."
        + _missing(config),
        training_data=_training_data(plus),
        results=() if plus else _RESULTS,
        limits=_limits(config),
        window=window,
        margin=window // patch // 8,
        variant=(PLUSPLUS if plus else "") + config.use,
    )


def bands_of(branch: str, channels: int) -> tuple[str, ...]:
    """The bands of a branch with so many input channels.

    Raises:
        ValueError: no known choice of bands has so many.
    """
    for bands in (LAYOUTS[branch].bands, _FOUR.get(branch, ())):
        if len(bands) == channels:
            return bands
    raise ValueError(f"this SkySense takes {channels} bands of {LAYOUTS[branch].title}; only "
                     f"{len(LAYOUTS[branch].bands)} are known, so its bands cannot be told")


def _sensors(branch: str, config: Config) -> list[SensorBands]:
    layout = LAYOUTS[branch]
    single = branch == "hr" or (isinstance(config, PlusConfig) and "+" in config.use)
    needed = config.use == branch or branch == "hr"
    return [
        SensorBands(
            sensor,
            bands_of(branch, getattr(config, branch).channels),
            _UNITS[branch],
            optional=not needed or len(layout.sensors) > 1,
            note="All these bands or none of the sensor."
            + (" One of aerial and optical is needed." if branch == "hr" else ""),
            most=1 if single else layout.most,
        )
        for sensor in layout.sensors
    ]


def _observations(config: Config) -> str:
    if config.use == "hr":
        return "One picture, the one with the fewest gaps."
    if isinstance(config, PlusConfig) and "+" in config.use:
        return "One date of each sensor, the one with the fewest gaps."
    return ("Up to 20 dates of Sentinel-2 and 10 of Sentinel-1, as in pretraining; of more, the "
            "clearest of each twentieth (tenth) of the series. One date works.")


def _output(config: Config) -> str:
    if "+" in config.use:
        return "the class token of the fusion at each pixel."
    if config.use == "hr":
        return "stage 3 after its norm."
    return "the last layer, mean over the dates on which a patch is seen (our choice)."


def _missing(config: Config) -> str:
    if "+" not in config.use:
        return " Patches without any data have no embedding."
    if isinstance(config, PlusConfig):
        return " Features of an absent sensor are completed from those of the others."
    return (" A date or sensor without data at a pixel is left out of that pixel's sequence. "
            "Scenes without a date count as of 1 July.")


def _training_data(plus: bool) -> tuple[TrainingSet, ...]:
    first = TrainingSet(
        "21.5 million sets of WorldView, Sentinel-2 and Sentinel-1 series, 40 countries",
        "not published", "arXiv 2312.10115",
    )  # fmt: skip
    second = TrainingSet(
        "RS-Semantic: 13 labelled data sets (Five-Billion-Pixels, Potsdam, Vaihingen, DeepGlobe, "
        "iSAID, LoveDA, DynamicEarthNet, PASTIS-MM, C2Seg-AB, FLAIR, DFC20, S2-NAIP, JL-16)",
        "each its own", "Zenodo 15010418",
    )  # fmt: skip
    return (first, second) if plus else (first,)


def _limits(config: Config) -> tuple[str, ...]:
    limits = [
        _TERMS,
        "No official weights could be opened here: layout and names follow the published code; "
        "which constants SkySense's own pretraining used for Sentinel is inferred from "
        "SkySense++'s.",
        "Very large: minutes a window on a processor.",
    ]
    if "hr" in config.use:
        limits.append("Made for pictures of 0.3 m as a screen shows them (8 bit / 255); "
                      "reflectance in 0..1 is taken as it is, which is darker.")
    if config.use == "hr+s2+s1":
        limits.append("Sentinel pixels are blocks of 32 picture pixels: the grid must be near "
                      "0.3 m.")
    if isinstance(config, PlusConfig):
        limits.append("Sees the image with all labels hidden; filling in labels from an example "
                      "is not offered.")
    if "s1" in config.use:
        limits.append("Which calibration of Sentinel-1 the authors used is unknown; dB is inferred "
                      "from their constants.")
    return tuple(limits)
