"""TiMo: the reference's numbers, its attention, checkpoints, pretraining and export."""

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from earthprint.models import conformance  # noqa: E402
from earthprint.models.timo import adapter  # noqa: E402
from earthprint.models.timo.checkpoint import card_of, layout_for, recognise  # noqa: E402
from earthprint.models.timo.export import exportable  # noqa: E402
from earthprint.models.timo.network import (  # noqa: E402
    OFFICIAL,
    Config,
    DifferentialGyroscopeAttention,
    GyroscopeAttention,
    Timo,
    build,
    lower_median,
    shapes,
    time_and_space_code,
)
from earthprint.models.timo.objective import (  # noqa: E402
    MaskedModelling,
    MaskedTimo,
    choose,
    targets,
    units_of,
)
from earthprint.models.timo.segmentation import TimoSegmentation  # noqa: E402

GOLDEN = conformance.shared_folder() / "golden" / "timo"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)
FULL = ("full",) * 4
SMALL = Config((16, 16, 32, 32), (2, 2, 2, 4), (1, 1, 2, 1))


@pytest.mark.parametrize("path", FOUND)
def test_agrees_with_the_reference(path):
    passed, line = conformance.check(path)
    assert passed, line


def randomised(network, seed=0):
    """Every tensor random, so that nothing is hidden by a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.2, generator=generator)
    return network.eval()


# --- attention and positions ----------------------------------------------------------------------


def test_the_median_of_an_even_number_is_the_lower_middle():
    x = torch.tensor([4.0, 1.0, 3.0, 2.0]).reshape(1, 1, 4, 1, 1)
    assert lower_median(x).item() == 2
    assert lower_median(x[:, :, :3]).item() == 3


@pytest.mark.parametrize("dates", [1, 2, 5])
def test_differential_attention_equals_one_softmax_over_all_scores(dates):
    """The cheap form against the definition: scores of other dates beside I + D of the own one."""
    torch.manual_seed(0)
    attention = randomised(DifferentialGyroscopeAttention(8, 2))
    q, k, v = torch.randn(3, 2, 2, dates, 6, 4)
    gate = attention.cheap_operation[1](
        attention.cheap_operation[0]((q - lower_median(q)[:, :, None]).reshape(-1, 4))
    )
    gate = gate.relu().reshape(2, 2, dates, 6, 1)
    within = (lower_median(q) @ lower_median(k).transpose(-2, -1))[:, :, None] + gate
    across = torch.einsum("bhtnd,bhsnd->bhtns", q, k)
    across = across.masked_fill(torch.eye(dates, dtype=torch.bool)[:, None], -math.inf)
    weights = torch.cat([across, within], dim=-1).softmax(dim=-1)
    expected = torch.einsum("bhtns,bhsnd->bhtnd", weights[..., :dates], v)
    expected = expected + weights[..., dates:] @ v
    torch.testing.assert_close(attention.attend(q, k, v), expected, atol=1e-5, rtol=1e-5)


def test_a_token_sees_its_date_and_its_place_only():
    torch.manual_seed(0)
    attention = GyroscopeAttention(8, 2).eval()
    x = torch.randn(1, 3, 4, 8, requires_grad=True)
    attention(x)[0, 1, 2].sum().backward()
    seen = x.grad.abs().sum(dim=-1)[0] > 0
    expected = torch.zeros(3, 4, dtype=torch.bool)
    expected[1], expected[:, 2] = True, True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("kind", [GyroscopeAttention, DifferentialGyroscopeAttention])
def test_the_quirk_of_unscaled_scores_can_be_switched(kind):
    """Scaled scores are those of queries divided by sqrt(d), but the gate keeps the queries."""
    torch.manual_seed(0)
    plain, scaled = kind(8, 2).eval(), kind(8, 2, scaled=True).eval()
    scaled.load_state_dict(plain.state_dict())
    q, k, v = torch.randn(3, 1, 2, 3, 5, 4)
    found = scaled.attend(q, k, v)
    assert not torch.allclose(found, plain.attend(q, k, v), atol=1e-3)
    if kind is GyroscopeAttention:
        torch.testing.assert_close(found, plain.attend(q / 2, k, v))
    else:
        plain.cheap_operation[0].weight.data *= 2
        torch.testing.assert_close(found, plain.attend(q / 2, k, v))


def test_channels_of_the_positions():
    table = time_and_space_code(3, 2, 5, 32)  # date 2, row 1, column 3
    token = table[2, 1 * 5 + 3]
    when = [2 * 10000 ** (-k / 8) for k in range(8)]
    across = [3 * 10000 ** (-k / 4) for k in range(4)]
    down = [1 * 10000 ** (-k / 4) for k in range(4)]
    expected = np.concatenate([f(x) for x in (when, across, down) for f in (np.sin, np.cos)])
    np.testing.assert_allclose(token, expected, atol=1e-6)


def test_sizes_and_numbers_of_dates_are_free():
    network = randomised(build(SMALL))
    for dates, height, width in ((1, 32, 32), (2, 36, 36), (5, 64, 32)):
        with torch.no_grad():
            maps = network(torch.rand(2, dates, 3, height, width))
        assert all(x.isfinite().all() for x in maps)
        assert [x.shape[:2] for x in maps] == [(2 * dates, d) for d in SMALL.widths]
        assert maps[0].shape[2:] == (height // 4, width // 4)
        assert maps[2].shape[2:] == (math.ceil(height / 16), math.ceil(width / 16))


def test_series_of_a_batch_do_not_mix():
    network = randomised(build(SMALL))
    series = torch.rand(3, 2, 3, 32, 32)
    with torch.no_grad():
        together = network(series)[-1].unflatten(0, (3, 2))
        alone = network(series[1:2])[-1]
    torch.testing.assert_close(together[1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"heads": (3, 2, 2, 4)}, {"attention": ("none",) * 4}, {"depths": (1, 1)}, {"positions": "t"}],
    ids=lambda w: next(iter(w)),
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="TiMo"):
        replace(SMALL, **wrong)


def test_official_sizes_have_the_published_number_of_parameters():
    published = {"base": 91.22, "large": 298.4, "huge": 674.5}
    for name, millions in published.items():
        with torch.device("meta"):
            network = Timo(replace(OFFICIAL[name], classes=1000))
        count = sum(p.numel() for p in network.parameters()) / 1e6
        assert count == pytest.approx(millions, rel=1e-3)


# --- checkpoints ----------------------------------------------------------------------------------


def _segmentation():
    network = randomised(TimoSegmentation(SMALL, classes=3, channels=8))
    return SMALL, network.state_dict(), network.encoder


def _distributed():
    config, state, encoder = _segmentation()
    return config, {f"module.{name}": t for name, t in state.items()}, encoder


def _classifier():
    config = replace(SMALL, gates_everywhere=True, classes=2)
    network = randomised(build(config))
    return replace(config, classes=0), network.state_dict(), network


def _pretraining():
    config = replace(SMALL, attention=FULL, classes=7)
    network = randomised(MaskedTimo(config, width=16, depth=1, heads=2))
    return replace(config, classes=0), network.state_dict(), network


FORMS = {f.__name__.strip("_"): f for f in (_segmentation, _distributed, _classifier, _pretraining)}


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_file_is_recognised(form):
    expected, state, encoder = FORMS[form]()
    for content in (state, {"model": state, "epoch": 3, "args": object(), "optimizer": {}}):
        config, clean = recognise(content, heads=SMALL.heads)
        assert config == expected
    again = build(config).eval()
    again.load_state_dict(clean, strict=True)
    series = torch.rand(1, 2, 3, 32, 32)
    with torch.no_grad():
        for one, other in zip(again(series), encoder(series), strict=True):
            assert torch.equal(one, other)


def test_other_and_damaged_files_are_refused_by_name():
    _, state, _ = _classifier()

    def refusal(content):
        with pytest.raises(ValueError) as caught:
            recognise(content, heads=SMALL.heads)
        return str(caught.value)

    assert "no TiMo checkpoint" in refusal({"a": torch.zeros(1)})
    assert "no TiMo checkpoint" in refusal({"model": {"cls_token": torch.zeros(1)}})
    lost = {k: v for k, v in state.items() if not k.startswith("block3.0.norm")}
    assert "missing block3.0.norm1.weight" in refusal(lost)
    normless = {k: v for k, v in state.items() if k != "norm4.weight"}
    assert "missing norm4.weight" in refusal(normless)
    assert "unknown strange" in refusal({**state, "strange": torch.zeros(1)})
    wrong = {**state, "norm2.bias": torch.zeros(5)}
    assert "norm2.bias (5,) instead of (16,)" in refusal(wrong)
    with pytest.raises(ValueError, match="heads is unknown"):
        recognise(_pretraining()[1])
    assert recognise(state)[0].heads == SMALL.heads  # a classifier's gates show them
    _, segmentation, _ = _segmentation()
    gateless = {k: v for k, v in segmentation.items() if "block1.0.attn.cheap" not in k}
    assert "missing block1.0.attn.cheap_operation.0.weight" in refusal(gateless)
    gate = "block1.0.attn.cheap_operation.0.weight"
    with pytest.raises(ValueError, match="does not divide"):
        recognise({**state, gate: torch.zeros(1, 99)})


@pytest.mark.parametrize("size", OFFICIAL)
def test_official_sizes_are_recognised_and_have_cards(size):
    kinds = {
        "millionst": replace(OFFICIAL[size], attention=FULL),
        "sen12-flood": replace(OFFICIAL[size], gates_everywhere=True),
        "multisenge": replace(OFFICIAL[size], bands=10),
        "mtlcc": replace(OFFICIAL[size], bands=13),
        "kuro-siwo": replace(OFFICIAL[size], bands=2),
    }
    for variant, wanted in kinds.items():
        with torch.device("meta"):
            state = build(wanted).state_dict()
        config, _ = recognise({"model": state})
        assert config == wanted
        card = card_of(config)
        assert card.name == f"timo-{size}-{variant}" and card.variant == variant
        assert card.sensors[0].bands == adapter.LAYOUTS[variant].bands
        assert card.dimensions == config.widths[2] and card.window % card.patch == 0
    with torch.device("meta"):
        state = build(OFFICIAL[size]).state_dict()
    short = {k: v for k, v in state.items() if not k.startswith("block4.1.")}
    with pytest.raises(ValueError, match=r"missing block4\.1\."):
        recognise(short)


def test_bands_that_nobody_knows_are_refused():
    with pytest.raises(ValueError, match="TiMo with 4 bands"):
        layout_for(replace(SMALL, bands=4))


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "attention", [SMALL.attention, FULL, ("gyroscope", "differential", "full", "full")],
    ids=["published", "pretraining", "gyroscope"],
)  # fmt: skip
def test_an_exported_network_agrees_at_every_number_of_dates(attention, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    config = replace(SMALL, attention=attention, depths=(1, 1, 1, 1))
    network = randomised(build(config))
    ready = exportable(network, config)
    path = str(tmp_path / "network.onnx")
    torch.onnx.export(
        ready.module, ready.examples[0], path, dynamo=False, opset_version=17,
        input_names=list(ready.axes), output_names=["embedding"],
        dynamic_axes={**ready.axes, "embedding": {0: "rows"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path)
    for (series,) in ready.examples:
        (found,) = session.run(None, {"series": series.numpy()})
        with torch.no_grad():
            maps = network(series)[2].unflatten(0, series.shape[:2])
        expected = maps.mean(dim=1).flatten(2).transpose(1, 2).flatten(0, 1)
        assert found.shape == (len(series) * 64, 32)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


# --- pretraining ----------------------------------------------------------------------------------


def test_masks_keep_the_least_noise():
    keep = choose(torch.rand(3, 147, generator=torch.Generator().manual_seed(0)), 0.75)
    assert keep.sum(dim=1).tolist() == [36, 36, 36]
    keep = choose(torch.tensor([[0.4, 0.1, 0.3, 0.2]]), 0.5)
    assert keep.tolist() == [[False, True, False, True]]


def test_units_hold_bands_then_rows_then_columns():
    series = torch.arange(2 * 3 * 64 * 96.0).reshape(1, 2, 3, 64, 96)
    units = units_of(series)
    assert units.shape == (1, 12, 3072)
    unit = units[0, 1 * 6 + 1 * 3 + 2].reshape(3, 32, 32)  # date 1, row 1, column 2
    assert torch.equal(unit, series[0, 1, :, 32:, 64:])


def test_the_quirk_of_normalised_targets_can_be_switched():
    masked = torch.randn(5, 48) * torch.arange(1.0, 6)[:, None] + 3
    assert targets(masked) is masked
    batch, unit = targets(masked, "batch"), targets(masked, "unit")
    assert batch.mean().item() == pytest.approx(0, abs=1e-5)
    assert batch.var().item() == pytest.approx(1, abs=1e-4)
    assert batch.var(dim=1).std() > 0.1  # bright units stay bright
    torch.testing.assert_close(unit.var(dim=1), torch.ones(5), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="normalised"):
        targets(masked, "pixel")


def test_the_encoder_never_sees_what_is_masked():
    network = randomised(MaskedTimo(replace(SMALL, attention=FULL), 16, 1, 2))
    series = torch.rand(1, 2, 3, 64, 64)
    keep = torch.zeros(1, 8, dtype=torch.bool)
    keep[0, [1, 6]] = True
    hidden = ~keep.reshape(1, 2, 1, 2, 2).repeat_interleave(32, 3).repeat_interleave(32, 4)
    with torch.no_grad():
        one = network.encode_visible(series, keep)
        other = network.encode_visible(torch.where(hidden, 9.0, series), keep)
    assert one.shape == (1, 2, 32) and torch.equal(one, other)
    with pytest.raises(ValueError, match="full attention"):
        MaskedTimo(SMALL)


def test_pretraining_lowers_the_loss_and_reaches_every_weight():
    torch.manual_seed(0)
    encoder = MaskedTimo(replace(SMALL, attention=FULL), width=32, depth=1, heads=2)
    objective = MaskedModelling(encoder)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2 * 2, 3, 4, 4, generator=generator)
    series = torch.nn.functional.interpolate(coarse, (96, 96), mode="bilinear")
    inputs = {"series": series.unflatten(0, (2, 2))}
    losses = []
    for step in range(30):
        loss = objective(inputs, generator)["loss"]
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            without = [n for n, p in encoder.named_parameters() if p.grad is None]
            assert without == []
        optimiser.step()
        objective.update((step + 1) / 30)
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


def test_what_pretraining_made_is_what_is_exported():
    """The maps of the pretrained encoder are those of the plain one with its tensors."""
    config = replace(SMALL, attention=FULL)
    pretrained = randomised(MaskedTimo(config, 16, 1, 2))
    _, state = recognise(pretrained.state_dict(), heads=config.heads)
    assert state.keys() == shapes(build(config)).keys()
    ready = exportable(pretrained, config)
    series = torch.rand(1, 3, 3, 128, 128)
    with torch.no_grad():
        assert ready.module(series).shape == (64, 32)


# --- segmentation and classification --------------------------------------------------------------


def test_a_segmentation_learns_a_class_that_differs_in_time():
    torch.manual_seed(0)
    network = TimoSegmentation(SMALL, classes=2, channels=8, drop_path=0.1).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    series = torch.zeros(2, 2, 3, 32, 32)
    series[:, 1, :, :, 16:] = 1.0  # changes on the right
    labels = (torch.arange(32) >= 16).long().expand(2, 32, 32)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(network(series), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert network.each_date(series).shape == (4, 2, 32, 32)


def test_a_classifier_gives_scores_of_dates_and_of_the_whole():
    network = randomised(build(replace(SMALL, classes=5, gates_everywhere=True)))
    with torch.no_grad():
        dates, whole = network.classify(torch.rand(2, 3, 3, 32, 32))
    assert dates.shape == (6, 5) and whole.shape == (2, 5)
    torch.testing.assert_close(dates.unflatten(0, (2, 3)).mean(dim=1), whole)
