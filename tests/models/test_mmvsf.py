"""MM-VSF: what its description promises, on a world whose plants follow the weather."""

import functools

import numpy as np
import onnxruntime
import pytest
import torch

from earthprint.models.cube import Cube, Series, Weather
from earthprint.models.mmvsf import adapter
from earthprint.models.mmvsf.export import exportable, forecasting, series
from earthprint.models.mmvsf.network import MMVSF, Config
from earthprint.models.mmvsf.objective import VariableStepForecasting, error, split

DAYS, DATES, SIDE = 180, 4, 16
MEAN = np.array([12, 3, 15, 0.9, 2.5])
STD = np.array([9, 6, 6, 0.8, 0.3])
NIR, RED = 7, 2
SMALL = Config(side=4, residual=False)


@functools.cache
def world(count, seed):
    """Fields that grow with warmth and moisture: inputs, target days, target images, growth rates.

    Args:
        count: samples.
        seed: of all randomness.
    """
    rng = np.random.default_rng(seed)

    def drift(phi, sigma):
        x = np.zeros((count, DAYS))
        for t in range(1, DAYS):
            x[:, t] = phi * x[:, t - 1] + rng.normal(0, sigma, count)
        return x

    start = rng.integers(60, 150, count)
    season = (start[:, None] + np.arange(DAYS)) % 365
    temperature = (12 + 12 * np.sin(2 * np.pi * (season - 105) / 365) + drift(0.9, 1.5)
                   + rng.normal(0, 3, (count, 1)))
    wet = rng.random((count, DAYS)) < 0.12 + 0.3 * rng.random((count, 1))
    rain = wet * rng.exponential(8, (count, DAYS))
    light = (15 + 8 * np.sin(2 * np.pi * (season - 80) / 365) - 4 * wet
             + rng.normal(0, 1, (count, DAYS)))
    deficit = np.maximum(0, 0.08 * np.maximum(0, temperature) - 0.4 * wet + drift(0.8, 0.1))
    wind = 2 + rng.random((count, DAYS))
    weather = np.stack([temperature, rain, light, deficit, wind], axis=2)

    rate = rng.uniform(0.5, 1.5, (count, 4, 4))
    field = rate.repeat(4, 1).repeat(4, 2)
    days = np.sort(np.stack([rng.permutation(100)[:DATES] for _ in range(count)]), axis=1)
    target = days[:, -1] + rng.integers(5, 61, count)
    state, soil = 0.1 + 0.05 * rng.random((count, SIDE, SIDE)), np.full(count, 0.5)
    wanted = np.concatenate([days, target[:, None]], axis=1)
    seen = np.zeros((count, DATES + 1, SIDE, SIDE))
    for t in range(DAYS):
        soil = np.clip(0.96 * soil + 0.02 * rain[:, t] - 0.01 * deficit[:, t], 0, 1)
        growth = 0.03 * np.clip((temperature[:, t] - 8) / 15, 0, 1) * soil
        decay = 0.02 * (1 - soil) * np.clip(temperature[:, t] / 20, 0, 1.5)
        growth, decay = growth[:, None, None], decay[:, None, None]
        state = np.clip(state + 6 * field * growth * state * (1 - state) - decay * state, 0.02,
                        0.98)
        sample, date = np.nonzero(wanted == t)
        seen[sample, date] = state[sample]

    base = np.linspace(0.05, 0.25, 10)[:, None, None]
    slope = np.array([-0.04, -0.05, -0.10, 0.02, 0.15, 0.20, 0.25, 0.25, -0.05, -0.10])
    images = base + slope[:, None, None] * seen[:, :, None]
    images += rng.normal(0, 0.005, images.shape)
    inputs = {
        "images": torch.tensor(images[:, :-1], dtype=torch.float32),
        "seen": torch.ones(count, DATES, SIDE, SIDE),
        "weather": torch.tensor((weather - MEAN) / STD, dtype=torch.float32),
        "days": torch.tensor(days), "start": torch.tensor(start),
    }  # fmt: skip
    return inputs, torch.tensor(target), torch.tensor(images[:, -1], dtype=torch.float32), rate


def part(inputs, index):
    return {name: value[index] for name, value in inputs.items()}


def fit(inputs, target, truth, steps, rate, batch):
    torch.manual_seed(0)
    network = MMVSF(SMALL)
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        index = torch.from_numpy(rng.permutation(len(target))[:batch])
        some = part(inputs, index)
        loss = error(network.forecast(network.encode(**some), some["start"], target[index]),
                     truth[index], torch.ones(len(index), SIDE, SIDE))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@torch.no_grad()
