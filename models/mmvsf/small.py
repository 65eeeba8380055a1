"""A small MM-VSF: Sentinel-2 with ten bands and daily weather, patches of 4 pixels."""

from __future__ import annotations

from dataclasses import replace

from ..cards import Card, SensorBands
from ..cube import WEATHER
from ..training.export import Exportable
from ..training.pretrain import Recipe
from . import export
from .adapter import BANDS, MOST, PATCH
from .network import MMVSF, Config
from .objective import VariableStepForecasting

CONFIG = Config(patch=PATCH, side=8, width=64, heads=4, ratio=2.0)
RECIPE = Recipe(windows=8, rate=1e-3, dates=(4, MOST))


def objective() -> VariableStepForecasting:
    """Masked reconstruction, then forecasting over a variable step."""
    return VariableStepForecasting(MMVSF(CONFIG))


def card() -> Card:
    """What the encoder is; training data, hash and code scale come at export."""
    return Card(
        name="mmvsf-small",
        version="1.0",
        system="mmvsf",
        paper="After MM-VSF, variable-step forecasting from images and weather (Ravirathinam et "
        "al., arXiv 2407.19660, v1 and v2; CI-VSF and KG-VSF in v3 and v4); built from the "
        "abstracts, since neither code nor weights were published.",
        licence_code="GPL-3.0-or-later",
        licence_weights="GPL-3.0-or-later",
        sensors=(
            SensorBands("sentinel-2", BANDS, "reflectance 0..1", False, "All ten bands.",
                        most=MOST),
            SensorBands("weather", tuple(WEATHER), ", ".join(WEATHER.values()), False,
                        "Of every day, without gaps."),
        ),
        observations=f"1 to {MOST} dates, of more the clearest of each part of the season, and the "
        "weather of every day from the first to the last.",
        unit="patch",
        patch=PATCH,
        ground_size_m=10.0,
        dimensions=CONFIG.width,
        prefixes=(),
        normalisation="Bands and weather standardised. Output: each patch at the last date.",
        missing_input="Pixels without data are masked; dates without any are left out. Weather is "
        "needed, without gaps.",
        training_data=(),
        results=(),
        limits=(
            "The authors published no code and no weights; what is stated and what is our reading "
            "stands at the top of network.py.",
            "Trained for minutes on one patch of 640 m in Belgium, the only one with ten bands of "
            "Sentinel-2 and daily weather.",
        ),
        window=CONFIG.side * PATCH,
        margin=1,
    )


def forecast_card() -> Card:
    """What the network is that forecasts; it shares its weights with the encoder."""
    return replace(
        card(),
        name="mmvsf-forecast", variant="forecast", unit="pixel", patch=1, margin=0,
        dimensions=len(BANDS),
        observations=f"The last {MOST} dates that show something, of the 240 days before the day "
        "to forecast, and the weather of every one of these days.",
        normalisation="Bands and weather standardised. Output: `image` (n, 10, 32, 32), the same "
        "bands on the day, standardised alike.",
        missing_input="Pixels without data are masked; what was never seen has no forecast. "
        "Weather is needed, without gaps, up to the day.",
        limits=(*card().limits,
                "Clouds that the mask misses are carried on into the forecast.",
                "One place and one year of weather: it has hardly learned what other weather would "
                "do, and knows other seasons, crops and countries not at all."),
    )  # fmt: skip


def exportable(encoder: MMVSF) -> Exportable:
    """The encoder that gives embeddings."""
    return export.exportable(encoder, CONFIG)
