"""The stored curve is what the code computes, and says what capacity is by another route."""

import pytest

from stackkit.frameworks.goodput import N_CHATS, PROMISED, RATES, point, stored
from stackkit.frameworks.waste import lengths


def test_the_curve_is_whole():
    assert [(p.most, p.rate_per_s) for p in stored()] == [
        (most, rate) for most in (PROMISED, None) for rate in RATES
    ]


def test_a_point_of_the_curve_comes_out_again():
    """Where it bends: the others hang on the same code, and this one on all of it."""
    [kept] = [p.kept for p in stored() if (p.most, p.rate_per_s) == (PROMISED, 80)]
    assert point(PROMISED, 80).kept == pytest.approx(kept, abs=1e-9)


def test_capacity_is_places_over_the_time_that_a_chat_holds_one():
    """Little's law: with all places taken, rate = places / stay. A chat stays one pass for each
    token; passes of full batches take about 9 ms here, by weights and caches over bandwidth."""
    from stackkit.atlas import fact, model

    llama = model("llama-3.1-8b")
    chats = lengths("sharegpt", N_CHATS, seed=1)
    present = sum(o * (i + o / 2) for i, o in chats) / sum(o for _, o in chats)  # tokens, mean
    read = 2 * llama.matmul_params() + PROMISED * present * llama.kv_bytes_per_token()
    pass_s = read / fact("azure-h100-hbm.dot_bytes_per_s").value
    capacity = PROMISED / (pass_s * sum(o for _, o in chats) / N_CHATS)
    good = [p.rate_per_s for p in stored() if p.most == PROMISED and p.kept > 0.9]
    bad = [p.rate_per_s for p in stored() if p.most == PROMISED and p.kept < 0.5]
    assert max(good) <= 1.05 * capacity
    assert min(bad) >= 0.95 * capacity
