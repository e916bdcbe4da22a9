"""What a user feels: times by hand, and a clock that skips."""

import re

import pytest

from stackkit.frameworks import Request, Sampling
from stackkit.frameworks.load import (
    Arrival,
    Report,
    SkippingClock,
    percentile,
    poisson,
    serve,
    tpot_s,
)


def request(arrived_s, *token_s):
    found = Request(0, [1], 1, Sampling(max_new_tokens=9), 0)
    found.arrived_s, found.token_s = arrived_s, list(token_s)
    return found


def test_the_first_token_counts_from_the_arrival_and_the_others_from_the_first():
    report = Report([request(1.0, 1.5, 1.75, 2.5)], 10.0)
    assert report.ttft_s == [0.5]
    assert report.tpot_s == [0.5]
    assert report.tokens_per_s == pytest.approx(0.3)


def test_a_single_token_has_no_pace():
    report = Report([request(0.0, 3.0)], 10.0)
    assert report.tpot_s == []
    with pytest.raises(ValueError, match="fewer than two tokens"):
        tpot_s(request(0.0, 3.0))


def test_a_request_that_wrote_nothing_has_neither_and_is_not_good():
    report = Report([request(0.0)], 1.0)
    assert (report.ttft_s, report.tpot_s) == ([], [])
    assert report.goodput(ttft_s=100.0, tpot_s=100.0) == 0


def test_goodput_wants_both_limits_kept():
    requests = [
        request(0.0, 0.5, 0.6),  # keeps both, at the limit of the first
        request(0.0, 0.6, 0.7),  # first token late
        request(0.0, 0.1, 0.5),  # pace slow
        request(0.0, 0.2),  # a single token
    ]
    assert Report(requests, 2.0).goodput(ttft_s=0.5, tpot_s=0.2) == 1.0


def test_percentiles_are_numpys():
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([0.0, 10.0], 90) == pytest.approx(9.0)


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 101), ([1.0], -1)])
def test_a_percentile_of_nothing_or_past_the_ends_is_refused(values, percent):
    with pytest.raises(ValueError, match="A percentile of 0 to 100"):
        percentile(values, percent)


def test_arrivals_come_at_the_rate_and_in_order():
    """5,000 gaps: the mean is within 5 % (3.5 standard errors) of 1 / rate."""
    trace = poisson([[1]] * 5000, 40.0, seed=1, max_new_tokens=2)
    times = [arrival.at_s for arrival in trace]
    assert times == sorted(times)
    assert times[-1] / 5000 == pytest.approx(1 / 40, rel=0.05)
    assert trace[7].settings == {"max_new_tokens": 2}


@pytest.mark.parametrize("rate", [0, -1.0, float("nan")])
def test_a_rate_of_nothing_is_refused(rate):
    with pytest.raises(ValueError, match=re.escape(f"above 0 requests per second; got {rate}")):
        poisson([[1]], rate)


class ByHand:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_clock_starts_at_zero_and_skips_forward_alone():
    real = ByHand()
    clock = SkippingClock(real)
    real.now += 2.0
    assert clock() == 2.0
    clock.skip_to(10.0)
    assert clock() == 10.0
    clock.skip_to(5.0)
    assert clock() == 10.0
    real.now += 1.0
    assert clock() == 11.0


class OneAtATime:
    """A server whose every request takes one step of a second."""

    def __init__(self):
        self.real = ByHand()
        self.clock = SkippingClock(self.real)
        self.queue = []

    @property
    def busy(self):
        return bool(self.queue)

    def submit(self, prompt, **settings):
        found = Request(len(prompt), list(prompt), len(prompt), Sampling(**settings), 0)
        self.queue.append(found)
        return found

    def step(self):
        self.real.now += 1.0
        self.queue.pop(0).token_s.append(self.clock())


def test_who_arrives_during_a_step_waits_from_when_it_came():
    server = OneAtATime()
    trace = [Arrival(at, [1], {"max_new_tokens": 1}) for at in (0.0, 0.25, 100.0)]
    report = serve(server, trace)
    assert report.ttft_s == pytest.approx([1.0, 1.75, 1.0])
    assert report.seconds == pytest.approx(101.0)
    assert server.real.now == pytest.approx(103.0)  # ninety-eight idle seconds were skipped


def test_a_server_that_has_served_before_counts_from_the_start_of_its_trace():
    server = OneAtATime()
    trace = [Arrival(at, [1], {"max_new_tokens": 1}) for at in (0.0, 0.25)]
    first, second = serve(server, trace), serve(server, trace)
    assert second.seconds == pytest.approx(first.seconds) == pytest.approx(2.0)
    assert second.ttft_s == pytest.approx([1.0, 1.75])


def test_no_requests_keep_no_limit():
    with pytest.raises(ValueError, match="There was no request"):
        serve(OneAtATime(), []).goodput(ttft_s=1.0, tpot_s=1.0)


def test_a_trace_need_not_be_in_order():
    server = OneAtATime()
    trace = [Arrival(at, [1], {"max_new_tokens": 1}) for at in (3.0, 0.0)]
    assert serve(server, trace).ttft_s == pytest.approx([1.0, 1.0])


def test_a_server_whose_clock_cannot_skip_is_refused():
    server = OneAtATime()
    server.clock = server.real
    with pytest.raises(ValueError, match=re.escape("Give the engine clock=SkippingClock()")):
        serve(server, [Arrival(0.0, [1], {"max_new_tokens": 1})])
    assert not server.busy
