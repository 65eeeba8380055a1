"""Presto: the reference's numbers, masks and loss, checkpoints, export."""

import hashlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402

from earthprint.models import conformance  # noqa: E402
from earthprint.models.presto import adapter, scaling  # noqa: E402
from earthprint.models.presto.checkpoint import KNOWN, build, card_of, recognise  # noqa: E402
from earthprint.models.presto.export import exportable  # noqa: E402
from earthprint.models.presto.network import OFFICIAL, Config, Encoder, load  # noqa: E402
from earthprint.models.presto.objective import (  # noqa: E402
    STRATEGIES,
    MaskedReconstruction,
    draw,
    reconstruction_loss,
)

GOLDEN = conformance.shared_folder() / "golden" / "presto"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)
SMALL = Config(32, encoder_num_heads=2, mlp_ratio=2, decoder_embedding_size=24,
               decoder_depth=1, decoder_num_heads=2)  # fmt: skip


@pytest.mark.parametrize("path", FOUND)
def test_agrees_with_the_reference(path):
    passed, line = conformance.check(path)
    assert passed, line


# --- network --------------------------------------------------------------------------------------


def sample(b=4, steps=6, seed=0, hidden=0.3):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(b, steps, 17, generator=generator) < hidden).float()
    return {
        "x": torch.rand(b, steps, 17, generator=generator) * (1 - mask),
        "dynamic_world": torch.randint(10, (b, steps), generator=generator),
        "latlons": torch.rand(b, 2, generator=generator) * 60,
        "mask": mask,
        "month": (torch.arange(steps) + 9).expand(b, -1) % 12,
    }


@torch.no_grad()
def test_a_masked_value_changes_nothing_and_pixels_do_not_touch():
    given, encoder = sample(), build(SMALL)
    before = encoder(**given)
    after = encoder(**{**given, "x": given["x"] + 1000 * given["mask"]})
    torch.testing.assert_close(before, after)
    alone = encoder(**{name: tensor[2:3] for name, tensor in given.items()})
    torch.testing.assert_close(before[2:3], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_step_without_anything_is_zero_and_the_start_month_is_enough():
    given, encoder = sample(), build(SMALL)
    given["mask"][:, :, 14:16] = 1  # terrain counts in every step
    given["mask"][1, 3] = 1
    steps = encoder.by_step(**given)
    assert steps.shape == (4, 6, 32)
    empty = (given["mask"] > 0).all(dim=2)
    assert empty[1, 3] and not steps[1, 3].any() and steps[~empty].abs().sum(dim=1).min() > 0
    first = encoder(**{**given, "month": 9})
    torch.testing.assert_close(first, encoder(**given))


def test_the_adapter_scales_as_the_paper_does():
    if not GOLDEN.is_dir():
        pytest.skip(f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
    given = conformance.load_case(GOLDEN / "default_worldcereal_pixels").inputs
    columns = [*range(12), scaling.NDVI]
    physical = given["physical"].copy()
    red, nir = physical[..., scaling.RED], physical[..., scaling.NIR]
    physical[..., scaling.NDVI] = scaling.vegetation_index(red, nir)
    values = np.where(given["mask"] > 0, np.nan, physical)[:, :, columns]
    values[:, :, 2:12] /= 10000
    found = adapter.inputs(values.astype(np.float32), given["month"])
    np.testing.assert_allclose(found["x"][..., columns], given["x"][..., columns], atol=1e-6)
    assert (found["mask"][..., columns] == given["mask"][..., columns]).all()
    assert found["mask"][..., 12:16].all() and (found["dynamic_world"] == 9).all()


# --- masks and loss -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_three_quarters_of_the_tokens_are_hidden(strategy, seed):
    there = torch.ones(12, 9, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    hidden, terrain = draw(there, True, strategy, generator)
    assert int(hidden.sum()) + terrain == 81
    there[:, 2:5] = False
    there[4] = False
    hidden, terrain = draw(there, False, strategy, generator)
    assert int(hidden.sum()) == int(int(there.sum()) * 0.75) and not terrain
    assert not (hidden & ~there).any()


def test_structured_masks_have_their_structure():
    there = torch.ones(12, 9, dtype=torch.bool)
    for seed in range(5):
        groups, _ = draw(there, True, "group_bands", torch.Generator().manual_seed(seed))
        assert groups.all(dim=0).sum() >= 6  # 80 tokens hold six groups of twelve
        months, _ = draw(there, True, "chunk_timesteps", torch.Generator().manual_seed(seed))
        whole = torch.nonzero(months.all(dim=1))[:, 0]
        assert len(whole) >= 8


def test_the_loss_counts_hidden_values_only():
    truth, hidden = torch.rand(2, 3, 17), torch.zeros(2, 3, 17, dtype=torch.bool)
    hidden[0, 1, 4] = hidden[:, :, 14] = True
    values = truth.clone()
    values[0, 1, 4] += 2
    values[:, 1:, 14] += 100  # terrain counts in the first step only
    values[:, :, 5] += 100
    classes = torch.zeros(2, 3, dtype=torch.long)
    none = torch.zeros(2, 3, dtype=torch.bool)
    loss = reconstruction_loss(values, torch.zeros(2, 3, 9), truth, classes, hidden, none)
    assert float(loss.total) == pytest.approx(4 / 3) and float(loss.weight) == 0
    some = none.clone()
    some[0, 0] = True
    loss = reconstruction_loss(values, torch.zeros(2, 3, 9), truth, classes, hidden, some)
    assert float(loss.classes) == pytest.approx(np.log(9)) and float(loss.weight) == pytest.approx(
        2 / 3
    )


def test_gradients_reach_every_weight_and_the_loss_falls():
    torch.manual_seed(0)
    step, given = MaskedReconstruction(SMALL), sample(b=16, hidden=0.1)
    given["dynamic_world"] = given["dynamic_world"] % 9
    for turn in range(4):
        step(given, torch.Generator().manual_seed(turn))["loss"].backward()
    lost = [n for n, p in step.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.any())]  # fmt: skip
    assert lost == []
    optimiser, losses = torch.optim.AdamW(step.parameters(), 3e-3), []
    for turn in range(60):
        loss = step(given, torch.Generator().manual_seed(turn % 4))
        assert set(loss) == {"loss", "values", "classes"}
        optimiser.zero_grad()
        loss["loss"].backward()
        optimiser.step()
        step.update(turn / 60)
        losses.append(float(loss["loss"].detach()))
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:8])


