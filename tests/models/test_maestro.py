"""MAESTRO: the reference's numbers, hidden tokens, checkpoints, training and export."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from earthprint.models import conformance  # noqa: E402
from earthprint.models.cube import Cube, Series  # noqa: E402
from earthprint.models.maestro import adapter  # noqa: E402
from earthprint.models.maestro.checkpoint import card_of, layout_name, recognise  # noqa: E402
from earthprint.models.maestro.export import exportable, input_names  # noqa: E402
from earthprint.models.maestro.heads import build_heads  # noqa: E402
from earthprint.models.maestro.layout import (  # noqa: E402
    LAYOUTS,
    PASTIS_HD,
    S2_BANDS,
    Input,
    Layout,
)
from earthprint.models.maestro.network import (  # noqa: E402
    FUSIONS,
    SIZES,
    Config,
    Fusion,
    build,
    position_code,
    shapes,
)
from earthprint.models.maestro.objective import (  # noqa: E402
    Decoder,
    MaskedAutoencoder,
    Masking,
    draw_masks,
    normalised,
    reconstruction,
    rows,
)

GOLDEN = conformance.shared_folder() / "golden" / "maestro"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)
SMALL_LAYOUT = Layout(
    {
        "s2": Input(6, 2, (4, 2), "s2", "s2", (4, 2), dates=3),
        "s1_asc": Input(6, 3, (2,), "s1", "s1_asc", (1, 1), dates=2),
        "s1_des": Input(6, 3, (2,), "s1", "s1_des", (1, 1), dates=1),
    },
    window_m=60.0, grid=12,
)  # fmt: skip
SMALL = Config(32, 2, 2, 2, 1, head_width=16, decoder_width=40, decoder_heads=2,
               decoder_head_width=20, layout=SMALL_LAYOUT, shared_depth=1)  # fmt: skip


@pytest.mark.parametrize("path", FOUND)
def test_agrees_with_the_reference(path):
    passed, line = conformance.check(path)
    assert passed, line


def network(config=SMALL, seed=0):
    """A network whose every tensor is random, so that nothing is hidden by a zero."""
    torch.manual_seed(seed)
    made = build(config).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(config=SMALL, windows=2, dates=0, seed=0):
    """Random inputs with all dates, or with this number of them."""
    draw, inputs = generator(seed), {}
    for name, given in config.layout.inputs.items():
        count = dates or given.dates
        shape = (windows, count, sum(given.bands), given.image, given.image)
        inputs[name] = torch.randn(shape, generator=draw)
        day = torch.randint(1, 366, (windows, count, 1), generator=draw)
        when = [torch.full_like(day, 2021), day, torch.zeros_like(day)]
        inputs[f"{name}_dates"] = torch.cat(when, dim=2)
    inputs["ref_date"] = torch.tensor([[[2021, 182, 0]]]).repeat(windows, 1, 1)
    return inputs


# --- network --------------------------------------------------------------------------------------


def test_official_sizes_have_the_published_number_of_parameters():
    def count(layout, size):
        config = replace(SIZES[size], layout=LAYOUTS[layout])
        with torch.device("meta"):
            parts = (build(config), Decoder(config), build_heads(config))
        return sum(p.numel() for part in parts for p in part.parameters()) / 1e6

    published = {
        ("flair", "tiny"): 22.3, ("flair", "small"): 72.5, ("flair", "medium"): 336.5,
        ("flair", "large"): 1192.6, ("s2_naip", "medium"): 330.7, ("pastis_hd", "tiny"): 15.4,
        ("treesatai_ts", "medium"): 254.9, ("pastis_hd", "large"): 899.2,
    }  # fmt: skip
    assert {key: round(count(*key), 1) for key in published} == published


def test_positions_of_two_grids_agree_on_the_ground():
    fine, coarse = position_code(64, 24, 6, 8), position_code(64, 24, 3, 8)
    means = fine.reshape(3, 2, 3, 2, 64).mean(dim=(1, 3)).reshape(9, 64)
    assert torch.allclose(means, coarse, atol=1e-6)
    assert position_code(64, 24, 5, 8).shape == (25, 64)
    assert (fine[:, -8:] == 0).all()


@pytest.mark.parametrize("mode", FUSIONS)
def test_sequences_come_apart_as_they_were(mode):
    fusion = Fusion(SMALL_LAYOUT, mode)
    tokens = {n: torch.randn(2, e, p, 5) for n, e, p in
              (("s2", 6, 9), ("s1_asc", 2, 4), ("s1_des", 1, 4))}  # fmt: skip
    again = fusion.split(fusion.join(tokens), {n: x.shape[1] for n, x in tokens.items()})
    assert list(again) == list(tokens)
    assert all(torch.equal(again[n], tokens[n]) for n in tokens)
    expected = {"shared": ["shared"], "group": ["s2", "s1"]}
    assert fusion.readers == expected.get(mode, list(tokens))


@torch.no_grad()
def test_hidden_tokens_are_the_same_as_none():
    made, inputs = network(), batch()
    visible = {n: torch.ones(2, x.shape[1], x.shape[2], dtype=torch.bool)
               for n, x in made(inputs).items()}  # fmt: skip
    visible["s1_asc"][:] = visible["s1_des"][:] = False
    with_hidden = made(inputs, visible)["s2"]
    only = replace(SMALL, layout=SMALL_LAYOUT.only(("s2",)))
    alone = build(only).eval()
    alone.load_state_dict({n: t for n, t in made.state_dict().items()
                           if n in alone.state_dict()})  # fmt: skip
    assert torch.allclose(alone(inputs)["s2"], with_hidden, atol=1e-5)
    assert not torch.allclose(made(inputs)["s2"], with_hidden, atol=1e-3)


@torch.no_grad()
def test_fewer_dates_than_the_pretraining_saw_are_read():
    features = network()(batch(dates=1))
    assert features["s2"].shape == (2, 2, 9, 32) and features["s1_asc"].shape == (2, 1, 4, 32)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="no fusion 'late'"):
        replace(SMALL, fusion="late")
    with pytest.raises(ValueError, match="Shared blocks"):
        replace(SMALL, fusion="shared")
    with pytest.raises(ValueError, match="no input radar"):
        SMALL_LAYOUT.only(("s2", "radar"))
    with pytest.raises(ValueError, match="does not fit the grid"):
        build_heads(replace(SMALL, layout=replace(PASTIS_HD, window_m=170.0)))


# --- objective ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FUSIONS)
def test_masks_hide_the_same_share_everywhere(mode):
    fusion = Fusion(SMALL_LAYOUT, mode)
    entries = {"s2": 6, "s1_asc": 2, "s1_des": 1}
    for seed in range(20):
        for mask in draw_masks(fusion, entries, 4, Masking(), generator(seed)).values():
            assert (mask.sum(dim=1) == round(0.75 * mask.shape[1])).all()


def test_tokens_that_do_not_exist_are_masked_first():
    fusion = Fusion(SMALL_LAYOUT, "group")
    exist = {"s2": torch.ones(3, 54, dtype=torch.bool), "s1": torch.ones(3, 12, dtype=torch.bool)}
    exist["s2"][:, :20] = False
    entries = {"s2": 6, "s1_asc": 2, "s1_des": 1}
    masks = draw_masks(fusion, entries, 3, Masking(), generator(), exist)
    assert masks["s2"][:, :20].all()


def test_targets_are_normalised_by_groups_of_bands():
    patches = torch.randn(2, 3, 4, 9, 6, generator=generator()) * 7 + 3
    found = normalised(patches, (4, 2))
    for group in found.split((4, 2), dim=-1):
        assert torch.allclose(group.mean(dim=(-2, -1)), torch.zeros(2, 3, 4), atol=1e-5)
        assert torch.allclose(group.std(dim=(-2, -1)), torch.ones(2, 3, 4), atol=1e-5)


def test_the_loss_counts_masked_pixels_only_and_weighs_by_tokens():
    given = {"a": Input(4, 2, (1,), "a", "a", dates=1), "b": Input(2, 2, (1,), "b", "b", dates=2)}
    rasters = {"a": torch.zeros(1, 1, 1, 4, 4), "b": torch.zeros(1, 2, 1, 2, 2)}
    pixels = {"a": torch.full((1, 1, 1, 4, 4), 9.0), "b": torch.full((1, 2, 1, 2, 2), 3.0)}
    pixels["a"][..., :2, :2] = 1.0
    masks = {"a": torch.tensor([[[True, False, False, False]]]),
             "b": torch.ones(1, 2, 1, dtype=torch.bool)}  # fmt: skip
    loss = reconstruction(rasters, pixels, masks, given, "l1")
    assert float(loss) == pytest.approx((4 * 1 + 2 * 3) / 6)
    masks["a"][:] = False
    assert float(reconstruction(rasters, pixels, masks, given, "l2")) == pytest.approx(2 * 9 / 6)


@torch.no_grad()
def test_mask_tokens_stay_where_they_belong_without_an_order():
    decoder, inputs = Decoder(SMALL).eval(), batch()
    masks = {"s2": torch.zeros(2, 54, dtype=torch.bool), "s1": torch.zeros(2, 12, dtype=torch.bool)}
    for mask in masks.values():
        mask[:, ::2] = True
    encoded = {n: torch.randn(2, int((~m[0]).sum()), 32) for n, m in masks.items()}
    ascending = {n: m.nonzero()[:, 1].unflatten(0, (2, -1)) for n, m in masks.items()}
    plain = decoder(encoded, masks, inputs)
    assert all(torch.equal(x, plain[n])
               for n, x in decoder(encoded, masks, inputs, ascending).items())  # fmt: skip
    turned = decoder(encoded, masks, inputs, {n: o.flip(1) for n, o in ascending.items()})
    assert not torch.allclose(turned["s1_asc"], plain["s1_asc"], atol=1e-4)
    assert rows(torch.arange(24.0).reshape(2, 12), masks["s1"]).tolist()[0] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("mode", FUSIONS)
def test_training_reaches_the_whole_encoder_and_the_loss_falls(mode):
    torch.manual_seed(0)
    config = replace(SMALL, fusion=mode, shared_depth=1 if mode in ("mod", "group") else 0)
    objective, inputs = MaskedAutoencoder(build(config)), batch(config, windows=4)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses, reached = [], set()
    for step in range(60):
        loss = objective(inputs, generator(step % 3))["loss"]
        optimiser.zero_grad()
        loss.backward()
        reached |= {n for n, p in objective.encoder.named_parameters()
                    if p.grad is not None and p.grad.abs().sum() > 0}  # fmt: skip
        optimiser.step()
        objective.update(step / 60)
        losses.append(float(loss.detach()))
    assert reached == {name for name, _ in objective.encoder.named_parameters()}
    assert np.mean(losses[-6:]) < 0.85 * np.mean(losses[:6])


def test_what_does_not_exist_changes_no_loss():
    objective, inputs = MaskedAutoencoder(network()).eval(), batch()
    inputs["s2_visible"] = torch.ones(2, 3, 9, dtype=torch.bool)
    inputs["s2_visible"][:, 1] = False
    inputs["s1_des_visible"] = torch.zeros(2, 1, 4, dtype=torch.bool)
    one = objective(inputs, generator())["loss"]
    inputs["s2"][:, 1] += 5
    inputs["s1_des"] *= 3
    assert torch.isfinite(one)
    assert torch.allclose(one, objective(inputs, generator())["loss"], atol=1e-6)
    assert not torch.allclose(one, objective(inputs, generator(1))["loss"], atol=1e-6)
    with pytest.raises(ValueError, match="no loss 'l3'"):
        MaskedAutoencoder(network(), kind="l3")


@pytest.fixture(scope="module")
def forest(shared):
    """A year over a real plot of forest (TreeSatAI): 6 x 6 pixels of 10 m, cloudy series."""
    h5py = pytest.importorskip("h5py")
    path = shared / "data/trees-treesatai-patches/Betula_spec._1_15679_WEFL_NLF_2019.h5"
    if not path.is_file():
        pytest.skip(f"real series not found at {path}")
    with h5py.File(path) as file:
        data = {name: file[name][()] for name in file}

    def dates(name, place):
        days = [n.decode().split("_")[place][:8] for n in data[f"{name}-products"]]
        return np.array([f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in days], "datetime64[D]")

    clear = (data["sen-2-masks"] == 0).all(axis=1)
    s2 = Series("sentinel-2", S2_BANDS, dates("sen-2", 2), data["sen-2-data"] / 10000, clear,
                ("",) * len(clear))  # fmt: skip
    values = np.concatenate([data["sen-1-asc-data"], data["sen-1-des-data"]])
    when = np.concatenate([dates("sen-1-asc", 4), dates("sen-1-des", 4)])
    orbits = np.repeat(["ascending", "descending"],
                       [len(data["sen-1-asc-data"]), len(data["sen-1-des-data"])])  # fmt: skip
    order = np.argsort(when, kind="stable")
    with np.errstate(divide="ignore", invalid="ignore"):
        power = 10 * np.log10(values[order])
    s1 = Series("sentinel-1", ("vv", "vh"), when[order], power,
                np.isfinite(power).all(axis=1), tuple(orbits[order]))  # fmt: skip
    return Cube((6, 6), {"sentinel-2": s2, "sentinel-1": s1})


def test_the_loss_falls_on_a_real_series(forest):
    layout = LAYOUTS["treesatai_ts"].only(LAYOUTS["treesatai_ts"].series)
    card = card_of(replace(SMALL, layout=LAYOUTS["treesatai_ts"]))
    (batch,) = adapter.batches(forest, 1, card)
    assert (batch.pixels >= 0).all() and len(batch.pixels) == 9
    assert {n: batch.inputs[n].shape[1] for n in layout.inputs} == {
        "s2": 16, "s1_asc": 4, "s1_des": 4,
    }  # fmt: skip
    assert batch.inputs["ref_date"].tolist() == [[[2019, 182, 0]]]
    inputs = {name: torch.from_numpy(values) for name, values in batch.inputs.items()}
    torch.manual_seed(0)
    objective = MaskedAutoencoder(build(replace(SMALL, layout=layout)))
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = objective(inputs, generator(step))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all() and np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


# --- checkpoints ----------------------------------------------------------------------------------


def meta(config, parts=("encoder", "decoder", "heads")):
    """The names and shapes of an official file."""
    with torch.device("meta"):
        made = {"encoder": build(config), "decoder": Decoder(config), "heads": build_heads(config)}
    return {
        ("heads." if part == "heads" else "") + n: t
        for part in parts for n, t in made[part].state_dict().items()
    }  # fmt: skip


@dataclass
class Unknown:
    """Stands for what a safe reader makes of the settings' own classes."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES)
