import numpy as np
import pytest

from earthprint.engine.heads import accuracy

MATRIX = np.array([[50, 3, 2], [5, 40, 5], [0, 2, 43]])


def test_known_answers_of_a_matrix():
    s = accuracy.scores(MATRIX)
    assert s.overall == pytest.approx(0.886667, abs=1e-6)
    assert s.precision == pytest.approx([0.909091, 0.8, 0.955556], abs=1e-6)
    assert s.recall == pytest.approx([0.909091, 0.888889, 0.86], abs=1e-6)
    assert s.f1 == pytest.approx([0.909091, 0.842105, 0.905263], abs=1e-6)
    assert s.macro_f1 == pytest.approx(0.885486, abs=1e-6)
    assert s.iou == pytest.approx([0.833333, 0.727273, 0.826923], abs=1e-6)
    assert s.samples.tolist() == [55, 45, 50]


def test_rows_are_the_map():
    m = accuracy.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    assert m.tolist() == [[1, 1], [0, 1]]


def test_what_is_not_defined_is_left_out_and_what_is_missed_counts():
    s = accuracy.scores([[4, 2, 0], [0, 0, 0], [0, 0, 0]])
    assert np.isnan(s.precision[1]) and s.recall[1] == 0 and s.f1[1] == 0
    assert np.isnan([s.precision[2], s.recall[2], s.f1[2], s.iou[2]]).all()
    assert s.macro_f1 == pytest.approx((0.8 + 0) / 2)
    assert np.isnan(accuracy.mean_known(np.array([np.nan])))


def test_temperature_known_answer():
    z = np.array([[2, 0, 0], [0, 3, 0], [1, 0, .5], [0, 0, 4], [2.5, 2, 0], [0, 1, 3]])
    y = np.array([0, 1, 2, 2, 1, 2])
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)

    def loss(q):
        return -np.log(q[np.arange(6), y]).mean()

    t = accuracy.temperature(p, y)
    assert t == pytest.approx(0.7200381, abs=1e-4)
    assert loss(p) == pytest.approx(0.4574115, abs=1e-6)
    assert loss(accuracy.tempered(p, t)) == pytest.approx(0.4339251, abs=1e-6)
    assert accuracy.tempered(p, 1.0) == pytest.approx(p)


def test_calibration_error_known_answer():
    confidence = np.array([.95, .95, .85, .75, .65, .55])
    correct = np.array([1, 0, 1, 1, 0, 1])
    assert accuracy.expected_calibration_error(confidence, correct, 10) == pytest.approx(0.40)


def test_bins_hold_their_upper_edge():
    count, _, _ = accuracy.calibration_bins(np.array([0.1, 0.2, 0.3, 1.0]), np.ones(4), 10)
    assert count.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0, 1]
