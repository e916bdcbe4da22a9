"""The drawn roofline: roofs are lines, workloads are lines, measurements are markers."""

import pytest

from stackkit.memory import Roofline

pytest.importorskip("plotly", reason="Figures need plotly, which is not installed here.")

from stackkit.core.figures import data_table
from stackkit.memory.figures import roofline_figure

ROOFS = {"fast": Roofline(1000e12, 4e12), "slow": Roofline(100e12, 1e12)}
WORKLOADS = {"decode": 1.0, "prefill": 500.0}
MEASURED = {"copy": (0.5, 1.5e12), "matmul": (1000.0, 800e12), "decode": (1.0, 2e12)}


@pytest.fixture(scope="module")
def figure():
    return roofline_figure(ROOFS, workloads=WORKLOADS, measured=MEASURED)


def test_both_axes_are_logarithmic(figure):
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")


def test_there_is_a_trace_for_each_roof_workload_and_measurement(figure):
    names = [trace.name for trace in figure.data]
    assert names == ["fast", "slow", "1: decode", "2: prefill", "copy", "matmul", "decode"]


def test_modelled_values_are_lines_and_measured_ones_are_markers(figure):
    modes = [trace.mode.split("+")[0] for trace in figure.data]
    assert modes == ["lines"] * 4 + ["markers"] * 3


def test_a_roof_bends_at_its_ridge(figure):
    assert figure.data[0].x[1] == 1000 / 4
    assert figure.data[1].x[1] == 100 / 1


def test_a_roof_is_flat_from_its_ridge_on(figure):
    for trace, peak in zip(figure.data, (1000, 100), strict=False):
        assert trace.y[1:] == (peak, peak)


def test_below_the_ridge_a_roof_is_the_bandwidth(figure):
    """At the left edge, 0.25 FLOP/B of 4 TB/s are 1 TFLOP/s."""
    assert (figure.data[0].x[0], figure.data[0].y[0]) == (0.25, 1.0)


def test_a_workload_stands_upright_at_its_intensity(figure):
    assert [set(trace.x) for trace in figure.data[2:4]] == [{1.0}, {500.0}]


def test_a_measurement_is_where_it_was_measured(figure):
    assert (figure.data[5].x, figure.data[5].y) == ((1000.0,), (800.0,))


def test_roofs_differ_in_more_than_colour(figure):
    assert figure.data[0].line.dash != figure.data[1].line.dash


def test_measurements_differ_in_more_than_colour(figure):
    assert len({trace.marker.symbol for trace in figure.data[4:]}) == 3


def test_large_roofs_are_in_tflops(figure):
    assert "TFLOP/s" in figure.layout.yaxis.title.text


def test_small_roofs_are_in_gflops():
    figure = roofline_figure({"laptop": Roofline(70e9, 25e9)})
    assert "GFLOP/s" in figure.layout.yaxis.title.text
    assert max(figure.data[0].y) == 70


def test_the_figure_has_a_data_table(figure):
    assert all(f"<td>{trace.name}</td>" in data_table(figure) for trace in figure.data)


def test_a_roof_whose_ridge_is_off_the_axis_stays_on_it():
    wide = roofline_figure({"far": Roofline(1e15, 1e9)}, intensities=(1, 100))
    assert list(wide.data[0].x) == sorted(wide.data[0].x)
    assert max(wide.data[0].x) <= 100


@pytest.mark.parametrize("intensities", [(0, 10), (10, 1), (-1, 1), (1, 1)])
def test_an_axis_that_a_logarithm_cannot_show_is_refused(intensities):
    with pytest.raises(ValueError, match="from low to high, above zero"):
        roofline_figure({"roof": Roofline(100.0, 10.0)}, intensities=intensities)


def test_a_figure_without_a_roof_is_refused():
    with pytest.raises(ValueError, match="at least one roof"):
        roofline_figure({})
