"""Layouts of MAESTRO: which rasters a data set has, how they are cut and what is predicted.

MAESTRO (Labatie et al., WACV 2026, arXiv 2508.10894) is built for one layout at a time; its weights
are tied to the inputs' patches and bands, not to the number of dates. Tables only, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

S2_BANDS = (  # blue to red edge 1 | red edge 2 to narrow infrared | shortwave: as normalised
    "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
    "swir22",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where an input's values come from, and how the cube's units become the network's.

    Attributes:
        sensor: of the cube, see `models.cube.Series`.
        bands: common names, in the network's order.
        factor: reflectance, or dB, times this is what the network sees.
        orbit: "ascending", "descending" or "" for both.
    """

    sensor: str
    bands: tuple[str, ...]
    factor: float
    orbit: str = ""


@dataclass(frozen=True)
class Input:
    """One raster of a layout.

    Attributes:
        image: side in pixels as the network takes it.
        patch: side of a patch in pixels.
        bands: number of bands of each token group; a token group has tokens of its own.
        normalised: number of bands of each group that the targets of the pretraining are
            normalised in; the token groups, if empty.
        dates: how many the pretraining saw.
        group: inputs of one group are one sequence in the fusion mode "group".
        embedding: name of the patch embedding, which two inputs may share.
        native: side in pixels as the data set gives it, before it is resized to `image`; 0 for the
            same.
        elevation: two elevation layers, of which the second becomes 30 times their difference.
        source: where values come from; None where a cube cannot hold them.
    """

    image: int
    patch: int
    bands: tuple[int, ...]
    group: str
    embedding: str
    normalised: tuple[int, ...] = ()
    dates: int = 1
    native: int = 0
    elevation: bool = False
    source: Source | None = None

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.image // self.patch

    @property
    def pixels(self) -> int:
        """Side in pixels of what a cube should hold."""
        return self.native or self.image


@dataclass(frozen=True)
class Target:
    """What a head predicts: labels of the window, or a map with pixels of `pixel_m`."""

    classes: int
    pixel_m: float | None = None


@dataclass(frozen=True)
class Layout:
    """Inputs and targets over one window.

    Attributes:
        inputs: name to raster, in the order of the sequences.
        window_m: side of the window.
        grid: side of the grid that all position codes are averaged from; 0 for the least common
            multiple of the inputs' grids.
        reference: the input on whose grid maps are predicted.
        targets: name to head.
    """

    inputs: Mapping[str, Input]
    window_m: float
    grid: int = 0
    reference: str = ""
    targets: Mapping[str, Target] = field(default_factory=dict)

    @property
    def position_grid(self) -> int:
        """`grid`, or the least common multiple."""
        return self.grid or math.lcm(*(given.grid for given in self.inputs.values()))

    @property
    def series(self) -> tuple[str, ...]:
        """The inputs with several dates that a cube can hold."""
        return tuple(n for n, given in self.inputs.items() if given.source and given.dates > 1)

    def only(self, names: Iterable[str]) -> Layout:
        """The same with some of its inputs and no targets: what an encoder needs.

        Raises:
            ValueError: for a name that the layout lacks.
        """
        names = tuple(names)
        if unknown := [name for name in names if name not in self.inputs]:
            raise ValueError(
                f"The layout has no input {', '.join(unknown)}: it has {', '.join(self.inputs)}."
            )
        kept = {name: given for name, given in self.inputs.items() if name in names}
        return replace(self, inputs=kept, grid=self.position_grid, reference="", targets={})


def _image(name: str, image: int, patch: int, normalised: tuple[int, ...],
           bands: tuple[str, ...], native: int = 0) -> Input:
    return Input(image, patch, (len(bands),), name, name, normalised, native=native,
                 source=Source("aerial", bands, 1.0))  # fmt: skip


def _s2(image: int, divisor: float) -> Input:
    return Input(image, 2, (10,), "s2", "s2", (4, 4, 2), dates=16,
                 source=Source("sentinel-2", S2_BANDS, 10000 / divisor))  # fmt: skip


def _s1(name: str, image: int, factor: float, orbit: str) -> Input:
    return Input(image, 2, (2,), "s1", name, (1, 1), dates=4,
                 source=Source("sentinel-1", ("vv", "vh"), factor, orbit))  # fmt: skip


_NIR_RGB = ("nir", "red", "green", "blue")  # the pretraining sets' order
_NIR_GBR = ("nir", "green", "blue", "red")  # TreeSatAI's
_RGB = ("red", "green", "blue")
_LOG_FIFTH = math.log(10) / 50  # natural logarithm of the power, over 5, from dB
_DECIBEL = 1 / 20

FLAIR = Layout(
    {
        "aerial": _image("aerial", 512, 16, (1, 3), _NIR_RGB),
        "dem": Input(512, 32, (2,), "dem", "dem", (2,), elevation=True),
        "s2": _s2(10, 5000),
        "s1_asc": _s1("s1_asc", 10, _LOG_FIFTH, "ascending"),
        "s1_des": _s1("s1_des", 10, _LOG_FIFTH, "descending"),
    },
    window_m=102.4, grid=160, reference="aerial", targets={"cosia": Target(15, 0.2)},
)  # fmt: skip
S2_NAIP = Layout(
    {
        "aerial": _image("aerial", 384, 16, (1, 3), _NIR_RGB, native=96),
        "spot": _image("spot", 128, 16, (3,), _RGB, native=96),
        "s2": _s2(12, 5000),
        "s1": _s1("s1", 12, _DECIBEL, ""),
    },
    window_m=120.0, grid=192,
)  # fmt: skip
TREESATAI_TS = Layout(
    {
        "aerial": _image("aerial", 300, 20, (1, 3), _NIR_GBR),
        "s2": _s2(6, 5000),
        "s1_asc": _s1("s1_asc", 6, _LOG_FIFTH, "ascending"),
        "s1_des": _s1("s1_des", 6, _LOG_FIFTH, "descending"),
    },
    window_m=60.0, grid=96, targets={"treesat_mlc_thresh": Target(15)},
)  # fmt: skip
PASTIS_HD = Layout(
    {
        "spot": _image("spot", 160, 16, (3,), _RGB),
        "s2": _s2(16, 10000),
        "s1_asc": _s1("s1_asc", 16, _DECIBEL, "ascending"),
        "s1_des": _s1("s1_des", 16, _DECIBEL, "descending"),
    },
    window_m=160.0, grid=256, reference="s2", targets={"pastis_seg": Target(19, 10.0)},
)  # fmt: skip
LAYOUTS = {
    "flair": FLAIR, "s2_naip": S2_NAIP, "treesatai_ts": TREESATAI_TS, "pastis_hd": PASTIS_HD,
}  # fmt: skip
"""The four official layouts with the inputs that the authors switch on."""
EXTRAS = {
    "flair": {"spot": Input(64, 4, (4,), "spot", "spot")},
    "s2_naip": {"landsat": Input(12, 2, (11,), "landsat", "landsat", dates=16)},
}
"""Inputs that the authors provide for and leave off."""
