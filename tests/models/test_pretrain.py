"""The training loop: falls, stops, goes on as if it had not stopped, and leaves nothing half."""

import csv
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from earthprint.models.cards import TrainingSet, read_card
from earthprint.models.catalogue import adapter_of
from earthprint.models.cube import Cube, Series, Weather
from earthprint.models.training import batches, pretrain
from earthprint.models.training.export import Exportable, finish
from earthprint.models.training.halves import halve, rounded
from earthprint.models.training.places import Level, place_pattern
from earthprint.models.training.pretrain import Recipe

S2 = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16",
      "swir22")  # fmt: skip
START = np.datetime64("2020-01-05")
SHORT = Recipe(steps=12, windows=2, rate=1e-3, dates=(2, 3))


def windows(side, dates=6, masked=False):
    """Windows of a smooth made-up landscape whose values follow the season."""

    def draw(rng):
        days = START + np.sort(rng.choice(300, dates, replace=False))
        season = np.sin(2 * np.pi * (days - START).astype(int) / 365)[:, None, None, None]
        ground = rng.random((1, 1, 4, 4)).repeat(side // 4 + 1, 2).repeat(side // 4 + 1, 3)
        ground = ground[..., :side, :side]
        band = np.linspace(0.05, 0.4, len(S2))[None, :, None, None]
        optical = (band * (1 + 0.3 * season * ground)).astype(np.float32)
        radar = np.concatenate([-12 + 4 * ground, -18 + 4 * ground], axis=1) + season
        valid = np.full((dates, side, side), not masked)
        orbits = ("ascending",) * dates
        weather = Weather(START + np.arange(366), np.ones((366, 5), np.float32))
        return Cube((side, side), {
            "sentinel-2": Series("sentinel-2", S2, days, optical, valid, orbits),
            "sentinel-1": Series("sentinel-1", ("vv", "vh"), days, radar.astype(np.float32), valid,
                                 orbits)}, weather)  # fmt: skip

    return draw


@pytest.fixture(scope="module")
def maestro():
    return pretrain.small("maestro")


def weights(trained):
    return torch.cat([p.detach().flatten() for p in trained.objective.parameters()])


@pytest.mark.parametrize("system", pretrain.systems())
def test_every_small_system_learns_from_what_its_adapter_gives(system, tmp_path, monkeypatch):
    small = pretrain.small(system)
    card = small.card()
    assert card.name == f"{system.replace('_', '-')}-small"
    assert card.system == system and not card.training_data
    steps = replace(small.RECIPE, steps=2, windows=2, pool=min(small.RECIPE.pool, 3))
    before = pretrain.start(small, 0)
    trained = pretrain.train(small, windows(card.window), tmp_path, recipe=steps)
    moved = [not torch.equal(a, b) for a, b in zip(
        before.encoder.parameters(), trained.objective.encoder.parameters(), strict=True)]
    assert any(moved)
    monkeypatch.setattr(pretrain, "_MEASURED", 4)
    features, seen = pretrain.measured(
        small.exportable(trained.objective.encoder).module, windows(card.window), card, 3, 0)
    assert features.shape == (4, (card.window // card.patch) ** 2, card.dimensions)
    assert torch.isfinite(features).all() and seen.all()


def test_the_loss_falls_and_the_curve_says_so(maestro, tmp_path):
    recipe = replace(SHORT, steps=40, windows=4)
    trained = pretrain.train(maestro, windows(12), tmp_path, recipe=recipe)
    first, last = trained.curve.rows[0]["loss"], trained.curve.rows[-1]["loss"]
    assert last < 0.95 * first
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40]
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("pool", (0, 6))
def test_a_training_that_was_stopped_ends_in_the_same_weights(maestro, tmp_path, monkeypatch, pool):
    monkeypatch.setattr(pretrain, "_SAVE_SECONDS", -1.0)
    monkeypatch.setattr(pretrain, "_EVERY", 5)
    recipe = replace(SHORT, pool=pool)
    whole = pretrain.train(maestro, windows(12), tmp_path / "whole", recipe=recipe)

    def stop(progress, text):
        if progress > 0.6:  # after the state of step 5, before that of step 10
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.train(maestro, windows(12), tmp_path / "cut", recipe=recipe, watch=stop)
    assert pretrain.load(maestro, tmp_path / "cut").steps == 5
    rest = pretrain.train(maestro, windows(12), tmp_path / "cut", recipe=recipe)
    assert rest.steps == 12 and torch.equal(weights(whole), weights(rest))
    assert [row["step"] for row in rest.curve.rows] == [5, 10, 12]


def test_a_time_budget_ends_a_training_and_more_minutes_go_on(maestro, tmp_path):
    recipe = replace(SHORT, steps=100_000)
    first = pretrain.train(maestro, windows(12), tmp_path, recipe=recipe, minutes=0.02)
    assert 0 < first.steps < 100_000
    more = pretrain.train(maestro, windows(12), tmp_path, recipe=recipe, minutes=0.04)
    assert more.steps > first.steps


def test_another_training_in_the_folder_is_not_overwritten(maestro, tmp_path):
    pretrain.train(maestro, windows(12), tmp_path, recipe=replace(SHORT, steps=1))
    with pytest.raises(ValueError, match="holds another training"):
        pretrain.train(maestro, windows(12), tmp_path, recipe=SHORT, seed=1)


def test_windows_without_anything_are_refused(maestro, tmp_path):
    with pytest.raises(ValueError, match="none shows anything to maestro-small"):
        pretrain.train(maestro, windows(12, masked=True), tmp_path, recipe=SHORT)


def test_an_unknown_system_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="Choose one of anysat, galileo"):
        pretrain.small("tessera")


def test_rates_rise_then_fall():
    rates = [Recipe(rate=1.0, warmup=0.1).rate_at(p) for p in (0, 0.05, 0.1, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1.0 and rates[2] > rates[3] > rates[4] > 0


def test_dates_are_of_one_year_and_never_empty_ones():
    cube, rng = windows(4, dates=60)(np.random.default_rng(0)), np.random.default_rng(1)
    s2 = cube.series["sentinel-2"]
    dates = START + 20 * np.arange(60)
    valid = s2.valid & (np.arange(60) % 2 == 0)[:, None, None]
    cube = Cube(cube.shape, {"sentinel-2": replace(s2, dates=dates, valid=valid)})
    for _ in range(20):
        thinned = batches.thin(cube, 5, rng).series["sentinel-2"]
        assert len(thinned.dates) == 5 and thinned.valid.any(axis=(1, 2)).all()
        assert (np.diff(thinned.dates).astype(int) > 0).all()
        assert thinned.dates[-1] - thinned.dates[0] < np.timedelta64(365, "D")


def test_windows_of_equal_shapes_are_joined():
    def given(dates):
        return {"x": np.full((1, dates, 2), dates, np.float32), "y": np.zeros((1, 3), bool)}

    groups = batches.collated([given(2), given(3), given(2)])
    assert sorted((n, tuple(x["x"].shape)) for n, x in groups) == [(1, (1, 3, 2)), (2, (2, 2, 2))]


def test_a_pool_gives_windows_of_one_shape_and_the_same_ones_again(maestro):
    def sometimes(rng):
        return windows(12, dates=int(rng.integers(1, 3)))(rng)

    pools = [batches.Pool(sometimes, maestro.card(), 8, (2, 3), seed=3) for _ in range(2)]
    for seed in range(10):
        one, same = (pool(3, np.random.default_rng(seed)) for pool in pools)
        assert 0 < len(one) <= 3
        assert len({tuple(x.shape for x in given.values()) for given in one}) == 1
        for a, b in zip(one, same, strict=True):
            assert all(np.array_equal(a[name], b[name]) for name in a)


def test_windows_of_a_step_are_of_one_place_where_they_shall_be(maestro):
    class TwoPlaces:
        def __init__(self):
            of = windows(12)
            self.places = [(0.5, partial(self._lit, of, light)) for light in (0.1, 0.9)]

        def _lit(self, of, light, rng):
            cube = of(rng)
            return replace(cube, series={
                name: replace(s, values=np.full_like(s.values, light))
                for name, s in cube.series.items()})

        def __call__(self, rng):
            return self.places[int(rng.integers(2))][1](rng)

    def lights(pool):
        """Of the windows of each of ten steps."""
        return [{float(next(x for x in given.values() if x.dtype == np.float32).max())
                 for given in pool(4, np.random.default_rng(seed))} for seed in range(10)]

    together, mixed = (lights(batches.Pool(TwoPlaces(), maestro.card(), 16, (2, 2), 0, one))
                       for one in (True, False))
    assert all(len(found) == 1 for found in together) and len(set.union(*together)) == 2
    assert any(len(found) == 2 for found in mixed)


def test_a_rolled_window_shows_the_same_ground_at_every_place():
    rolled = batches.Rolled(windows(12), 12, 4)
    assert rolled.turns == 9
    rng, corners = np.random.default_rng(0), []
    for _ in range(rolled.turns):
        values = rolled(rng).series["sentinel-2"].values
        corners.append(values[0, 0, :4, :4].sum())
    whole = values[0, 0].reshape(3, 4, 3, 4).sum(axis=(1, 3))
    assert np.allclose(np.sort(corners), np.sort(whole.ravel()))


def test_the_exported_encoder_is_centred_and_says_what_it_saw(maestro, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "_MEASURED", 20)
    monkeypatch.setattr(pretrain, "_ROLLED", 1)
    seen = TrainingSet("made-up land", "CC0-1.0", "this test")
    objective = pretrain.start(maestro, 0)
    card = pretrain.export(maestro, objective.encoder, windows(12), [seen],
                           tmp_path / "mine.onnx", recipe=SHORT)
    assert card == read_card(tmp_path / "mine.onnx") and card.name == "mine"
    assert card.training_data == (seen,) and card.weights_sha256
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]
    assert (tmp_path / "mine.onnx").stat().st_size < 2e6
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "mine.onnx"))
    rows = []
    for seed in range(20):
        cube = batches.thin(windows(12)(np.random.default_rng(seed)), 3, np.random.default_rng(0))
        batch = next(adapter_of(card).batches(cube, 1, card))
        rows.append(session.run(["embedding"], batch.inputs)[0])
    vectors = np.concatenate(rows)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    # not around a centre those of a young network all point the same way: 0.96
    assert np.linalg.norm(vectors.mean(axis=0)) < 0.85


