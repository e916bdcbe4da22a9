"""Climbing: what is run, at which size, and what is said. No test looks at a speed."""

import pytest

from stackkit.core.timing import Timing
from stackkit.memory import Roofline
from stackkit.processors import climb as module
from stackkit.processors.climb import Climb, Step, climb
from stackkit.processors.ladder import LADDER

ROOF = Roofline(100e9, 10e9)


@pytest.fixture
def quick(monkeypatch):
    """Roofs that need no measuring, and one call for each timing."""

    def bench(fn, **options):
        fn()
        return Timing(0.5, 0.4, 0.6, 3)

    monkeypatch.setattr(module, "measured_roofs", lambda: {"one": ROOF, "all": ROOF})
    monkeypatch.setattr(module, "bench", bench)


def test_all_rungs_that_can_be_timed_here_are_climbed_in_order(quick):
    found = climb(24)
    assert [step.rung.name for step in found.steps] == [
        name for name, rung in LADDER.items() if rung.timed and rung.is_ready
    ]


def test_a_slow_rung_runs_at_a_size_that_takes_seconds(quick):
    (step,) = climb(10_000, ["python"]).steps
    assert step.n == LADDER["python"].largest < 10_000


def test_a_prediction_lies_between_all_overlapped_and_nothing(quick, monkeypatch):
    monkeypatch.setattr(module, "last_cache_bytes", lambda: 1024)
    n = 32
    (step,) = climb(n, ["numpy-rows"]).steps
    compute_s = 2 * n**3 / 100e9
    memory_s = 4 * (n * n + n * n * n + n * n) / 10e9
    assert (step.lower_s, step.upper_s) == pytest.approx((memory_s, compute_s + memory_s))
    assert step.flops_per_s == 2 * n**3 / 0.5


def test_progress_names_every_rung_before_it_runs(quick):
    said = []
    climb(8, ["python", "numpy"], progress=said.append)
    assert [line.split(":")[0] for line in said[1:]] == ["python", "numpy"]


def test_a_wrong_rung_is_not_timed(quick, monkeypatch):
    monkeypatch.setattr(module, "is_close", lambda *_: False)
    with pytest.raises(ValueError, match="'numpy' is wrong at n = 8; it is not timed"):
        climb(8, ["numpy"])


def step(name, flops_per_s):
    n = 10
    return Step(LADDER[name], n, 1e-9, 2e-9, Timing(2 * n**3 / flops_per_s, 0, 0, 3))


def test_the_ratio_is_of_the_best_to_the_first():
    found = Climb((step("python", 1e6), step("ikj", 4e9), step("ijk", 1e9)), {}, 0.0)
    assert found.ratio == pytest.approx(4000)
    assert "4,000 times" in str(found)
    assert "no claim" not in str(found)


def test_a_busy_machine_makes_no_claim():
    assert "no claim" in str(Climb((step("ikj", 1e9),), {}, 1.0))


@pytest.mark.parametrize("n", [0, -3, 2.5, float("nan"), float("inf")])
def test_a_matrix_without_whole_rows_is_refused(n):
    with pytest.raises(ValueError, match=f"n must be a whole number, 1 or more; got {n}"):
        climb(n)


def test_rungs_that_cannot_be_timed_are_refused(quick):
    with pytest.raises(ValueError, match="No rung of these can be timed here"):
        climb(8, ["triton"])
    with pytest.raises(ValueError, match="No rung is named 'x'"):
        climb(8, ["x"])


def test_there_is_a_roof_of_one_core_and_one_of_all():
    pytest.importorskip("numba", reason="numba is not installed here.")
    roofs = module.measured_roofs()
    assert set(roofs) == {"one", "all"}
    assert roofs["all"].bytes_per_s >= roofs["one"].bytes_per_s


def test_a_lone_name_is_a_rung(quick):
    assert [step.rung.name for step in climb(8, "numpy").steps] == ["numpy"]
