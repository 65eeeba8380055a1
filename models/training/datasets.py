"""Real pixel series out of the reference material, as band means on a calendar.

Everything here is (n, steps, 13) float32 in the units of the `fast` adapter (dB, reflectance,
index), NaN where a group of bands was not observed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from ..fast.adapter import BANDS, SLOTS, ndvi_of
from ..timegrid import accumulate

# Band names of the sources, in lower case without a leading zero, to common names.
_COMMON = {
    "vv": "vv", "vh": "vh", "b2": "blue", "b3": "green", "b4": "red", "b5": "rededge071",
    "b6": "rededge075", "b7": "rededge078", "b8": "nir", "b8a": "nir08", "b11": "swir16",
    "b12": "swir22", "blue": "blue", "red": "red", "nir": "nir", "ndvi": "ndvi",
    "green": "green", "swir_1": "swir16", "swir_2": "swir22", "red_edge_1": "rededge071",
    "red_edge_2": "rededge075", "red_edge_3": "rededge078",
}  # fmt: skip
_LANDSAT_8 = {"B02": "blue", "B03": "green", "B04": "red", "B05": "nir", "B06": "swir16",
              "B07": "swir22"}  # fmt: skip
CLEAR_SCL = (4, 5, 6, 7)  # vegetation, bare, water, unclassified


def shared() -> Path:
    """The folder of reference material; a ValueError says how to name another."""
    folder = Path(os.environ.get("EARTHPRINT_SHARED", "../shared"))
    if not (folder / "data").is_dir():
        raise ValueError(f"There is no data folder in {folder}: set EARTHPRINT_SHARED.")
    return folder


def common_name(source: str) -> str | None:
    """`B02`, `S2-L2A-B02`, `SAR-VV`... to the common name, or None for what is not used."""
    last = source.replace("-", "_").split("_")[-1] if "_" not in source else source
    last = last.lower()
    if last.startswith("b0"):
        last = "b" + last[2:]
    return _COMMON.get(last)


def in_slots(values: np.ndarray, names: Sequence[str | None]) -> np.ndarray:
    """Bands (..., B) with common names in the 13 slots (..., 13); groups are all there or NaN.

    NDVI is worked out where red and near infrared are there.
    """
    out = np.full((*values.shape[:-1], len(BANDS)), np.nan, np.float32)
    for i, name in enumerate(names):
        if name is not None:
            out[..., BANDS.index(name)] = values[..., i]
    red, nir, index = (BANDS.index(b) for b in ("red", "nir", "ndvi"))
    both = np.isfinite(out[..., red]) & np.isfinite(out[..., nir])
    out[both, index] = ndvi_of(out[both, red], out[both, nir])
    for slots in SLOTS:
        part = out[..., slots[0] : slots[-1] + 1]
        part[~np.isfinite(part).all(axis=-1)] = np.nan
    return out


@dataclass(frozen=True)
class Observations:
    """All scenes of one sensor: values (T, 13, N) with NaN, dates (T,)."""

    values: np.ndarray
    dates: np.ndarray

    def between(self, start: str, end: str) -> Observations:
        """The scenes of start <= date < end (ISO days)."""
        kept = (self.dates >= np.datetime64(start)) & (self.dates < np.datetime64(end))
        return Observations(self.values[kept], self.dates[kept])

    def some(self, share: float, rng: np.random.Generator) -> Observations:
        """A random share of the scenes, at least one."""
        count = len(self.dates)
        kept = np.sort(rng.choice(count, max(1, round(share * count)), replace=False))
        return Observations(self.values[kept], self.dates[kept])


def months(dates: np.ndarray) -> np.ndarray:
    """Calendar month 0..11 of dates."""
    return dates.astype("datetime64[M]").astype(np.int64) % 12


def means(
    observations: Sequence[Observations], steps: Sequence[np.ndarray], count: int
) -> np.ndarray:
    """Mean of each band in each of `count` steps: (N, count, 13), NaN where there is none.

    `steps` holds the step of each scene, for each of the `observations`.
    """
    pixels = observations[0].values.shape[2]
    out = np.full((pixels, count, len(BANDS)), np.nan, np.float32)
    for slots in SLOTS:
        sums = np.zeros((len(slots), count, pixels), np.float32)
        seen = np.zeros((count, pixels), np.float32)
        for part, step in zip(observations, steps, strict=True):
            valid = np.ones((len(step), pixels), np.bool_)
            accumulate(part.values, valid, step, np.array(slots), 0, sums, seen)
        mean = sums / np.where(seen > 0, seen, np.nan)
        out[:, :, slots[0] : slots[-1] + 1] = mean.transpose(2, 1, 0)
    return out


def read_points(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """A WorldCereal point set: monthly values (n, T, 13), months (n, T) 0..11, all its fields."""
    path = shared() / "data" / "crop-worldcereal-points" / f"{name}.npz"
    with np.load(path, allow_pickle=False) as file:
        fields = {key: file[key] for key in file.files}
    raw = fields["X"][:, :, :11].astype(np.float32)
    raw[raw == 65535] = np.nan
    with np.errstate(divide="ignore"):
        raw[:, :, :2] = np.where(raw[:, :, :2] > 0, 20 * np.log10(raw[:, :, :2]) - 83, np.nan)
    raw[:, :, 2:] /= 10000
    names = ["vv", "vh"] + [common_name(b) for b in
                            ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")]
    values = in_slots(raw, names)
    if "months" in fields:
        start = np.full(len(raw), months(np.array([f"{fields['months'][0]}-01"], "datetime64[D]")))
    else:
        start = months(fields["start_date"].astype("datetime64[D]"))
    return values, (start[:, None] + np.arange(raw.shape[1])) % 12, fields


def read_regression(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """`fuel_moisture` or `algae_blooms`, in the form of `read_points`."""
    path = shared() / "data" / "regression-fuel-moisture-algae" / f"{name}.npz"
    with np.load(path, allow_pickle=False) as file:
        fields = {key: file[key] for key in file.files}
    raw = fields["X"].astype(np.float32)
    raw[:, :, :2] = np.where(raw[:, :, :2] > -49, raw[:, :, :2], np.nan)
    raw[:, :, 2:13] /= 10000
    names = [common_name(str(b)) for b in fields["bands"]]
    return in_slots(raw, names), fields["month"].astype(np.int64), fields


def _stack(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """A file with descriptions `date_band`: values (T, B, rows, cols), dates, bands."""
    with rasterio.open(path) as file:
        stamps, names = zip(*(d.rsplit("_", 1) for d in file.descriptions), strict=True)
        bands = tuple(dict.fromkeys(names))
        values = file.read().astype(np.float32)
    dates = np.array([f"{s[:4]}-{s[4:6]}-{s[6:8]}" for s in stamps[:: len(bands)]], "datetime64[D]")
    return values.reshape(len(dates), len(bands), *values.shape[1:]), dates, bands


def _files(folder: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The same out of a folder with a file a date."""
    layers, dates = [], []
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as file:
            layers.append(file.read().astype(np.float32))
            bands = tuple(file.descriptions)
        dates.append(f"{path.name[:4]}-{path.name[4:6]}-{path.name[6:8]}")
    return np.stack(layers), np.array(dates, "datetime64[D]"), bands


