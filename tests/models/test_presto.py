"""Presto with the official weights against the reference's features."""

import json

import pytest
import torch
from safetensors.torch import load_file

from earthprint.models.presto.network import Encoder, load

TOLERANCE = 1e-4


def case(shared, name):
    folder = shared / "golden" / "presto" / name
    return load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")


@pytest.fixture(scope="module")
def encoder(shared):
    return load(shared / "checkpoints" / "presto" / "default_model.pt")


@torch.no_grad()
@pytest.mark.parametrize(
    ("mask", "month", "output"),
    [("mask", "month", "embedding"), ("mask2", "month", "embedding_mask2"),
     ("mask", 10, "embedding_month_int")],
)  # fmt: skip
def test_features_of_real_pixels(shared, encoder, mask, month, output):
    given, expected = case(shared, "default_worldcereal_pixels")
    month = given["month"] if month == "month" else month
    found = encoder(given["x"], given["dynamic_world"], given["latlons"], given[mask], month)
    assert (found - expected[output]).abs().max() < TOLERANCE


@torch.no_grad()
def test_tokens_of_real_pixels(shared, encoder):
    given, expected = case(shared, "default_worldcereal_pixels")
    tokens, visible, order = encoder(
        given["x"], given["dynamic_world"], given["latlons"], given["mask"], given["month"],
        pool=False,
    )  # fmt: skip
    assert torch.equal(order, expected["token_order"])
    assert torch.equal(~visible, expected["token_mask"] > 0)
    difference = (tokens - expected["tokens_normed"]).abs() * visible[:, :, None]
    assert difference.max() < TOLERANCE


@torch.no_grad()
def test_dynamic_world_is_used(shared, encoder):
    given, expected = case(shared, "default_masked_reconstruction")
    found = encoder(
        given["x_unmasked"], given["dynamic_world_unmasked"], given["latlons"],
        month=given["month"],
    )  # fmt: skip
    assert (found - expected["embedding_unmasked"]).abs().max() < TOLERANCE


@torch.no_grad()
def test_other_sizes_and_uneven_masks(shared):
    folder = shared / "golden" / "presto" / "small_random_uneven_masks"
    given, expected = case(shared, folder.name)
    sizes = json.loads((folder / "config.json").read_text())["constructor"]
    encoder = Encoder(**{k: v for k, v in sizes.items() if not k.startswith("decoder")}).eval()
    weights = load_file(folder / "weights.safetensors")
    encoder.load_state_dict(
        {k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")}
    )
    found = encoder(
        given["x"], given["dynamic_world"], given["latlons"], given["mask"], given["month"]
    )
    assert (found - expected["embedding"]).abs().max() < TOLERANCE


@torch.no_grad()
def test_longer_variant(shared):
    encoder = load(
        shared / "checkpoints" / "presto" / "finetuned_presto_model.pt", max_sequence_length=72
    )
    given, expected = case(shared, "worldcereal_finetuned_pooling")
    mask = expected["mask_model"].float()
    x = expected["x_normalised"].masked_fill(mask > 0, 0)
    nothing = torch.full(x.shape[:2], 9)
    month = (given["timestamps"][:, 1] - 1).expand(len(x), -1)
    found = encoder(x, nothing, given["latlons"], mask, month)
    assert (found - expected["embedding_global"]).abs().max() < TOLERANCE
