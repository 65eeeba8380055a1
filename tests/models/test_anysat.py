"""AnySat: the reference's numbers, hidden sensors, checkpoints, training and export."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from earthprint.models import conformance  # noqa: E402
from earthprint.models.anysat import adapter  # noqa: E402
from earthprint.models.anysat import conformance as golden  # noqa: E402
from earthprint.models.anysat.adapter import S2_BANDS  # noqa: E402
from earthprint.models.anysat.checkpoint import card_of, recognise  # noqa: E402
from earthprint.models.anysat.export import exportable  # noqa: E402
from earthprint.models.anysat.network import OFFICIAL, Config, build, shapes  # noqa: E402
from earthprint.models.anysat.objective import (  # noqa: E402
    CrossSensorJepa,
    Predictor,
    block_masks,
    contrast,
    kept_dates,
    kept_tokens,
    prediction_targets,
)
from earthprint.models.anysat.projectors import SENSORS, SeriesSensor  # noqa: E402
from earthprint.models.cube import Cube, Series  # noqa: E402

GOLDEN = conformance.shared_folder() / "golden" / "anysat"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)
SMALL_SENSORS = {
    name: replace(s, heads=4, key_width=6, widths=(16, 16, 32, 64, 32), dropout=0.0)
    if isinstance(s, SeriesSensor)
    else s
    for name, s in SENSORS.items()
}
SMALL = Config(32, 1, 4, 1, 4, SMALL_SENSORS)
PAIR = replace(SMALL, sensors={name: SMALL_SENSORS[name] for name in ("s2", "s1-asc")})


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


def series(names, side=6, dates=4, windows=2, seed=0):
    """Random inputs of sensors with pixels of 10, 30 and 250 m over side x side cells of 10 m."""
    draw, inputs = generator(seed), {}
    for name in names:
        sensor = SENSORS[name]
        pixels = 1 if name == "modis" else side // sensor.reduce
        shape = (windows, dates, sensor.bands, pixels, pixels)
        inputs[name] = torch.randn(shape, generator=draw)
        inputs[f"{name}_dates"] = torch.randint(1, 366, (windows, dates), generator=draw)
    return inputs


# --- network --------------------------------------------------------------------------------------


def test_official_sizes_have_the_published_number_of_parameters():
    counts = {n: sum(int(np.prod(s)) for s in shapes(c).values()) for n, c in OFFICIAL.items()}
    assert counts == {"tiny": 8_135_015, "small": 43_811_271, "base": 125_905_447}


@torch.no_grad()
def test_a_hidden_sensor_is_the_same_as_one_left_out():
    made, inputs = network(), series(("s2", "s1-asc"))
    alone = made({k: v for k, v in inputs.items() if k.startswith("s2")}, 2, "all")
    found = made.embed(inputs, 2)
    every = torch.ones(2, 9, dtype=torch.bool)
    hidden = made.rows(found, 2, {"s2": every, "s1-asc": ~every})
    assert torch.allclose(alone, hidden, atol=1e-5)
    assert not torch.allclose(alone, made(inputs, 2, "all"), atol=1e-3)


@torch.no_grad()
def test_sensors_of_30_and_250_metres_join_the_others():
    inputs = series(("s2", "l7", "alos", "modis"), side=12)
    made = network()
    together = made(inputs, 3, "patch")
    assert together.shape == (2, 4, 4, 32)
    without = made({k: v for k, v in inputs.items() if not k.startswith("modis")}, 3, "patch")
    assert not torch.allclose(together, without, atol=1e-3)
    with pytest.raises(ValueError, match="beside MODIS"):
        made(series(("modis",)), 3)


def test_the_reference_cuts_modis_without_being_told():
    projector = {"in_channels": 7, "n_head": 4, "d_k": 6, "mlp_in": [16, 16, 32, 64, 32], "T": 367}
    given = {"modis": projector, "l7": {**projector, "reduce_scale": 3}, "alos": projector}
    sensors = golden._sensors(given, {"modis": 250, "l7": 30, "alos": 30}, {"alos": 3})
    assert [sensors[n].reduce for n in ("modis", "l7", "alos")] == [12, 3, 3]


@torch.no_grad()
def test_sub_patches_of_an_image_can_be_put_where_they_lie():
    config = replace(SMALL, sensors={"aerial": SMALL_SENSORS["aerial"]})
    made, image = network(config), torch.randn(1, 4, 100, 100, generator=generator())
    changed = image.clone()
    changed[:, :, :10, 50:60] += 5  # the sub-patch of row 0, column 5
    for in_place, cell in ((False, (2, 5)), (True, (0, 5))):
        one, other = (made({"aerial": x}, 2, "dense", in_place=in_place)[0, :, :, 32:]
                      for x in (image, changed))  # fmt: skip
        apart = (one - other).abs().amax(dim=2)
        assert divmod(int(apart.argmax()), 10) == cell


def test_an_unknown_output_is_refused():
    with pytest.raises(ValueError, match="no output 'mean'"), torch.no_grad():
        network()(series(("s2",)), 2, "mean")


# --- objective ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [2, 3, 8, 16])
def test_masks_hide_blocks_and_leave_something(side):
    context, targets = block_masks(5, side, generator(side))
    assert context.shape[0] == 5 and context.shape[1] > 0 and len(targets) == 4
    for block in targets:
        assert block.shape == targets[0].shape and int(block.max()) < side * side
    if side > 3:
        for seen, *hidden in zip(context, *targets, strict=True):
            assert not set(seen.tolist()) & set(torch.cat(hidden).tolist())


def test_dates_and_tokens_are_dropped_as_the_paper_says():
    assert kept_dates(3, 7, generator()).shape == (3, 3)
    assert kept_dates(3, 1, generator()).tolist() == [[0]] * 3
    kept = kept_tokens(50, 3, 8, generator()).unflatten(1, (3, 8))
    assert kept.any(dim=1).all()
    assert (kept.flatten(1).sum(dim=1) == 8 + 8).all()


def test_contrast_prefers_the_same_patch_in_the_other_sensor():
    tokens = torch.randn(2, 9, 16, generator=generator())
    near = tokens + 0.05 * torch.randn(2, 9, 16, generator=generator(1))
    apart = torch.randn(2, 9, 16, generator=generator(2))
    assert contrast([tokens, near]) < 0.05 < 1 < contrast([tokens, apart])
    assert float(contrast([tokens])) == 0
    some = torch.rand(2, 9, generator=generator(3)) < 0.7
    masked = contrast([tokens, near], [some, torch.ones_like(some)])
    assert torch.isfinite(masked) and masked < 0.1


def test_a_masked_sensor_changes_nothing_of_the_teacher():
    objective = CrossSensorJepa(network(PAIR), (2,)).eval()
    inputs = series(("s2", "s1-asc"))
    inputs["s1-asc_mask"] = torch.zeros(2, 4, 1, 6, 6, dtype=torch.bool)
    hidden = objective.draw(inputs, 2, generator())
    first = objective.step(inputs, 2, hidden)
    inputs["s1-asc"] = inputs["s1-asc"] + 1
    assert torch.equal(first.teacher, objective.step(inputs, 2, hidden).teacher)
    assert torch.isfinite(first.loss)


def test_standardised_targets_differ_though_the_teacher_gives_nearly_the_same():
    rows = torch.randn(1, 1, 16) + 1e-3 * torch.randn(3, 10, 16, generator=generator())
    block = [torch.arange(9).expand(3, 9)]
    plain, told_apart = (prediction_targets(rows, block, way) for way in (False, True))
    assert plain.std(dim=(0, 1)).max() < 0.01
    assert torch.allclose(told_apart.std(dim=(0, 1)), torch.ones(16), atol=0.05)


def test_training_reaches_the_whole_encoder_and_the_loss_falls():
    torch.manual_seed(0)
    objective = CrossSensorJepa(build(PAIR), (1, 2), Predictor(32, 1, 4))
    inputs = series(("s2", "s1-asc"), windows=4)
    inputs["s2_mask"] = torch.rand(4, 4, 1, 6, 6, generator=generator()) < 0.8
    optimiser = torch.optim.AdamW(
        [p for p in objective.parameters() if p.requires_grad], lr=2e-3
    )
    losses, reached = [], set()
    before = [p.clone() for p in objective.target_encoder.parameters()]
    for step in range(40):
        parts = objective(inputs, generator(step % 4))
        assert torch.allclose(parts["loss"], parts["prediction"] + parts["contrast"])
        optimiser.zero_grad()
        parts["loss"].backward()
        reached |= {n for n, p in objective.encoder.named_parameters()
                    if p.grad is not None and p.grad.abs().sum() > 0}  # fmt: skip
        optimiser.step()
        objective.update(step / 40)
        losses.append(float(parts["loss"]))
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])
    # one sensor has no mask, so the number that stands in for its invalid values is never used
    every = {name for name, _ in objective.encoder.named_parameters()}
    assert every - reached == {"projector_s1-asc.pad_parameter"}
    after = list(objective.target_encoder.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)


def test_the_same_draws_give_the_same_loss():
    objective, inputs = CrossSensorJepa(network(PAIR), (2,)).eval(), series(("s2", "s1-asc"))
    one, two, three = (float(objective(inputs, generator(i))["loss"]) for i in (7, 7, 8))
    assert one == two != three


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
    (batch,) = adapter.batches(forest, 1)
    assert (batch.pixels >= 0).all() and batch.inputs["s2"].shape[1] == 24
    assert abs(float(batch.inputs["s1-asc"].mean())) < 1
    inputs = {name: torch.from_numpy(values) for name, values in batch.inputs.items()}
    torch.manual_seed(0)
    objective = CrossSensorJepa(build(PAIR), (1, 2), Predictor(32, 1, 4))
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for step in range(40):
        loss = objective(inputs, generator(step))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.update(step / 40)
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all() and np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


# --- checkpoints ----------------------------------------------------------------------------------


def test_every_nesting_is_recognised():
    state = network().state_dict()
    lightning = {f"model.encoder.{n}": torch.zeros_like(t) for n, t in state.items()}
    lightning |= {f"target_encoder.{n}": t for n, t in state.items()}
    lightning["model.masked_token"] = torch.zeros(1, 1, 32)
    for content in ({"state_dict": state}, {"state_dict": lightning, "epoch": 3}, dict(state)):
        config, found = recognise(content)
        assert config == replace(SMALL, sensors=config.sensors)
        assert found.keys() == state.keys()
        made = build(config)
        made.load_state_dict(found, strict=True)
        assert all(torch.equal(found[n], state[n]) for n in state)


def test_official_sizes_are_recognised_without_memory():
    for name, config in OFFICIAL.items():
        state = {n: torch.empty(s, device="meta") for n, s in shapes(config).items()}
        assert recognise({"state_dict": state})[0] == replace(
            config, sensors=recognise({"state_dict": state})[0].sensors
        )
        card = card_of(config)
        assert card.name == f"anysat-{name}" and card.dimensions == 2 * config.width
        del state["blocks.1.mlp.fc1.bias"]
        with pytest.raises(ValueError, match=r"missing blocks\.1\.mlp\.fc1\.bias"):
            recognise({"state_dict": state})


def test_wrong_files_are_refused_with_the_reason():
    state = network().state_dict()
    with pytest.raises(ValueError, match="no AnySat checkpoint"):
        recognise({"state_dict": {"encoder.weight": torch.zeros(2)}})
    with pytest.raises(ValueError, match="no AnySat checkpoint"):
        recognise({})
    short = {n: t for n, t in state.items() if "mlp.fc2" not in n}
    with pytest.raises(ValueError, match="missing spatial_encoder.*fc2"):
        recognise({"state_dict": short})
    with pytest.raises(ValueError, match="missing blocks"):
        recognise({n: t for n, t in state.items() if not n.startswith("blocks.1.attn")})
    with pytest.raises(ValueError, match="wrong shape"):
        recognise({**state, "blocks.0.norm1.weight": torch.zeros(31)})
    with pytest.raises(ValueError, match="unknown extra"):
        recognise({**state, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="unknown sensor 'planet'"):
        recognise({**state, "projector_planet.pad_parameter": torch.zeros(())})


@pytest.mark.parametrize("setup", adapter.SETUPS)
def test_cards_name_every_setup(setup):
    card, chosen = card_of(OFFICIAL["base"], setup), adapter.SETUPS[setup]
    assert adapter.setup_of(card) == chosen and card.window == chosen.window
    assert len({sensor.sensor for sensor in card.sensors}) == len(chosen.feeds)
    with pytest.raises(ValueError, match="no projector"):
        card_of(replace(SMALL, sensors={}), setup)


# --- export ---------------------------------------------------------------------------------------

WINDOWS = {"s2+s1": 8, "landsat": 6, "aerial": 100, "spot": 80, "naip": 64}


@pytest.mark.parametrize("setup", adapter.SETUPS)
def test_onnx_agrees_with_torch(setup, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    given = exportable(network(), SMALL, setup, WINDOWS[setup])
    path = str(tmp_path / "anysat.onnx")
    torch.onnx.export(
        given.module, given.examples[0], path, dynamo=False, opset_version=17,
        input_names=list(given.axes), output_names=["embedding"],
        dynamic_axes={**given.axes, "embedding": {0: "pixels"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    side = WINDOWS[setup] // adapter.SETUPS[setup].row
    for inputs in given.examples:
        with torch.no_grad():
            expected = given.module(*inputs).numpy()
        assert expected.shape == (len(inputs[0]) * side * side, 64)
        values = {n: x.numpy() for n, x in zip(given.axes, inputs, strict=True)}
        (found,) = session.run(["embedding"], values)
        assert np.abs(found - expected).max() < 1e-4


@torch.no_grad()
def test_rows_are_the_dense_output_of_the_release():
    made, inputs = network(), series(("s2", "s1-asc"), side=8, windows=1)
    everything = torch.ones(1, 4, 1, 8, 8, dtype=torch.bool)
    module = exportable(made, SMALL, window=8).module
    rows = module(inputs["s2"], inputs["s2_dates"], everything,
                  inputs["s1-asc"], inputs["s1-asc_dates"], everything)  # fmt: skip
    dense = made(inputs, 4, "dense", "s2").reshape(64, 64)
    assert torch.allclose(rows, dense, atol=1e-5)
    nothing = torch.zeros_like(everything)
    rows = module(inputs["s2"], inputs["s2_dates"], nothing,
                  inputs["s1-asc"], inputs["s1-asc_dates"], everything)  # fmt: skip
    alone = {k: v for k, v in inputs.items() if k.startswith("s1")}
    assert torch.allclose(rows, made(alone, 4, "dense").reshape(64, 64), atol=1e-5)
