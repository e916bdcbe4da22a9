"""The timer, on a clock that only moves when the timed function says so."""

import itertools
import types
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.core import timing
from stackkit.core.timing import Race, Timing, bench, race


class Clock:
    """Stands in for the module ``time``; powers of two keep its sums exact."""

    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def get_clock_info(self, name: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(resolution=1e-9)

    def takes(self, *durations_s: float):
        """A function that takes these durations, over and over, one a call."""
        turns = itertools.cycle(durations_s)

        def call():
            self.now_s += next(turns)
            call.calls += 1

        call.calls = 0
        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_bench_calls_warmup_and_runs_and_counts_the_runs(clock):
    fn = clock.takes(1.0)
    assert bench(fn, min_runs=5, min_total_s=0, warmup=3).runs == 5
    assert fn.calls == 3 + 5


def test_bench_goes_on_until_the_calls_add_up(clock):
    assert bench(clock.takes(0.25), min_runs=2, min_total_s=3.0).runs == 12


def test_the_warmup_is_not_timed(clock):
    first_is_slow = clock.takes(100.0, *[1.0] * 7)
    assert bench(first_is_slow, min_runs=7, min_total_s=0) == Timing(1.0, 1.0, 1.0, 7)


def test_bench_reports_the_median_and_the_outer_fifths(clock):
    """Of 1, 2 … 11 s, two lie below 3 (a fifth of the ten gaps) and two above 9."""
    fn = clock.takes(7, 1, 11, 4, 2, 9, 6, 10, 3, 8, 5)
    assert bench(fn, min_runs=11, min_total_s=0, warmup=0) == Timing(6, 3, 9, 11)


@given(st.lists(st.floats(1e-9, 1e3), min_size=2, max_size=20))
def test_the_percentiles_are_in_order_and_inside_the_range(durations_s):
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(timing, "time", clock)
        shown = bench(clock.takes(*durations_s), min_runs=len(durations_s), min_total_s=0, warmup=0)
    slack = 1e-9 * max(durations_s)  # differences of the clock's sums
    assert shown.p20_s <= shown.median_s + slack
    assert shown.median_s <= shown.p80_s + slack
    assert min(durations_s) - slack <= shown.p20_s
    assert shown.p80_s <= max(durations_s) + slack


def test_a_single_run_is_refused(clock):
    with pytest.raises(ValueError, match="min_runs of 2 or more to show a spread; got 1"):
        bench(clock.takes(1.0), min_runs=1)


def test_an_error_of_the_timed_function_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        bench(lambda: 1 / 0)


class CountedSeconds(float):
    """Seconds that count how often they are added up."""

    additions = 0

    def __add__(self, other):
        type(self).additions += 1
        return CountedSeconds(float(self) + float(other))

    __radd__ = __add__

    def __sub__(self, other):
        return CountedSeconds(float(self) - float(other))


def test_bench_adds_each_run_up_once(monkeypatch):
    """Else a function of 0.4 µs keeps the default of 0.2 s busy for many minutes."""
    clock = Clock()
    fn = clock.takes(0.25)
    ticking = SimpleNamespace(perf_counter=lambda: CountedSeconds(clock.now_s))
    monkeypatch.setattr(timing, "time", ticking)
    monkeypatch.setattr(CountedSeconds, "additions", 0)
    runs = bench(fn, min_total_s=100.0).runs
    assert CountedSeconds.additions <= 5 * runs


def test_a_timing_prints_its_spread_and_its_runs():
    assert str(Timing(2e-3, 1e-3, 3e-3, 7)) == "2 ms (p20 1 ms, p80 3 ms, 7 runs)"


def test_race_warms_up_all_and_reverses_every_other_round():
    order = []
    race({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3, warmup=2)
    assert "".join(order) == "abc abc abc cba abc".replace(" ", "")


def test_a_contestant_against_itself_has_ratio_one(clock):
    fn = clock.takes(0.5)
    assert race({"it": fn, "again": fn}).ratios["it"] == (1.0, 1.0, 1.0)


def test_a_slow_minute_of_the_machine_cancels_out(clock):
    """Both contestants slow down together, 1 s to 64 s, and the ratio does not see it."""
    drift = [2.0**turn for turn in range(7)]
    result = race({"a": clock.takes(*drift), "b": clock.takes(*drift)}, rounds=7, warmup=0)
    assert result.ratios["a"] == (1.0, 1.0, 1.0)
    assert result.timings["a"].p80_s > 4 * result.timings["a"].p20_s


def test_ratios_are_against_the_last_contestant(clock):
    result = race({"ours": clock.takes(1.0), "peer": clock.takes(4.0)})
    assert result.reference == "peer"
    assert result.ratios["ours"] == (0.25, 0.25, 0.25)
    assert result.ratios["peer"] == (1.0, 1.0, 1.0)


def test_the_ratio_is_formed_round_by_round(clock):
    """1/4, 2/1 and 4/2: the median of the ratios is 2, though both medians are 2 s."""
    a, b = clock.takes(1.0, 2.0, 4.0), clock.takes(4.0, 1.0, 2.0)
    result = race({"a": a, "b": b}, rounds=3, warmup=0)
    assert result.timings["a"].median_s == result.timings["b"].median_s
    assert result.ratios["a"][1] == 2.0


@pytest.mark.parametrize(("names", "rounds"), [("a", 7), ("", 7), ("ab", 1)])
def test_a_race_needs_two_contestants_and_two_rounds(names, rounds):
    with pytest.raises(ValueError, match="two or more contestants and rounds; got"):
        race({name: lambda: None for name in names}, rounds=rounds)


def a_race(others_cores):
    still = Timing(1.0, 1.0, 1.0, 7)
    return Race({"a": still, "b": still}, "b", dict.fromkeys("ab", (1.0,) * 3), others_cores)


@pytest.mark.parametrize(("others_cores", "busy"), [(None, False), (0.0, False), (1.0, True)])
def test_a_race_is_busy_when_others_use_the_cores(others_cores, busy):
    assert a_race(others_cores).busy is busy


def test_a_busy_race_makes_no_claim():
    assert "kept 1.0 cores busy: no claim" in str(a_race(1.0))


def test_a_quiet_race_prints_a_line_for_each_contestant():
    assert [line.split(":")[0] for line in str(a_race(0.0)).splitlines()] == ["a", "b"]


class Stat:
    """Stands in for the file /proc/stat: what all processes used, in ticks of 10 ms."""

    def __init__(self, monkeypatch, clock):
        self.ticks = 0
        self.ours_s = 0.0
        self.clock = clock
        system = SimpleNamespace(times=lambda: (self.ours_s, 0.0, 0.0, 0.0, 0.0))
        monkeypatch.setattr(timing, "os", system)
        monkeypatch.setattr(timing, "Path", {"/proc/stat": self}.__getitem__)
        monkeypatch.setattr(timing.CpuUsage, "_CLOCK_TICKS_PER_S", 100)

    def read_text(self, **_) -> str:
        return f"cpu  {self.ticks} 0 0 12345 678 0 0 0 0 0\ncpu0 1 2 3\n"

    def advance(self, *, wall_s, ours_s, all_s):
        self.clock.now_s += wall_s
        self.ours_s += ours_s
        self.ticks += round(all_s * 100)


def test_the_work_of_others_is_counted_in_cores(monkeypatch, clock):
    stat = Stat(monkeypatch, clock)
    usage = timing.CpuUsage()
    stat.advance(wall_s=2.0, ours_s=2.0, all_s=5.0)
    assert usage.others_cores() == pytest.approx(1.5)  # (5 - 2) s of work in 2 s


def test_our_own_work_does_not_make_the_machine_busy(monkeypatch, clock):
    stat = Stat(monkeypatch, clock)
    usage = timing.CpuUsage()
    stat.advance(wall_s=2.0, ours_s=4.0, all_s=4.0)
    assert usage.others_cores() == 0.0


def test_without_proc_stat_the_load_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "Path", lambda path: tmp_path / "no-such-file")
    assert timing.CpuUsage().others_cores() is None


def test_a_race_on_an_unknown_load_is_not_called_busy(monkeypatch, clock, tmp_path):
    monkeypatch.setattr(timing, "Path", lambda path: tmp_path / "no-such-file")
    result = race({"a": clock.takes(1.0), "b": clock.takes(1.0)})
    assert (result.others_cores, result.busy) == (None, False)


def test_after_a_rest_each_is_called_once_more_before_it_is_timed(monkeypatch):
    """So that its own threads are awake and the others' asleep."""
    slept, calls = [], []
    monkeypatch.setattr(timing.time, "sleep", slept.append)
    race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, rest_s=0.25)
    assert slept == [0.25] * 4
    assert calls == ["a", "b", *"aabb", *"bbaa"]
