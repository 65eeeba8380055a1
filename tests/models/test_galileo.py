"""Galileo: the reference's numbers, masks and losses, checkpoints, export."""

import hashlib
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402

from earthprint.models import conformance  # noqa: E402
from earthprint.models.galileo import adapter, masking  # noqa: E402
from earthprint.models.galileo.checkpoint import KNOWN, build, card_of, recognise  # noqa: E402
from earthprint.models.galileo.decoder import Decoder, DecoderConfig  # noqa: E402
from earthprint.models.galileo.export import PatchFeatures, exportable  # noqa: E402
from earthprint.models.galileo.network import (  # noqa: E402
    OFFICIAL,
    Config,
    Encoder,
    average,
    average_per_patch,
    load,
    resize_kernel,
)
from earthprint.models.galileo.objective import (  # noqa: E402
    PatchDisc,
    exit_depths,
    patch_disc,
    view_of,
)
from earthprint.models.galileo.products import GROUP_NAMES  # noqa: E402
from earthprint.models.galileo.tokens import Tokens  # noqa: E402

GOLDEN = conformance.shared_folder() / "golden" / "galileo"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)
SMALL = Config(32, depth=2, num_heads=2, mlp_ratio=2, max_patch_size=4, drop_path=0.0)
SMALL_DECODER = DecoderConfig(32, 32, depth=1, num_heads=2, mlp_ratio=2)


@pytest.mark.parametrize("path", FOUND)
def test_agrees_with_the_reference(path):
    passed, line = conformance.check(path)
    assert passed, line


# --- network --------------------------------------------------------------------------------------


def small(seed=0):
    torch.manual_seed(seed)
    return build(SMALL)


def sample(b=2, side=8, steps=3, seed=0, hidden=0.3):
    """Values of all products, masks by pixel that are constant within 4 x 4, months."""
    generator = torch.Generator().manual_seed(seed)

    def masked(*shape, places=False):
        mask = (torch.rand(*shape, generator=generator) < hidden).float()
        return mask.repeat_interleave(4, 1).repeat_interleave(4, 2) if places else mask

    cells = side // 4
    values = (
        torch.rand(b, side, side, steps, 13, generator=generator),
        torch.rand(b, side, side, 16, generator=generator),
        torch.rand(b, steps, 6, generator=generator),
        torch.rand(b, 18, generator=generator),
    )
    masks = Tokens(
        masked(b, cells, cells, steps, 7, places=True), masked(b, cells, cells, 3, places=True),
        masked(b, steps, 3), masked(b, 4),
    )  # fmt: skip
    return values, masks, torch.arange(steps).expand(b, -1)


@torch.no_grad()
def test_a_masked_value_changes_nothing():
    values, masks, months = sample()
    encoder = small()
    before = average(*encoder(*values, masks, months, 4))
    spoiled = values[0].clone()
    spoiled[..., :2] += 100 * masks.s_t[..., :1]
    after = average(*encoder(spoiled, *values[1:], masks, months, 4))
    torch.testing.assert_close(before, after)


