"""Reading a benchmark: intervals by other routes, against printed ones, and by counting cases."""

import math
import random
import re
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.models.evaluation import Z95, Accuracy, choose, questions_needed

accuracies = st.integers(1, 500).flatmap(
    lambda n: st.integers(0, n).map(lambda right: Accuracy(right, n))
)


# The interval


def test_z_holds_95_percent_of_the_normal_distribution():
    assert math.erf(Z95 / math.sqrt(2)) == pytest.approx(0.95, abs=1e-7)


@given(accuracies)
def test_its_ends_are_where_the_share_is_z_standard_errors_away(accuracy):
    """Wilson's equation (p - share)^2 = z^2 p (1 - p) / n, whose error is that of the end p.

    Found by halving, not by the closed form: the left side grows away from the share.
    """

    def too_far(p: float) -> bool:
        return (p - accuracy.value) ** 2 > Z95**2 * p * (1 - p) / accuracy.n

    for end, far in zip(accuracy.interval, (0.0, 1.0), strict=True):
        near = accuracy.value
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (near, middle) if too_far(middle) else (middle, far)
        assert end == pytest.approx(near, abs=1e-9)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_printed_intervals(right, n, low, high):
    """Newcombe, Statistics in Medicine 17, 1998, table I, method 3, four digits."""
    assert Accuracy(right, n).interval == pytest.approx((low, high), abs=5.1e-5)


@given(accuracies)
def test_it_holds_the_share_and_stays_between_0_and_1(accuracy):
    low, high = accuracy.interval
    assert 0 <= low <= accuracy.value + 1e-12
    assert accuracy.value - 1e-12 <= high <= 1


@given(accuracies)
def test_wrong_answers_have_the_mirrored_interval(accuracy):
    low, high = Accuracy(accuracy.n - accuracy.right, accuracy.n).interval
    assert accuracy.interval == pytest.approx((1 - high, 1 - low))


def coverage(p: float, n: int, interval) -> float:
    """Chance that the interval holds p: all outcomes of n questions, counted out."""
    return math.fsum(
        math.comb(n, right) * p**right * (1 - p) ** (n - right)
        for right in range(n + 1)
        if interval(right)[0] <= p <= interval(right)[1]
    )


@pytest.mark.parametrize("n", [30, 100])
def test_over_all_shares_it_holds_the_true_one_95_times_in_100(n):
    shares = [(i + 0.5) / 200 for i in range(200)]
    mean = fmean(coverage(p, n, lambda right: Accuracy(right, n).interval) for p in shares)
    assert mean == pytest.approx(0.95, abs=0.01)


def test_near_1_it_holds_where_two_standard_errors_do_not():
    """At 0.95 all of 30 questions are right one time in five, and the plain error is then 0."""

    def plain(right: int) -> tuple[float, float]:
        accuracy = Accuracy(right, 30)
        half = Z95 * accuracy.standard_error
        return accuracy.value - half, accuracy.value + half

    assert coverage(0.95, 30, plain) < 0.8
    assert coverage(0.95, 30, lambda right: Accuracy(right, 30).interval) > 0.93


def test_four_times_the_questions_halve_it():
    few, many = (Accuracy(n // 2, n).interval for n in (1000, 4000))
    assert few[1] - few[0] == pytest.approx(2 * (many[1] - many[0]), rel=2e-3)


# The standard error


def test_the_standard_error_is_the_spread_of_repeated_benchmarks():
    """2,000 benchmarks of 50 questions: their spread is known to 1.6 %; four times that is let."""
    rng, p, n = random.Random(1), 0.7, 50
    shares = [sum(rng.random() < p for _ in range(n)) / n for _ in range(2000)]
    assert Accuracy(35, 50).standard_error == pytest.approx(stdev(shares), rel=0.064)


def test_it_reads_as_a_sentence():
    """15 of 30: half of it 0.179 by the plain formula, a little less by Wilson's."""
    assert str(Accuracy(15, 30)) == "50% of 30 (95 %: 33% to 67%)"


@pytest.mark.parametrize(("right", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_a_count_that_cannot_be_is_refused(right, n):
    with pytest.raises(ValueError, match=f"Of {n} questions {right} cannot be right"):
        Accuracy(right, n)


# How many questions


@given(st.floats(0.02, 0.5), st.floats(0.05, 0.95))
def test_so_many_questions_suffice_and_one_fewer_does_not(difference, p):
    def known_to(n: int) -> float:
        return Z95 * math.sqrt(p * (1 - p) / n + p * (1 - p) / n)  # two models, two errors

    n = questions_needed(difference, p)
    assert known_to(n) <= difference * (1 + 1e-12)
    assert n == 1 or known_to(n - 1) > difference * (1 - 1e-12)


def test_equal_models_then_differ_by_so_much_one_time_in_20():
    """4,000 pairs: the share is known to 0.35 %, of which four, and 0.5 % for counts in steps."""
    rng, difference, p = random.Random(2), 0.2, 0.5
    n = questions_needed(difference, p)

    def share() -> float:
        return rng.getrandbits(n).bit_count() / n

    apart = sum(abs(share() - share()) >= difference for _ in range(4000))
    assert apart / 4000 == pytest.approx(0.05, abs=0.019)


@pytest.mark.parametrize(("difference", "p"), [(0, 0.5), (1, 0.5), (-0.1, 0.5), (0.1, 0), (0.1, 1)])
def test_shares_out_of_range_are_refused(difference, p):
    with pytest.raises(ValueError, match=re.escape(f"got {difference} and {p}")):
        questions_needed(difference, p)


# Choosing

QUESTIONS = [("2 + 2?", ["3", "4"], 1), ("Sky?", ["blue", "green", "red"], 0)]


def test_the_answer_with_the_best_score_is_given():
    likes = {"4": -1.0, "3": -2.0, "blue": -5.0, "green": -0.5, "red": -9.0}
    assert choose(QUESTIONS, lambda question, answer: likes[answer]) == Accuracy(1, 2)


def test_each_answer_is_scored_with_its_own_question():
    asked = []
    choose(QUESTIONS, lambda *pair: asked.append(pair) or 0.0)
    assert asked == [(question, answer) for question, answers, _ in QUESTIONS for answer in answers]


def test_of_answers_with_the_same_score_the_first_is_given():
    assert choose(QUESTIONS, lambda question, answer: 0.0) == Accuracy(1, 2)


def test_a_benchmark_without_questions_has_no_accuracy():
    with pytest.raises(ValueError, match="Of 0 questions"):
        choose([], lambda question, answer: 0.0)


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="A score of 'why' is not a number"):
        choose([("why", ["a", "b"], 0)], lambda question, answer: math.nan)


@pytest.mark.parametrize("place", [-1, 2])
def test_a_right_answer_that_is_not_there_is_refused(place):
    with pytest.raises(ValueError, match=f"has 2 answers; none stands at {place}"):
        choose([("why", ["a", "b"], place)], lambda question, answer: 0.0)
