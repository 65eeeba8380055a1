"""What is drawn once for every unit: its class and how it differs from others of that class."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from .landscape import COVERS, FIELD, Landscape
from .recipe import Classes

NEVER = 9999.0


@dataclass(frozen=True)
class Fields:
    """One value (or row) a unit; days are days of year, shifts are days.

    Attributes:
        kind: (n,) place in the class table.
        sowing: (n,) shift of green-up.
        ripening: (n,) shift of ripening and harvest.
        vigour: (n,) factor on the largest leaf area.
        winter_lai: (n,) leaf area before ploughing; 0 where bare.
        plough: (n,) day when the winter cover is ploughed in.
        harvest: (n,) day, `NEVER` where nothing is harvested.
        tillage: (n,) day when the stubble is turned over.
        catch_lai: (n,) leaf area of the catch crop after harvest; 0 where none.
        cuts: (n, 4) days of mowing, `NEVER` where fewer.
        dry_left: (n,) share of grass that a dry summer leaves.
        residue: (n,) cover of straw after harvest, 0..1.
        leaf: (n, 3) factors on leaf reflectance: visible, near and short-wave infrared.
        soil: (n,) factor on soil brightness.
        rough_ploughed: (n,) surface roughness after ploughing (cm).
        rough_seedbed: (n,) the same after sowing.
        backscatter: (n, 2) factors on VV and VH (linear).
    """

    kind: np.ndarray
    sowing: np.ndarray
    ripening: np.ndarray
    vigour: np.ndarray
    winter_lai: np.ndarray
    plough: np.ndarray
    harvest: np.ndarray
    tillage: np.ndarray
    catch_lai: np.ndarray
    cuts: np.ndarray
    dry_left: np.ndarray
    residue: np.ndarray
    leaf: np.ndarray
    soil: np.ndarray
    rough_ploughed: np.ndarray
    rough_seedbed: np.ndarray
    backscatter: np.ndarray


def draw_fields(recipe: SimpleNamespace, classes: Classes, land: Landscape,
                rng: np.random.Generator) -> Fields:
    """Draw every unit; the whole region shares some shifts, and each class others."""
    v, n = recipe.variability, len(land.cover)
    kind, k = _kinds(recipe, classes, land, rng), len(classes.names)
    region = v.region_shift_sd_d * rng.standard_normal()
    common = region + v.class_shift_sd_d * rng.standard_normal(k)[kind]
    # Varieties and practice differ between regions: what one region teaches misleads the next.
    leaf = v.class_leaf_sd * rng.standard_normal((k, 3))[kind]
    echo = v.class_backscatter_sd_db * rng.standard_normal((k, 2))[kind]
    crop = land.cover == FIELD
    own = np.where(crop, 1.0, 0.4)  # stands of one wood differ less than fields of one crop
    leaf += own[:, None] * [v.visible_sd, v.nir_sd, v.swir_sd] * rng.standard_normal((n, 3))
    echo += own[:, None] * v.radar_offset_sd_db * rng.standard_normal((n, 2))
    odd = rng.choice([-1, 1], n) * v.odd_shift_d * (rng.random(n) < v.odd_share) * crop
    sowing = common + own * v.sowing_shift_sd_d * rng.standard_normal(n) + odd
    ripening = common + own * v.ripening_shift_sd_d * rng.standard_normal(n) + odd
    vigour = np.clip(v.vigour_mean + own * v.vigour_sd * rng.standard_normal(n), 0.25, 1.4)
    vigour *= np.where(crop & (rng.random(n) < v.failed_share), v.failed_vigour, 1)
    winter = (rng.random(n) < v.winter_green_share) * rng.uniform(*v.winter_lai, n)
    harvest = _harvests(classes, kind, rng) + ripening
    catch = (rng.random(n) < v.catch_crop_share) * rng.uniform(*v.catch_crop_lai, n)
    return Fields(
        kind=kind, sowing=sowing, ripening=ripening, vigour=vigour, winter_lai=winter,
        plough=rng.uniform(*v.plough_doy, n), harvest=harvest,
        tillage=harvest + rng.uniform(*v.autumn_tillage_delay_d, n), catch_lai=catch,
        cuts=_cuts(v, n, rng), dry_left=rng.uniform(*v.summer_dry_left, n),
        residue=rng.uniform(*v.residue_cover, n),
        leaf=1 + leaf,
        soil=1 + v.soil_brightness_sd * rng.standard_normal(n),
        rough_ploughed=rng.uniform(*recipe.radar.rough_ploughed_cm, n),
        rough_seedbed=rng.uniform(*recipe.radar.rough_seedbed_cm, n),
        backscatter=10 ** (echo / 10),
    )


def _kinds(recipe: SimpleNamespace, classes: Classes, land: Landscape,
           rng: np.random.Generator) -> np.ndarray:
    """The class of every unit: crops by their shares, low meadows mostly grassland."""
    kind = np.array([classes.of_cover(name)[0] for name in COVERS])[land.cover]
    crops = classes.of_cover("field")
    grass = classes.names.index("grassland")
    meadow = (land.cover == FIELD) & land.meadow
    meadow &= rng.random(len(kind)) < recipe.landscape.meadow_share
    kind[meadow] = grass
    rest = np.flatnonzero((land.cover == FIELD) & ~meadow)
    ends = np.cumsum(classes.column("share")[crops])
    # Spread evenly over the shares, then shuffled: a rare crop is never missing by chance.
    places = np.searchsorted(ends / ends[-1], (np.arange(rest.size) + 0.5) / rest.size)
    kind[rest] = rng.permutation(crops[places])
    return kind


def _harvests(classes: Classes, kind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A day of harvest for every unit, one of those of its class."""
    days = [row.harvest_doy for row in classes.rows]
    pick = rng.random(len(kind))
    return np.array([days[k][int(p * len(days[k]))] for k, p in zip(kind, pick, strict=True)],
                    dtype=float)


def _cuts(v: SimpleNamespace, n: int, rng: np.random.Generator) -> np.ndarray:
    """Days of mowing, (n, 4)."""
    days = np.array(v.cut_doy, float) + v.cut_sd_d * rng.standard_normal((n, len(v.cut_doy)))
    count = rng.integers(v.cut_count[0], v.cut_count[1] + 1, n)
    return np.where(np.arange(days.shape[1]) < count[:, None], days, NEVER)