@torch.no_grad()
def test_samples_of_a_batch_do_not_touch():
    values, masks, months = sample(b=3)
    encoder = small()
    together = average_per_patch(*encoder(*values, masks, months, 2))
    alone = Tokens(*(kind[1:2] for kind in masks.kinds()))
    single = encoder(*(v[1:2] for v in values), alone, months[1:2], 2)
    torch.testing.assert_close(together[1:2], average_per_patch(*single), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_ground_size_moves_the_place_code_only():
    values, masks, months = sample(side=4)
    encoder = small()
    fine, coarse = (encoder(*values, masks, months, 4, metres)[0].s_t for metres in (10, 60))
    torch.testing.assert_close(fine, coarse)  # one patch stands at the origin at any size
    fine, coarse = (encoder(*values, masks, months, 2, metres)[0].s_t for metres in (10, 60))
    assert (fine - coarse).abs().max() > 1e-3


def test_a_kernel_of_its_own_size_is_left_alone():
    kernel = torch.randn(4, 2, 8, 8)
    assert torch.equal(resize_kernel(kernel, 8), kernel)


def test_a_resized_kernel_can_be_learnt_after_inference():
    with torch.inference_mode():
        resize_kernel(torch.randn(4, 2, 8, 8), 5)
    kernel = torch.randn(4, 2, 8, 8, requires_grad=True)
    resize_kernel(kernel, 5).sum().backward()
    assert kernel.grad.abs().sum() > 0


def test_the_adapter_scales_as_the_pretraining_did():
    if not GOLDEN.is_dir():
        pytest.skip(f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
    case = conformance.load_case(GOLDEN / "normalisation")
    values = case.inputs["s_t_x_physical"].astype(np.float64)
    values[:, 2:12] /= 10000
    found = adapter.space_time(values)
    np.testing.assert_allclose(found, case.outputs["s_t_x_pretraining"], atol=1e-6)


# --- masks ----------------------------------------------------------------------------------------


def everything(b=3, side=5, steps=12):
    return Tokens(
        *(torch.ones(shape, dtype=torch.bool) for shape in (
            (b, side, side, steps, 7), (b, side, side, 3), (b, steps, 3), (b, 4)))
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("strategy", [masking.by_time, masking.by_space, masking.at_random])
def test_masks_leave_something_to_see_and_to_predict(strategy, seed):
    available = everything()
    available.s_t[0, :, :, :, 1:] = False  # a sample with radar only
    available.sp[0], available.t[0], available.st[0] = False, False, False
    masks = masking.draw(strategy, available, torch.Generator().manual_seed(seed))
    state, there = masks.mask_sequence(), available.mask_sequence()
    assert ((state == 0).any(dim=1) & (state == 2).any(dim=1)).all()
    assert (state[~there] == 1).all()


def test_dates_are_hidden_as_a_whole():
    masks = masking.by_time(everything(), torch.Generator().manual_seed(3))
    assert (masks.s_t == masks.s_t[:, :1, :1]).all()
    for sample_of in masks.s_t[:, 0, 0]:  # (T, 7): each date has one role at most
        roles = [set(date.tolist()) - {1} for date in sample_of]
        assert all(len(role) <= 1 for role in roles)
        assert sum(role == {0} for role in roles) <= 1  # a tenth of twelve
        assert sum(role == {2} for role in roles) <= 6
    assert (masks.st == masks.st[:1]).all()


def test_patches_are_hidden_as_a_whole():
    masks = masking.by_space(everything(), torch.Generator().manual_seed(3))
    assert (masks.s_t == masks.s_t[:, :, :, :1]).all()
    assert (masks.t == masks.t[:, :1]).all()
    for sample_of in masks.s_t[:, :, :, 0].flatten(1, 2):
        assert all(len(set(patch.tolist()) - {1}) <= 1 for patch in sample_of)


def test_random_masks_have_the_paper_s_shares():
    available = everything()
    state = masking.at_random(available, torch.Generator().manual_seed(0)).mask_sequence()
    count = state.shape[1]
    assert (state == 0).sum(dim=1).tolist() == [int(0.1 * count)] * 3
    assert (state == 2).sum(dim=1).tolist() == [int(0.5 * count)] * 3


# --- objective ------------------------------------------------------------------------------------


def test_depths_of_targets():
    depths = exit_depths(12)
    assert set(depths) == set(GROUP_NAMES)
    assert (depths["S1"], depths["NDVI"], depths["DW_static"]) == (12, 6, 0)


def test_patch_disc_knows_right_from_wrong():
    targets = torch.nn.functional.normalize(torch.randn(2, 6, 16), dim=2)
    hidden = torch.ones(2, 6, dtype=torch.bool)
    hidden[0, 4:] = False
    right, wrong = (patch_disc(t, targets, hidden) for t in (targets, targets.flip(1)))
    assert right < 0.05 < wrong
    same = torch.ones(2, 6, 16)  # indistinguishable: 2 tau log n
    chance = 0.2 * (np.log(4) + np.log(6)) / 2
    assert float(patch_disc(same, same, hidden)) == pytest.approx(chance, rel=1e-5)


def all_inputs(side=8, steps=4, b=4):
    (s_t, sp, t, st), masks, months = sample(b=b, side=side, steps=steps, hidden=0.0)
    return {
        "s_t": s_t, "sp": sp, "t": t, "st": st, "s_t_mask": masks.s_t, "sp_mask": masks.sp,
        "t_mask": masks.t, "st_mask": masks.st, "months": months,
    }  # fmt: skip


def test_gradients_reach_every_weight_and_the_copy_follows():
    torch.manual_seed(0)
    step = PatchDisc(SMALL, SMALL_DECODER, patches=(1, 2, 4)).train()
    for turn in range(12):
        loss = step(all_inputs(), torch.Generator().manual_seed(turn))
        assert set(loss) == {"loss", "global", "local"}
        loss["loss"].backward()
    lost = [n for n, p in step.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.any())]  # fmt: skip
    assert lost == []
    assert all(p.grad is None for p in step.target_encoder.parameters())
    with torch.no_grad():
        step.encoder.norm.weight += 1
    step.update(0.0)
    assert float(step.target_encoder.norm.weight[0].detach()) == pytest.approx(1.004)
    step.update(1.0)
    assert float(step.target_encoder.norm.weight[0].detach()) == pytest.approx(1.004)


def test_views_have_the_shapes_that_were_asked_for():
    step = PatchDisc(SMALL, SMALL_DECODER, patches=(2,), shapes=((3, 2),))
    view = step.view(view_of(all_inputs()), torch.Generator().manual_seed(0))
    assert view.s_t.shape[1:4] == (6, 6, 2)


def test_a_patch_with_a_masked_pixel_is_not_there():
    step, inputs = PatchDisc(SMALL, SMALL_DECODER, patches=(2,)), all_inputs()
    inputs["s_t_mask"][:, 3, 5, :, 1] = 1
    for turn in range(8):
        view = step.view(view_of(inputs), torch.Generator().manual_seed(turn))
        masks = view.masks.s_t
        assert (masks == masks[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)).all()
        if masks.shape[1] == 8:
            assert int(masks[0, :, :, 0].sum()) == 4 and masks[..., 1].any()


@pytest.mark.parametrize("side", [1, 8])
def test_the_loss_falls_on_what_the_adapter_yields(side):
    torch.manual_seed(0)
    step = PatchDisc(SMALL, SMALL_DECODER, patches=(1, 2)).train()
    given = all_inputs(side=4 if side == 1 else side, steps=6)
    given = {
        "s_t": given["s_t"][:, :side, :side], "s_t_mask": given["s_t_mask"][:, :side, :side],
        "months": given["months"],
    }  # fmt: skip
    given["s_t_mask"][0, ..., 0] = 1  # no radar in the first sample
    optimiser = torch.optim.AdamW(step.parameters(), 3e-3)
    losses = []
    for turn in range(30):
        loss = step(given, torch.Generator().manual_seed(turn % 2))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step.update(turn / 30)
        losses.append(float(loss.detach()))
    assert np.mean(losses[-6:]) < 0.85 * np.mean(losses[:6])


# --- checkpoints ----------------------------------------------------------------------------------


def test_the_official_file_is_recognised(shared):
    folder = shared / "checkpoints" / "galileo" / "nano"
    content = torch.load(folder / "encoder.pt", map_location="cpu", weights_only=True)
    config, state = recognise(content)
    assert config == OFFICIAL["nano"]
    build(config).load_state_dict(state, strict=True)
    assert hashlib.sha256((folder / "encoder.pt").read_bytes()).hexdigest() in KNOWN
    official = json.loads((folder / "config.json").read_text())["training"]["token_exit_cfg"]
    assert exit_depths(config.depth) == official
    assert (load(folder).norm.weight == state["norm.weight"]).all()


@pytest.mark.parametrize("size", OFFICIAL)
def test_every_official_size_is_recognised(size):
    with torch.device("meta"):
        state = Encoder(OFFICIAL[size]).state_dict()
    wrapped = {"model": {f"module.{n.replace('blocks.', 'blocks.backbone.')}": t
                         for n, t in state.items()}}  # fmt: skip
    config, found = recognise(wrapped)
    assert config == OFFICIAL[size] and set(found) == set(state)
    for variant in ("pixel", "patch"):
        card = card_of(config, variant)
        assert card.dimensions == config.embedding_size and size in card.name
        assert card.from_json(card.to_json()) == card


def test_other_files_are_refused_with_what_is_wrong():
    with torch.device("meta"):
        state = dict(Encoder(OFFICIAL["nano"]).state_dict())
        predictor = Decoder().state_dict()
    with pytest.raises(ValueError, match="its predictor.*choose encoder.pt"):
        recognise(predictor)
    for content in ({}, {"weights": torch.zeros(3)}, {"model": 3}):
        with pytest.raises(ValueError, match="no Galileo checkpoint"):
            recognise(content)
    cut = dict(list(state.items())[:60])
    with pytest.raises(ValueError, match="missing"):
        recognise(cut)
    less = {n: t for n, t in state.items() if n != "blocks.1.attn.k.bias"}
    with pytest.raises(ValueError, match=r"missing blocks\.1\.attn\.k\.bias"):
        recognise(less)
    with pytest.raises(ValueError, match="unknown something"):
        recognise({**state, "something": torch.zeros(1)})
    wrong = {**state, "sp_channel_embed": torch.zeros(4, 32)}
    with pytest.raises(ValueError, match=r"sp_channel_embed \(4, 32\) instead of \(3, 32\)"):
        recognise(wrong)
    with torch.device("meta"):
        odd = Encoder(SMALL).state_dict()
    with pytest.raises(ValueError, match="how many attention heads"):
        recognise(odd)
    assert recognise(odd, heads=2)[0].num_heads == 2


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["pixel", "patch"])
def test_onnx_gives_the_same_at_every_length(variant, tmp_path):
    network = small()
    ready = exportable(network, SMALL, variant)
    path = tmp_path / "galileo.onnx"
    torch.onnx.export(
        ready.module, ready.examples[0], str(path), dynamo=False, opset_version=17,
        input_names=list(ready.axes), output_names=["embedding"],
        dynamic_axes={**ready.axes, "embedding": {0: "rows"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for inputs in ready.examples:
        with torch.no_grad():
            expected = ready.module(*inputs).numpy()
        given = {n: x.numpy() for n, x in zip(ready.axes, inputs, strict=True)}
        (found,) = session.run(None, given)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert found.shape == ((len(inputs[0]) * (1 if variant == "pixel" else 16)), 32)


@torch.no_grad()
def test_the_graph_computes_what_the_whole_network_does():
    """Products that are always masked may be left out, and kernels resized beforehand."""
    network = small()
    (s_t, _, _, _), masks, months = sample(b=2, side=8, steps=3)
    masks.s_t[:, :, :, 0, 0] = 0
    absent = Tokens(masks.s_t, torch.ones(2, 8, 8, 3), torch.ones(2, 3, 3), torch.ones(2, 4))
    zeros = torch.zeros(2, 8, 8, 16), torch.zeros(2, 3, 6), torch.zeros(2, 18)
    expected = average_per_patch(*network(s_t, *zeros, absent, months, 2)).flatten(0, 1)
    found = PatchFeatures(network, 2).eval()(s_t, masks.s_t, months)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_patch_s_place_in_the_window_leaves_little_of_a_pattern(shared):
    """On noise that the pattern was not measured on."""
    network = load(shared / "checkpoints" / "galileo" / "nano")
    ready = exportable(network, network.config, "patch").module
    noise = 0.5 + 0.25 * torch.randn(6, 32, 32, 4, 13, generator=torch.Generator().manual_seed(9))
    given = noise, torch.zeros(6, 32, 32, 4, 7), torch.arange(4).expand(6, -1)
    raw, level = (of(*given).reshape(6, 16, -1).mean(dim=0).var(dim=0).sum()
                  for of in (ready.features, ready))  # fmt: skip
    assert level < 0.2 * raw