def _fine(values: np.ndarray, factor: int) -> np.ndarray:
    """Each pixel repeated factor x factor times."""
    return values.repeat(factor, axis=-2).repeat(factor, axis=-1)


def _observations(values: np.ndarray, dates: np.ndarray, bands: Sequence[str]) -> Observations:
    """(T, B, rows, cols) with source band names as observations."""
    table = np.moveaxis(values.reshape(*values.shape[:2], -1), 1, -1)
    slots = in_slots(table, [common_name(b) for b in bands])
    return Observations(np.ascontiguousarray(np.moveaxis(slots, -1, 1)), dates)


def _reflectance(values: np.ndarray, bands: tuple[str, ...]) -> np.ndarray:
    """S2 20 m digital numbers with SCL as reflectance, NaN where not clear."""
    scl = values[:, bands.index("SCL")]
    clear = np.isin(scl, CLEAR_SCL) & (values > 0).all(axis=1)
    return np.where(clear[:, None], values / 10000, np.nan).astype(np.float32)


def read_patch(name: str, fine: bool) -> dict[str, Observations]:
    """Sensors of a dense WorldCereal patch; `fine` uses 10 m bands too (polders only) on 64 x 64.

    Without `fine` pixels are 20 m, 32 x 32, and bands those that all three patches have.
    """
    folder = shared() / "data" / "crop-worldcereal-patches" / name
    read, end = (_files, "") if name.endswith("polders") else (_stack, "_stack.tif")
    s2, dates, bands = read(folder / f"s2_20m{end}")
    s1, s1_dates, s1_bands = read(folder / f"s1_vv_vh_20m{end}")
    optical = _reflectance(s2, bands)
    if not fine:
        return {"sentinel-2": _observations(optical, dates, bands),
                "sentinel-1": _observations(s1, s1_dates, s1_bands)}
    ten, ten_dates, ten_bands = _files(folder / "s2_10m")
    if not np.array_equal(dates, ten_dates):
        raise ValueError(f"{folder}: the 10 m and 20 m scenes are not of the same dates.")
    optical = np.concatenate([_fine(optical, 2), np.where(ten > 0, ten / 10000, np.nan)], axis=1)
    optical[np.isnan(optical).any(axis=1)[:, None].repeat(optical.shape[1], axis=1)] = np.nan
    l8, l8_dates, l8_bands = _files(folder / "l8_10m")
    qa = l8[:, l8_bands.index("pixel_qa")].astype(np.int64)
    clear = (qa & 0b10) > 0  # Collection 1: bit 1 is "clear"
    l8 = np.where(clear[:, None], l8 / 10000, np.nan)[:, : len(_LANDSAT_8)]
    table = np.moveaxis(l8.reshape(*l8.shape[:2], -1), 1, -1).astype(np.float32)
    slots = in_slots(table, [_LANDSAT_8[b] for b in l8_bands[: len(_LANDSAT_8)]])
    slots[..., BANDS.index("nir08")] = slots[..., BANDS.index("nir")]
    return {
        "sentinel-2": _observations(optical, dates, (*bands, *ten_bands)),
        "sentinel-1": _observations(_fine(s1, 2), s1_dates, s1_bands),
        "landsat": Observations(np.ascontiguousarray(np.moveaxis(slots, -1, 1)), l8_dates),
    }


