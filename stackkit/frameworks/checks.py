"""Exercises of the frameworks layer; ``check("frameworks.<name>", answer)`` grades them."""

from __future__ import annotations

import math

from stackkit.atlas import model
from stackkit.core.checks import Exercise, Slip, function, number

FREE_BYTES, LONGEST, USUAL, BLOCK = 60_000_000_000, 2_048, 512, 16


def _promised() -> Exercise:
    per_token = model("llama-3.1-8b").kv_bytes_per_token()
    return number(
        FREE_BYTES // (per_token * LONGEST),
        rel=1e-9,
        slips=[
            Slip(FREE_BYTES // per_token, "Those are tokens; each request is promised 2,048."),
            Slip(
                FREE_BYTES // (per_token * USUAL),
                "Promised is the longest text, not the usual one.",
            ),
            Slip(FREE_BYTES / (per_token * LONGEST), "There is no part of a request."),
        ],
    )


def _held() -> Exercise:
    per_token = model("llama-3.1-8b").kv_bytes_per_token()
    blocks = FREE_BYTES // (per_token * BLOCK)
    return number(
        blocks // (USUAL // BLOCK),
        rel=1e-9,
        slips=[
            Slip(blocks, "Those are blocks; a text of 512 tokens takes several."),
            Slip(
                FREE_BYTES // (per_token * LONGEST),
                "In blocks a text takes what it has, not 2,048.",
            ),
            Slip(blocks / (USUAL // BLOCK), "There is no part of a request."),
            Slip(FREE_BYTES / (per_token * USUAL), "Blocks are whole, and so are requests."),
        ],
    )


EXERCISES: dict[str, Exercise] = {
    "blocks": function(
        lambda n, S: -(-n // S),
        cases=[(1, 16), (16, 16), (17, 16), (0, 4), (100, 7)],
        rel=1e-9,
        slips=[
            Slip(lambda n, S: n // S, "The tokens that fill no whole block need one too."),
            Slip(lambda n, S: n // S + 1, "A text that ends with a block needs no further one."),
            Slip(lambda n, S: n / S, "There is no part of a block: round up."),
        ],
    ),
    "slot": function(
        lambda table, S, p: table[p // S] * S + p % S,
        cases=[([7, 2, 9], 4, 0), ([7, 2, 9], 4, 5), ([7, 2, 9], 4, 11), ([3, 0], 16, 16)],
        rel=1e-9,
        slips=[
            Slip(
                lambda table, S, p: p, "That is its place in the text; the table says where it is."
            ),
            Slip(
                lambda table, S, p: table[p // S], "That is its block; it has a place inside too."
            ),
            Slip(
                lambda table, S, p: table[p // S] + p % S,
                "A block holds S tokens: block b begins at b S.",
            ),
            Slip(
                lambda table, S, p: table[p % len(table)] * S + p // len(table),
                "Tokens fill one block before the next begins.",
            ),
        ],
    ),
    "joined": function(
        lambda m1, w1, m2, w2: w1 * math.exp(m1 - max(m1, m2)) + w2 * math.exp(m2 - max(m1, m2)),
        cases=[
            (0.0, 1.0, 0.0, 1.0),
            (2.0, 3.0, 5.0, 1.5),
            (5.0, 1.5, 2.0, 3.0),
            (-1.0, 4.0, 1.0, 2.0),
        ],
        rel=1e-6,
        slips=[
            Slip(lambda m1, w1, m2, w2: w1 + w2, "They stand under two maxima: bring both to one."),
            Slip(
                lambda m1, w1, m2, w2: w1 * math.exp(m2 - m1) + w2,
                "Which maximum is the larger one? The other half shrinks.",
            ),
            Slip(
                lambda m1, w1, m2, w2: w1 * math.exp(m1) + w2 * math.exp(m2),
                "That is the sum under no maximum; it overflows for large scores.",
            ),
        ],
    ),
    "promised": _promised(),
    "held": _held(),
    "tpot": function(
        lambda times: (times[-1] - times[0]) / (len(times) - 1),
        cases=[([0.5, 0.6, 0.7],), ([1.0, 1.25, 1.75, 2.0],), ([0.1, 2.1],)],
        rel=1e-6,
        slips=[
            Slip(
                lambda times: times[-1] / len(times),
                "The wait for the first token has a name of its own, TTFT; leave it out.",
            ),
            Slip(
                lambda times: (times[-1] - times[0]) / len(times),
                "Between n tokens there are n - 1 gaps.",
            ),
            Slip(
                lambda times: times[-1] - times[0], "That is for all of them; divide by the gaps."
            ),
        ],
    ),
}
