"""TESSERA: the reference's numbers, the rules of its input, its checkpoints, loss and export."""

import io
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from earthprint.models import conformance  # noqa: E402
from earthprint.models.cube import Cube, Series  # noqa: E402
from earthprint.models.tessera import adapter, observations  # noqa: E402
from earthprint.models.tessera.checkpoint import recognise  # noqa: E402
from earthprint.models.tessera.export import onnx_ready  # noqa: E402
from earthprint.models.tessera.network import (  # noqa: E402
    OFFICIAL,
    BackboneConfig,
    TesseraConfig,
    build,
    shapes,
)
from earthprint.models.tessera.objective import Objective, Projector, barlow_twins  # noqa: E402

GOLDEN = conformance.shared_folder() / "golden" / "tessera"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)


# --- golden vectors -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FOUND)
def test_agrees_with_the_reference(path):
    passed, line = conformance.check(path)
    assert passed, line


@pytest.fixture
def copied(shared, tmp_path):
    """A golden case that a test may spoil."""
    folder = tmp_path / "tessera" / "v2_student_plain"
    shutil.copytree(shared / "golden" / "tessera" / "v2_student_plain", folder)
    return folder


def _edit(path, change):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_conformance_counts_systems_without_a_runner_as_failures(copied, capsys):
    assert conformance.main([str(copied), str(copied.parent)]) == 0
    assert "2 of 2 pass" in capsys.readouterr().out
    other = copied.parent.parent / "atlantis" / "case"
    shutil.copytree(copied, other)
    assert conformance.main([str(copied.parent.parent)]) == 1
    out = capsys.readouterr().out
    assert "no runner yet for 'atlantis'" in out and "1 of 2 pass" in out


def test_conformance_notices_one_wrong_value(copied, capsys):
    def nudge(tensors):
        tensors["embedding"][1, 2, 3] += 1e-3

    _edit(copied / "outputs.safetensors", nudge)
    assert conformance.main([str(copied)]) == 1
    assert "embedding: 1 of 1536 values differ" in capsys.readouterr().out


def test_conformance_notices_an_output_that_nobody_computed(copied, capsys):
    def add(tensors):
        tensors["unheard_of"] = np.zeros(3, np.float32)

    _edit(copied / "outputs.safetensors", add)
    assert conformance.main([str(copied)]) == 1
    assert "unheard_of: not computed" in capsys.readouterr().out


def test_conformance_names_missing_weights(copied, capsys):
    _edit(copied / "weights.safetensors", lambda t: t.pop("s1_backbone.attn_pool.query.bias"))
    assert conformance.main([str(copied)]) == 1
    assert "missing s1_backbone.attn_pool.query.bias" in capsys.readouterr().out


def test_conformance_names_a_wrong_shape_in_a_key_list(shared, tmp_path, capsys):
    keys = json.loads((shared / "golden/tessera/keys_v2_student_nano.json").read_text())
    keys["keys"]["dim_reducer.4.bias"] = [64]
    folder = tmp_path / "tessera"
    folder.mkdir()
    (folder / "keys_v2_student_nano.json").write_text(json.dumps(keys))
    assert conformance.main([str(folder)]) == 1
    assert "dim_reducer.4.bias (128,) instead of (64,)" in capsys.readouterr().out


def test_conformance_of_an_empty_folder_says_so(tmp_path, capsys):
    assert conformance.main([str(tmp_path)]) == 2
    assert "no golden case" in capsys.readouterr().err


# --- which observations the network sees ----------------------------------------------------------


def test_selection_tables_of_the_reference(shared):
    from safetensors.numpy import load_file

    tables = load_file(shared / "golden/tessera/preprocessing/outputs.safetensors")
    rules = {"v1_1_resample": observations.resample, "v2_pad": observations.pad}
    seen = 0
    for name, table in tables.items():
        rule, *numbers = name.rsplit("_", 2)
        if rule in rules:
            np.testing.assert_array_equal(rules[rule](*map(int, numbers)), table, err_msg=name)
            seen += 1
    assert seen > 100


counts_and_lengths = st.tuples(st.integers(1, 400), st.sampled_from(observations.BINS))


@given(counts_and_lengths)
def test_selection_keeps_every_observation_that_has_room(numbers):
    count, length = numbers
    for rule in (observations.resample, observations.pad):
        index = rule(count, length)
        assert index.shape == (length,)
        assert index.min() >= 0 and index.max() < count
        kept = min(count, length)
        assert len(np.unique(index)) == kept
        assert (np.diff(index[:kept]) > 0).all()


