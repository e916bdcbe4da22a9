"""Reading a benchmark: an accuracy without its error bar is half a number.

    standard error = sqrt(p (1 - p) / n);  the interval is Wilson's, which holds near 0 and 1 too

It knows the standard library alone; ``choose`` takes any function that scores an answer.
Sources: Wilson, J. Am. Stat. Assoc. 22, 1927; Miller, arXiv 2411.00640, sections 2 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Z95 = 1.959964  # the normal distribution has 95 % within so many standard errors


@dataclass(frozen=True)
class Accuracy:
    """How many of n questions were right, and how well that is known."""

    right: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.n or self.n < 1:
            raise ValueError(f"Of {self.n} questions {self.right} cannot be right.")

    @property
    def value(self) -> float:
        """Share that was right."""
        return self.right / self.n

    @property
    def standard_error(self) -> float:
        """Of the share, as if questions were drawn one by one from a large pool."""
        return math.sqrt(self.value * (1 - self.value) / self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share that the whole pool would give."""
        z2 = Z95**2
        middle = (self.value + z2 / (2 * self.n)) / (1 + z2 / self.n)
        half = math.sqrt(self.value * (1 - self.value) / self.n + z2 / (4 * self.n**2))
        half *= Z95 / (1 + z2 / self.n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.0%} of {self.n} (95 %: {low:.0%} to {high:.0%})"


def questions_needed(difference: float, p: float = 0.5) -> int:
    """Questions until two models that differ by so much differ by two standard errors.

    Each answers its own n questions; on the same questions fewer do. Var = 2 p (1 - p) / n.

    Raises:
        ValueError: when ``difference`` or ``p`` is not between 0 and 1.
    """
    if not 0 < difference < 1 or not 0 < p < 1:
        raise ValueError(f"Both are shares between 0 and 1; got {difference} and {p}.")
    return math.ceil(2 * p * (1 - p) * (Z95 / difference) ** 2)


def choose(
    questions: Sequence[tuple[str, Sequence[str], int]], score: Callable[[str, str], float]
) -> Accuracy:
    """Ask questions with several answers; the one that ``score`` likes best is given.

    Args:
        questions: (question, answers, place of the right one).
        score: of a question and an answer, for example the log probability per byte.

    Raises:
        ValueError: when there is no answer at the right place, or a score is not a number.
    """
    right = 0
    for question, answers, place in questions:
        if not 0 <= place < len(answers):
            raise ValueError(f"{question!r} has {len(answers)} answers; none stands at {place}.")
        scores = [score(question, answer) for answer in answers]
        if any(math.isnan(found) for found in scores):
            raise ValueError(f"A score of {question!r} is not a number; got {scores}.")
        right += scores.index(max(scores)) == place
    return Accuracy(right, len(questions))
