"""The systolic array: its result against NumPy, its clock against a formula and the first TPU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackkit.core.units import MEGA, TERA
from stackkit.processors.systolic import SystolicArray

# For a grid of 4 rows (along k) by 3 columns (along n).
SHAPES = [
    (1, 1, 1),
    (1, 4, 3),  # one tile, one row
    (4, 4, 3),  # one tile
    (9, 4, 3),
    (3, 4, 3),  # fewer rows than it takes to load a tile
    (1, 1, 17),  # skinny
    (1, 17, 1),
    (17, 1, 1),
    (1, 17, 17),
    (17, 1, 17),
    (17, 17, 1),
    (2, 8, 3),  # two tiles along k
    (2, 4, 6),  # two tiles along n
    (5, 8, 6),
    (5, 3, 2),  # smaller than the grid
    (5, 5, 4),  # one more than the grid
    (6, 7, 5),
    (3, 17, 3),
    (13, 11, 10),
    (40, 9, 8),
]
both_ways = pytest.mark.parametrize("double_buffered", [False, True])


def whole_numbers(*shape, seed=0):
    return np.random.default_rng(seed).integers(-99, 100, shape)


def tpu_v1():
    return SystolicArray(256, 256)


@both_ways
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_the_product_is_exact_and_takes_the_cycles_of_the_formula(m, k, n, double_buffered):
    array = SystolicArray(4, 3)
    a, b = whole_numbers(m, k), whole_numbers(k, n, seed=1)
    run = array.matmul(a, b, double_buffered=double_buffered)
    np.testing.assert_array_equal(run.result, a @ b)
    assert run.cycles == array.cycles(m, k, n, double_buffered=double_buffered)
    assert run.utilisation == array.utilisation(m, k, n, double_buffered=double_buffered)


sizes = st.integers(1, 9)


@given(rows=sizes, cols=sizes, m=sizes, k=sizes, n=sizes, double_buffered=st.booleans())
@settings(max_examples=60, deadline=None)
def test_so_it_does_in_any_array(rows, cols, m, k, n, double_buffered):
    array = SystolicArray(rows, cols)
    a, b = whole_numbers(m, k), whole_numbers(k, n, seed=1)
    run = array.matmul(a, b, double_buffered=double_buffered)
    np.testing.assert_array_equal(run.result, a @ b)
    assert run.cycles == array.cycles(m, k, n, double_buffered=double_buffered)


def test_one_cell_loads_in_one_cycle_and_multiplies_in_another():
    assert SystolicArray(1, 1).matmul([[3]], [[5]]).cycles == 2


def test_five_cycles_followed_by_hand():
    """Two to load; row 0 of column 0; its row 1 and row 0 of column 1; row 1 of column 1."""
    run = SystolicArray(2, 2).matmul([[1, 2]], [[3, 4], [5, 6]])
    assert run.result.tolist() == [[13, 16]]
    assert run.cycles == 5
    assert run.utilisation == 4 / (4 * 5)


def test_a_second_tile_waits_until_the_first_has_left_or_begins_right_behind_it():
    """Ten rows in a 2 x 2 array: 2 + 10 + 2 cycles, and again; or 10 more for the second."""
    a, b = whole_numbers(10, 4), whole_numbers(4, 2)
    assert SystolicArray(2, 2).matmul(a, b).cycles == 28
    assert SystolicArray(2, 2).matmul(a, b, double_buffered=True).cycles == 24


@both_ways
def test_floats_are_added_from_the_first_row_to_the_last_and_tile_by_tile(double_buffered):
    rng = np.random.default_rng(3)
    a = rng.normal(size=(7, 23)).astype(np.float32)
    b = rng.normal(size=(23, 6)).astype(np.float32)
    expected = np.zeros((7, 6), dtype=np.float32)
    for first in range(0, 23, 5):
        tile = np.zeros((7, 6), dtype=np.float32)
        for i in range(first, min(first + 5, 23)):
            tile = tile + np.outer(a[:, i], b[i])
        expected = expected + tile
    result = SystolicArray(5, 4).matmul(a, b, double_buffered=double_buffered).result
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)
    assert not np.array_equal(result, np.float32(a.astype(float) @ b))  # the order does matter


def test_bytes_are_summed_as_wide_numbers():
    a, b = np.full((1, 300), 127, dtype=np.int8), np.full((300, 1), -128, dtype=np.int8)
    assert SystolicArray(8, 8).matmul(a, b).result == 300 * 127 * -128


@both_ways
def test_a_weight_that_is_no_number_spoils_its_own_column_alone(double_buffered):
    a, b = np.ones((5, 8)), np.ones((8, 6))
    b[6, 1] = np.nan
    result = SystolicArray(4, 3).matmul(a, b, double_buffered=double_buffered).result
    assert np.isnan(result[:, 1]).all()
    np.testing.assert_array_equal(np.delete(result, 1, axis=1), 8.0)


def test_the_inputs_are_left_as_they_were():
    a, b = whole_numbers(5, 6), whole_numbers(6, 7)
    before = a.copy(), b.copy()
    SystolicArray(4, 3).matmul(a, b)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_the_first_tpu_peaks_at_92_tera_operations_per_second():
    """Jouppi et al., ISCA 2017: 256 x 256, 65,536 multiply-adds, 700 MHz, 92 TOP/s."""
    assert tpu_v1().rows * tpu_v1().cols == 65_536
    assert round(tpu_v1().peak_ops_per_s(700 * MEGA) / TERA) == 92


@pytest.mark.parametrize("rows_of_input", [256, 300, 2048])
def test_the_first_tpu_takes_b_pipelined_cycles_for_b_rows(rows_of_input):
    """The same: "a B*256 input ... taking B pipelined cycles to complete"."""
    one = tpu_v1().cycles(rows_of_input, 256, 256, double_buffered=True)
    nine = tpu_v1().cycles(rows_of_input, 256, 9 * 256, double_buffered=True)
    assert nine - one == 8 * rows_of_input


@pytest.mark.parametrize("rows_of_input", [1, 100, 255])
def test_fewer_rows_do_not_hide_the_256_cycles_it_takes_to_shift_a_tile_in(rows_of_input):
    """The same, on why the unit holds a second tile of weights."""
    one = tpu_v1().cycles(rows_of_input, 256, 256, double_buffered=True)
    nine = tpu_v1().cycles(rows_of_input, 256, 9 * 256, double_buffered=True)
    assert nine - one == 8 * 256


@both_ways
def test_many_rows_fill_the_array(double_buffered):
    array = SystolicArray(128, 128)
    shares = [
        array.utilisation(m, 4096, 4096, double_buffered=double_buffered)
        for m in (1, 8, 32, 128, 512, 4096, 10**7)
    ]
    assert shares == sorted(shares)
    assert 0.9999 < shares[-1] < 1


def test_one_row_leaves_a_square_array_to_one_cell_in_three_rows():
    for rows in (2, 16, 128, 256):
        share = SystolicArray(rows, rows).utilisation(1, 8 * rows, 8 * rows)
        assert share == pytest.approx(1 / (3 * rows - 1))


def test_one_row_and_weights_loaded_behind_it_leave_one_cell_in_a_column():
    share = SystolicArray(128, 128).utilisation(1, 128 * 128, 128 * 128, double_buffered=True)
    assert share == pytest.approx(1 / 128, rel=1e-3)


@both_ways
@pytest.mark.parametrize(
    ("k", "n", "used"),
    [(64, 128, 1 / 2), (128, 32, 1 / 4), (1, 1, 1 / 128**2), (129, 128, 129 / 256)],
)
def test_a_matrix_that_does_not_fill_its_tiles_leaves_cells_idle(k, n, used, double_buffered):
    array = SystolicArray(128, 128)
    for m in (1, 100, 10**4):
        assert array.utilisation(m, k, n, double_buffered=double_buffered) < used
    limit = array.utilisation(10**9, k, n, double_buffered=double_buffered)
    assert limit == pytest.approx(used, rel=1e-4)


@given(rows=sizes, cols=sizes, m=sizes, k=sizes, n=sizes)
def test_a_second_register_never_costs_cycles(rows, cols, m, k, n):
    array = SystolicArray(rows, cols)
    assert array.cycles(m, k, n, double_buffered=True) <= array.cycles(m, k, n)


@pytest.mark.parametrize("size", [0, -1, 1.5, np.nan, np.inf])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(ValueError, match="rows must be a whole number, 1 or more; got"):
        SystolicArray(size, 4)
    with pytest.raises(ValueError, match="cols must be a whole number, 1 or more; got"):
        SystolicArray(4, size)
    with pytest.raises(ValueError, match="k must be a whole number, 1 or more; got"):
        SystolicArray(4, 4).cycles(1, size, 1)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (0, 4), (4, 0), ()])
def test_what_is_no_matrix_is_refused(shape):
    with pytest.raises(ValueError, match="a must be a matrix with at least one row and column"):
        SystolicArray(4, 4).matmul(np.ones(shape), np.ones((4, 4)))
    with pytest.raises(ValueError, match="b must be a matrix with at least one row and column"):
        SystolicArray(4, 4).matmul(np.ones((4, 4)), np.ones(shape))


def test_matrices_that_do_not_match_are_refused():
    message = "a must have as many columns as b has rows; got 3 and 4"
    with pytest.raises(ValueError, match=message):
        SystolicArray(4, 4).matmul(np.ones((2, 3)), np.ones((4, 5)))


def test_complex_numbers_are_refused():
    with pytest.raises(ValueError, match="b must hold real numbers; got complex128"):
        SystolicArray(4, 4).matmul(np.ones((2, 3)), np.ones((3, 5)) * 1j)


@pytest.mark.parametrize("clock_hz", [0, -1.0, np.nan, np.inf])
def test_an_impossible_clock_is_refused(clock_hz):
    with pytest.raises(ValueError, match="clock_hz must be above zero, in Hz; got"):
        SystolicArray(4, 4).peak_ops_per_s(clock_hz)
