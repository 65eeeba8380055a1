"""Golden cases of SatDINO: every output of the reference, computed by this package."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..conformance import Answer, Case, Shapes
from .neighbours import NEIGHBOURS, TEMPERATURE, top_percent, vote
from .network import OFFICIAL, Classifier, Config, SatDino, shapes
from .objective import (
    CENTER_MOMENTUM,
    GSD_WEIGHT,
    STUDENT_TEMPERATURE,
    WARM_EPOCHS,
    Branch,
    ProjectionHead,
    distillation,
    moved_center,
    teacher_temperature,
)

FLOAT = 2e-5  # absolute
ROUNDING = 1e-6  # relative, which counts where values are far from 1
VOTES = 1e-5  # relative
POSITIONS = {"sin_cos": "sin_cos", "learnable": "learnt", "learned": "learnt"}


def run_case(case: Case) -> dict[str, Answer]:
    """Compute the outputs of a case: of neighbours, of a training step or of a network."""
    if "train_features" in case.inputs:
        return _neighbours(case)
    return (_step if "head" in case.config else _network)(case)


def full_size(name: str, wanted: Shapes) -> Shapes:
    """Tensors of an official backbone, or of student and teacher with the projection head."""
    size, part = re.fullmatch(r"(.+?)(_backbone|_training.*)?", name).groups()
    if size not in OFFICIAL:
        raise ValueError(f"no official SatDINO is called '{size}'")
    config = OFFICIAL[size]
    if not (part or "").startswith("_training"):
        return shapes(config)
    with torch.device("meta"):
        branch = Branch(SatDino(config), ProjectionHead(config.width))
    return {name: tuple(t.shape) for name, t in branch.state_dict().items()}


# --- networks -------------------------------------------------------------------------------------


def _config(given: dict[str, Any]) -> Config:
    """The configuration that a case describes."""
    image = given["img_size"]
    return Config(
        patch=int(given["patch_size"]),
        width=int(given["embed_dim"]),
        depth=int(given["depth"]),
        heads=int(given["num_heads"]),
        image=int(image[0] if isinstance(image, list) else image),
        mlp_ratio=float(given.get("mlp_ratio", 4)),
        bands=int(given.get("in_chans", 3)),
        qkv_bias=bool(given.get("qkv_bias", True)),
        norm_eps=float(given.get("layernorm_eps", 1e-6)),
        positions=POSITIONS.get(str(given.get("pos_encoding_method")), "learnt"),
    )


def _under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}


def _classifier(weights: dict[str, Tensor]) -> nn.Module:
    state = _under("linear_head/", weights)
    classes, width = state["linear.weight"].shape
    classifier = Classifier(width, classes)
    classifier.load_state_dict(state, strict=True)
    return classifier


@torch.no_grad()
def _network(case: Case) -> dict[str, Answer]:
    """Class token, register and what lies on the way, for each input."""
    network = SatDino(_config(case.config)).eval()
    backbone = {n: t for n, t in case.weights.items() if not n.startswith("linear_head/")}
    network.load_state_dict(backbone, strict=True)
    answers: dict[str, Tensor] = {}
    for name, values in case.inputs.items():
        i = re.fullmatch(r"x(\d+)", name)[1]
        images = torch.from_numpy(values)
        x = network.embed(images)
        answers[f"pos_embed_used{i}"] = network.positions(*images.shape[2:])
        answers[f"tokens_in{i}"] = x
        for k, block in enumerate(network.blocks):
            answers[f"last_attention{i}"] = block.attn.weights(block.norm1(x))
            x = block(x)
            answers[f"after_block{k}_{i}"] = x
        tokens = network(images)
        answers[f"all_tokens{i}"] = tokens
        answers[f"cls{i}"], answers[f"register{i}"] = tokens[:, 0], tokens[:, -1]
        answers[f"patch_tokens{i}"] = tokens[:, 1:-1]
        if any(n.startswith("linear_head/") for n in case.weights):
            answers[f"logits{i}"] = _classifier(case.weights)(tokens[:, 0])
    return {name: Answer(values.numpy(), FLOAT, ROUNDING) for name, values in answers.items()}


# --- a training step ------------------------------------------------------------------------------


def _branch(case: Case, prefix: str) -> Branch:
    head = case.config["head"]
    branch = Branch(
        SatDino(_config(case.config)),
        ProjectionHead(
            int(case.config["embed_dim"]),
            prototypes=int(head["out_dim"]),
            hidden=int(head["hidden_dim"]),
            bottleneck=int(head["bottleneck_dim"]),
            layers=int(head["nlayers"]),
        ),
    ).eval()
    branch.load_state_dict(_under(prefix, case.weights), strict=True)
    return branch


@torch.no_grad()
def _step(case: Case) -> dict[str, Answer]:
    """Scores of both branches, the losses and the center after them."""
    config = case.config
    given = {name: torch.from_numpy(values) for name, values in case.inputs.items()}
    crops = [given[f"crop{i}"] for i in range(sum(n.startswith("crop") for n in given))]
    student, registers = _branch(case, "student/")(crops)
    teacher, _ = _branch(case, "teacher/")(crops[: int(config["global_crops"])])
    temperature = teacher_temperature(
        int(config["epoch_index"]),
        float(config["warmup_teacher_temp"]),
        float(config["teacher_temp"]),
        int(config.get("warmup_teacher_temp_epochs", WARM_EPOCHS)),
    )
    loss = distillation(
        student,
        teacher,
        given["center"],
        temperature,
        len(crops[0]),
        float(config.get("student_temp", STUDENT_TEMPERATURE)),
    )
    gsd_head = nn.Linear(registers.shape[1], 1)
    gsd_head.load_state_dict(_under("gsd_head/gsd_head.", case.weights), strict=True)
    guess = gsd_head(registers).squeeze(-1)
    error = nn.functional.mse_loss(guess, given["gsd_target"])
    momentum = float(config.get("center_momentum", CENTER_MOMENTUM))
    answers = {
        "student_out": student,
        "teacher_out": teacher,
        "student_registers": registers,
        "gsd_pred": guess,
        "loss_dino": loss,
        "loss_gsd_mse": error,
        "loss_total": loss + float(config.get("gsd_weight", GSD_WEIGHT)) * error,
        "center_after": moved_center(given["center"], teacher, momentum),
        "teacher_temp": torch.tensor(temperature, dtype=torch.float64),
    }
    return {name: Answer(values.numpy(), FLOAT, ROUNDING) for name, values in answers.items()}


# --- neighbours -----------------------------------------------------------------------------------


def _neighbours(case: Case) -> dict[str, Answer]:
    """Votes, the classes that they choose and how often those are right."""
    given = case.inputs
    votes = vote(
        given["train_features"],
        given["train_labels"],
        given["val_features"],
        int(case.config["num_classes"]),
        int(case.config.get("k", NEIGHBOURS)),
        float(case.config.get("temperature", TEMPERATURE)),
    )
    labels = given["val_labels"]
    return {
        "votes": Answer(votes, relative=VOTES),
        "pred": Answer(votes.argmax(axis=1)),
        "top1_percent": Answer(np.array(top_percent(votes, labels, 1)), relative=VOTES),
        "top5_percent": Answer(np.array(top_percent(votes, labels, 5)), relative=VOTES),
    }
