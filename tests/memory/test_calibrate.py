"""Two times make a roofline; a prediction is held against the measurement of its own round."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.memory import Roofline, calibrate
from stackkit.memory.calibrate import (
    MULTIPLIED,
    STREAMED,
    UNSEEN,
    Comparison,
    Product,
    Report,
    predict_and_check,
    roofline_from,
)


def seconds_on(roof: Roofline, product: Product) -> float:
    """Nothing overlaps."""
    return product.flops / roof.peak_flops_per_s + product.bytes / roof.bytes_per_s


def test_a_product_counts_what_a_triple_loop_does():
    m, k, n = 3, 5, 2
    flops = sum(2 for _ in itertools.product(range(m), range(k), range(n)))
    assert Product(m, k, n).flops == flops
    assert Product(m, k, n).bytes == 4 * (m * k + k * n + m * n)


@given(st.floats(1e9, 1e15), st.floats(1e9, 1e13))
def test_two_times_give_back_the_machine_that_took_them(peak, bandwidth):
    roof = Roofline(peak, bandwidth)
    found = roofline_from(seconds_on(roof, STREAMED), seconds_on(roof, MULTIPLIED))
    assert found.peak_flops_per_s == pytest.approx(peak, rel=1e-3)
    assert found.bytes_per_s == pytest.approx(bandwidth, rel=1e-3)


def test_times_that_no_machine_takes_are_refused():
    """The square product 100 times as fast as its bytes can be read."""
    roof = Roofline(1e12, 1e10)
    with pytest.raises(ValueError, match="Measure again"):
        roofline_from(seconds_on(roof, STREAMED), seconds_on(roof, MULTIPLIED) / 1e4)


def test_what_calibrates_is_not_what_is_predicted():
    assert not {STREAMED, MULTIPLIED} & set(UNSEEN)
    assert {1} < {product.n for product in UNSEEN}  # vectors and matrices


@pytest.fixture
def machine(monkeypatch):
    """A made-up machine that takes exactly what the model says, or a factor more."""
    roof = Roofline(100e9, 10e9)
    factors = {}

    def matmul_call(m, k, n, operands):
        return "made up", lambda: Product(m, k, n)

    def time_once(call):
        product = call()
        return factors.get(product, 1.0) * seconds_on(roof, product)

    monkeypatch.setattr(calibrate, "matmul_call", matmul_call)
    return roof, factors, time_once


def test_a_machine_like_the_model_is_predicted_exactly(machine):
    roof, _, time_once = machine
    report = predict_and_check(rounds=3, time_once=time_once)
    assert report.median_error == pytest.approx(0)
    assert report.roofline.bytes_per_s == pytest.approx(roof.bytes_per_s)
    assert [row.product for row in report.rows] == list(UNSEEN)


def test_a_product_that_takes_longer_shows_its_error(machine):
    _, factors, time_once = machine
    slow = UNSEEN[4]
    factors[slow] = 3.0
    report = predict_and_check(rounds=3, time_once=time_once)
    (row,) = (row for row in report.rows if row.product == slow)
    assert row.ratio == pytest.approx((3, 3, 3))
    assert row.error == pytest.approx(2)
    assert f"{slow!s}" in str(report)
    assert "3.00 (3.00 to 3.00)" in str(report)


def test_a_slow_round_hurts_both_alike(machine):
    """Each round is ten times slower than the last: no ratio moves."""
    _, _, time_once = machine
    calls = itertools.count()
    per_round = len(UNSEEN) + 2
    report = predict_and_check(
        rounds=4, time_once=lambda call: 10 ** (next(calls) // per_round) * time_once(call)
    )
    assert report.median_error == pytest.approx(0)


def test_a_ratio_is_the_middle_of_its_rounds(machine):
    """One product takes 1, 2 and 7 times what it should, round by round."""
    _, _, time_once = machine
    odd, factors = UNSEEN[0], iter([1.0, 2.0, 7.0])

    def uneven(call):
        return time_once(call) * (next(factors) if call() == odd else 1.0)

    (row, *_) = predict_and_check(rounds=3, time_once=uneven).rows
    assert row.ratio == pytest.approx((1.4, 2.0, 5.0))  # fifths, between the rounds


def test_every_product_runs_once_before_it_is_timed(machine, monkeypatch):
    _, _, time_once = machine
    calls = []
    monkeypatch.setattr(
        calibrate,
        "matmul_call",
        lambda m, k, n, operands: ("made up", lambda: calls.append((m, k, n)) or Product(m, k, n)),
    )
    predict_and_check(rounds=2, time_once=time_once)
    assert calls.count((6144, 6144, 1)) == 1 + 2


def test_the_load_of_the_machine_is_noted(machine, monkeypatch):
    _, _, time_once = machine
    monkeypatch.setattr(calibrate.CpuUsage, "others_cores", lambda self: 1.25)
    assert predict_and_check(rounds=2, time_once=time_once).others_cores == 1.25


def test_the_median_counts_the_worst_in():
    rows = tuple(
        Comparison(Product(1, 1, 1), 1, 1, ratio, (ratio,) * 3) for ratio in (1.0, 1.1, 9.0)
    )
    assert Report(Roofline(1, 1), "x", rows, None).median_error == pytest.approx(0.1)


@pytest.mark.parametrize(("cores", "said"), [(1.5, True), (0.0, False), (None, False)])
def test_a_busy_machine_makes_no_claim(cores, said):
    row = Comparison(Product(1, 1, 1), 1, 1, 1, (1, 1, 1))
    assert ("no claim" in str(Report(Roofline(1, 1), "x", (row,), cores))) is said


def test_it_runs_on_this_machine():
    """Small products, so that the test is quick; whether they are predicted is not asked."""
    report = predict_and_check([Product(17, 3, 1), Product(64, 100, 257)], rounds=2)
    assert all(row.measured_s > 0 for row in report.rows)


@pytest.mark.parametrize(("products", "rounds"), [([], 7), ([Product(1, 1, 1)], 1)])
def test_nothing_to_check_is_refused(products, rounds):
    with pytest.raises(ValueError, match="products and two rounds or more; got"):
        predict_and_check(products, rounds=rounds)
