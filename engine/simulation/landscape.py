"""The land itself: relief, river, woods, towns, roads and parcels.

A landscape is a raster of *units* (a parcel of a crop, a stand of a wood, a garden, the river);
what grows in a unit is drawn later, for the unit as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from .noise import blurred, fractal, standardised

FIELD, BROADLEAF, CONIFER, BUILT, GARDEN, ROAD, WATER = range(7)
COVERS = ("field", "broadleaf", "conifer", "built", "garden", "road", "water")


@dataclass(frozen=True)
class Landscape:
    """Everything that stays where it is for the season; rasters are (rows, cols).

    Attributes:
        height: metres above the sea.
        hand: metres above the river that drains the place.
        unit: int32, number of the unit, 0..n-1.
        cover: (n,) uint8 cover of each unit, a place in `COVERS`.
        pixels: (n,) pixels of each unit.
        meadow: (n,) bool, units so low that they are mostly grassland.
        growth: in-field texture of plant growth, mean 0, sd about 1.
        soil: in-field factor on soil brightness, mean 1.
        roofs: in-town texture, mean 0, sd 1.
    """

    height: np.ndarray
    hand: np.ndarray
    unit: np.ndarray
    cover: np.ndarray
    pixels: np.ndarray
    meadow: np.ndarray
    growth: np.ndarray
    soil: np.ndarray
    roofs: np.ndarray


def draw_landscape(recipe: SimpleNamespace, size: int, rng: np.random.Generator) -> Landscape:
    """Draw a landscape of size x size pixels."""
    land, shape = recipe.landscape, (size, size)
    river = _river(land, size, rng)
    height, hand = _relief(land, river, recipe.place.pixel_m, rng)
    parcel, road = _parcels(land, size, rng)
    cover = np.full(shape, FIELD, np.uint8)
    cover[_hedges(land, parcel, rng)] = BROADLEAF
    wood = _woods(land, parcel, hand, rng)
    cover[wood] = BROADLEAF
    conifer = rng.random(parcel.max() + 1) < land.conifer_share
    cover[wood & conifer[parcel]] = CONIFER
    cover[road & ~wood] = ROAD
    _build_towns(land, cover, hand, rng)
    cover[river] = WATER
    unit, cover_of, pixels = _units(cover, parcel, land.field_min_px)
    low = np.bincount(unit.ravel(), weights=hand.ravel()) / pixels < land.meadow_height_m
    growth = (land.texture_short * blurred(shape, land.texture_blur_px, rng)
              + land.texture_fractal * fractal(shape, land.texture_fractal_slope, rng))
    soil = 1 + land.soil_texture_sd * fractal(shape, land.soil_fractal_slope, rng)
    return Landscape(height, hand, unit, cover_of, pixels, low, growth, soil,
                     blurred(shape, 0.6, rng))


def _river(land: SimpleNamespace, size: int, rng: np.random.Generator) -> np.ndarray:
    """The river and the lake in its plain, as a mask."""
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    middle = np.full(size, land.river_place * size)
    for wavelength, amplitude in zip(land.river_wavelengths_px, land.river_amplitudes_px,
                                     strict=True):
        phase = rng.uniform(0, 2 * np.pi)
        middle += amplitude * np.sin(2 * np.pi * np.arange(size) / wavelength + phase)
    slope = np.gradient(middle)
    narrow, wide = land.river_width_px
    width = narrow + (wide - narrow) * (0.5 + 0.5 * np.sin(cols / 41 + rng.uniform(0, 6)))
    river = np.abs(rows - middle) < width / 2 * np.hypot(1, slope)
    at = int(rng.uniform(0.2, 0.8) * size)
    side = rng.choice([-1, 1]) * (land.lake_radius_px + 9)
    ragged = 1 + 0.18 * fractal((size, size), 3.0, rng)
    away = np.hypot((rows - middle[at] - side) * 1.3, cols - at)
    return river | (away < land.lake_radius_px * ragged)


def _relief(land: SimpleNamespace, river: np.ndarray, pixel_m: float,
            rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Height above the sea and above the river (m), from the distance to the river."""
    distance = distance_transform_edt(~river) * pixel_m
    plain = np.minimum(distance, land.valley_width_m)
    rise = land.valley_slope * plain + land.hill_slope * (distance - plain)
    damped = np.minimum(distance / (2 * land.valley_width_m), 1)
    rough = fractal(river.shape, land.relief_fractal_slope, rng)
    hand = np.maximum(rise + damped * land.hill_relief_m * rough, 0)
    fall = land.downstream_fall * pixel_m * np.arange(river.shape[1])
    return (land.base_height_m - fall + hand).astype(np.float32), hand.astype(np.float32)


