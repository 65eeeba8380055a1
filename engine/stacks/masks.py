"""Which pixels of a mask band can be used. Tables of bad codes and bad bits, one function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rule:
    """A pixel is bad when its code is listed or one of the bits is set.

    Attributes:
        codes: bad values.
        bits: numbers of bad bits, 0 is the lowest.
        good: when not empty, every value beside these is bad.
        fill: those of the bad codes that say "no data", not cloud or shadow.
        fill_bits: those of the bad bits that say so.
        title: what the mask is, for the table.
    """

    codes: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()
    good: tuple[int, ...] = ()
    fill: tuple[int, ...] = ()
    fill_bits: tuple[int, ...] = ()
    title: str = ""


RULES = {
    # Sen2Cor scene classes; WorldCereal's light rule: no data, saturated, shadow, cloud medium
    # and high, thin cirrus, snow. Dark areas (2) and unclassified (7) stay.
    "scl": Rule(codes=(0, 1, 3, 8, 9, 10, 11), fill=(0,), title="SCL"),
    # HLS v2.0 user guide: cirrus, cloud, beside cloud, shadow; 255 is fill
    "fmask": Rule(codes=(255,), bits=(0, 1, 2, 3), fill=(255,), title="Fmask"),
    # codes of Fmask 3 and 4: shadow, cloud, none
    "cfmask": Rule(codes=(2, 4, 255), fill=(255,), title="Fmask codes"),
    # Brazil Data Cube: Fmask 4 codes; newer cubes 0 none, 127 clear, 255 cloud
    "cmask": Rule(codes=(2, 4, 255), title="CMASK"),
    # Landsat Collection 2: fill, dilated cloud, cirrus, cloud, shadow
    "landsat-qa": Rule(bits=(0, 1, 2, 3, 4), fill_bits=(0,), title="QA_PIXEL"),
    # Landsat Collection 1 surface reflectance: fill, shadow, cloud
    "pixel-qa": Rule(bits=(0, 3, 5), fill_bits=(0,), title="pixel_qa"),
    # MAJA: any cloud or shadow
    "theia-clm": Rule(bits=tuple(range(8)), title="CLM"),
    # MAJA: cloud, shadow of cloud, hidden by relief
    "theia-mg2": Rule(bits=(1, 3, 5), title="MG2"),
    "planet-udm": Rule(bits=tuple(range(7)), fill_bits=(0,), title="UDM"),
    "cloud": Rule(codes=(255,), bits=tuple(range(16)), title="cloud mask, 1 = cloud"),
    "valid": Rule(good=(1, 255), title="mask, 1 = valid"),
}
"""Kind of mask to its rule."""


def valid(kind: str, values: np.ndarray) -> np.ndarray:
    """Which pixels can be used.

    Args:
        kind: key of `RULES`.
        values: stored values of any shape; NaN and negative values are never valid.

    Returns:
        bool array of the same shape.
    """
    rule = RULES[kind]
    known, codes = _codes(values)
    good = known
    if rule.codes:
        good &= ~np.isin(codes, rule.codes)
    if rule.bits:
        good &= (codes & sum(1 << bit for bit in rule.bits)) == 0
    if rule.good:
        good &= np.isin(codes, rule.good)
    return good


def filled(kind: str, values: np.ndarray) -> np.ndarray:
    """Which pixels a mask calls empty rather than cloudy: no data there, or no mask.

    Args:
        kind, values: as for `valid`.

    Returns:
        bool array of the same shape; where it is True, `valid` is False.
    """
    rule = RULES[kind]
    known, codes = _codes(values)
    return (~known | np.isin(codes, rule.fill)
            | ((codes & sum(1 << bit for bit in rule.fill_bits)) != 0))


def _codes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which values are codes at all, and the codes (0 where there is none)."""
    known = np.isfinite(values) & (values >= 0)
    return known, np.where(known, values, 0).astype(np.int64)