def errors(network, inputs, target, truth):
    """(B,) mean squared error of each sample."""
    forecast = network.forecast(network.encode(**inputs), inputs["start"], target)
    return (forecast - truth).square().mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def few():
    return world(8, 3)


@pytest.fixture(scope="module")
def fresh():
    torch.manual_seed(0)
    return MMVSF(SMALL).eval()


@pytest.fixture(scope="module")
def trained():
    return fit(*world(1500, 1)[:3], steps=600, rate=1e-3, batch=32)


@pytest.fixture(scope="module")
def unseen():
    return world(300, 2)


@torch.no_grad()
@pytest.mark.parametrize("dates", [1, 3, 8])
def test_shapes_of_any_number_of_dates(fresh, dates):
    inputs = dict(zip(("images", "seen", "weather", "days", "start"),
                      series(SMALL, dates, 90, 3), strict=True))
    sequence = fresh.encode(**inputs)
    assert sequence.embeddings.shape == (3, 16, dates, 48)
    assert fresh.forecast(sequence, inputs["start"], torch.tensor([60, 70, 89])).shape == (
        3, 10, SIDE, SIDE)


@torch.no_grad()
def test_nothing_later_leaks_to_earlier_dates(fresh, few):
    inputs = few[0]
    before = fresh.encode(**inputs).embeddings
    brighter = inputs["images"].clone()
    brighter[:, 3] += 1
    hotter = inputs["weather"].clone()
    for i, day in enumerate(inputs["days"][:, 2]):
        hotter[i, day + 1 :] += 5
    for changed in ({"images": brighter}, {"weather": hotter}):
        after = fresh.encode(**{**inputs, **changed}).embeddings
        assert (after - before)[:, :, :3].abs().max() <= 1e-6
        assert (after - before)[:, :, 3].abs().max() > 1e-3


def test_the_forecast_sees_the_weather_up_to_its_day_only(fresh, few):
    inputs, target, _, _ = few
    weather = inputs["weather"].clone().requires_grad_()
    sequence = fresh.encode(**{**inputs, "weather": weather})
    fresh.forecast(sequence, inputs["start"], target).sum().backward()
    for gradient, last, day in zip(weather.grad, inputs["days"][:, -1], target, strict=True):
        assert not gradient[day + 1 :].any()
        assert gradient[last + 1 : day + 1].abs().sum() > 0


def test_it_can_learn_a_batch_by_heart(few):
    inputs, target, truth, _ = few
    network = fit(inputs, target, truth, 200, 2e-3, 8)
    assert errors(network, inputs, target, truth).mean() / truth.var() <= 0.02


def test_weather_makes_the_forecast(trained, unseen):
    inputs, target, truth, _ = unseen
    own = errors(trained, inputs, target, truth).mean()
    persistence = (inputs["images"][:, -1] - truth).square().mean()
    learn, days, images, _ = world(1500, 1)
    blind = {**learn, "weather": torch.zeros_like(learn["weather"])}
    without = fit(blind, days, images, 300, 1e-3, 32)
    none = {**inputs, "weather": torch.zeros_like(inputs["weather"])}
    assert own <= 0.4 * errors(without, none, target, truth).mean()
    assert own <= 0.25 * persistence


@torch.no_grad()
def test_it_answers_to_its_drivers(trained, unseen):
    inputs, target, truth, _ = unseen
    own = errors(trained, inputs, target, truth).mean()
    shuffled = {**inputs, "weather": inputs["weather"].roll(1, dims=0)}
    assert errors(trained, shuffled, target, truth).mean() >= 4 * own
    dry = inputs["weather"].clone()
    for i, last in enumerate(inputs["days"][:, -1]):
        dry[i, last + 1 : target[i] + 1, 1] = -MEAN[1] / STD[1]

    def greenness(weather):
        image = trained.forecast(trained.encode(**{**inputs, "weather": weather}),
                                 inputs["start"], target)
        nir, red = image[:, NIR], image[:, RED]
        return ((nir - red) / (nir + red)).mean(dim=(1, 2))

    change = greenness(dry) - greenness(inputs["weather"])
    assert change.mean() < 0 and (change < 0).float().mean() >= 0.9


