"""SkySense++: the reference's numbers, its checkpoints, masked semantic learning and its export."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from earthprint.models import conformance  # noqa: E402
from earthprint.models.skysense import plusplus  # noqa: E402
from earthprint.models.skysense.checkpoint import build, card_of, recognise, uses  # noqa: E402
from earthprint.models.skysense.completion import Completion, CompletionConfig  # noqa: E402
from earthprint.models.skysense.decoder import DecoderConfig  # noqa: E402
from earthprint.models.skysense.export import exportable  # noqa: E402
from earthprint.models.skysense.fusion import FusionConfig  # noqa: E402
from earthprint.models.skysense.labels import LabelConfig  # noqa: E402
from earthprint.models.skysense.masked_semantics import (  # noqa: E402
    MaskedSemantics,
    anonymous,
    balanced_loss,
    hide,
    masked_loss,
)
from earthprint.models.skysense.plusplus import PlusConfig, SkySensePlusPlus  # noqa: E402
from earthprint.models.skysense.sentinel import ViTConfig  # noqa: E402
from earthprint.models.skysense.swin import SwinConfig  # noqa: E402

GOLDEN = conformance.shared_folder() / "golden" / "skysensepp"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)
HR = SwinConfig(3, 8, (1, 1, 1, 1), (1, 2, 2, 4), extra_norm=0)
SMALL_HR = replace(HR, pad_small_map=True)
S2 = ViTConfig(10, 64, 4, 1, rows=16, eps=1e-6, outputs=(3,))
S1 = ViTConfig(2, 64, 4, 1, rows=16, eps=1e-6, outputs=(3,))
HR_LABELS = LabelConfig(6, 2, (16, 16, 32))
VIT_LABELS = LabelConfig(6, 4)
WHOLE = PlusConfig(
    "hr+s2+s1", HR, S2, S1, FusionConfig(64, 64, 2, 1), hr_labels=HR_LABELS,
    vit_labels=VIT_LABELS, completion=CompletionConfig(64, 8, 8, 12),
    decoder=DecoderConfig((16, 16, 32, 64, 64), 7, 8),
)  # fmt: skip


@pytest.mark.parametrize("path", FOUND)
def test_agrees_with_the_reference(path):
    passed, line = conformance.check(path)
    assert passed, line


# --- network --------------------------------------------------------------------------------------


def windows(n=4, side=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n, side, side), generator=draw) * 7
    labels = labels.repeat_interleave(32, dim=1).repeat_interleave(32, dim=2)
    return {
        "hr": torch.randn(n, 3, 32 * side, 32 * side, generator=draw),
        "s2": torch.randn(n, 10, 1, side, side, generator=draw),
        "s1": torch.randn(n, 2, 1, side, side, generator=draw),
        "present": torch.ones(n, 3, dtype=torch.bool),
        "labels": labels,
    }


def test_hidden_labels_do_not_matter_and_none_means_all_hidden():
    torch.manual_seed(0)
    model = SkySensePlusPlus(WHOLE).eval()
    given = windows(1, side=8)
    images = {"hr": given["hr"], "s2": given["s2"][:, :, 0], "s1": given["s1"][:, :, 0]}
    labels = torch.randint(0, 7, (1, 256, 256))
    with torch.no_grad():
        one = model(images, given["present"], labels, torch.ones(1, 2, 2)).fused
        other = model(images, given["present"]).fused
        seen = model(images, given["present"], labels, torch.zeros(1, 2, 2)).fused
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert (one - seen).abs().max() > 1e-4


def test_completion_takes_the_sum_of_the_others_and_keeps_what_is_present():
    torch.manual_seed(0)
    model = Completion(CompletionConfig(6, 4, 4, 5)).eval()
    features = {s: torch.randn(1, 6, 8, 4) for s in ("hr", "s2", "s1")}
    with torch.no_grad():
        done = model(features, torch.tensor([[True, False, True]]))
        nothing = model(features, torch.tensor([[False, False, False]]))
    assert torch.equal(done.features["hr"], features["hr"])
    expected = model.coder("s2").mixture(done.logits["hr"] + done.logits["s1"])
    torch.testing.assert_close(done.mixtures["s2"], expected)
    torch.testing.assert_close(nothing.mixtures["hr"], torch.full((1, 5, 2, 1), 0.2))


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_release_with_other_names_round_trip():
    state = SkySensePlusPlus(WHOLE).state_dict()
    stored = {f"module.{n}".replace(".in_proj_", ".Wqkv."): t for n, t in state.items()}
    config, found = recognise({"model": stored, "current_epoch": 3, "optimizer": {}})
    assert config == WHOLE
    build(config).load_state_dict(found, strict=True)
    assert uses(config) == ("hr", "s2", "s1", "s2+s1", "hr+s2+s1")


@pytest.mark.parametrize("part, use", (("backbone_hr", "hr"), ("backbone_s2", "s2")))
def test_bare_parts_are_recognised(part, use):
    state = SkySensePlusPlus(WHOLE).state_dict()
    bare = {n.removeprefix(f"{part}."): t for n, t in state.items() if n.startswith(part)}
    config, found = recognise(bare)
    assert isinstance(config, PlusConfig) and config.use == use
    build(config).load_state_dict(found, strict=True)


@pytest.mark.parametrize("name", plusplus.OFFICIAL)
def test_official_sizes_are_recognised(name):
    wanted = plusplus.OFFICIAL[name]
    with torch.device("meta"):
        state = build(wanted).state_dict()
    config, _ = recognise(state)
    assert uses(config) == uses(wanted) and config.use == wanted.use
    assert (config.hr, config.hr_labels, config.vit_labels) == (
        wanted.hr, wanted.hr_labels, wanted.vit_labels)
    assert (config.completion, config.decoder) == (wanted.completion, wanted.decoder)
    card = card_of(config)
    assert card.system == "skysense" and card.variant == f"plusplus:{config.use}"


def test_a_cut_file_names_what_it_lacks():
    with torch.device("meta"):
        state = build(plusplus.OFFICIAL["skysensepp"]).state_dict()
    cut = dict(list(state.items())[:-40])
    with pytest.raises(ValueError, match="not complete weights of SkySense.*missing modality_vae"):
        recognise(cut)


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", ("hr", "s2", "s2+s1", "hr+s2+s1"))
def test_export_agrees_with_torch(use, tmp_path):
    torch.manual_seed(0)
    config = replace(WHOLE, use=use, hr_labels=replace(HR_LABELS, attention_heads=1))
    given = exportable(SkySensePlusPlus(config).eval(), config)
    path = tmp_path / "graph.onnx"
    torch.onnx.export(given.module, given.examples[0], str(path), dynamo=False, opset_version=17,
                      input_names=list(given.axes), output_names=["embedding"],
                      dynamic_axes={**given.axes, "embedding": {0: "rows"}})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for example in given.examples:
        with torch.no_grad():
            expected = given.module(*example).numpy()
        (found,) = session.run(
            None, {n: x.numpy() for n, x in zip(given.axes, example, strict=True)})
        assert found.shape == expected.shape and found.shape[1] == config.dimensions
        assert np.abs(found - expected).max() < 1e-4


# --- objective ------------------------------------------------------------------------------------


def test_balanced_loss_weighs_both_kinds_alike():
    logits, labels = torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 1], [0, 0]]])
    logits[0, 1, 0, 1] = 50.0  # the one named pixel is right
    assert balanced_loss(logits, labels).item() == pytest.approx(0.5 * np.log(3), rel=1e-5)
    mask = torch.tensor([[[0, 1], [0, 0]]])
    assert masked_loss(logits, labels, mask).item() == pytest.approx(0, abs=1e-5)


def test_classes_get_random_words_and_keep_their_places():
    labels = torch.tensor([[0, 300, 7], [7, 0, 300]])
    words = anonymous(labels, 4, torch.Generator().manual_seed(1))
    assert torch.equal(words == 0, labels == 0)
    seven, three = words[labels == 7].unique(), words[labels == 300].unique()
    assert len(seven) == len(three) == 1 and seven != three
    assert min(seven, three) >= 1 and max(seven, three) <= 4
    drawn = {tuple(anonymous(labels, 64, torch.Generator().manual_seed(i)).flatten().tolist())
             for i in range(5)}
    assert len(drawn) > 1
    with pytest.raises(ValueError, match="knows 1 words, the batch has 2 classes"):
        anonymous(labels, 1, torch.Generator())


def test_half_of_a_canvas_is_hidden():
    masks = [hide(8, 4, torch.Generator().manual_seed(i)) for i in range(40)]
    lower = sum(bool((m[4:] == 1).all() and (m[:4] == 0).all()) for m in masks)
    assert 3 <= lower <= 25
    assert all(12 <= m.sum() <= 28 for m in masks)


def test_gradients_reach_every_parameter_that_the_network_uses():
    torch.manual_seed(0)
    objective = MaskedSemantics(SkySensePlusPlus(replace(WHOLE, hr=SMALL_HR)))
    losses = objective(windows(), torch.Generator().manual_seed(0))
    losses["loss"].backward()
    assert losses["loss"].item() == pytest.approx(sum(
        x.item() for name, x in losses.items() if name != "loss"), rel=1e-5)
    for name, parameter in objective.encoder.named_parameters():
        unused = name.startswith(("backbone_s2.cls_token", "backbone_s1.cls_token"))
        assert unused or parameter.grad is not None, name
    for few in (2, 5):
        with pytest.raises(ValueError, match="even number of windows, 4 at least"):
            objective(windows(few), torch.Generator())


def test_the_loss_falls():
    torch.manual_seed(0)
    plain = replace(WHOLE, hr=SMALL_HR, hr_labels=replace(HR_LABELS, attention=()))
    objective = MaskedSemantics(SkySensePlusPlus(plain))
    optimiser = torch.optim.AdamW(objective.parameters(), 3e-3)
    inputs, curve = windows(), []
    for _ in range(30):
        loss = objective(inputs, torch.Generator().manual_seed(0))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    assert np.mean(curve[-3:]) < 0.8 * np.mean(curve[:3])