def test_halved_weights_compute_the_same_in_half_the_bytes(tmp_path):
    import onnxruntime

    torch.manual_seed(0)
    module = rounded(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(),
                                         torch.nn.Linear(64, 32)))  # fmt: skip
    x = torch.randn(5, 64)
    given = Exportable(module, {"x": {0: "pixels"}}, ((x,),))
    path = tmp_path / "e.onnx"
    card = replace(pretrain.small("maestro").card(), dimensions=32)
    whole = finish(given, None, card, path, torch.ones(1, 32))
    size, before = path.stat().st_size, onnxruntime.InferenceSession(str(path)).run(
        None, {"x": x.numpy()})[0]
    halved = halve(path, whole)
    after = onnxruntime.InferenceSession(str(path)).run(None, {"x": x.numpy()})[0]
    assert np.array_equal(before, after)
    assert path.stat().st_size < size - 10_000
    assert read_card(path) == halved and halved.weights_sha256 != whole.weights_sha256


def test_what_a_place_in_the_window_adds_is_taken_off():
    generator = torch.Generator().manual_seed(0)
    ground = torch.randn(400, 4, 3, generator=generator)
    lattice = torch.tensor([[5.0, 0, 0], [-5, 0, 0], [0, 3, 0], [0, -3, 0]])
    seen = torch.rand(400, 4, generator=generator) < 0.8
    pattern = place_pattern(ground + lattice, seen)
    assert torch.allclose(pattern, lattice - lattice.mean(dim=0), atol=0.3)
    level = Level(torch.nn.Identity(), pattern)
    assert level((ground + lattice).flatten(0, 1)).reshape(400, 4, 3).mean(dim=0).std() < 0.2