def test_official_files_are_recognised(layout, size):
    config = replace(SIZES[size], layout=LAYOUTS[layout])
    state = meta(config)
    content = {
        "state_dict": {f"{p}.{n}": t for p in ("ema_model", "model") for n, t in state.items()},
        "hyper_parameters": {"mask": Unknown(), "fusion_mode": "group", "inter_depth": 3},
    }
    found, tensors = recognise(content)
    bare = replace(config.layout, reference="", targets={})
    assert found == replace(config, layout=bare)
    assert {n: tuple(t.shape) for n, t in tensors.items()} == shapes(config)
    assert layout_name(found.layout) == layout
    card = card_of(found)
    assert adapter.setup_of(card.variant).inputs == bare.series
    assert card.dimensions == config.width and card.window % card.patch == 0


def test_the_older_name_of_the_radar_group_is_understood():
    config = replace(SIZES["tiny"], layout=LAYOUTS["pastis_hd"])
    state = {n.replace("coder.s1.", "coder.sen1."): t for n, t in meta(config).items()}
    found, tensors = recognise(state)
    assert found.layout.inputs["s1_asc"].group == "sen1"
    assert shapes(found) == {n: tuple(t.shape) for n, t in tensors.items()}


@pytest.mark.parametrize("mode", FUSIONS)
def test_every_fusion_mode_is_recognised(mode):
    shared = 3 if mode in ("mod", "group") else 0
    config = replace(SIZES["tiny"], layout=LAYOUTS["flair"], fusion=mode, shared_depth=shared)
    found, _ = recognise({"state_dict": meta(config), "hyper_parameters": {"fusion_mode": mode}})
    assert found.fusion == mode and found.shared_depth == shared


