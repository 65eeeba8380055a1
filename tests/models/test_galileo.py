"""Galileo nano with the official weights against the reference's features."""

import json

import pytest
import torch
from safetensors.torch import load_file

from earthprint.models.galileo.network import (
    Tokens,
    average,
    average_per_patch,
    load,
    resize_kernel,
)

TOLERANCE = 1e-4


def case(shared, name):
    folder = shared / "golden" / "galileo" / name
    return load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")


@pytest.fixture(scope="module")
def encoder(shared):
    return load(shared / "checkpoints" / "galileo" / "nano")


def run(encoder, given, patch, resolution_m=10):
    masks = Tokens(given["s_t_m"], given["sp_m"], given["t_m"], given["st_m"])
    return encoder(
        given["s_t_x"], given["sp_x"], given["t_x"], given["st_x"], masks, given["months"], patch,
        resolution_m,
    )  # fmt: skip


def close(found, expected):
    return found.shape == expected.shape and (found - expected).abs().max() < TOLERANCE


@torch.no_grad()
def test_real_series_of_all_products(shared, encoder):
    given, expected = case(shared, "nano_real_timeseries")
    tokens, visible = run(encoder, given, 4)
    assert close(average(tokens, visible), expected["pooled_p4"])
    assert close(average_per_patch(tokens, visible), expected["per_patch_pooled_p4"])
    assert close(tokens.s_t[:, :, :, [0, 3, 6, 9]], expected["s_t_tokens_p4"])
    assert close(tokens.sp, expected["sp_tokens_p4"])
    assert close(tokens.t, expected["t_tokens_p4"])
    assert close(tokens.st, expected["st_tokens_p4"])


@torch.no_grad()
@pytest.mark.parametrize(
    ("patch", "resolution", "output"), [(2, 10, "pooled_p2"), (4, 20, "pooled_p4_res20")]
)
def test_other_patches_and_ground_sizes(shared, encoder, patch, resolution, output):
    given, expected = case(shared, "nano_real_timeseries")
    assert close(average(*run(encoder, given, patch, resolution)), expected[output])


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2, 3, 4, 5, 6, 7, 8, 16])
def test_one_image_at_any_patch_size(shared, encoder, patch):
    given, expected = case(shared, "nano_single_image_patch_sizes")
    folder = shared / "golden" / "galileo" / "nano_single_image_patch_sizes"
    crops = json.loads((folder / "config.json").read_text())["crop_of_input_used"]
    side = int(crops[str(patch)].split("..")[1].split(",")[0]) + 1
    s2 = given["s2"][:, :side, :side]
    s_t = torch.zeros(2, side, side, 1, 13)
    s_t[:, :, :, 0, 2:12] = s2[..., [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]]
    s_t_m = torch.zeros(2, side, side, 1, 7)
    s_t_m[..., [0, 6]] = 1
    masks = Tokens(s_t_m, torch.ones(2, side, side, 3), torch.ones(2, 1, 3), torch.ones(2, 4))
    found = encoder(
        s_t, torch.zeros(2, side, side, 16), torch.zeros(2, 1, 6), torch.zeros(2, 18), masks,
        torch.full((2, 1), 6), patch,
    )  # fmt: skip
    assert close(average(*found), expected[f"pooled_p{patch}"])


def test_a_kernel_of_its_own_size_is_left_alone():
    kernel = torch.randn(4, 2, 8, 8)
    assert torch.equal(resize_kernel(kernel, 8), kernel)
