"""SatDINO: the reference's numbers, its positions, checkpoints, training and export."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from earthprint.models import conformance  # noqa: E402
from earthprint.models.satdino import adapter  # noqa: E402
from earthprint.models.satdino.checkpoint import card_of, recognise  # noqa: E402
from earthprint.models.satdino.export import exportable  # noqa: E402
from earthprint.models.satdino.neighbours import top_percent, vote  # noqa: E402
from earthprint.models.satdino.network import (  # noqa: E402
    OFFICIAL,
    Config,
    SatDino,
    build,
    shapes,
)
from earthprint.models.satdino.objective import (  # noqa: E402
    SelfDistillation,
    distillation,
    entropy,
    teacher_momentum,
    teacher_temperature,
)
from earthprint.models.satdino.views import Crops, crop_distance, make_crops  # noqa: E402

GOLDEN = conformance.shared_folder() / "golden" / "satdino"
ABSENT = pytest.mark.skip(reason=f"golden vectors not found at {GOLDEN} (set EARTHPRINT_SHARED)")
FOUND = (
    [pytest.param(path, id=path.stem) for path in conformance.find(GOLDEN)]
    if GOLDEN.is_dir()
    else [pytest.param(None, marks=ABSENT)]
)
SMALL = Config(patch=8, width=64, depth=2, heads=1, image=32)


@pytest.mark.parametrize("path", FOUND)
def test_agrees_with_the_reference(path):
    passed, line = conformance.check(path)
    assert passed, line


def network(config=SMALL, seed=0):
    """A network whose every tensor is random, so that nothing is hidden by a zero."""
    torch.manual_seed(seed)
    made = build(config).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


# --- positions ------------------------------------------------------------------------------------


def test_official_sizes_have_the_published_number_of_parameters():
    counts = {n: sum(int(np.prod(s)) for s in shapes(c).values()) for n, c in OFFICIAL.items()}
    published = {"vit_small_16": 21_666_432, "vit_small_8": 21_671_040, "vit_base_16": 85_800_192}
    assert counts == published


def test_the_quirk_of_the_position_table_can_be_switched():
    kept = network()
    plain = network(Config(patch=8, width=64, depth=2, heads=1, image=32, token_too_many=False))
    assert torch.equal(kept.positions(32, 32), plain.positions(32, 32))
    for size in ((16, 16), (24, 8), (8, 24)):
        one, other = kept.positions(*size), plain.positions(*size)
        assert one.shape == other.shape == (1, size[0] * size[1] // 64 + 2, 64)
        assert torch.equal(one[:, [0, -1]], kept.pos_embed[:, [0, -1]])  # class and register stay
        assert not torch.allclose(one, other, atol=1e-3)


def test_images_beyond_the_reference_are_resized_to_size():
    """The original stops at 640 pixels with patches of 16; its factor misses the size there."""
    config = Config(patch=16, width=8, depth=1, heads=1)
    made = network(config)
    for side in (624, 640, 1024):
        assert made.positions(side, side).shape == (1, (side // 16) ** 2 + 2, 8)


def test_fixed_positions_stand_in_no_file():
    config = Config(patch=8, width=64, depth=1, heads=1, image=32, positions="sin_cos")
    made = build(config)
    assert "pos_embed" not in made.state_dict()
    table = made.positions(32, 32)[0]
    assert table[3, 4] == pytest.approx(np.sin(3 * 10000 ** (-2 / 32)), abs=1e-6)
    assert table[3, 5] == pytest.approx(np.cos(3 * 10000 ** (-2 / 32)), abs=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"heads": 3}, {"image": 30}, {"positions": "none"}], ids=lambda w: next(iter(w))
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError):
        Config(**{"patch": 8, "width": 64, "depth": 1, "heads": 1, "image": 32, **wrong})


# --- neighbours -----------------------------------------------------------------------------------


def test_neighbours_vote_by_cosine():
    train = np.array([[1.0, 0], [2, 0], [0, 5]])
    votes = vote(train, np.array([0, 0, 1]), np.array([[3.0, 0]]), 2, neighbours=20)
    np.testing.assert_allclose(votes, [[2 * np.exp(1 / 0.07), 1]])
    assert top_percent(votes, np.array([0]), 1) == 100
    assert top_percent(votes, np.array([1]), 1) == 0
    assert top_percent(votes, np.array([1]), 5) == 100


# --- checkpoints ----------------------------------------------------------------------------------


def _wrapped(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def _forms(state):
    head = {"head.mlp.0.weight": torch.zeros(2, 64), "head.last_layer.weight_g": torch.ones(3, 1)}
    yield "tensors alone", state
    yield "release", {"teacher": state, "linear_head": {"linear.weight": torch.zeros(63, 64)}}
    yield "training", {
        "student": _wrapped({**_wrapped(state, "backbone."), **head}, "module."),
        "teacher": {**_wrapped(state, "backbone."), **head},
        "epoch": 3,
        "args": object(),
    }
    yield "fine-tune", {"model": {**_wrapped(state, "module."), "module.fc.weight": torch.ones(1)}}
    yield "wrapper", _wrapped(state, "vit.")


@pytest.mark.parametrize("form", range(5))
def test_every_nesting_is_recognised(form):
    made = network()
    name, content = list(_forms(made.state_dict()))[form]
    config, state = recognise(content)
    assert config == SMALL, name
    again = SatDino(config).eval()
    again.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images), made(images))


def test_other_and_damaged_files_are_refused_by_name():
    state = network().state_dict()

    def refusal(content, **more):
        with pytest.raises(ValueError) as caught:
            recognise(content, **more)
        return str(caught.value)

    assert "no SatDINO checkpoint" in refusal({"a": torch.zeros(1)})
    assert "gsd_register" in refusal({k: v for k, v in state.items() if k != "gsd_register"})
    lost = {k: v for k, v in state.items() if not k.startswith("blocks.0.norm")}
    assert "missing blocks.0.norm1.weight" in refusal(lost)
    assert "missing pos_embed" in refusal({k: v for k, v in state.items() if k != "pos_embed"})
    assert "unknown strange" in refusal({**state, "strange": torch.zeros(1)})
    wrong = {**state, "norm.bias": torch.zeros(5)}
    assert "norm.bias (5,) instead of (64,)" in refusal(wrong)
    short = {**state, "pos_embed": state["pos_embed"][:, :-1]}
    assert "no square grid" in refusal(short)
    narrow = network(Config(patch=8, width=36, depth=1, heads=3, image=32)).state_dict()
    assert "heads" in refusal(narrow)
    assert recognise(narrow, heads=3)[0].heads == 3


def test_a_truncated_official_size_names_what_lacks():
    """A lost block of an official size is not taken for a shallower network."""
    with torch.device("meta"):
        state = SatDino(OFFICIAL["vit_small_16"]).state_dict()
    state = {k: v for k, v in state.items() if not k.startswith("blocks.11.")}
    with pytest.raises(ValueError, match=r"missing blocks\.11\.norm1\.weight.* and \d+ more"):
        recognise({"teacher": state})


@pytest.mark.parametrize("name", OFFICIAL)
def test_cards_of_the_official_sizes(name):
    with torch.device("meta"):
        state = SatDino(OFFICIAL[name]).state_dict()
    config, _ = recognise(state)
    assert config == OFFICIAL[name]
    card = card_of(config)
    assert card.system == "satdino" and card.unit == "patch" and card.window == 224
    assert card.dimensions == config.width and card.variant in adapter.STATISTICS


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("quirk", [True, False])
def test_an_exported_network_agrees(quirk, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    config = Config(patch=8, width=64, depth=2, heads=2, image=32, token_too_many=quirk)
    made = network(config)
    ready = exportable(made, config)
    path = str(tmp_path / "network.onnx")
    torch.onnx.export(
        ready.module, ready.examples[0], path, dynamo=False, opset_version=17,
        input_names=list(ready.axes), output_names=["embedding"],
        dynamic_axes={**ready.axes, "embedding": {0: "rows"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path)
    for (image,) in (*ready.examples, (torch.randn(5, 3, 32, 32),)):
        (found,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            expected = made(image)[:, 1:-1].reshape(-1, 64)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


# --- training -------------------------------------------------------------------------------------


def test_schedules():
    assert teacher_temperature(0) == 0.04
    assert teacher_temperature(29) == teacher_temperature(150) == pytest.approx(0.07)
    assert teacher_momentum(0) == pytest.approx(0.996) and teacher_momentum(1) == 1


def test_a_crops_ground_distance():
    """The example of the fact sheet: 112 x 128 pixels of 0.5 m resized to 96."""
    found = crop_distance(torch.tensor(0.5), torch.tensor(112.0), torch.tensor(128.0), 96)
    assert found.item() == pytest.approx(0.6222, abs=1e-4)


def test_distillation_leaves_out_equal_crops():
    """With as many crops as the teacher has, only the pairs of different ones count."""
    torch.manual_seed(0)
    student, teacher, center = torch.randn(6, 5), torch.randn(4, 5), torch.randn(1, 5)
    expected = []
    for a in range(2):
        for b in range(3):
            if a != b:
                q = ((teacher[2 * a : 2 * a + 2] - center) / 0.05).softmax(-1)
                p = (student[2 * b : 2 * b + 2] / 0.1).log_softmax(-1)
                expected.append(-(q * p).sum(-1).mean())
    found = distillation(student, teacher, center, 0.05, batch=2)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_a_student_that_repeats_its_teacher_has_only_the_entropy_left():
    one = torch.randn(1, 7, generator=torch.Generator().manual_seed(0))
    teacher, center = one.expand(4, -1), torch.randn(1, 7)
    student = ((one - center) / 0.05 * 0.1).expand(6, -1)
    found = distillation(student, teacher, center, 0.05, batch=2)
    torch.testing.assert_close(found, entropy(teacher, center, 0.05))


TINY = Crops(locals=3, global_size=32, local_size=16)


def test_crops_are_evenly_spread_and_repeatable():
    lowest = [TINY.scale(i)[0] for i in range(5)]
    assert lowest == pytest.approx([0.25, 0.25, 0.05, 0.7 / 6, 1.1 / 6])
    assert TINY.scale(4)[1] == pytest.approx(0.25)
    image, ground = torch.randn(4, 3, 40, 40), torch.ones(4)
    one = make_crops(image, ground, TINY, torch.Generator().manual_seed(3))
    two = make_crops(image, ground, TINY, torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(one[0], two[0], strict=True))
    assert [tuple(c.shape) for c in one[0]] == [(4, 3, 32, 32)] * 2 + [(4, 3, 16, 16)] * 3
    assert one[1].shape == (5, 4)
    # A smaller crop of the same place, resized to the same size, has finer pixels.
    assert (one[1][2] < one[1][4]).all()


def test_a_crop_shows_the_place_it_was_cut_from():
    """Without a change of colour a crop of a ramp is a ramp of the crop's extent."""
    from earthprint.models.satdino import views

    ramp = torch.linspace(0, 1, 64).expand(8, 3, 64, 64)
    part, height, width = views._cut(ramp, (0.1, 0.2), 32, torch.Generator().manual_seed(0))
    slope = (part[..., 1:] - part[..., :-1]).mean(dim=(1, 2, 3)).abs()
    torch.testing.assert_close(slope, width / 32 / 63, rtol=0.02, atol=0)
    assert ((height * width / 64**2 > 0.08) & (height * width / 64**2 < 0.22)).all()