def _parcels(land: SimpleNamespace, size: int,
             rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Parcel numbers and the roads between blocks.

    Blocks are the cells nearest to jittered points; each is cut into strips along its own
    direction, and each strip across into parcels of uneven length.
    """
    step = land.block_px
    count = int(np.ceil(size / step)) + 2
    grid = np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2)
    seeds = (grid - 0.5 + rng.uniform(-0.35, 0.35, grid.shape)) * step
    rows, cols = np.mgrid[:size, :size]
    points = np.column_stack([cols.ravel(), rows.ravel()])
    block = cKDTree(seeds).query(points)[1].reshape(size, size)
    main_angle = rng.uniform(0, np.pi)
    parcel = np.zeros((size, size), np.int64)
    for number in np.unique(block):
        inside = block == number
        dx, dy = cols[inside] - seeds[number, 0], rows[inside] - seeds[number, 1]
        angle = main_angle + np.radians(land.field_angle_sd_deg) * rng.standard_normal()
        along, across = (dx * np.cos(angle) + dy * np.sin(angle),
                         dy * np.cos(angle) - dx * np.sin(angle))
        length, width = np.array([land.field_length_px, land.field_width_px]) * np.exp(
            land.field_size_sd * rng.standard_normal(2))
        strip = _cut(across / width, np.zeros(across.shape, int), land.field_jitter, rng)
        piece = _cut(along / length, strip - strip.min(), land.field_jitter, rng)
        parcel[inside] = (number * 1000 + strip - strip.min()) * 1000 + piece - piece.min()
    parcel = np.unique(parcel, return_inverse=True)[1].reshape(size, size).astype(np.int32)
    return parcel, _roads(block, land.road_share, rng)


def _cut(place: np.ndarray, line: np.ndarray, jitter: float,
         rng: np.random.Generator) -> np.ndarray:
    """Number of the interval in which each place lies; every line has its own uneven borders."""
    reach = int(np.ceil(np.abs(place).max())) + 2
    borders = rng.uniform(-jitter, jitter, (line.max() + 1, 2 * reach + 3))
    place = place + rng.uniform(0, 1, line.max() + 1)[line]
    cell = np.floor(place).astype(int)
    before = place < cell + borders[line, cell + reach]
    after = place >= cell + 1 + borders[line, cell + 1 + reach]
    return cell - before + after


def _roads(block: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Roads of one pixel on a share of the borders between blocks."""
    count = block.max() + 1
    has_road = rng.random((count, count)) < share
    road = np.zeros(block.shape, bool)
    down, right = block[:-1] != block[1:], block[:, :-1] != block[:, 1:]
    low, high = np.minimum(block[:-1], block[1:]), np.maximum(block[:-1], block[1:])
    road[:-1] |= down & has_road[low, high]
    low, high = np.minimum(block[:, :-1], block[:, 1:]), np.maximum(block[:, :-1], block[:, 1:])
    road[:, :-1] |= right & has_road[low, high]
    return road


def _hedges(land: SimpleNamespace, parcel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hedges of one pixel along the edge of a share of the parcels."""
    hedged = rng.random(parcel.max() + 1) < land.hedge_share
    edge = np.zeros(parcel.shape, bool)
    edge[:-1] |= parcel[:-1] != parcel[1:]
    return edge & hedged[parcel]


def _woods(land: SimpleNamespace, parcel: np.ndarray, hand: np.ndarray,
           rng: np.random.Generator) -> np.ndarray:
    """Woods on the higher ground, as a mask: whole parcels, ragged only here and there."""
    score = fractal(hand.shape, land.forest_fractal_slope, rng)
    score += land.forest_on_heights * standardised(hand)
    score[hand < 1] -= 3
    whole = np.bincount(parcel.ravel(), weights=score.ravel()) / np.bincount(parcel.ravel())
    score = whole[parcel] + land.forest_raggedness * score
    return score > np.quantile(score, 1 - land.forest_share)


def _build_towns(land: SimpleNamespace, cover: np.ndarray, hand: np.ndarray,
                 rng: np.random.Generator) -> None:
    """Build ragged towns of houses and gardens with streets into `cover`."""
    size = len(cover)
    rows, cols = np.mgrid[:size, :size]
    ragged = 1 + 0.3 * fractal(cover.shape, 3.0, rng)
    houses = blurred(cover.shape, 1.1, rng) + 0.5 * blurred(cover.shape, 4.0, rng)
    open_land = (cover == FIELD) & (hand > 2)
    for _ in range(max(1, round(land.towns_per_2600_ha * (size / 512) ** 2))):
        places = np.flatnonzero(open_land)
        if not places.size:
            return
        row, col = divmod(int(rng.choice(places)), size)
        radius = min(rng.uniform(*land.town_radius_px), size / 6)
        away = np.hypot(rows - row, cols - col) / (radius * ragged)
        town = (away < 1) & (hand > 1)
        green = houses < np.quantile(houses, land.garden_share) + 0.6 * (away - 0.6)
        cover[town] = np.where(green[town], GARDEN, BUILT)
        angle = rng.uniform(0, np.pi)
        lines = (cols - col) * np.cos(angle) + (rows - row) * np.sin(angle)
        across = (rows - row) * np.cos(angle) - (cols - col) * np.sin(angle)
        street = (np.abs(lines % 13) < 1) | (np.abs(across % 17) < 1)
        cover[town & street & green] = ROAD
        open_land &= away > 2.5


def _units(cover: np.ndarray, parcel: np.ndarray,
           least: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the pairs of parcel and cover; scraps of fields join the nearest field."""
    pairs = parcel.astype(np.int64) * len(COVERS) + cover
    values, unit, pixels = np.unique(pairs, return_inverse=True, return_counts=True)
    unit = unit.reshape(cover.shape)
    scrap = (pixels < least) & (values % len(COVERS) == FIELD)
    if scrap.any() and not scrap.all():
        nearest = distance_transform_edt(
            scrap[unit] | (cover != FIELD), return_distances=False, return_indices=True
        )
        unit = np.where(scrap[unit], unit[tuple(nearest)], unit)
    kept, unit, pixels = np.unique(unit, return_inverse=True, return_counts=True)
    unit = unit.reshape(cover.shape).astype(np.int32)
    return unit, (values[kept] % len(COVERS)).astype(np.uint8), pixels
