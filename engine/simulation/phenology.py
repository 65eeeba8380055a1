"""The state of every unit on a day: leaf area, ripeness, flowers, straw, roughness of the soil."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from .fields import NEVER, Fields
from .recipe import Classes


@dataclass(frozen=True)
class Canopy:
    """One value a unit, (n,).

    Attributes:
        lai: effective leaf area index.
        brown: share of the leaves that are ripe and brown, 0..1.
        flower: share of the canopy hidden by yellow flowers, 0..1.
        straw: share of the ground under straw and stubble, 0..1.
        roughness: of the soil surface (cm, rms height).
    """

    lai: np.ndarray
    brown: np.ndarray
    flower: np.ndarray
    straw: np.ndarray
    roughness: np.ndarray


def canopy_on(day: int, recipe: SimpleNamespace, classes: Classes, fields: Fields) -> Canopy:
    """The canopy of all units on a day of year."""
    v, kind = recipe.variability, fields.kind
    of = {key: classes.column(key)[kind] for key in _KEYS}
    opaque = np.array([bool(row.spectrum) for row in classes.rows])[kind]
    green = _logistic(of["rate"], day - of["green_doy"] - fields.sowing)
    brown = green * _logistic(of["ripe_rate"], day - of["ripe_doy"] - fields.ripening)
    start = of["lai_start"]
    lai = start + (of["lai_max"] * fields.vigour - start) * green * (1 - of["lai_loss"] * brown)
    lai *= np.where(of["cut"] > 0, _mown(day, v, fields), 1)

    spring = of["winter_crop"] == 0
    fallow = spring & (day < fields.plough)
    lai = np.where(fallow, np.maximum(fields.winter_lai, lai), lai)
    over = day >= fields.harvest
    catch = fields.catch_lai * _logistic(
        v.catch_crop_rate, day - fields.harvest - v.catch_crop_delay_d)
    lai = np.where(over, np.maximum(0.1, catch), lai)
    brown = np.where(over | fallow, 0, brown)
    bare = np.where(over, day < fields.tillage, fallow)
    straw = fields.residue * np.where(bare, 1.0, np.where(over, 0.2, 0.0))
    straw *= fields.harvest < NEVER / 2

    sown = of["green_doy"] + fields.sowing - recipe.radar.seedbed_before_growth_d
    ploughed = spring & (day >= fields.plough) & (day < sown) | over & (day >= fields.tillage)
    return Canopy(
        lai=np.where(opaque, recipe.optics.opaque_lai, np.maximum(lai, 0)),
        brown=np.clip(brown, 0, 1),
        flower=np.where(over, 0, _flowers(day, v, classes, fields)),
        straw=straw,
        roughness=np.where(ploughed, fields.rough_ploughed, fields.rough_seedbed),
    )


_KEYS = ("rate", "green_doy", "ripe_rate", "ripe_doy", "lai_start", "lai_max", "lai_loss", "cut",
         "winter_crop")


def _logistic(rate: np.ndarray | float, days: np.ndarray) -> np.ndarray:
    """Growth from 0 to 1 around day 0."""
    return 1 / (1 + np.exp(np.clip(-rate * days, -60, 60)))


def _mown(day: int, v: SimpleNamespace, fields: Fields) -> np.ndarray:
    """Share of grass that mowing and a dry summer leave, (n,)."""
    since = day - fields.cuts
    back = v.cut_left + (1 - v.cut_left) * _logistic(v.cut_rate, since - v.cut_recovery_d / 2)
    left = np.where(since >= 0, back, 1).prod(axis=1)
    first, last = v.summer_dry_doy
    onset, end = v.summer_dry_rate
    dry = _logistic(onset, np.array(day - first)) * _logistic(end, np.array(last - day))
    return left * (1 - dry * (1 - fields.dry_left))


def _flowers(day: int, v: SimpleNamespace, classes: Classes, fields: Fields) -> np.ndarray:
    """Cover of flowers, (n,), between the first and last day of flowering."""
    first, last = classes.column("flower_doy")[fields.kind].T
    shift = day - fields.sowing
    rise, fall = v.flower_rate
    return v.flower_cover * _logistic(rise, shift - first) * _logistic(fall, last - shift)