def _training(steps, follow):
    """Distillation losses of some steps on eight blurred images, and the objective after them."""
    torch.manual_seed(0)
    objective = SelfDistillation(
        SatDino(SMALL), prototypes=64, hidden=32, bottleneck=32, crops=TINY, momentum=0.9
    )
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(
        torch.randn(8, 3, 5, 5, generator=generator), (40, 40), mode="bilinear"
    )
    losses = []
    for step in range(steps):
        parts = objective({"image": image}, generator)
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        if follow:
            objective.update((step + 1) / steps)
        losses.append(parts["distillation"].item())
        expected = parts["distillation"] + 0.1 * parts["ground_size"]
        assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    return losses, objective


def test_the_student_learns_from_a_teacher_that_stands_still():
    losses, _ = _training(40, follow=False)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_every_weight_of_the_student_learns_and_the_teacher_follows():
    losses, objective = _training(8, follow=True)
    assert np.isfinite(losses).all()
    _, start = _training(0, follow=True)
    before = start.state_dict()
    still = {n for n, p in objective.state_dict().items() if torch.equal(p, before[n])}
    norms = {f"{who}.head.last_layer.weight_g" for who in ("student", "teacher")}
    assert still == norms | {"gsd_head.weight", "gsd_head.bias"}
    assert objective.encoder is objective.teacher.backbone
    assert not objective.encoder.training and objective.student.training


def test_the_ground_distance_shapes_the_register_alone_unless_asked():
    torch.manual_seed(0)
    for learn in (False, True):
        objective = SelfDistillation(
            network(), prototypes=16, hidden=16, bottleneck=8, crops=TINY, learn_gsd=learn
        )
        inputs = {"image": torch.randn(2, 3, 32, 32), "ground_size": torch.tensor([0.5, 2.0])}
        objective(inputs, torch.Generator().manual_seed(0))["loss"].backward()
        assert (objective.gsd_head.weight.grad is not None) == learn
        assert objective.student.backbone.gsd_register.grad.abs().sum() > 0


def test_a_training_can_go_on_from_its_state():
    torch.manual_seed(0)

    def objective(seed):
        return SelfDistillation(
            network(seed=seed), prototypes=16, hidden=16, bottleneck=8, crops=TINY, drop_path=0.0
        )

    first = objective(0)
    inputs = {"image": torch.randn(2, 3, 32, 32)}
    first(inputs, torch.Generator().manual_seed(0))
    first.update(0.3)
    second = objective(1)
    second.load_state_dict(first.state_dict(), strict=True)
    losses = [o(inputs, torch.Generator().manual_seed(5))["loss"] for o in (first, second)]
    assert losses[0] == losses[1]
