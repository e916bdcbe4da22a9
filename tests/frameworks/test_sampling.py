"""Sampling: the distribution by hand, the draw by counting, and what it depends on."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.frameworks import distribution, sample
from stackkit.frameworks.sampling import gumbel_noise, uniforms

LOGITS = np.log([0.5, 0.25, 0.15, 0.1])
logits_of = st.lists(st.floats(-20, 20), min_size=1, max_size=30).map(np.array)


def test_temperature_1_leaves_the_model_s_own_probabilities():
    assert distribution(LOGITS) == pytest.approx([0.5, 0.25, 0.15, 0.1])


def test_half_the_temperature_squares_the_odds():
    p = distribution(LOGITS, temperature=0.5)
    assert p[0] / p[1] == pytest.approx((0.5 / 0.25) ** 2)


def test_top_k_keeps_the_k_likeliest_in_their_proportions():
    assert distribution(LOGITS, top_k=2) == pytest.approx([2 / 3, 1 / 3, 0, 0])


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.8, 3), (1.0, 4)]
)
def test_top_p_keeps_the_fewest_that_hold_p(top_p, kept):
    """The one that crosses p is kept, and the likeliest always is."""
    assert np.count_nonzero(distribution(LOGITS, top_p=top_p)) == kept


@pytest.mark.parametrize("kept", range(1, 10))
def test_a_share_that_is_just_held_needs_no_further_token(kept):
    assert np.count_nonzero(distribution(np.zeros(10), top_p=kept / 10)) == kept


def test_top_p_counts_after_the_temperature():
    flat = distribution(LOGITS, temperature=100, top_p=0.5)
    assert np.count_nonzero(flat) == 2  # nearly even: two of four hold half


@given(logits_of, st.floats(0.1, 5), st.integers(1, 40), st.floats(0.01, 1))
def test_what_is_drawn_from_is_a_distribution(logits, temperature, top_k, top_p):
    p = distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    assert p.min() >= 0
    assert p.sum() == pytest.approx(1)
    assert p[logits.argmax()] == p.max()


@given(logits_of, st.integers(0, 2**32), st.integers(0, 10**6))
def test_a_draw_depends_on_seed_and_position_alone(logits, seed, position):
    draw = {"temperature": 0.7, "seed": seed, "position": position}
    sample(logits + 1, temperature=2.0, seed=1, position=1)  # nothing runs along
    assert sample(logits, **draw) == sample(logits.copy(), **draw)


@given(logits_of)
def test_temperature_0_takes_the_likeliest_whatever_else_is_said(logits):
    assert sample(logits, seed=5, top_k=1, top_p=0.1) == int(logits.argmax())


def test_draws_have_the_distribution():
    """Chi-square over 20,000 draws, 3 degrees of freedom: above 21.1 once in 10,000 runs.

    The seeds are fixed, so it is one run.
    """
    n = 20_000
    p = distribution(LOGITS, temperature=0.8)
    counts = np.bincount(
        [sample(LOGITS, temperature=0.8, seed=1, position=i) for i in range(n)], minlength=4
    )
    assert ((counts - n * p) ** 2 / (n * p)).sum() < 21.1


def test_what_top_k_cuts_is_never_drawn():
    drawn = {sample(LOGITS, temperature=5, top_k=2, seed=2, position=i) for i in range(300)}
    assert drawn == {0, 1}


def test_a_rounding_error_does_not_flip_draws():
    """A draw by running sums flips where a sum crosses; this one where two tokens are even."""
    noise = np.random.default_rng(0).normal(size=(1000, 50))
    flips = sum(
        sample(x, temperature=1, seed=3, position=i)
        != sample(x + 1e-6, temperature=1, seed=3, position=i)
        for i, x in enumerate(noise)
    )
    assert flips == 0


def test_the_noise_has_the_gumbel_distribution_s_mean_and_variance():
    """Euler's constant and pi^2 / 6; over 10^6 draws both within five standard errors."""
    g = gumbel_noise(1_000_000, 0, 0)
    assert g.mean() == pytest.approx(0.5772157, abs=5 * math.pi / math.sqrt(6e6))
    assert g.var() == pytest.approx(math.pi**2 / 6, abs=0.02)


def test_streams_and_positions_have_noise_of_their_own():
    draws = [uniforms(8, 1, 2, 0), uniforms(8, 1, 2, 1), uniforms(8, 1, 3, 0), uniforms(8, 2, 2, 0)]
    assert len({tuple(d) for d in draws}) == 4
    assert all(((d > 0) & (d < 1)).all() for d in draws)


def test_a_tensor_of_16_bits_is_taken():
    torch = pytest.importorskip("torch")
    logits = torch.tensor(LOGITS).to(torch.bfloat16)
    assert distribution(logits, temperature=0).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": -0.1}, "temperature must be 0 (the likeliest token) or more; got -0.1."),
        ({"temperature": math.nan}, "temperature must be 0"),
        ({"top_p": 0}, "top_p must be above 0 and at most 1, or None for all; got 0."),
        ({"top_p": 1.5}, "got 1.5"),
        ({"top_k": 0}, "top_k must be 1 or more, or None for all tokens; got 0."),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        sample(LOGITS, **settings)


def test_a_broken_model_is_noticed():
    with pytest.raises(ValueError, match="nan, not a finite number"):
        sample(np.array([0.0, math.nan]), temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [[0.0, math.inf, 1.0], [-math.inf] * 3])
def test_logits_that_ran_over_or_leave_nothing_are_refused(logits, temperature):
    with pytest.raises(ValueError, match="inf, not a finite number"):
        sample(np.array(logits), temperature=temperature)


def test_a_token_may_be_ruled_out_by_minus_infinity():
    assert distribution(np.array([0.0, -math.inf, 0.0])) == pytest.approx([0.5, 0, 0.5])
    assert sample(np.array([-math.inf, 0.0])) == 1


def test_top_p_takes_the_likelier_by_its_logit_where_rounding_makes_both_as_likely():
    logits = np.array([0.0, 1e-17])
    assert np.ptp(distribution(logits)) == 0
    assert distribution(logits, top_p=0.4).tolist() == [0, 1]
