"""Areas corrected by held-back labels: known answers and what must hold for any matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthprint.engine.reports.corrected_areas import corrected


def test_the_example_of_olofsson_2014():
    # table 8 there: mapped pixels of 0.09 ha, and the error matrix of the sample
    matrix = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]], float)
    mapped = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09
    expected = [21157.76, 11686.15, 285769.93, 581386.15]
    assert corrected(matrix, mapped) == pytest.approx(expected, abs=0.01)


def test_a_class_without_samples_is_believed():
    assert corrected(np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([8.0, 5.0])).tolist() == [6, 7]


@given(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=3, max_size=3),
       st.lists(st.floats(0, 1e4), min_size=3, max_size=3))
def test_no_hectare_is_lost(matrix, hectares):
    found = corrected(np.array(matrix, float), np.array(hectares))
    assert (found >= 0).all() and found.sum() == pytest.approx(sum(hectares), abs=1e-6)
