"""The bundled student: the same mathematics in another form, its training and its file."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional

from earthprint.models import catalogue
from earthprint.models.cards import read_card
from earthprint.models.fast.adapter import BANDS
from earthprint.models.tessera import adapter, observations
from earthprint.models.tessera.network import BackboneConfig, build
from earthprint.models.tessera.objective import Objective
from earthprint.models.tessera.student import CONFIG, LENGTHS, Student, megaflop
from earthprint.models.training import export, pool, tessera_student
from earthprint.models.training.tasks import cube_of


def network(seed=0):
    """Random weights, biases and norms too."""
    torch.manual_seed(seed)
    made = build(CONFIG).eval()
    for parameter in made.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return made


def sequence(n, length, bands, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, length, bands + 1)).astype(np.float32)
    values[..., -1] = rng.integers(1, 367, (n, length))
    return torch.from_numpy(values)


def rows(n=64, seed=0):
    """Half-monthly means of imagined pixels in plausible units, some half-months missing."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.02, 0.5, (n, 24, len(BANDS))).astype(np.float32)
    values[:, :, :2] = rng.uniform(-22, -6, (n, 24, 2))
    values[rng.random((n, 24)) < 0.4, :2] = np.nan
    values[rng.random((n, 24)) < 0.5, 2:] = np.nan
    return values


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(16, 16), (8, 16), (1, 8), (16, 1), (40, 3)])
def test_the_folded_network_is_the_same(lengths):
    original = network()
    s2, s1 = sequence(5, lengths[0], 10), sequence(5, lengths[1], 2, seed=1)
    mean, axes = torch.randn(128), torch.randn(128, 128)
    with torch.no_grad():
        expected = functional.normalize((original(s2, s1) - mean) @ axes.T, dim=1)
        torch.testing.assert_close(
            Student(original, mean, axes)(s2, s1), expected, atol=2e-5, rtol=0
        )


def test_a_network_of_several_heads_is_refused():
    two = BackboneConfig(width=64, layers=1, heads=2, feedforward=96)
    with pytest.raises(ValueError, match="one head"):
        Student(build(replace(CONFIG, s2=two, s1=two)), torch.zeros(128), torch.eye(128))


def test_it_stays_within_two_megaflop():
    assert 1.5 < megaflop(CONFIG, LENGTHS[-1], LENGTHS[-1]) <= 2


# --- training -------------------------------------------------------------------------------------


def test_training_pixels_look_like_the_adapters():
    """The same half-monthly means through the training's code and through the engine's."""
    means = rows()
    years = tessera_student.years(means)
    found = {}
    for batch in adapter.batches(cube_of(means), 64):
        found |= {
            pixel: (batch.inputs["s2"][i], batch.inputs["s1"][i])
            for i, pixel in enumerate(batch.pixels.tolist())
        }
    assert len(found) == len(means)
    for name, valid, place in (("s2", years.s2_valid, 0), ("s1", years.s1_valid, 1)):
        for length in LENGTHS:
            sequences = tessera_student.select(getattr(years, name), valid, length)
            for pixel, inputs in found.items():
                if len(inputs[place]) == length:
                    apart = np.abs(sequences[pixel] - inputs[place])
                    assert apart[:, :-1].max() < 1e-3 and apart[:, -1].max() < 10  # days


def test_a_lacking_near_infrared_is_stood_in_for():
    means = rows()
    means[:, :, BANDS.index("nir08")] = np.nan
    years = tessera_student.years(means)
    statistics = observations.STATISTICS["v2-student"]
    dn = years.s2[years.s2_valid][:, :-1] * statistics.s2_std + np.array(statistics.s2_mean)
    nir, nir08 = (dn[:, observations.S2_BANDS.index(band)] for band in ("nir", "nir08"))
    np.testing.assert_allclose(nir, nir08, atol=0.1)