@torch.no_grad()
def test_farther_is_harder_and_steps_vary(trained, unseen):
    inputs, target, truth, _ = unseen
    each, ahead = errors(trained, inputs, target, truth), target - inputs["days"][:, -1]
    assert each[ahead >= 45].mean() > each[ahead <= 20].mean()
    sequence = trained.encode(**inputs)
    steps = [trained.forecast(sequence, inputs["start"], sequence.day + n) for n in (5, 20, 40, 60)]
    for one, other in zip(steps, steps[1:], strict=False):
        assert (one - other).abs().mean() > 1e-3
    together = trained.forecast(sequence, inputs["start"], target)
    for i in range(5):
        one = part(inputs, slice(i, i + 1))
        alone = trained.forecast(trained.encode(**one), one["start"], target[i : i + 1])
        assert (alone - together[i]).abs().max() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("gap", [0, 1, 3])
def test_a_date_without_an_image_is_as_if_left_out(few, gap):
    inputs, target, _, _ = few
    network = MMVSF(Config(side=4)).eval()
    kept = [t for t in range(DATES) if t != gap]
    empty = {**inputs, "seen": inputs["seen"].clone(), "images": inputs["images"].clone()}
    empty["seen"][:, gap] = 0
    short = {**inputs, **{name: inputs[name][:, kept] for name in ("images", "seen", "days")}}
    for each in (empty, short):
        each["forecast"] = network.forecast(network.encode(**{
            n: v for n, v in each.items() if n != "forecast"}), inputs["start"], target)
    assert (empty["forecast"] - short["forecast"]).abs().max() <= 1e-5


@torch.no_grad()
def test_embeddings_know_the_field_better_than_its_last_look(trained, unseen):
    def table(inputs):
        sequence = trained.encode(**inputs)
        images = torch.nn.functional.avg_pool2d(inputs["images"].flatten(0, 1), 4)
        images = images.flatten(2).transpose(1, 2).unflatten(0, (-1, DATES))
        return {"embedding": sequence.last, "last": images[:, -1],
                "all": images.transpose(1, 2).flatten(2)}

    learn, learn_rate = (lambda w: (table(w[0]), w[3]))(world(1500, 1))
    judge, judge_rate = table(unseen[0]), unseen[3]
    r2 = {}
    for name, features in learn.items():
        x, y = features.flatten(0, 1).numpy().astype(float), learn_rate.ravel()
        mean = x.mean(0)
        slope = np.linalg.solve((x - mean).T @ (x - mean) + 1e-2 * np.eye(x.shape[1]),
                                (x - mean).T @ (y - y.mean()))
        guess = (judge[name].flatten(0, 1).numpy() - mean) @ slope + y.mean()
        true = judge_rate.ravel()
        r2[name] = 1 - ((guess - true) ** 2).mean() / true.var()
    assert r2["embedding"] >= 0.5
    assert r2["embedding"] >= max(r2["last"], r2["all"]) + 0.3


@pytest.mark.parametrize("make", [exportable, forecasting])
def test_the_exported_graph_gives_the_same_for_any_length(make, tmp_path):
    torch.manual_seed(0)
    config = Config(side=3)
    made = make(MMVSF(config), config)
    path = str(tmp_path / "mmvsf.onnx")
    torch.onnx.export(made.module, made.examples[0], path, dynamo=False, opset_version=17,
                      input_names=list(made.axes), output_names=["out"], dynamic_axes=made.axes)
    session = onnxruntime.InferenceSession(path)
    for inputs in made.examples:
        (found,) = session.run(["out"], {name: value.numpy() for name, value in zip(
            made.axes, inputs, strict=True)})
        with torch.no_grad():
            assert np.abs(found - made.module(*inputs).numpy()).max() <= 1e-4


