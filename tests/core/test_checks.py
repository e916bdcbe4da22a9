"""The grader: what is open, what is right, and which hint a wrong answer earns."""

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.core import checks
from stackkit.core.checks import NOT_ANSWERED, Slip, Verdict, check, function, grade, judge, number

OPEN = Verdict(None, NOT_ANSWERED)

BANDWIDTH = number(
    819.2e9,
    "B/s",
    rel=0.01,
    slips=[Slip(8 * 819.2e9, "Those are bits."), Slip(819.2, "Give it in B/s.")],
)
SQUARE = function(
    lambda x: x * x,
    cases=[(2,), (3,), (-4,)],
    slips=[Slip(lambda x: 2 * x, "That doubles."), Slip(lambda x: x**3, "That cubes.")],
)


# Numbers


def test_none_is_an_open_question():
    assert judge(BANDWIDTH, None) == OPEN


def test_the_right_number_is_right():
    assert judge(BANDWIDTH, 819.2e9).right is True


@pytest.mark.parametrize("answer", [819.2e9 * 1.009, 819.2e9 * 0.991, 819_200_000_000])
def test_a_number_within_the_tolerance_is_right(answer):
    assert judge(BANDWIDTH, answer).right is True


@pytest.mark.parametrize("factor", [1.02, 0.98])
def test_a_number_outside_the_tolerance_is_wrong(factor):
    assert judge(BANDWIDTH, factor * 819.2e9).right is False


def test_a_fraction_is_a_number():
    assert judge(number(0.5), Fraction(1, 2)).right is True


@pytest.mark.parametrize("slip", BANDWIDTH.slips)
def test_a_known_slip_gets_its_hint(slip):
    assert judge(BANDWIDTH, slip.answer) == Verdict(False, f"not yet. {slip.hint}")


def test_a_slip_is_recognised_within_the_tolerance():
    assert "Those are bits." in judge(BANDWIDTH, 8 * 819.2e9 * 1.005).message


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, -819.2e9, 0])
def test_what_can_be_no_answer_is_told_so(answer):
    verdict = judge(BANDWIDTH, answer)
    assert verdict.right is False
    assert "a positive number" in verdict.message


@pytest.mark.parametrize(("factor", "word"), [(1.5, "too high"), (0.5, "too low")])
def test_an_unknown_error_is_told_its_direction(factor, word):
    assert word in judge(BANDWIDTH, factor * 819.2e9).message


@pytest.mark.parametrize("factor", [1e4, 1e-4])
def test_an_error_of_a_prefix_is_told_the_unit(factor):
    message = judge(BANDWIDTH, factor * 819.2e9).message
    assert "check the prefix. It is asked in B/s." in message


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(True, "bool True"), ("819", "str '819'"), ([1.0], "list"), (1j, "complex")],
)
def test_what_is_not_a_number_is_refused_with_its_type(answer, kind):
    verdict = judge(BANDWIDTH, answer)
    assert verdict.right is False
    assert f"Give one number; got {kind}" in verdict.message


def test_an_integer_too_large_for_a_float_is_told_so():
    assert judge(BANDWIDTH, 10**400).right is False


@given(st.floats(-1e15, 1e15))
def test_the_verdict_on_a_wrong_number_never_tells_the_right_one(answer):
    """Nor the factor between the two. The student's own number may be repeated."""
    verdict = judge(BANDWIDTH, answer)
    own = numbers_in(checks.si(answer, "B/s")) | numbers_in(repr(float(answer)))
    told = numbers_in(verdict.message) - own
    assert verdict.right or not told


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"\d[\d.,]*\d|\d", text))


# Functions


def test_a_function_not_yet_written_is_open():
    assert judge(SQUARE, None) == OPEN


def test_a_stub_that_returns_none_is_open():
    assert judge(SQUARE, lambda x: None) == OPEN


def test_the_right_function_is_right_however_it_is_written():
    assert judge(SQUARE, lambda x: abs(x) ** 2).right is True


@pytest.mark.parametrize("slip", SQUARE.slips)
def test_a_known_wrong_function_gets_its_hint(slip):
    assert slip.hint in judge(SQUARE, slip.answer).message


def test_a_function_right_in_some_cases_is_shown_the_first_that_differs():
    """2 x and x x agree at 2; at 3 they do not."""
    message = judge(SQUARE, lambda x: x + x if x > 0 else 0).message
    assert "For (3) it should return 9; yours returns 6" in message


def test_a_function_that_answers_only_some_cases_is_wrong():
    verdict = judge(SQUARE, lambda x: x * x if x > 0 else None)
    assert verdict.right is False
    assert "For (-4)" in verdict.message


def test_nan_from_a_function_is_never_right():
    assert judge(SQUARE, lambda x: math.nan).right is False


def test_nan_is_wrong_even_where_the_reference_is_nan():
    """A check by ``difference > tolerance`` passes NaN, because the comparison is false."""
    broken = function(lambda x: math.nan, cases=[(1.0,)])
    assert judge(broken, lambda x: math.nan).right is not True


def test_a_call_in_place_of_the_function_is_told_so():
    assert "Give the function itself; got int" in judge(SQUARE, 4).message


def test_a_function_that_returns_text_is_told_so():
    assert "Return one number; yours returns str" in judge(SQUARE, str).message


def test_a_function_that_raises_is_reported_with_case_and_error():
    verdict = judge(SQUARE, lambda x: 1 / 0)
    assert verdict.right is False
    assert "raised ZeroDivisionError for (2): division by zero" in verdict.message


def test_a_function_of_other_arguments_is_reported():
    assert "raised TypeError" in judge(SQUARE, lambda x, y: x * y).message


def test_a_function_that_returns_a_truth_value_is_told_so():
    one = function(lambda x: 1.0, cases=[(2,)])
    assert judge(one, lambda x: x > 1).right is False


# By name


def test_check_prints_the_name_and_the_verdict(capsys):
    check("memory.ridge-point", None)
    assert capsys.readouterr().out == "memory.ridge-point: not answered yet\n"


def test_an_unknown_exercise_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no exercise 'ridge'; it has .*ridge-point"):
        grade("memory.ridge", 1.0)


def test_a_layer_named_alone_is_refused_with_its_exercises():
    with pytest.raises(ValueError, match=r"no exercise ''; it has .*ridge-point"):
        grade("memory", 1.0)


@pytest.mark.parametrize("name", ["memry.ridge-point", "atlas.ridge-point", ""])
def test_an_unknown_layer_is_refused_with_what_was_asked(name):
    with pytest.raises(ValueError, match=f"has exercises; asked for {name!r}"):
        grade(name, 1.0)


def test_the_core_has_no_exercises_and_says_so():
    with pytest.raises(ValueError, match="has exercises"):
        grade("core.units", 1.0)


def test_a_layer_whose_library_is_missing_says_which(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(checks, "import_module", fail)
    with pytest.raises((ModuleNotFoundError, ValueError), match="numpy"):
        grade("memory.ridge-point", 1.0)
