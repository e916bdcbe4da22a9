"""Speculative decoding on paper: a small model drafts, the large one checks all drafts at once.

    tokens a check = 1 + a + a^2 + ... + a^g = (1 - a^(g + 1)) / (1 - a)
    speed-up       = tokens a check / (g c + 1)

a: chance that a draft is accepted, g: drafts a check, c: time of one draft step over one step of
the large model. It knows nothing of texts: a is taken as the same for every token and independent
of the last one. Nor of load: it holds while a check of g + 1 tokens takes as long as one plain
step, which is true of small batches, where the weights' bytes decide, and not of large ones.
Source: Leviathan, Kalman and Matias, arXiv 2211.17192, equation 1 and theorem 3.8.
"""

from __future__ import annotations

import math


def expected_tokens(acceptance: float, draft_tokens: int) -> float:
    """Tokens that one check yields on average: the accepted drafts and one of the large model's.

    Args:
        acceptance: chance in [0, 1] that one draft is accepted, those before it being so.
        draft_tokens: drafts a check; zero is plain decoding, one token a step.

    Raises:
        ValueError: when the chance is none, or the drafts no whole number of 0 or more.
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(
            f"acceptance is a chance, between 0 and 1; got {acceptance!r}. "
            "Divide the accepted drafts by those that were checked."
        )
    if not 0 <= draft_tokens < math.inf or draft_tokens != int(draft_tokens):
        raise ValueError(f"draft_tokens must be a whole number, 0 or more; got {draft_tokens!r}.")
    return math.fsum(acceptance**n for n in range(int(draft_tokens) + 1))


def speculative_speedup(acceptance: float, draft_tokens: int, cost_ratio: float) -> float:
    """How many times sooner the text is there than without drafts; below 1 they cost time.

    Args:
        acceptance, draft_tokens: as of ``expected_tokens``.
        cost_ratio: time of one draft step over one step of the large model; zero is a free draft.

    Raises:
        ValueError: as ``expected_tokens``, or when the ratio is below zero.
    """
    if not 0 <= cost_ratio < math.inf:
        raise ValueError(
            f"cost_ratio must be zero or more; got {cost_ratio!r}. "
            "It is the draft's time a step over the large model's."
        )
    return expected_tokens(acceptance, draft_tokens) / (draft_tokens * cost_ratio + 1)
