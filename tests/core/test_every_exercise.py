"""Every exercise of every layer: the reference passes, stub and slips do not.

The test of the graders is itself tested at the end, on graders that are broken on purpose.
"""

import pkgutil
from dataclasses import replace
from importlib import import_module

import pytest

import stackkit
from stackkit.core.checks import NOT_ANSWERED, Exercise, Slip, Verdict, function, judge, number


def exercises() -> dict[str, Exercise]:
    """All exercises by full name; packages are searched without importing them."""
    [root] = stackkit.__path__
    layers = [
        package.name
        for package in pkgutil.iter_modules([root])
        if package.name != "core"  # core.checks is the grader
        and any(
            module.name == "checks" for module in pkgutil.iter_modules([f"{root}/{package.name}"])
        )
    ]
    return {
        f"{layer}.{short}": exercise
        for layer in layers
        for short, exercise in import_module(f"stackkit.{layer}.checks").EXERCISES.items()
    }


def faults_of(exercise: Exercise) -> list[str]:
    """What is wrong with a grader, in a sentence each."""
    faults = []
    if judge(exercise, exercise.reference).right is not True:
        faults.append("The reference does not pass.")
    stubs = [None, lambda *_: None] if callable(exercise.reference) else [None]
    if any(judge(exercise, stub) != Verdict(None, NOT_ANSWERED) for stub in stubs):
        faults.append("The untouched stub is graded.")
    if len(exercise.slips) < 3:
        faults.append("Fewer than three slips are known.")
    for slip in exercise.slips:
        if judge(exercise, slip.answer) != Verdict(False, f"not yet. {slip.hint}"):
            faults.append(f"A slip does not get its hint: {slip.hint}")
    if len({slip.hint for slip in exercise.slips}) < len(exercise.slips):
        faults.append("Two slips share a hint.")
    return faults


ALL = exercises()


@pytest.mark.parametrize("name", ALL)
def test_a_grader_has_no_fault(name):
    assert faults_of(ALL[name]) == []


@pytest.mark.parametrize("name", ALL)
def test_a_hint_is_a_sentence(name):
    hints = [slip.hint for slip in ALL[name].slips]
    assert [hint for hint in hints if not (hint[0].isupper() and hint[-1] in ".?")] == []


@pytest.mark.parametrize("name", [name for name, e in ALL.items() if not callable(e.reference)])
@pytest.mark.parametrize("factor", [2e-5, 0.3, 0.7, 1.3, 3.0, 3e5, -3.0])
def test_no_message_tells_the_right_number(name, factor):
    expected = ALL[name].reference
    message = judge(ALL[name], factor * expected).message
    digits = f"{expected:.3e}".replace(".", "")[:3]  # "206" for 206.125, in any unit
    assert digits not in message.replace(".", "").replace(",", "")  # -206.1 or 206,125 tell too


@pytest.mark.parametrize("name", [name for name, e in ALL.items() if callable(e.reference)])
def test_a_wrong_function_that_nobody_foresaw_gets_a_sentence(name):
    """One that is far off, and one that raises: whatever its arguments are, lists too."""

    def raises(*_):
        raise RuntimeError("oh")

    assert "yours returns -12345.0" in judge(ALL[name], lambda *_: -12345.0).message
    assert "Your function raised RuntimeError for (" in judge(ALL[name], raises).message


def test_the_search_finds_the_exercises_of_the_memory_layer():
    assert "memory.ridge-point" in ALL


# Broken on purpose: faults_of must see each.

SQUARE = function(
    lambda x: x * x,
    cases=[(3,), (5,)],
    slips=[
        Slip(lambda x: 2 * x, "That doubles."),
        Slip(lambda x: x**3, "That cubes."),
        Slip(lambda x: -x * x, "The sign."),
    ],
)
SEVEN = number(7.0, slips=[Slip(70.0, "Ten times."), Slip(14.0, "Twice."), Slip(3.5, "Half.")])


@pytest.mark.parametrize("sound", [SQUARE, SEVEN])
def test_a_sound_grader_has_no_fault(sound):
    assert faults_of(sound) == []


def test_a_grader_that_accepts_the_stub_is_found():
    """It reads a missing answer as the right one: ``answer(x) or expected``."""
    broken = replace(SQUARE, outputs=lambda answer: [answer(x) or x * x for x in (3, 5)])
    assert judge(broken, lambda x: None).right is True
    assert faults_of(broken) == ["The untouched stub is graded."]


def test_a_grader_that_accepts_everything_is_found():
    broken = replace(SEVEN, outputs=lambda answer: [1.0])
    assert len(faults_of(broken)) == 3  # every slip passes as right


def test_a_grader_that_refuses_the_reference_is_found():
    broken = replace(SEVEN, outputs=lambda answer: [float("nan")])
    assert "The reference does not pass." in faults_of(broken)


def test_a_slip_within_the_tolerance_is_found():
    broken = replace(SEVEN, slips=(*SEVEN.slips, Slip(7.01, "Rounded.")))
    assert faults_of(broken) == ["A slip does not get its hint: Rounded."]


def test_a_slip_hidden_behind_another_is_found():
    broken = replace(SEVEN, slips=(*SEVEN.slips, Slip(14.1, "Almost twice.")))
    assert faults_of(broken) == ["A slip does not get its hint: Almost twice."]


def test_too_few_slips_are_found():
    assert faults_of(replace(SEVEN, slips=SEVEN.slips[:2])) == ["Fewer than three slips are known."]


def test_a_hint_given_twice_is_found():
    broken = replace(SEVEN, slips=(*SEVEN.slips, Slip(21.0, "Twice.")))
    assert faults_of(broken) == ["Two slips share a hint."]
