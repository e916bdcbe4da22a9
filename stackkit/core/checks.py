"""Exercises that grade themselves, and say what went wrong.

A layer keeps its exercises in ``stackkit/<layer>/checks.py`` as a dict ``EXERCISES`` from a short
name to an ``Exercise``. An exercise knows its reference and the slips people make, each with the
hint that helps; so the grader itself can be tested: the reference passes, every slip gets its hint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from numbers import Real
from typing import Any

from stackkit.core.units import si

NOT_ANSWERED = "not answered yet"


@dataclass(frozen=True)
class Slip:
    """A typical wrong answer and the hint it deserves."""

    answer: Any  # a number or a function, as the exercise asks
    hint: str


@dataclass(frozen=True)
class Exercise:
    """One gradable question. Make it with ``number`` or ``function``."""

    reference: Any  # the right answer, of the kind the student gives
    outputs: Callable[[Any], list[Any]]  # answer -> the numbers to compare; raises _Unusable
    rel: float  # relative tolerance
    slips: tuple[Slip, ...]
    describe: Callable[[list[Any]], str]  # the student's numbers -> what differs, in a sentence


@dataclass(frozen=True)
class Verdict:
    """What the grader says. ``right`` is None while the question is open."""

    right: bool | None
    message: str


class _Unusable(Exception):
    """The answer cannot be graded; the message says why."""


def check(name: str, answer: Any) -> None:
    """Grade an answer and print the verdict.

    Args:
        name: ``"<layer>.<exercise>"``, for example ``"memory.ridge-point"``.
        answer: the student's number or function; None while it is open.

    Raises:
        ValueError: when there is no such exercise.
    """
    print(f"{name}: {grade(name, answer).message}")


def grade(name: str, answer: Any) -> Verdict:
    """The verdict that ``check`` prints."""
    return judge(find(name), answer)


def find(name: str) -> Exercise:
    """Look an exercise up by its full name."""
    layer, _, short = name.partition(".")
    module = f"stackkit.{layer}.checks"
    try:
        exercises: dict[str, Exercise] = import_module(module).EXERCISES
    except (ModuleNotFoundError, AttributeError) as error:
        missing = getattr(error, "name", None)
        if missing not in (f"stackkit.{layer}", module, "EXERCISES"):
            raise  # the layer has exercises; something that they need is not installed
        raise ValueError(
            f"No layer {layer!r} has exercises; asked for {name!r}. "
            "An exercise is named <layer>.<exercise>, for example memory.ridge-point."
        ) from None
    if short not in exercises:
        raise ValueError(
            f"The layer {layer!r} has no exercise {short!r}; it has {', '.join(exercises)}."
        )
    return exercises[short]


def judge(exercise: Exercise, answer: Any) -> Verdict:
    """Compare an answer with the reference, then with each known slip."""
    if answer is None:
        return Verdict(None, NOT_ANSWERED)
    try:
        outputs = exercise.outputs(answer)
    except _Unusable as problem:
        return Verdict(False, str(problem))
    if all(output is None for output in outputs):  # the untouched stub of a function
        return Verdict(None, NOT_ANSWERED)
    if _same(outputs, exercise.outputs(exercise.reference), exercise.rel):
        return Verdict(True, "right")
    for slip in exercise.slips:
        if _same(outputs, exercise.outputs(slip.answer), exercise.rel):
            return Verdict(False, f"not yet. {slip.hint}")
    return Verdict(False, f"not yet. {exercise.describe(outputs)}")


def number(
    expected: float, unit: str = "", *, rel: float = 0.02, slips: Sequence[Slip] = ()
) -> Exercise:
    """An exercise whose answer is one number in base units, right within ``rel``."""

    def outputs(answer: Any) -> list[float]:
        if not isinstance(answer, Real) or isinstance(answer, bool):
            raise _Unusable(f"not yet. Give one number; got {type(answer).__name__} {answer!r}.")
        return [_as_float(answer)]

    def describe(given: list[float]) -> str:
        # Never the factor itself: that would be the answer.
        if not math.isfinite(given[0]) or given[0] <= 0:
            return f"The answer is a positive number; got {given[0]!r}."
        if not 1e-2 < given[0] / expected < 1e2:
            in_unit = f" It is asked in {unit}." if unit else ""
            return f"{si(given[0], unit)} is off by more than a hundred: check the prefix.{in_unit}"
        return f"{si(given[0], unit)} is too {'high' if given[0] > expected else 'low'}."

    return Exercise(expected, outputs, rel, tuple(slips), describe)


def function(
    reference: Callable[..., float],
    cases: Sequence[tuple[Any, ...]],
    *,
    rel: float = 1e-6,
    slips: Sequence[Slip] = (),
) -> Exercise:
    """An exercise whose answer is a function of numbers, run on ``cases``."""

    def outputs(answer: Any) -> list[float | None]:
        if not callable(answer):
            raise _Unusable(f"not yet. Give the function itself; got {type(answer).__name__}.")
        return [_call(answer, case) for case in cases]

    def describe(given: list[float | None]) -> str:
        wanted = outputs(reference)
        case, ours, theirs = next(
            (case, w, g)
            for case, w, g in zip(cases, wanted, given, strict=True)
            if not _same([g], [w], rel)
        )
        return f"For ({_shown(case)}) it should return {ours:.6g}; yours returns {theirs!r}."

    return Exercise(reference, outputs, rel, tuple(slips), describe)


def _call(answer: Callable[..., Any], case: tuple[Any, ...]) -> float | None:
    try:
        result = answer(*case)
    except Exception as error:  # a student's code may raise anything
        raise _Unusable(
            f"not yet. Your function raised {type(error).__name__} for ({_shown(case)}): {error}"
        ) from None
    if result is None:
        return None
    if not isinstance(result, Real) or isinstance(result, bool):
        raise _Unusable(f"not yet. Return one number; yours returns {type(result).__name__}.")
    return _as_float(result)


def _shown(case: tuple[Any, ...]) -> str:
    """Arguments as they would be written; some are lists."""
    return ", ".join(f"{x:g}" if isinstance(x, Real) else repr(x) for x in case)


def _as_float(number: Real) -> float:
    try:
        return float(number)
    except OverflowError:
        raise _Unusable("not yet. That number is larger than a float can hold.") from None


def _same(given: list[Any], wanted: list[Any], rel: float) -> bool:
    """True when every number is close. NaN is close to nothing, None to nothing."""
    return all(
        g is not None and math.isclose(g, w, rel_tol=rel)
        for g, w in zip(given, wanted, strict=True)
    )
