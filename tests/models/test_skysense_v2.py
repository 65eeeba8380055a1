"""SkySense V2, built from its paper: how it must behave, its checkpoints, objective and export."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from earthprint.models.skysense import network as skysense  # noqa: E402
from earthprint.models.skysense import plusplus  # noqa: E402
from earthprint.models.skysense.checkpoint import build as build_relative  # noqa: E402
from earthprint.models.skysense.fusion import FusionConfig  # noqa: E402
from earthprint.models.skysense.objective import Settings  # noqa: E402
from earthprint.models.skysense_v2.checkpoint import card_of, recognise  # noqa: E402
from earthprint.models.skysense_v2.experts import Experts  # noqa: E402
from earthprint.models.skysense_v2.export import exportable  # noqa: E402
from earthprint.models.skysense_v2.network import (  # noqa: E402
    OFFICIAL,
    AdaptivePatchMerging,
    Config,
    SkySenseV2,
    build,
)
from earthprint.models.skysense_v2.objective import (  # noqa: E402
    QueryAggregation,
    QueryDecoder,
    aggregation_loss,
    text_loss,
)

SMALL = Config("s2", 32, (2, 2, 4, 2), 8, 4)
FUSED = replace(SMALL, use="s2+s1", fusion=FusionConfig(256, 64, 1, 1))
SENSORS = {"hr": (3, 128), "s2": (10, 16), "s1": (2, 16)}
SETTINGS = Settings(outputs=16, hidden=8, clusters=4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SkySenseV2(SMALL).eval()


def image(sensor, n=1, side=None, seed=0):
    bands, usual = SENSORS[sensor]
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, bands, side or usual, side or usual, generator=draw)


# --- network: the behaviour that the paper asks for -----------------------------------------------


@pytest.mark.parametrize("sensor", SENSORS)
def test_shapes(model, sensor):
    sides = (32, 16, 8, 4) if sensor == "hr" else (4, 4, 4, 4)
    with torch.no_grad():
        maps = model.maps(sensor, image(sensor))
    assert [tuple(m.shape) for m in maps.values()] == [
        (1, 32 * 2**i, side, side) for i, side in enumerate(sides)]


def test_sensors_share_all_but_tokenizers_and_prompts(model):
    model.maps("s1", image("s1"))[3].sum().backward()
    for name, parameter in model.named_parameters():
        own = name.startswith(("tokenizer.s1", "prompt.s1"))
        foreign = name.startswith(("tokenizer", "prompt")) and not own
        unused = name.startswith(("norm.0", "norm.1", "norm.2"))
        assert (parameter.grad is None) == (foreign or unused), name


@pytest.mark.parametrize("keep, factor", (("mean", 4), ("sum", 1)))
def test_keeping_relates_to_merging_by_the_rule(keep, factor):
    torch.manual_seed(0)
    merging = AdaptivePatchMerging(6, keep)
    x = torch.randn(2, 1, 6)
    merged, small = merging.linear(x.expand(2, 4, 6).contiguous(), (2, 2), True)
    kept, size = merging.linear(x, (1, 1), False)
    assert small == size == (1, 1) and merged.shape == kept.shape == (2, 1, 12)
    torch.testing.assert_close(merged, factor * kept)


def test_reduction_is_a_switch_that_changes_strides_only():
    torch.manual_seed(0)
    free = SkySenseV2(replace(SMALL, reduce=(True, False, False)))
    full = SkySenseV2(SMALL)
    assert {n: t.shape for n, t in free.state_dict().items()} == {
        n: t.shape for n, t in full.state_dict().items()}
    with torch.no_grad():
        maps = free.maps("hr", image("hr", side=64))
    assert [m.shape[-1] for m in maps.values()] == [16, 8, 8, 8]
    assert replace(SMALL, reduce=(True, False, False)).stride == 8 and SMALL.stride == 32


def test_prompts_belong_to_their_sensor(model):
    with torch.no_grad():
        before = {s: model.maps(s, image(s))[3] for s in SENSORS}
        for prompt in model.prompt["s2"].values():
            prompt.add_(torch.randn_like(prompt))
        after = {s: model.maps(s, image(s))[3] for s in SENSORS}
    assert (before["s2"] - after["s2"]).abs().max() > 1e-4
    assert torch.equal(before["s1"], after["s1"]) and torch.equal(before["hr"], after["hr"])
    assert SkySenseV2(replace(SMALL, prompts=0)).maps("s2", image("s2"))[3].shape[-1] == 4


def test_windows_are_local_and_later_stages_are_not(model):
    x = image("hr", side=256)
    other = x.clone()
    other[0, :, 0, 0] += 3
    with torch.no_grad():
        one, two = model.maps("hr", x), model.maps("hr", other)
    assert torch.equal(one[1][:, :, 16:], two[1][:, :, 16:])
    assert not torch.equal(one[1], two[1])
    assert ((one[2] - two[2]).abs().amax(dim=1) > 0).all()


def test_a_token_gets_its_expert_s_output_times_the_gate():
    torch.manual_seed(0)
    experts = Experts(8, 16, 4)
    x = torch.randn(2, 5, 8)
    gate = experts.gate(x).softmax(dim=-1)
    best = gate.argmax(dim=-1)
    expected = torch.stack([
        torch.stack([gate[b, i, best[b, i]] * experts.experts[best[b, i]](x[b, i])
                     for i in range(5)]) for b in range(2)])
    torch.testing.assert_close(experts(x), expected)
    order = torch.randperm(5)
    torch.testing.assert_close(experts(x[:, order]), experts(x)[:, order])
    even = Experts(8, 16, 4, renormalise=True)
    even.load_state_dict(experts.state_dict())
    torch.testing.assert_close(even(x[:, :1]), experts(x[:, :1])
                               / gate[:, :1].amax(dim=-1, keepdim=True))
    two = Experts(8, 16, 4, top=4)
    two.load_state_dict(experts.state_dict())
    every = sum(gate[..., i, None] * experts.experts[i](x) for i in range(4))
    torch.testing.assert_close(two(x), every)


def test_experts_that_are_not_chosen_learn_nothing():
    experts = Experts(8, 16, 3)
    with torch.no_grad():
        experts.gate.weight.zero_()
        experts.gate.weight[1] = 1.0
    experts(torch.rand(1, 4, 8)).sum().backward()
    gradients = [sum(p.grad.abs().sum() for p in e.parameters() if p.grad is not None)
                 for e in experts.experts]
    assert gradients[0] == gradients[2] == 0 < gradients[1]


def test_equal_experts_of_weight_one_are_the_dense_model(model):
    config = replace(SMALL, experts=3, expert_blocks=3, renormalise=True)
    mixed = SkySenseV2(config).eval()
    state = model.state_dict()
    for name in mixed.state_dict():
        if ".moe.experts." in name:
            head, tail = name.split(".moe.experts.")
            state[name] = model.state_dict()[f"{head}.ffn.{tail.split('.', 1)[1]}"]
        elif ".moe.gate" in name:
            state[name] = mixed.state_dict()[name]
    mixed.load_state_dict({n: state[n] for n in mixed.state_dict()})
    with torch.no_grad():
        torch.testing.assert_close(mixed.maps("s2", image("s2"))[3],
                                   model.maps("s2", image("s2"))[3], atol=1e-5, rtol=0)


def test_parameters_at_full_size():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    with torch.device("meta"):
        dense, mixed = (build(config) for config in OFFICIAL.values())
    assert count(mixed) - count(dense) == 1_332_700_160
    assert count(dense.tokenizer) == 87_648
    assert round((count(dense.stages) + count(dense.apm)) / 1e6, 2) == 654.69
    assert count(dense.prompt) == 50_688
    assert count(dense.fusion) + dense.ctpe.numel() == 305_195_008 + 365 * 2816


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="needs its fusion"):
        replace(SMALL, use="s2+s1")
    with pytest.raises(ValueError, match="heads of 7"):
        replace(SMALL, head_width=7)
    with pytest.raises(ValueError, match="no use 'sar'"):
        replace(SMALL, use="sar")
    with pytest.raises(ValueError, match="cannot use 3"):
        Experts(8, 16, 2, top=3)


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("experts, ratio", ((0, 4), (4, 4), (4, 2), (0, 2)))
def test_own_weights_round_trip(experts, ratio):
    config = replace(FUSED, experts=experts, ratio=ratio)
    network = build(config)
    found, state = recognise({"model": network.state_dict(), "step": 3})
    assert found == replace(config, window=8)  # tensors do not show it
    build(found).load_state_dict(state, strict=True)
    cut = dict(network.state_dict())
    del cut["apm.2.weight"]
    with pytest.raises(ValueError, match="missing apm.2.weight"):
        recognise(cut)


def relatives():
    with torch.device("meta"):
        one = build_relative(skysense.OFFICIAL["skysense"]).state_dict()
        two = build_relative(plusplus.OFFICIAL["skysensepp"]).state_dict()

    def part(state, name):
        return {n.removeprefix(f"{name}."): t for n, t in state.items() if n.startswith(name)}

    return {
        "several parts of SkySense,": one,
        "several parts of SkySense++": {"model": two},
        "the high-resolution branch of SkySense,": part(one, "backbone_hr"),
        "the high-resolution branch of SkySense++": part(two, "backbone_hr"),
        "a Sentinel branch of SkySense,": part(one, "backbone_s1"),
        "a Sentinel branch of SkySense++": part(two, "backbone_s2"),
        "the fusion of SkySense": part(one, "fusion"),
        "an up-head of SkySense": part(one, "head_s2"),
    }


def test_relatives_are_refused_by_name():
    for name, content in relatives().items():
        with pytest.raises(ValueError) as failure:
            recognise(content)
        assert f"this is {name}" in str(failure.value)
    with pytest.raises(ValueError, match="no SkySense V2 checkpoint"):
        recognise({"conv.weight": torch.zeros(1)})


@pytest.mark.parametrize("use", ("hr", "s2", "s2+s1", "hr+s2+s1"))
def test_cards_say_what_is_our_reading(use):
    card = card_of(replace(OFFICIAL["skysense-v2"], use=use))
    assert any("Our reading" in line for line in card.limits)
    assert card.patch == (32 if "hr" in use else 4) and card.variant == use
    assert card.dimensions == (1024 if "+" in use else 2816)


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use, experts", (("s2", 0), ("hr", 0), ("s2+s1", 3), ("hr+s2+s1", 0)))
def test_export_agrees_with_torch_over_lengths_and_windows(use, experts, tmp_path):
    torch.manual_seed(0)
    config = Config(use, 16, (1, 1, 2, 1), 8, 4, experts=experts, expert_blocks=2,
                    fusion=FusionConfig(128, 64, 1, 1))
    given = exportable(SkySenseV2(config).eval(), config)
    path = tmp_path / "graph.onnx"
    torch.onnx.export(given.module, given.examples[0], str(path), dynamo=False, opset_version=17,
                      input_names=list(given.axes), output_names=["embedding"],
                      dynamic_axes={**given.axes, "embedding": {0: "rows"}})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    card = card_of(config)
    for example in given.examples:
        with torch.no_grad():
            expected = given.module(*example).numpy()
        (found,) = session.run(
            None, {n: x.numpy() for n, x in zip(given.axes, example, strict=True)})
        assert found.shape == (len(example[0]) * (card.window // card.patch) ** 2,
                               config.dimensions)
        assert np.abs(found - expected).max() < 1e-4


# --- objective ------------------------------------------------------------------------------------


def windows(n=2, side=16, dates=(3, 2), seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        "s2": torch.randn(n, 10, dates[0], side, side, generator=draw),
        "s1": torch.randn(n, 2, dates[1], side, side, generator=draw),
        "s2_seen": torch.rand(n, dates[0], side, side, generator=draw) < 0.9,
        "s1_seen": torch.rand(n, dates[1], side, side, generator=draw) < 0.9,
        "s2_day": torch.randint(0, 365, (n, dates[0]), generator=draw),
    }


def views(queries=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(3, queries, 6, generator=draw) for _ in range(4)]


def test_aggregation_pairs_equal_queries_of_global_and_local_views():
    zero = torch.zeros(6)
    given = views()
    order = torch.tensor([2, 0, 3, 1])
    loss = aggregation_loss(*given, zero)
    torch.testing.assert_close(loss, aggregation_loss(*(z[:, order] for z in given), zero))
    assert not torch.isclose(loss, aggregation_loss(given[0][:, order], *given[1:], zero))
    sg, sl, tg, tl = views(queries=1)

    def one(s, t):
        target = (t / 0.04).softmax(dim=-1)
        return -(target * (s / 0.1).log_softmax(dim=-1)).sum(dim=-1).mean()

    expected = (one(sg, tl) + one(sl, tg)) / 2
    torch.testing.assert_close(aggregation_loss(sg, sl, tg, tl, zero), expected)
    torch.testing.assert_close(aggregation_loss(sg, sl, sg, sl, zero),
                               aggregation_loss(sl, sg, sl, sg, zero))


def test_no_gradient_reaches_the_teacher_s_side():
    given = [z.requires_grad_() for z in views()]
    aggregation_loss(*given, torch.zeros(6)).backward()
    assert [z.grad is not None for z in given] == [True, True, False, False]


def test_queries_ignore_what_is_not_seen():
    torch.manual_seed(0)
    decoder = QueryDecoder(8, 4, 1)
    x, seen = torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool)
    seen[:, 4:] = False
    other = x.clone()
    other[:, 4:] += 5
    torch.testing.assert_close(decoder(x, seen), decoder(other, seen))
    assert torch.isfinite(decoder(x, torch.zeros_like(seen))).all()


def test_text_loss_looks_at_labelled_pixels_only():
    texts = torch.eye(3)
    features = torch.tensor([[9.0, 0, 0], [0, 9, 0], [1, 1, 1]])
    assert text_loss(features, texts, torch.tensor([0, 1, -1])) < 1e-4
    assert text_loss(features, texts, torch.tensor([1, 0, -1])) > 5
    assert text_loss(features, texts, torch.tensor([-1, -1, -1])) == 0


def test_gradients_reach_every_parameter_and_the_teachers_follow():
    torch.manual_seed(0)
    objective = QueryAggregation(SkySenseV2(FUSED), SETTINGS, queries=4, text_width=5)
    labels = torch.randint(-1, 3, (2, 4, 4))
    inputs = windows() | {"texts": torch.randn(3, 5), "labels": labels}
    losses = objective(inputs, torch.Generator().manual_seed(1))
    assert set(losses) == {"loss", "pixel", "object", "image", "align", "queries", "text"}
    losses["loss"].backward()
    for name, parameter in objective.encoder.named_parameters():
        unused = name.startswith(("tokenizer.hr", "prompt.hr", "norm.0", "norm.1", "norm.2"))
        assert (parameter.grad is None) == unused, name
    assert objective.decoder.queries.grad is not None
    old = objective.teacher_decoder.queries.clone()
    with torch.no_grad():
        objective.decoder.queries.add_(1)
    objective.update(0.0)
    moved = (objective.teacher_decoder.queries - old).mean().item()
    assert moved == pytest.approx(1 - SETTINGS.momentum, rel=1e-2)


def test_the_loss_falls():
    torch.manual_seed(0)
    objective = QueryAggregation(SkySenseV2(SMALL), SETTINGS, queries=4)
    optimiser = torch.optim.AdamW(objective.parameters(), 1e-3)
    inputs = {k: v for k, v in windows().items() if k in ("s2", "s2_seen")}
    draw, curve = torch.Generator().manual_seed(3), []
    for step in range(20):
        loss = objective(inputs, draw)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.update(step / 20)
        curve.append(loss.item())
    assert np.mean(curve[-5:]) < 0.8 * np.mean(curve[:3])
