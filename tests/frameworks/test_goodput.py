"""The stored curve is what the code computes, and says what capacity is by another route."""

import pytest

from stackkit.atlas import model
from stackkit.frameworks.goodput import (
    ARRIVALS_S,
    BRIEF,
    PROMISED,
    RATES,
    brief,
    curve,
    point,
    roof,
)
from stackkit.frameworks.waste import lengths

LLAMA = model("llama-3.1-8b")
CHATS = lengths("sharegpt", 100 * ARRIVALS_S, seed=1)  # (prompt, answer) of each


def best_and_first_bad(most):
    """The highest rate at which all keep their limits but one in a hundred, and the lowest at which
    not even half do."""
    points = [p for p in curve() if p.most == most]
    return (
        max(p.rate_per_s for p in points if p.kept >= 0.99),
        min(p.rate_per_s for p in points if p.kept < 0.5),
    )


def test_the_curve_is_whole():
    assert [(p.most, p.rate_per_s) for p in curve()] == [
        (most, rate) for most in (PROMISED, None) for rate in RATES
    ]


def test_the_brief_point_comes_out_again():
    """The curve hangs on the same code; this point is past the bend, where all of it matters."""
    assert 0.2 < brief().kept < 0.9
    assert point(*BRIEF).kept == pytest.approx(brief().kept, abs=1e-9)


def test_promised_room_is_exhausted_at_places_over_the_time_that_a_chat_holds_one():
    """Little's law: with all places taken, rate = places / stay. A chat stays one pass for each
    token; passes of full batches take about 9 ms here, by weights and caches over bandwidth."""
    answers = sum(o for _, o in CHATS)
    present = sum(o * (i + o / 2) for i, o in CHATS) / answers  # tokens, mean
    read = 2 * LLAMA.matmul_params() + PROMISED * present * LLAMA.kv_bytes_per_token()
    pass_s = read / roof().bytes_per_s
    capacity = PROMISED / (pass_s * answers / len(CHATS))
    best, bad = best_and_first_bad(PROMISED)
    assert 0.75 * capacity <= best <= capacity <= bad <= 1.1 * capacity


def test_with_blocks_arithmetic_is_exhausted_first():
    """Every token of a chat goes through the matrices once, and the drawn ones through the head."""
    head = LLAMA.vocab_size * LLAMA.d_model
    per_token, drawn = 2 * (LLAMA.matmul_params() - head), sum(o for _, o in CHATS)
    tokens = sum(i + o - 1 for i, o in CHATS)  # the last one is drawn, never computed
    pairs = sum((i + o - 1) * (i + o) / 2 for i, o in CHATS)
    heads = 4 * LLAMA.n_layers * LLAMA.n_heads * LLAMA.head_dim
    flops = per_token * tokens + 2 * head * drawn + heads * pairs
    capacity = roof().peak_flops_per_s / (flops / len(CHATS))
    best, bad = best_and_first_bad(None)
    assert 0.9 * capacity <= best <= capacity <= bad <= 1.1 * capacity