def test_views_are_different_parts_of_the_same_year():
    years = tessera_student.years(rows(256))
    rng = np.random.default_rng(0)
    (s2, s1), (other, _) = (tessera_student.view(years, (16, 8), rng) for _ in range(2))
    assert s2.shape == (256, 16, 11) and s1.shape == (256, 8, 3)
    assert not torch.equal(s2, other)
    seen = (s2[..., -1] > 0).any(dim=1) | (s1[..., -1] > 0).any(dim=1)
    assert seen.all() and s2.isfinite().all()
    for pixel in range(256):
        assert set(s2[pixel, :, -1].tolist()) <= {0.0, *years.s2[pixel, :, -1].tolist()}


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    made = build(CONFIG)
    objective = Objective(CONFIG.prefixes, 32, 32)
    heads = tessera_student.Heads(("presto",))
    years = tessera_student.years(rows(256))
    target = {"presto": torch.from_numpy(years.s2[:, 0:24:3, :8].reshape(256, 64)).clone()}
    modules = torch.nn.ModuleList([made, objective, heads])
    optimiser = torch.optim.AdamW(modules.parameters(), lr=2e-3)
    totals = []
    for step in range(25):
        rng = np.random.default_rng(step)
        parts = tessera_student.losses(made, objective, heads, years, target, 1.0, rng)
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
        totals.append(float(parts["total"].detach()))
    assert all(p.grad.isfinite().all() for p in modules.parameters() if p.grad is not None)
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_an_exported_student_is_checked(tmp_path):
    years = tessera_student.years(rows(128))
    made = tessera_student.finish(network(), years, 0)
    card = replace(read_card(catalogue.bundled()["tessera-student"]), name="trial")
    path = tmp_path / "trial.onnx"
    examples = tessera_student.examples(years)
    exported = export.export(made, card, path, tessera_student.AXES, examples)
    assert read_card(path) == exported and exported.weights_sha256 != card.weights_sha256
    assert [p.name for p in tmp_path.iterdir()] == ["trial.onnx"]
    with pytest.raises(ValueError, match="differs from torch"):
        export.check(tessera_student.finish(network(1), years, 0), path,
                     tessera_student.examples(years))


# --- the file -------------------------------------------------------------------------------------


def test_the_file_is_small_and_says_what_it_is():
    path = catalogue.bundled()["tessera-student"]
    card = read_card(path)
    assert path.stat().st_size < 1_000_000
    assert (card.system, card.dimensions, card.prefixes) == ("tessera", 128, (16, 32, 64))
    assert 0 < card.code_scale < 1 / 127 and card.results and card.training_data
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["s2", "s1"]
    assert [o.name for o in session.get_outputs()] == ["embedding"]


def test_two_choices_of_a_years_observations_find_each_other(shared):
    """Among 500 real pixels, more often than with random weights; and the codes hold them."""
    years_of, source = pool.build(0)
    rng = np.random.default_rng(0)
    years = tessera_student.years(years_of[pool.draw(source, 500, rng)])
    path = catalogue.bundled()["tessera-student"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    views = [tessera_student.view(years, (16, 16), rng) for _ in range(2)]
    random = tessera_student.finish(build(CONFIG), years, 0)

    def agreement(encode):
        a, b = (encode(s2, s1) for s2, s1 in views)
        ranks = (a @ b.T).argsort(axis=1)[:, -10:]
        return np.mean([i in nearest for i, nearest in enumerate(ranks)])

    def bundled(s2, s1):
        return session.run(["embedding"], {"s2": s2.numpy(), "s1": s1.numpy()})[0]

    def untrained(s2, s1):
        with torch.inference_mode():
            return random(s2, s1).numpy()

    assert agreement(bundled) > 1.2 * agreement(untrained)
    s2, s1 = tessera_student.whole(years)
    held = np.abs(bundled(s2, s1)) <= 127.5 * read_card(path).code_scale
    assert held.mean() > 0.999