def read_slovenia() -> tuple[Observations, Observations, np.ndarray]:
    """The Slovenian patch (101 x 100): five clear-masked S2 scenes, 68 dates of NDVI, labels."""
    folder = shared() / "data" / "landcover-slovenia-s2-patch"
    with rasterio.open(folder / "ndvi_68_dates.tif") as file:
        dates = np.array(file.descriptions, "datetime64[D]")
        index = file.read().astype(np.float32) / 10000
    with rasterio.open(folder / "cloud_mask_68_dates.tif") as file:
        index[file.read() == 1] = np.nan
    layers, days = [], []
    for path in sorted(folder.glob("S2_L1C_*.tif")):
        day = np.datetime64(f"{path.stem[7:11]}-{path.stem[11:13]}-{path.stem[13:15]}")
        with rasterio.open(path) as file:
            scene = file.read().astype(np.float32) / 10000
            bands = file.descriptions
        scene[:, np.isnan(index[np.flatnonzero(dates == day)[0]])] = np.nan
        layers.append(scene)
        days.append(day)
    with rasterio.open(folder / "landcover.tif") as file:
        labels = file.read(1)
    scenes = _observations(np.stack(layers), np.array(days), bands)
    ndvi = np.full((len(dates), len(BANDS), index[0].size), np.nan, np.float32)
    ndvi[:, -1] = index.reshape(len(dates), -1)
    return scenes, Observations(ndvi, dates), labels
