"""Codes and bits of every mask that is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthprint.engine.stacks.masks import RULES, valid

CASES = [
    ("scl", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
     [0, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]),
    ("fmask", [0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 255],
     [1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0]),
    ("cfmask", [0, 1, 2, 3, 4, 255], [1, 1, 0, 1, 0, 0]),
    ("cmask", [0, 127, 4, 2, 255], [1, 1, 0, 0, 0]),
    # clear land, clear water, fill, dilated cloud, cirrus, high cloud, cloud shadow, snow
    ("landsat-qa", [21824, 21952, 1, 21826, 54596, 22280, 23888, 30048],
     [1, 1, 0, 0, 0, 0, 0, 1]),
    # clear, water, fill, shadow, cloud
    ("pixel-qa", [322, 324, 1, 328, 352, 480], [1, 1, 0, 0, 0, 0]),
    ("theia-clm", [0, 1, 2, 128], [1, 0, 0, 0]),
    ("theia-mg2", [0, 1, 2, 4, 8, 16, 32], [1, 1, 0, 1, 0, 1, 0]),
    ("cloud", [0, 1, 4, 255], [1, 0, 0, 0]),
    ("valid", [0, 1, 255], [0, 1, 1]),
    ("planet-udm", [0, 1, 2], [1, 0, 0]),
]


@pytest.mark.parametrize(("kind", "codes", "expected"), CASES, ids=[c[0] for c in CASES])
def test_known_codes(kind, codes, expected):
    assert valid(kind, np.array(codes, np.float32)).tolist() == [bool(e) for e in expected]


def test_every_rule_is_tested():
    assert {case[0] for case in CASES} == set(RULES)


@given(st.sampled_from(sorted(RULES)), st.lists(st.integers(0, 65535), min_size=1, max_size=50))
def test_pixels_do_not_influence_each_other(kind, codes):
    together = valid(kind, np.array(codes, np.uint16))
    alone = [bool(valid(kind, np.array([c], np.uint16))[0]) for c in codes]
    assert together.tolist() == alone


@pytest.mark.parametrize("kind", sorted(RULES))
def test_what_the_mask_does_not_cover_is_not_valid(kind):
    assert not valid(kind, np.array([np.nan, -1.0, -9999.0], np.float32)).any()
