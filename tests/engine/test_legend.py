import pytest

from earthprint.engine.errors import UserError
from earthprint.engine.rasters.legend import COLORS, Legend, LegendClass, crop_color


def test_crops_get_the_colours_analysts_know():
    legend = Legend.of_names(["Maïs", "winter_wheat", "SUGAR-BEET"])
    assert legend.colors == ("#ffd300", "#a57000", "#a800e2")
    assert legend.values == (1, 2, 3)
    assert crop_color("soybeans") == crop_color("Soya") == "#267000"
    assert crop_color("spaceship") is None


def test_unknown_names_get_default_colours_and_no_colour_twice():
    legend = Legend.of_names(["alpha", "beta", "rape", "canola"])
    assert legend.colors[:3] == (COLORS[0], COLORS[1], "#d1ff00")
    many = Legend.of_names([f"kind {i}" for i in range(60)])
    assert len(set(many.colors)) == 60


def test_small_numbers_stay_values_and_zero_is_a_class():
    assert Legend.of_numbers([0.0, 1.0]).values == (0, 1)
    assert Legend.of_numbers([10, 80]).names == ("10", "80")


def test_worldcereal_codes_lend_their_names():
    legend = Legend.of_numbers([1101060000.0, 1106000020.0, 123456.0])
    assert legend.names == ("maize", "soy", "123456")
    assert legend.values == (1, 2, 3) and legend.colors[0] == "#ffd300"
    assert Legend.of_numbers([0.5, 2.0]).names == ("0.5", "2")


def test_records_round_trip():
    legend = Legend.of_names(["maize", "other"])
    assert Legend.of_records(legend.records()) == legend


@pytest.mark.parametrize("values", [(1, 1), (0, 255), (-1, 2)])
def test_values_must_differ_and_fit(values):
    with pytest.raises(UserError, match="different values"):
        Legend(tuple(LegendClass(v, str(v), "#000000") for v in values))