def test_the_objective_never_shows_the_target_and_falls():
    inputs = world(64, 4)[0]
    given, wanted = split(inputs, torch.Generator().manual_seed(0))
    kept = given["seen"].amax(dim=(2, 3)) > 0
    assert not (kept & (inputs["days"] >= wanted["days"][:, None])).any()
    torch.manual_seed(0)
    objective = VariableStepForecasting(MMVSF(SMALL))
    optimiser = torch.optim.AdamW(objective.parameters(), 2e-3)
    curve = []
    for step in range(60):
        objective.update(step / 60)
        parts = objective(inputs, torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        curve.append(float(parts["forecast"].detach()))
        if step == 0:
            assert all(p.grad is not None and p.grad.abs().sum() > 0
                       for p in objective.encoder.parameters())
    assert np.mean(curve[-10:]) < 0.2 * curve[0]


@torch.no_grad()
def test_a_change_grows_from_nothing_with_the_days_since_a_pixel_was_seen(few):
    inputs, _, _, _ = few
    network = MMVSF(Config(side=4)).eval()
    half = {**inputs, "seen": inputs["seen"].clone()}
    half["seen"][:, -1, :, :8] = 0  # the left half was last seen a date earlier
    sequence = network.encode(**half)
    first = network.forecast(sequence, inputs["start"], sequence.day)
    assert (first[:, :, :, 8:] - inputs["images"][:, -1, :, :, 8:]).abs().max() < 1e-6
    left = (first - inputs["images"][:, -2])[:, :, :, :8].abs().mean()
    assert left > 1e-4
    # an untrained decoder says much the same for any day
    changes = [(network.forecast(sequence, inputs["start"], sequence.day + n) - sequence.latest)
               [..., 8:].abs().mean() for n in (2, 10, 60)]
    assert changes[0] < changes[1] < changes[2]


# --- adapter --------------------------------------------------------------------------------------


def window(days, side=8, bands=adapter.BANDS):
    """A cube with an image at each of some days after 1 March 2021, and 200 days of weather."""
    first = np.datetime64("2021-03-01", "D")
    values = np.full((len(days), len(bands), side, side), 0.2, np.float32)
    values += np.arange(len(days), dtype=np.float32)[:, None, None, None] / 100
    series = Series("sentinel-2", bands, first + np.array(days), values,
                    np.ones((len(days), side, side), bool), ("",) * len(days))
    weather = Weather(np.arange(first, first + 200), np.ones((200, 5), np.float32))
    return Cube((side, side), {"sentinel-2": series}, weather)


def test_a_forecast_is_given_earlier_dates_and_weather_up_to_its_day():
    target = np.datetime64("2021-05-10", "D")
    given = adapter.forecast_inputs(window([3, 20, 40, 70, 90]), target)
    assert given["days"].tolist() == [[3, 20, 40]] and given["target"].tolist() == [70]
    assert given["start"].tolist() == [59] and given["weather"].shape[1] >= 71
    few = adapter.forecast_inputs(window([3, 20, 40, 70, 90]), target, most=2)
    assert few["days"].tolist() == [[20, 40]]
    assert adapter.forecast_inputs(window([80, 90]), target) is None
    with pytest.raises(ValueError, match="Weather is needed from 2021-03-04 to 2021-10-01"):
        adapter.forecast_inputs(window([3]), np.datetime64("2021-10-01", "D"))


def test_dates_long_before_the_day_are_not_looked_at():
    cube = window([0, 150])
    given = adapter.forecast_inputs(cube, np.datetime64("2021-03-01", "D") + 199)
    assert given["days"].tolist() == [[0, 150]]
    far = np.datetime64("2021-03-01", "D") + 240
    longer = Weather(np.arange("2021-03-01", "2021-12-01", dtype="datetime64[D]"),
                     np.ones((275, 5), np.float32))
    given = adapter.forecast_inputs(Cube(cube.shape, cube.series, longer), far)
    assert given["images"].shape[1] == 1 and given["target"].tolist() == [239]


@pytest.mark.parametrize("sensors, words", [
    ({"sentinel-2": adapter.BANDS, "weather": ()}, ()),
    ({"sentinel-2": adapter.BANDS}, ("Daily weather",)),
    ({"sentinel-2": ("red", "nir"), "weather": ()}, ("blue", "swir22")),
    ({"landsat": ("red", "nir", "swir16")}, ("Sentinel-2", "Daily weather")),
])
def test_what_is_missing_is_named(sensors, words):
    lines = adapter.missing(sensors)
    assert bool(lines) == bool(words) and all(w in " ".join(lines) for w in words)


@pytest.mark.parametrize("days, rows", [([5], 4), (list(range(0, 180, 3)), 4), ([], 0)])
def test_windows_to_patches(days, rows):
    found = list(adapter.batches(window(days), 1)) if days else []
    assert sum((b.pixels >= 0).sum() for b in found) == rows
    for batch in found:
        assert batch.inputs["images"].shape[1] <= adapter.MOST


def test_all_cloud_gives_nothing():
    cube = window([5, 9])
    cube.series["sentinel-2"].valid[:] = False
    assert not list(adapter.batches(cube, 1))


@pytest.mark.parametrize("length", [20, 32, 33, 64, 1000])
def test_overlapping_windows_cover_everything_and_patches_fall_apart(length):
    side = 32
    starts = adapter.starts(length, side)
    covered = np.zeros(max(length, side), bool)
    for start in starts:
        covered[start : start + side] = True
    assert covered.all() and starts == sorted(starts)
    assert length < 64 or len({s % adapter.PATCH for s in starts}) > 1
    assert (adapter.weights(side) > 0).all()