def test_what_is_missing_is_neither_seen_nor_asked_for():
    step, given = MaskedReconstruction(SMALL), sample(hidden=0.5)
    given["dynamic_world"][:2] = 9
    generator = torch.Generator().manual_seed(0)
    hidden, classes = step.masks(given["mask"], given["dynamic_world"], generator)
    assert not (hidden & (given["mask"] > 0))[:, :, :14].any()
    assert not classes[:2].any()


# --- WorldCereal ----------------------------------------------------------------------------------


def test_codes_hold_features():
    features = np.random.default_rng(0).normal(size=(5, 128)).astype(np.float32)
    codes, scale = scaling.quantise(features)
    back = (codes.astype(np.float32) - 128) * scale[:, None]
    inside = np.abs(features) <= 126 * scale[:, None]
    assert inside.mean() > 0.95
    assert (np.abs(back - features) <= 0.5 * scale[:, None] + 1e-6)[inside].all()


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"),
    [("default_model.pt", "presto"), ("finetuned_presto_model.pt", "presto-worldcereal")],
)
def test_official_files_are_recognised(shared, file, name):
    path = shared / "checkpoints" / "presto" / file
    config, state = recognise(torch.load(path, map_location="cpu", weights_only=True))
    assert config == OFFICIAL[name] and card_of(config).name == name
    encoder = build(config)
    encoder.load_state_dict(state, strict=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in KNOWN
    assert (load(path, OFFICIAL[name]).norm.weight == encoder.norm.weight).all()
    card = card_of(config)
    assert card.from_json(card.to_json()) == card


def test_other_files_are_refused_with_what_is_wrong():
    state = {f"encoder.{n}": t for n, t in Encoder(SMALL).state_dict().items()}
    assert recognise(state, heads=2)[0].encoder_embedding_size == 32
    assert set(recognise({**state, "head.weight": torch.zeros(1)})[1]) == {
        n.removeprefix("encoder.") for n in state
    }
    for content in ({}, {"weights": torch.zeros(3)}, {"state_dict": {}}):
        with pytest.raises(ValueError, match="no Presto checkpoint"):
            recognise(content)
    less = {n: t for n, t in state.items() if "norm1" not in n}
    with pytest.raises(ValueError, match=r"missing blocks\.0\.norm1\.weight"):
        recognise(less)
    wrong = {**state, "encoder.latlon_embed.weight": torch.zeros(32, 4)}
    with pytest.raises(ValueError, match=r"latlon_embed\.weight \(32, 4\) instead of \(32, 3\)"):
        recognise(wrong)


# --- export ---------------------------------------------------------------------------------------


def test_onnx_gives_the_same_at_every_length(tmp_path):
    ready, path = exportable(build(SMALL), SMALL), tmp_path / "presto.onnx"
    torch.onnx.export(
        ready.module, ready.examples[0], str(path), dynamo=False, opset_version=17,
        input_names=list(ready.axes), output_names=["embedding"],
        dynamic_axes={**ready.axes, "embedding": {0: "pixels"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for inputs in ready.examples:
        with torch.no_grad():
            expected = ready.module(*inputs).numpy()
        given = {n: x.numpy() for n, x in zip(ready.axes, inputs, strict=True)}
        np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-4)