@given(counts_and_lengths)
def test_resampling_to_fewer_takes_the_middle_of_each_chunk(numbers):
    count, length = numbers
    if length <= count:
        middles = [c[len(c) // 2] for c in np.array_split(np.arange(count), length)]
        np.testing.assert_array_equal(observations.resample(count, length), middles)


def test_bins_round_up_and_cap():
    counts = np.array([0, 1, 8, 9, 256, 257, 1000])
    np.testing.assert_array_equal(observations.V2.bin(counts), [0, 8, 8, 16, 256, 256, 256])
    np.testing.assert_array_equal(observations.V1_1.bin(counts), [8, 8, 8, 16, 256, 256, 256])
    np.testing.assert_array_equal(observations.V2.capped(32).bin(counts), [0, 8, 8, 16, 32, 32, 32])
    with pytest.raises(ValueError, match="at least 8"):
        observations.V2.capped(7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 9), version=st.sampled_from(["V1_1", "V2"]))
def test_batches_hold_each_pixel_once_with_its_own_sequence(seed, size, version):
    selection = getattr(observations, version)
    s2, s1 = _random_frames(np.random.default_rng(seed))
    seen = []
    for batch in observations.rectangular(s2, s1, selection, size):
        assert 0 < len(batch.pixels) <= size
        seen += batch.pixels.tolist()
        for row, pixel in enumerate(batch.pixels):
            for name, frames in (("s2", s2), ("s1", s1)):
                expected = _slow_sequence(frames, pixel, selection)
                np.testing.assert_array_equal(batch.inputs[name][row], expected)
    blind = (s2.counts == 0) & (s1.counts == 0)
    wanted = np.flatnonzero(~blind) if version == "V2" else np.arange(len(blind))
    assert sorted(seen) == wanted.tolist()


def _random_frames(rng, pixels=12):
    """Sentinel-2 and Sentinel-1 of few pixels; some see nothing, one orbit may be absent."""
    statistics = observations.STATISTICS["v2-student"]
    t2, up, down = rng.integers(0, 40), rng.integers(0, 20), rng.integers(0, 2) * 12
    clear = rng.random((t2, pixels)) < rng.random(pixels)
    s2 = observations.optical_frames(
        rng.integers(0, 9000, (t2, 10, pixels)),
        clear,
        np.sort(rng.integers(1, 366, t2)),
        statistics,
    )
    radar = [
        rng.integers(0, 2, (t, 1, pixels)) * rng.integers(0, 9000, (t, 2, pixels))
        for t in (up, down)
    ]
    days = [np.sort(rng.integers(1, 366, t)) for t in (up, down)]
    return s2, observations.radar_frames(radar[0], days[0], radar[1], days[1], statistics)


def _slow_sequence(frames, pixel, selection):
    """One pixel's sequence, written as the rule is told."""
    valid = np.flatnonzero(frames.valid[:, pixel])
    length = int(selection.bin(np.array([len(valid)]))[0])
    rows = np.zeros((max(length, 1), frames.values.shape[1] + 1), np.float32)
    if len(valid):
        for i, k in enumerate(selection.indices(len(valid), length)):
            t = valid[k]
            values = frames.values[t, :, pixel].astype(np.float32)
            rows[i] = [*((values - frames.mean[t]) / frames.std[t]), frames.days[t]]
    return rows


@given(seed=st.integers(0, 10**6), size=st.integers(1, 20), frames=st.integers(1, 30))
def test_drawn_frames_are_valid_ordered_and_distinct_where_possible(seed, size, frames):
    rng = np.random.default_rng(seed)
    valid = rng.random((frames, 6)) < rng.random(6)
    chosen = observations.draw(valid, size, np.random.default_rng(seed))
    assert chosen.shape == (6, size)
    assert (np.diff(chosen, axis=1) >= 0).all()
    for pixel in range(6):
        allowed = valid[:, pixel] if valid[:, pixel].any() else np.ones(frames, bool)
        assert allowed[chosen[pixel]].all()
        if allowed.sum() >= size:
            assert len(np.unique(chosen[pixel])) == size
    again = observations.draw(valid, size, np.random.default_rng(seed))
    np.testing.assert_array_equal(chosen, again)


def test_drawing_is_uniform():
    valid = np.ones((5, 20000), bool)
    valid[2] = False
    counts = np.bincount(observations.draw(valid, 2, np.random.default_rng(0)).ravel(), minlength=5)
    assert counts[2] == 0
    np.testing.assert_allclose(counts[[0, 1, 3, 4]] / 20000, 0.5, atol=0.02)


def test_v1_0_batches_skip_black_pixels_and_fill_an_empty_orbit():
    statistics = observations.STATISTICS["v1.0"]
    dn = np.full((3, 10, 2), 500)
    dn[:, :, 1] = 0
    s2 = observations.optical_frames(dn, np.ones((3, 2)), np.arange(3), statistics)
    none = np.zeros((0, 2, 2), np.int16)
    s1 = observations.radar_frames(none, [], none, [], statistics, fill_empty_orbit=True)
    (batch,) = observations.drawn(s2, s1, 40, 8, np.random.default_rng(0), skip_black=True)
    assert batch.pixels.tolist() == [0]
    assert batch.inputs["s2"].shape == (1, 40, 11)
    assert (batch.inputs["s1"][..., 2] == observations.EMPTY_ORBIT_DAY).all()


@given(st.floats(-40, 20))
def test_both_ways_to_code_backscatter_agree(decibel):
    from_power = int(observations.code_power(np.array([10 ** (decibel / 10)]))[0])
    assert abs(from_power - int(observations.code_decibel(np.array([decibel]))[0])) <= 1


def test_typical_backscatter():
    codes = observations.code_decibel(np.array([-11.0, -17.5, -25.0, -30.0, np.nan, 90.0]))
    assert codes.tolist() == [5600, 3000, 0, 0, 0, 32767]


def test_an_unknown_sentinel2_source_is_refused():
    with pytest.raises(ValueError, match="'mpc' or 'aws'"):
        observations.harmonise(np.zeros((1, 10)), np.array(["2023-01-01"], "M8[D]"), "scihub")


@pytest.mark.parametrize("quantise", [adapter.quantise_v1, adapter.quantise_v2])
@given(seed=st.integers(0, 10**6), spread=st.floats(1e-3, 1e3))
def test_codes_keep_an_embedding_within_half_a_step(quantise, seed, spread):
    embedding = np.random.default_rng(seed).normal(0, spread, (4, 16)).astype(np.float32)
    codes, scale = quantise(embedding)
    error = np.abs(adapter.dequantise(codes, scale) - embedding)
    assert (error <= 0.5001 * scale[:, None]).all()


# --- the engine's windows -------------------------------------------------------------------------


def _cube(year="2023"):
    bands = ("blue", "green", "red", "rededge071", "rededge075", "rededge078")
    bands += ("nir", "nir08", "swir16", "swir22")
    dates = np.array([f"{year}-02-01", f"{year}-06-15", "NaT"], "M8[D]")
    values = np.arange(10, dtype=np.float32)[None, :, None, None] * np.float32(0.01)
    values = np.broadcast_to(values, (3, 10, 1, 3)).copy()
    values[0, 2] = -0.05  # red
    clear = np.ones((3, 1, 3), bool)
    clear[:, 0, 1:] = False
    s1 = np.full((2, 2, 1, 3), -11.0, np.float32)
    seen = np.ones((2, 1, 3), bool)
    seen[:, 0, 2] = False
    days = np.array([f"{year}-03-01", f"{year}-03-02"], "M8[D]")
    return Cube(
        (1, 3),
        {
            "sentinel-2": Series("sentinel-2", bands, dates, values, clear, ("",) * 3),
            "sentinel-1": Series(
                "sentinel-1", ("vh", "vv"), days, s1, seen, ("descending", "ascending")
            ),
        },
    )


def test_a_cube_becomes_official_units_in_official_order():
    found = {p: b.inputs for b in adapter.batches(_cube(), 8) for p in b.pixels.tolist()}
    assert sorted(found) == [0, 1]  # pixel 2 has nothing
    statistics = observations.STATISTICS["v2-student"]
    s2 = found[0]["s2"][0]
    dn = s2[:, :-1] * np.array(statistics.s2_std) + np.array(statistics.s2_mean)
    assert set(s2[:, -1]) == {32, 166}  # the scene without a date is left out
    # Red is negative, so it lay below the offset, which the authors do not subtract there.
    np.testing.assert_allclose(dn[0], [500, 0, 100, 600, 700, 300, 400, 500, 800, 900], atol=0.1)
    assert found[1]["s2"].shape == (1, 1, 11) and not found[1]["s2"].any()
    s1 = found[0]["s1"][0]
    assert s1[:2, 2].tolist() == [61, 60]  # ascending first, whatever the date
    code = s1[:2, :2] * [statistics.ascending_std, statistics.descending_std]
    code += [statistics.ascending_mean, statistics.descending_mean]
    np.testing.assert_allclose(code, 5600, atol=0.1)


def test_one_sensor_is_enough_but_its_bands_must_be_complete():
    cube = _cube()
    assert adapter.missing({name: s.bands for name, s in cube.series.items()}) == []
    assert adapter.missing({"sentinel-1": ("vv", "vh")}) == []
    (sentence,) = adapter.missing({"sentinel-2": ("red", "green", "blue", "nir")})
    assert "rededge071" in sentence and "swir22" in sentence
    (sentence,) = adapter.missing({"landsat": ("red",)})
    assert "Sentinel-2 or Sentinel-1" in sentence
    alone = Cube((1, 3), {"sentinel-1": cube.series["sentinel-1"]})
    (batch,) = adapter.batches(alone, 8)
    assert batch.pixels.tolist() == [0, 1] and not batch.inputs["s2"].any()


def test_without_a_bin_for_nothing_blind_pixels_are_left_out_too():
    cube = _cube()
    found = adapter.batches(cube, 8, selection=observations.V1_1)
    assert sorted(p for batch in found for p in batch.pixels.tolist()) == [0, 1]


# --- checkpoints ----------------------------------------------------------------------------------

SMALL = BackboneConfig(width=16, layers=2, heads=4, feedforward=24)
EARLY = BackboneConfig(width=16, layers=2, heads=8, feedforward=24)
ARGS = {"repr_dim": 20, "latent_dim": 4, "num_layers": 2, "nhead": 4, "dim_feedforward": 24}
PROJECTOR = {f"projector.{n}": t for n, t in Projector(12, 6, 5).state_dict().items()}
CHECKPOINTS = {
    "v1.0 early": (
        TesseraConfig("v1.0_early", 12, EARLY, EARLY),
        lambda sd: {"model_state": sd | PROJECTOR, "epoch": 3},
    ),
    "v1.0 QAT, compiled": (
        TesseraConfig("v1.0_qat", 12, SMALL, SMALL, fusion="sum"),
        lambda sd: {"model_state_dict": {f"_orig_mod.{n}": t for n, t in (sd | PROJECTOR).items()}},
    ),
    "v1.1": (
        TesseraConfig("v1.1", 12, SMALL, BackboneConfig(16, 3, 2, 40)),
        lambda sd: {
            "model_state": sd | {"segmented_matryoshka_projector.0.weight": torch.zeros(2, 2)},
            "config": {"s2_num_heads": 4, "s1_num_heads": 2},
        },
    ),
    "v2 student": (
        TesseraConfig("v2_student", 20, SMALL, SMALL, prefixes=(4, 20)),
        lambda sd: {"model": sd, "args": ARGS | {"matryoshka_dims": "4,20"}},
    ),
    "v2 student, QK-norm": (
        TesseraConfig("v2_student", 20, SMALL, SMALL, qk_norm=True, prefixes=(16,)),
        lambda sd: {"model": sd, "args": ARGS | {"enable_qk_norm": True}},
    ),
    "v2 student, bare tensors": (
        TesseraConfig("v2_student", 20, SMALL, SMALL, prefixes=(16,)),
        lambda sd: sd,
    ),
    "v2 teacher": (
        TesseraConfig("v2_teacher", 20, SMALL, SMALL),
        lambda sd: {"encoder_state_dict": sd, "arch": ARGS | {"final_layernorm": True}},
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_says_what_it_holds(name):
    config, wrap = CHECKPOINTS[name]
    original = build(config).eval()
    file = io.BytesIO()
    torch.save(wrap(original.state_dict()), file)
    file.seek(0)
    found, state = recognise(torch.load(file, weights_only=True))
    assert found == config
    network = build(found).eval()
    network.load_state_dict(state, strict=True)
    s2, s1 = torch.randn(2, 5, 11), torch.randn(2, 7, 3)
    with torch.no_grad():
        torch.testing.assert_close(network(s2, s1), original(s2, s1))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_truncated_checkpoint_names_what_is_missing(name):
    config, wrap = CHECKPOINTS[name]
    state = build(config).state_dict()
    for lost in state:
        rest = {n: t for n, t in state.items() if n != lost}
        with pytest.raises(ValueError, match=f"missing.*{lost}"):
            recognise(wrap(rest))


def test_wrong_checkpoints_are_refused_with_the_reason():
    config, _ = CHECKPOINTS["v2 student"]
    state = build(config).state_dict()
    with pytest.raises(ValueError, match=r"wrong shape dim_reducer.1.bias \(3,\) instead of"):
        recognise(state | {"dim_reducer.1.bias": torch.zeros(3)})
    with pytest.raises(ValueError, match="unknown head.weight"):
        recognise(state | {"head.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="missing s2_backbone.transformer_encoder.layers.2"):
        recognise({"model": state, "args": ARGS | {"num_layers": 3}})
    with pytest.raises(ValueError, match="no TESSERA checkpoint"):
        recognise({"conv.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="neither tensors nor"):
        recognise({"weights": "none"})


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="3 heads do not divide"):
        BackboneConfig(16, 2, 3, 24)
    with pytest.raises(ValueError, match="do not fit"):
        TesseraConfig("v2_student", 20, SMALL, SMALL, prefixes=(32,))
    with pytest.raises(ValueError, match="no variant"):
        TesseraConfig("v3", 20, SMALL, SMALL)


def test_published_parameter_counts():
    published = {
        "v1_1": 57_708_738,
        "v2_student_nano": 1_066_402,
        "v2_student_small": 7_112_322,
        "v2_student_medium": 21_031_506,
        "v2_student_large": 43_831_170,
    }
    for name, count in published.items():
        assert sum(int(np.prod(s)) for s in shapes(OFFICIAL[name]).values()) == count


def test_order_matters_to_the_grus_and_not_to_v2():
    torch.manual_seed(0)
    s2, s1 = torch.randn(2, 6, 11), torch.randn(2, 5, 3)
    for variant, matters in (("v1.0_early", True), ("v1.0_qat", True), ("v2_student", False)):
        network = build(TesseraConfig(variant, 12, SMALL, SMALL)).eval()
        with torch.no_grad():
            apart = (network(s2, s1) - network(s2.flip(1), s1)).abs().max()
        assert (apart > 1e-5) == matters


# --- pretraining ----------------------------------------------------------------------------------


def test_barlow_twins_of_equal_and_of_unrelated_views():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4096, 8, generator=generator)
    same = barlow_twins(z, 3 * z + 1)  # neither scale nor offset counts
    assert same.on_diagonal < 1e-4
    other = barlow_twins(z, torch.randn(4096, 8, generator=generator))
    assert abs(other.on_diagonal - 8) < 1


@pytest.fixture(scope="module")
def polders(shared):
    """Frames of 1024 real pixels of 20 m over the year 2018; sigma0 stands in for gamma0."""
    rasterio = pytest.importorskip("rasterio")
    folder = shared / "data" / "crop-worldcereal-patches" / "belgium-2018-polders"

    def read(path):
        with rasterio.open(path) as file:
            return dict(zip(file.descriptions, file.read().astype(np.float32), strict=True))

    def frames(name):
        return sorted((folder / name).glob("2018*.tif"))

    def series(sensor, bands, paths, values, valid):
        dates = np.array([f"{p.stem[:4]}-{p.stem[4:6]}-{p.stem[6:8]}" for p in paths], "M8[D]")
        orbits = ("ascending",) * len(paths)
        return Series(sensor, bands, dates, np.stack(values), np.stack(valid), orbits)

    names = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
    common = ("blue", "green", "red", "rededge071", "rededge075", "rededge078")
    common += ("nir", "nir08", "swir16", "swir22")
    values, clear = [], []
    for path in frames("s2_20m"):
        fine = read(folder / "s2_10m" / path.name)
        scene = {n: b.reshape(32, 2, 32, 2).mean(axis=(1, 3)) for n, b in fine.items()}
        scene |= read(path)
        values.append(np.stack([scene[n] / 10000 for n in names]))
        clear.append(~np.isin(scene["SCL"], (0, 1, 2, 3, 8, 9)))
    s2 = series("sentinel-2", common, frames("s2_20m"), values, clear)
    radar = [read(path) for path in frames("s1_vv_vh_20m")]
    values = [np.stack([scene["VV"], scene["VH"]]) for scene in radar]
    seen = [np.isfinite(v).any(axis=0) for v in values]
    s1 = series("sentinel-1", ("vv", "vh"), frames("s1_vv_vh_20m"), values, seen)
    cube = Cube((32, 32), {"sentinel-2": s2, "sentinel-1": s1})
    return adapter.cube_frames(cube, observations.STATISTICS["v2-student"])


def test_real_series_look_as_the_statistics_expect(polders):
    s2, s1 = polders
    assert 10 < np.median(s2.counts) < 60 and np.median(s1.counts) > 60
    for frames in polders:
        some = frames.take(
            np.arange(1024), observations.draw(frames.valid, 16, np.random.default_rng(0))
        )
        assert np.isfinite(some).all()
        assert np.abs(some[..., :-1].mean()) < 1.5 and 0.2 < some[..., :-1].std() < 2


@pytest.mark.parametrize("prefixes", [(32,), (4, 8, 16, 32)], ids=["v1.0", "matryoshka"])
def test_pretraining_on_real_series_lowers_the_loss(polders, prefixes):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    size = BackboneConfig(width=32, layers=1, heads=4, feedforward=64)
    encoder = build(TesseraConfig("v2_student", 32, size, size, prefixes=prefixes))
    objective = Objective(prefixes, hidden=64, output=64)
    parameters = [*encoder.parameters(), *objective.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3)

    def view(pixels):
        return tuple(
            torch.from_numpy(f.take(pixels, observations.draw(f.valid[:, pixels], 16, rng)))
            for f in polders
        )

    losses = []
    for _ in range(40):
        pixels = rng.choice(1024, 128, replace=False)
        loss = objective(encoder, view(pixels), view(pixels))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        losses.append([loss.total.item(), loss.barlow.item(), loss.mix.item()])
        assert loss.total.item() == pytest.approx(loss.barlow.item() + loss.mix.item(), rel=1e-5)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    first, last = np.mean(losses[:5], axis=0), np.mean(losses[-5:], axis=0)
    assert last[0] < 0.7 * first[0] and last[1] < 0.7 * first[1]


# --- export ---------------------------------------------------------------------------------------


EXPORTS = {
    "v1.0 early": TesseraConfig("v1.0_early", 12, SMALL, SMALL),
    "v1.0 QAT": TesseraConfig("v1.0_qat", 12, SMALL, SMALL),
    "v1.1": TesseraConfig("v1.1", 12, SMALL, SMALL),
    "v2 student": TesseraConfig("v2_student", 64, SMALL, SMALL),
    "v2 student, QK-norm": TesseraConfig("v2_student", 64, SMALL, SMALL, qk_norm=True),
    "v2 teacher": TesseraConfig("v2_teacher", 64, SMALL, SMALL),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", EXPORTS)
def test_an_exported_network_agrees_at_every_length(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = build(EXPORTS[name]).eval()
    path = str(tmp_path / "network.onnx")
    torch.onnx.export(
        onnx_ready(network),
        (torch.randn(3, 16, 11), torch.randn(3, 24, 3)),
        path,
        dynamo=False,
        opset_version=18,
        input_names=["s2", "s1"],
        output_names=["embedding"],
        dynamic_axes={"s2": {0: "n", 1: "t2"}, "s1": {0: "n", 1: "t1"}, "embedding": {0: "n"}},
    )
    session = onnxruntime.InferenceSession(path)
    rng = np.random.default_rng(0)
    for n, t2, t1 in ((1, 1, 8), (5, 24, 1), (2, 64, 120), (3, 256, 256)):
        s2, s1 = (
            np.concatenate([rng.normal(size=(n, t, c)), rng.integers(1, 367, (n, t, 1))], axis=-1)
            for t, c in ((t2, 10), (t1, 2))
        )
        s2, s1 = s2.astype(np.float32), s1.astype(np.float32)
        (exported,) = session.run(None, {"s2": s2, "s1": s1})
        with torch.no_grad():
            expected = network(torch.from_numpy(s2), torch.from_numpy(s1)).numpy()
        np.testing.assert_allclose(exported, expected, atol=2e-5)