def test_wrong_files_are_refused_with_the_reason():
    state = meta(replace(SIZES["tiny"], layout=LAYOUTS["s2_naip"]), ("encoder",))
    with pytest.raises(ValueError, match="no MAESTRO checkpoint"):
        recognise({"state_dict": {"encoder.weight": torch.zeros(2)}})
    cut = {n: t for n, t in state.items() if not n.startswith("encoder.s2.layers.8")}
    with pytest.raises(ValueError, match=r"missing encoder\.s2\.layers\.8"):
        recognise(cut)
    with pytest.raises(ValueError, match="missing encoder"):
        recognise({n: t for n, t in state.items() if not n.startswith("encoder")})
    with pytest.raises(ValueError, match="do not fit the inputs"):
        recognise({n: t for n, t in state.items() if not n.startswith("encoder.s1.")})
    with pytest.raises(ValueError, match="no official layout"):
        recognise({n.replace("embed.s2.", "embed.planet."): t for n, t in state.items()})
    with pytest.raises(ValueError, match="wrong shape encoder_inter.norm.bias"):
        recognise({**state, "encoder_inter.norm.bias": torch.zeros(3)})
    with pytest.raises(ValueError, match="unknown extra"):
        recognise({**state, "extra": torch.zeros(3)})


# --- export ---------------------------------------------------------------------------------------

