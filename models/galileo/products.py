"""The data products that Galileo takes, their channel groups and their scaling. NumPy only.

Products come in four kinds: space and time (s_t), space (sp), time (t) and static (st). A channel
group is what one token stands for, and what is masked together.
"""

from __future__ import annotations

import numpy as np

DYNAMIC_WORLD = ("water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub",
                 "built", "bare", "snow_and_ice")  # fmt: skip
WORLD_CEREAL = ("temporarycrops", "maize", "wintercereals", "springcereals", "irrigation")

# Columns of each kind's tensor.
BANDS = {
    "s_t": ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12", "NDVI"),
    "sp": ("elevation", "slope", *(f"DW_{c}" for c in DYNAMIC_WORLD),
           *(f"WC_{c}" for c in WORLD_CEREAL)),
    "t": ("temperature_2m", "total_precipitation_sum", "def", "soil", "aet", "avg_rad"),
    "st": ("b1", "x", "y", "z", *(f"DW_{c}_static" for c in DYNAMIC_WORLD),
           *(f"WC_{c}_static" for c in WORLD_CEREAL)),
}  # fmt: skip

# Channel groups of each kind: name to columns of the kind's tensor.
SPACE_TIME = {
    "S1": (0, 1), "S2_RGB": (2, 3, 4), "S2_Red_Edge": (5, 6, 7), "S2_NIR_10m": (8,),
    "S2_NIR_20m": (9,), "S2_SWIR": (10, 11), "NDVI": (12,),
}  # fmt: skip
SPACE = {"SRTM": (0, 1), "DW": tuple(range(2, 11)), "WC": tuple(range(11, 16))}
TIME = {"ERA5": (0, 1), "TC": (2, 3, 4), "VIIRS": (5,)}
STATIC = {
    "LS": (0,), "location": (1, 2, 3), "DW_static": tuple(range(4, 13)),
    "WC_static": tuple(range(13, 18)),
}  # fmt: skip
GROUPS = {"s_t": SPACE_TIME, "sp": SPACE, "t": TIME, "st": STATIC}
GROUP_NAMES = tuple(name for groups in GROUPS.values() for name in groups)

# Mean and standard deviation of the pretraining data: dB, reflectance x 10000, m, degrees, K, m a
# month, TerraClimate's stored numbers, nW / cm2 / sr.
_STATISTICS = {
    "VV": (-11.728724389184965, 4.887145774840316),
    "VH": (-18.85558188024017, 5.730270320384293),
    "B2": (1395.3408730676722, 917.7041440370853),
    "B3": (1338.4026921784578, 913.2988423581528),
    "B4": (1343.09883810357, 1092.678723527555),
    "B5": (1543.8607982512297, 1047.2206083460424),
    "B6": (2186.2022069512263, 1048.0101611156767),
    "B7": (2525.0932853316694, 1143.6903026819996),
    "B8": (2410.3377187373408, 1098.979177731649),
    "B8A": (2750.2854646886753, 1204.472755085893),
    "B11": (2234.911100061487, 1145.9774063078878),
    "B12": (1474.5311266077113, 980.2429840007796),
    "elevation": (673.0152819503361, 983.0697298296237),
    "slope": (5.930092668915115, 8.167406789813247),
    "temperature_2m": (271.5674963541667, 79.80828940314429),
    "total_precipitation_sum": (0.08554303677156568, 0.11669547098151486),
    "def": (657.3181260091111, 704.0008695557707),
    "soil": (692.1291795806885, 925.0116126406431),
    "aet": (562.781331880633, 453.2434022278578),
    "avg_rad": (1.5647115934036673, 7.513020170832818),
}


def _shift_and_divisor(band: str) -> tuple[float, float]:
    """Mean - 2 std becomes 0 and mean + 2 std becomes 1, where there are statistics."""
    if band in _STATISTICS:
        mean, std = _STATISTICS[band]
        return mean - 2 * std, 4 * std
    if band == "b1":  # LandScan: the original cut the two numbers to integers
        return -2120.0, 4618.0
    return 0.0, 100.0 if band.startswith("WC_") else 1.0


SCALES = {
    kind: tuple(np.array(column) for column in zip(*map(_shift_and_divisor, bands), strict=True))
    for kind, bands in BANDS.items()
}  # kind to shift and divisor of its columns


def normalise(kind: str, values: np.ndarray) -> np.ndarray:
    """Physical values (..., C) of a kind to the network's, not clipped; NaN stays."""
    shift, divisor = SCALES[kind]
    return ((np.asarray(values, np.float64) - shift) / divisor).astype(np.float32)


def cartesian(latlon: np.ndarray) -> np.ndarray:
    """Latitude and longitude (..., 2) in degrees to x, y, z (..., 3) on the unit sphere."""
    latitude, longitude = np.moveaxis(np.deg2rad(np.asarray(latlon, np.float64)), -1, 0)
    across = np.cos(latitude)
    place = (across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude))
    return np.stack(place, axis=-1).astype(np.float32)
