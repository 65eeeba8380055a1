"""SkySense: the reference's numbers, its checkpoints, its objective and its export."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from earthprint.models import conformance  # noqa: E402
from earthprint.models.skysense import network, plusplus, small  # noqa: E402
from earthprint.models.skysense.checkpoint import (  # noqa: E402
    build,
    card_of,
    join,
    recognise,
    uses,
)
from earthprint.models.skysense.export import exportable, window_of  # noqa: E402
from earthprint.models.skysense.fusion import FusionConfig  # noqa: E402
from earthprint.models.skysense.network import Config, SkySense  # noqa: E402
from earthprint.models.skysense.objective import (  # noqa: E402
    GeoContext,
    MultiGranularityContrast,
    Settings,
    alignment,
    distillation,
    sinkhorn,
    standardised,
)
from earthprint.models.skysense.sentinel import ViT, ViTConfig  # noqa: E402
from earthprint.models.skysense.swin import SwinConfig, SwinV2  # noqa: E402

GOLDEN = conformance.shared_folder() / "golden" / "skysense"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)
HR = SwinConfig(3, 8, (1, 1, 2, 1), (1, 2, 2, 4), extra_norm=2, outputs=(3,))
S2 = ViTConfig(10, 64, 2, 1, rows=17, outputs=(1,), eps=1e-6)
S1 = ViTConfig(2, 64, 2, 1, rows=17, outputs=(1,), eps=1e-6)
FUSION = FusionConfig(64, 64, 2, 1)
WHOLE = Config("s2+s1", HR, S2, S1, FUSION, dates=True)
SETTINGS = Settings(outputs=16, hidden=8, clusters=4)


@pytest.mark.parametrize("path", FOUND)
def test_agrees_with_the_reference(path):
    passed, line = conformance.check(path)
    assert passed, line


# --- network --------------------------------------------------------------------------------------


def test_a_map_smaller_than_a_window_is_refused_with_the_size_that_works():
    with pytest.raises(ValueError, match="smaller than SkySense's window of 8"):
        SwinV2(HR)(torch.zeros(1, 3, 224, 224))
    assert SwinV2(HR)(torch.zeros(1, 3, 225, 225))[3].shape == (1, 64, 8, 8)


def test_dates_that_are_not_seen_are_as_if_left_out():
    torch.manual_seed(0)
    model = SkySense(WHOLE).eval()
    features = {s: torch.randn(1, t, 64, 2, 2) for s, t in (("s2", 3), ("s1", 2))}
    seen = {"s2": torch.tensor([True, False, True]), "s1": torch.tensor([False, False])}
    seen = {s: x.view(1, -1, 1, 1).expand(1, -1, 2, 2) for s, x in seen.items()}
    with torch.no_grad():
        masked = model.fuse(features, seen)
        left_out = model.fuse({"s2": features["s2"][:, [0, 2]]})
    torch.testing.assert_close(masked, left_out, atol=1e-5, rtol=0)


def test_the_order_of_dates_does_not_matter_but_their_days_do():
    torch.manual_seed(0)
    model = SkySense(WHOLE).eval()
    s2, day = torch.randn(1, 3, 64, 2, 2), torch.tensor([[3, 200, 364]])
    order = [2, 0, 1]
    with torch.no_grad():
        one = model.fuse({"s2": model.dated(s2, day)})
        same = model.fuse({"s2": model.dated(s2[:, order], day[:, order])})
        other = model.fuse({"s2": model.dated(s2, day[:, order])})
    torch.testing.assert_close(one, same, atol=1e-5, rtol=0)
    assert (one - other).abs().max() > 1e-4
    torch.testing.assert_close(model.dated(s2, day), model.dated(s2, day + (day == 364)))


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_combined_file_round_trip():
    state = SkySense(WHOLE).state_dict()
    named = {n.replace("backbone_hr.", "backbone_gep."): t for n, t in state.items()}
    config, found = recognise({"model": named | {"head_gep.x": torch.zeros(1)}, "epoch": 3})
    assert config == WHOLE
    build(config).load_state_dict(found, strict=True)
    assert uses(config) == network.USES


def test_files_of_parts_are_recognised_and_joined():
    state = SkySense(WHOLE).state_dict()

    def part(name):
        return {n.removeprefix(f"{name}."): t for n, t in state.items() if n.startswith(name)}

    hr = {f"backbone.{n}": t for n, t in part("backbone_hr").items()}
    hr["backbone.mask_token"] = torch.zeros(1, 1, 8)
    hr["backbone.stages.0.blocks.0.attn.w_msa.relative_coords_table"] = torch.zeros(1, 15, 15, 2)
    config, found = recognise(hr)
    assert config == Config("hr", hr=HR)
    build(config).load_state_dict(found, strict=True)
    s2 = part("backbone_s2") | {"ctpe": state["ctpe"]}
    config, found = recognise(s2)
    assert config == Config("s2", s2=S2) and "ctpe" not in found
    with pytest.raises(ValueError, match="import them together"):
        recognise(part("fusion"))
    with pytest.raises(ValueError, match="name its file with s2 or s1"):
        recognise(part("head_s2"))
    joined = join({
        "skysense_model_backbone_hr.pth": hr, "skysense_model_backbone_s2.pth": s2,
        "skysense_model_backbone_s1.pth": part("backbone_s1") | {"ctpe": state["ctpe"]},
        "skysense_model_head_s2.pth": part("head_s2"),
        "skysense_model_head_s1.pth": part("head_s1"),
        "skysense_model_fusion.pth": part("fusion"),
    })  # fmt: skip
    config, found = recognise(joined)
    assert config == WHOLE
    assert all(torch.equal(found[n], t) for n, t in state.items())


@pytest.mark.parametrize("name", network.OFFICIAL)
def test_official_sizes_are_recognised(name):
    wanted = network.OFFICIAL[name]
    with torch.device("meta"):
        state = build(wanted).state_dict()
    config, _ = recognise({"model": state})
    assert config == wanted
    card = card_of(config)
    assert card.dimensions == {"hr": 2816}.get(config.use, 1024)
    assert card.variant == config.use and card.system == "skysense"
    assert card.window % card.patch == 0 and "non-commercial" in card.licence_weights


def test_broken_and_foreign_files_are_named():
    with torch.device("meta"):
        state = build(network.OFFICIAL["skysense-hr"]).state_dict()
    cut = {n: t for n, t in state.items() if "stages.2.blocks.17" not in n}
    with pytest.raises(ValueError, match=r"missing backbone_hr.stages.2.blocks.17"):
        recognise(cut)
    with pytest.raises(ValueError, match="unknown backbone_hr.surprise"):
        recognise({**state, "backbone_hr.surprise": torch.zeros(1)})
    bent = {**state, "backbone_hr.norm3.weight": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"norm3.weight \(3,\) instead of \(2816,\)"):
        recognise(bent)
    with pytest.raises(ValueError, match="no SkySense checkpoint"):
        recognise({"model": {"conv1.weight": torch.zeros(3)}})
    with pytest.raises(ValueError, match="no SkySense checkpoint"):
        recognise({"epoch": 3})
    open_vocabulary = {f"{n}": t for n, t in state.items()}
    table = "backbone_hr.stages.3.blocks.0.attn.w_msa.relative_coords_table"
    with pytest.raises(ValueError, match="SkySense-O"):
        recognise({**open_vocabulary, table: torch.zeros(1, 31, 31, 2)})


@pytest.mark.parametrize("rows", (16, 17, 256, 257))
@pytest.mark.parametrize("bias", (True, False))
def test_position_tables_of_all_published_sizes(rows, bias):
    config = ViTConfig(10, 64, 1, 1, rows=rows, patch_bias=bias, outputs=(0,))
    vit = ViT(config)
    found, state = recognise(vit.state_dict())
    assert found.s2.rows == rows and found.s2.patch_bias == bias
    assert found.s2.class_row == (rows in (17, 257))
    network = build(found)
    network.load_state_dict(state, strict=True)
    assert network.branch("s2", torch.zeros(1, 10, 2, 24, 16)).shape == (1, 2, 64, 6, 4)


# --- export ---------------------------------------------------------------------------------------


def run_exported(module, axes, example, folder):
    path = folder / "graph.onnx"
    torch.onnx.export(module, example, str(path), dynamo=False, opset_version=17,
                      input_names=list(axes), output_names=["embedding"],
                      dynamic_axes={**axes, "embedding": {0: "rows"}})
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def check_export(network, config, folder):
    given = exportable(network.eval(), config)
    session = run_exported(given.module, given.axes, given.examples[0], folder)
    assert [i.name for i in session.get_inputs()] == list(given.axes)
    for example in given.examples:
        with torch.no_grad():
            expected = given.module(*example).numpy()
        arrays = {n: x.numpy() for n, x in zip(given.axes, example, strict=True)}
        (found,) = session.run(None, arrays)
        assert found.shape == expected.shape and found.shape[1] == config.dimensions
        assert np.abs(found - expected).max() < 1e-4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", network.USES)
def test_export_agrees_with_torch_over_lengths_and_windows(use, tmp_path):
    torch.manual_seed(0)
    config = network.Config(use, HR, S2, S1, FUSION, dates=True)
    model = SkySense(config)
    with torch.no_grad():  # norms over 8 channels amplify rounding; keep their features moderate
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    check_export(model, config, tmp_path)


def test_the_windows_of_the_uses():
    sizes = {use: window_of(network.Config(use, HR, S2, S1, FUSION)) for use in network.USES}
    assert sizes == {"hr": 512, "s2": 64, "s1": 64, "s2+s1": 64, "hr+s2+s1": 512}
    assert window_of(plusplus.OFFICIAL["skysensepp"]) == 256


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


def test_sinkhorn_shares_pixels_out_evenly():
    torch.manual_seed(0)
    share = sinkhorn(torch.randn(2, 64, 4), sharpness=2.0, steps=50)
    torch.testing.assert_close(share.sum(dim=-1), torch.ones(2, 64))
    torch.testing.assert_close(share.sum(dim=-2), torch.full((2, 4), 16.0), rtol=1e-3, atol=1e-3)


def test_distillation_is_least_for_equal_sharp_views_and_ignores_what_is_not_seen():
    sure = 20 * torch.eye(4)
    zero, ones = torch.zeros(4), torch.ones(4)
    assert distillation(sure, sure, zero, ones) < 1e-3
    assert distillation(sure, sure.roll(1, 0), zero, ones) > 10
    half = torch.tensor([1.0, 1.0, 0.0, 0.0])
    spoilt = sure.clone()
    spoilt[2:] = sure[2:].roll(1, 0)
    assert distillation(spoilt, sure, zero, half) < 1e-3


def test_standardising_looks_at_what_is_seen_only():
    torch.manual_seed(0)
    x, seen = 3 * torch.randn(2, 1, 50, 4) + 7, torch.rand(2, 1, 50) < 0.6
    other = torch.where(seen[..., None], x, torch.full_like(x, 99.0))
    kept = standardised(x, seen)[seen]
    torch.testing.assert_close(kept, standardised(other, seen)[seen])
    torch.testing.assert_close(kept.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(kept.std(dim=0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_alignment_wants_rows_to_find_each_other():
    rows = torch.eye(6)
    assert alignment(rows, rows) < 0.01 < alignment(rows, rows.roll(1, 0))


def test_geo_context_learns_the_places_of_its_region_only():
    torch.manual_seed(0)
    geo = GeoContext(3, 4, 8, momentum=0.5)
    before = geo.prototypes.clone()
    features = torch.randn(1, 32, 8) + 5
    assert geo(features, torch.tensor([1])).shape == (1, 32, 16)
    for _ in range(10):
        geo.learn(features, torch.tensor([1]))
    assert torch.equal(geo.prototypes[[0, 2]], before[[0, 2]])
    assert (geo.prototypes[1] - 5).abs().mean() < 1.5
    torch.testing.assert_close(geo(features, torch.tensor([1]))[..., :8], features)


def used(name):
    """Class tokens of the branches are dropped before the first layer, as in the reference."""
    return not name.startswith(("backbone_s2.cls_token", "backbone_s1.cls_token"))


@pytest.mark.parametrize("regions", (0, 2))
def test_gradients_reach_every_parameter_and_the_teacher_has_none(regions):
    torch.manual_seed(0)
    config = network.Config("s2+s1", None, S2, S1, FUSION, dates=True)
    objective = MultiGranularityContrast(
        SkySense(config), Settings(outputs=16, hidden=8, clusters=4, regions=regions))
    inputs = windows() | {"region": torch.tensor([0, 1])}
    losses = objective(inputs, torch.Generator().manual_seed(1))
    losses["loss"].backward()
    assert all(torch.isfinite(x) for x in losses.values())
    for name, parameter in objective.encoder.named_parameters():
        assert not used(name) or parameter.grad is not None, name
    assert not any(p.requires_grad for p in objective.teacher.parameters())


def test_a_high_resolution_branch_learns_alone():
    torch.manual_seed(0)
    config = network.Config("hr", hr=HR)
    objective = MultiGranularityContrast(SkySense(config), SETTINGS)
    losses = objective({"hr": torch.randn(1, 3, 512, 512)}, torch.Generator().manual_seed(1))
    losses["loss"].backward()
    assert losses["align"] == 0
    assert all(p.grad is not None for p in objective.encoder.parameters())


def test_a_step_repeats_with_its_generator_and_the_teacher_follows():
    torch.manual_seed(0)
    config = network.Config("s2", s2=S2)
    objective = MultiGranularityContrast(SkySense(config), SETTINGS)
    inputs = {k: v for k, v in windows().items() if k in ("s2", "s2_seen")}
    state = {k: v.clone() for k, v in objective.state_dict().items()}
    losses = []
    for _ in range(2):
        objective.load_state_dict(state)
        losses.append(objective(inputs, torch.Generator().manual_seed(5))["loss"].item())
    assert losses[0] == losses[1]
    old = objective.teacher.backbone_s2.pos_embed.clone()
    with torch.no_grad():
        objective.encoder.backbone_s2.pos_embed.add_(1)
    objective.update(0.0)
    moved = (objective.teacher.backbone_s2.pos_embed - old).mean().item()
    assert moved == pytest.approx(1 - SETTINGS.momentum, rel=1e-3)
    objective.update(1.0)
    again = (objective.teacher.backbone_s2.pos_embed - old).mean().item()
    assert again == pytest.approx(moved, rel=1e-3)


@pytest.mark.parametrize("shifted", (False, True))
def test_crops_begin_with_a_patch_unless_they_are_shifted(shifted):
    config = network.Config("s2+s1", None, S2, S1, FUSION, dates=True)
    settings = Settings(outputs=16, hidden=8, clusters=4, shifted=shifted)
    objective, draw = MultiGranularityContrast(SkySense(config), settings), torch.Generator()
    inputs, offsets = windows(side=16), set()
    for turn in range(12):
        crop = objective._crop(inputs, 1, draw.manual_seed(turn))
        assert crop.side % S2.patch == 0 and crop.row + crop.side <= 16
        offsets.add(crop.row % S2.patch)
    assert (len(offsets) > 1) == shifted
    assert torch.isfinite(objective(inputs, draw)["loss"])


def test_the_small_one_starts_without_a_lattice_of_patches():
    torch.manual_seed(0)
    encoder = small.objective().encoder.eval()
    raised = encoder.raised("s2", torch.randn(1, 10, 1, 16, 16))[0, 0]
    blocks = raised.unflatten(1, (4, 4)).unflatten(3, (4, 4))
    assert torch.allclose(blocks, blocks[:, :, :1, :, :1].expand_as(blocks), atol=1e-5)


def test_the_loss_falls():
    torch.manual_seed(0)
    config = network.Config("s2+s1", None, S2, S1, FUSION, dates=True)
    objective = MultiGranularityContrast(SkySense(config), SETTINGS)
    optimiser = torch.optim.AdamW(objective.parameters(), 2e-3)
    inputs, draw, curve = windows(side=8), torch.Generator().manual_seed(3), []
    for step in range(25):
        loss = objective(inputs, draw)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.update(step / 25)
        curve.append(loss.item())
    assert np.mean(curve[-5:]) < 0.8 * np.mean(curve[:3])