TAKEN = (
    ("s2_naip", "group", ()),
    ("s2_naip", "mod", ("aerial", "s2", "s1")),
    ("flair", "group", ("s2", "s1_asc", "s1_des")),
    ("treesatai_ts", "shared", ("s2", "s1_asc")),
    ("pastis_hd", "monotemp", ("spot",)),
)


@pytest.mark.parametrize(("layout", "mode", "inputs"), TAKEN)
def test_onnx_agrees_with_torch(layout, mode, inputs, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    shared = 1 if mode in ("mod", "group") else 0
    config = replace(SMALL, layout=LAYOUTS[layout], fusion=mode, shared_depth=shared)
    given = exportable(network(config), config, inputs)
    path = str(tmp_path / "maestro.onnx")
    torch.onnx.export(
        given.module, given.examples[0], path, dynamo=False, opset_version=17,
        input_names=list(given.axes), output_names=["embedding"],
        dynamic_axes={**given.axes, "embedding": {0: "pixels"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == list(given.axes)
    card = card_of(config, inputs)
    side = card.window // card.patch
    for values in given.examples:
        with torch.no_grad():
            expected = given.module(*values).numpy()
        assert expected.shape == (len(values[0]) * side * side, 32)
        assert np.isfinite(expected).all()
        fed = {n: x.numpy() for n, x in zip(given.axes, values, strict=True)}
        (found,) = session.run(["embedding"], fed)
        assert np.abs(found - expected).max() < 1e-4


@torch.no_grad()
def test_rows_are_means_over_inputs_and_dates():
    config = replace(SMALL, layout=LAYOUTS["s2_naip"])
    made = network(config)
    given = exportable(made, config)
    inputs = dict(zip(input_names(given.module.encoder.config), given.examples[1], strict=True))
    for name in ("s2", "s1"):
        inputs[f"{name}_visible"] = torch.ones_like(inputs[f"{name}_visible"])
    features = given.module.encoder(inputs)
    expected = torch.cat([features["s2"], features["s1"]], dim=1).mean(dim=1)
    assert torch.allclose(given.module(*inputs.values()), expected.flatten(0, 1), atol=1e-5)
