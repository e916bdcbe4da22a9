"""A mixture of experts: against a loop over tokens, and at the ends of how many are used."""

import math
import re

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from stackkit.models.moe import MixtureOfExperts, route  # noqa: E402
from stackkit.models.transformer import Config, FeedForward  # noqa: E402

E, N_EXPERTS = 6, 5


def mixture(n_used: int, n_experts: int = N_EXPERTS) -> MixtureOfExperts:
    torch.manual_seed(0)
    config = Config(1, E, 1, 1, 2, 7, 3, 4)
    return MixtureOfExperts([FeedForward(config) for _ in range(n_experts)], E, n_used)


def x(B: int = 2, T: int = 7) -> torch.Tensor:
    return torch.randn(B, T, E, generator=torch.Generator().manual_seed(1))


scores = st.tuples(st.integers(1, 20), st.integers(1, 8), st.integers(0, 99)).map(
    lambda s: 3 * torch.randn(s[0], s[1], generator=torch.Generator().manual_seed(s[2]))
)


@pytest.mark.parametrize("n_used", [1, 2, 5])
def test_it_equals_a_loop_over_tokens(n_used):
    """The definition: softmax in float64, the likeliest experts by sorting, one at a time."""
    layer, tokens = mixture(n_used), x()
    with torch.no_grad():
        found = layer(tokens)
        for b in range(2):
            for t in range(7):
                token = tokens[b, t]
                logits = (layer.router.weight.double() @ token.double()).tolist()
                odds = [math.exp(logit) for logit in logits]
                used = sorted(range(N_EXPERTS), key=lambda e: -odds[e])[:n_used]
                wanted = sum(odds[e] * layer.experts[e](token[None])[0] for e in used)
                wanted = wanted / sum(odds if n_used == 1 else [odds[e] for e in used])
                torch.testing.assert_close(found[b, t], wanted, rtol=1e-5, atol=1e-7)


def test_with_all_experts_used_it_is_the_dense_mixture():
    """Sum over all of p_e expert_e(x), with nothing routed."""
    layer, tokens = mixture(N_EXPERTS), x()
    p = torch.softmax(layer.router(tokens), dim=-1)  # (B, T, n)
    outputs = torch.stack([expert(tokens) for expert in layer.experts], dim=-1)  # (B, T, E, n)
    torch.testing.assert_close(layer(tokens), (outputs * p.unsqueeze(2)).sum(-1))


def test_one_expert_is_a_plain_feed_forward():
    layer, tokens = mixture(1, n_experts=1), x()
    torch.testing.assert_close(layer(tokens), layer.experts[0](tokens))


def test_an_expert_sees_only_the_tokens_sent_to_it():
    """Arithmetic follows k: N tokens give k N rows, however many experts there are."""
    layer, tokens, rows = mixture(2), x(), [0] * N_EXPERTS

    def counter(e):
        return lambda module, inputs: rows.__setitem__(e, rows[e] + len(inputs[0]))

    for e, expert in enumerate(layer.experts):
        expert.register_forward_pre_hook(counter(e))
    layer(tokens)
    assert sum(rows) == 2 * 2 * 7
    assert rows == torch.bincount(layer.routing.chosen.flatten(), minlength=N_EXPERTS).tolist()


def test_tokens_do_not_depend_on_their_neighbours():
    layer, tokens = mixture(2), x()
    torch.testing.assert_close(layer(tokens)[:, 3:4], layer(tokens[:, 3:4]))


def test_the_router_learns_and_unused_experts_do_not():
    layer = mixture(1)
    layer(x(1, 1)).sum().backward()
    [used] = layer.routing.chosen.flatten().tolist()
    moved = [expert.down.weight.grad is not None for expert in layer.experts]
    assert moved == [e == used for e in range(N_EXPERTS)]
    layer = mixture(2)
    layer(x()).square().sum().backward()
    assert layer.router.weight.grad.abs().sum() > 0


# Routing


@given(scores, st.data())
def test_the_weights_of_several_add_up_to_1(scores, data):
    n_used = data.draw(st.integers(1, scores.shape[1]))
    routing = route(scores, n_used)
    assert routing.weights.min() >= 0
    if n_used > 1:
        torch.testing.assert_close(routing.weights.sum(1), torch.ones(len(scores)))
    torch.testing.assert_close(routing.probabilities.sum(1), torch.ones(len(scores)))


def test_one_expert_alone_keeps_its_probability_so_that_the_router_learns():
    """Switch, section 2.1: scaled to 1 it would have no gradient."""
    scores = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).requires_grad_()
    weight = route(scores, 1).weights
    assert weight.item() == pytest.approx(0.7)
    weight.sum().backward()
    assert scores.grad.abs().max() > 0.1


@given(scores, st.data())
def test_the_chosen_are_different_and_none_left_out_is_likelier(scores, data):
    n_used = data.draw(st.integers(1, scores.shape[1]))
    for row, chosen in zip(scores, route(scores, n_used).chosen.tolist(), strict=True):
        left_out = set(range(len(row))) - set(chosen)
        assert len(set(chosen)) == n_used
        assert all(row[a] <= min(row[c] for c in chosen) for a in left_out)


def test_weights_keep_the_proportions_of_the_probabilities():
    routing = route(torch.log(torch.tensor([[0.5, 0.1, 0.3, 0.1]])), 2)
    assert routing.chosen.tolist() == [[0, 2]]
    assert routing.weights[0].tolist() == pytest.approx([5 / 8, 3 / 8])


@given(st.integers(1, 8))
def test_the_balance_loss_is_1_when_all_are_even(n):
    """Each expert gets one token, and the probabilities are a turn of the same."""
    routing = route(2.0 * torch.eye(n), 1)
    assert routing.shares.tolist() == pytest.approx([1 / n] * n)
    assert float(routing.balance_loss) == pytest.approx(1)


@given(st.integers(1, 8))
def test_the_balance_loss_is_n_when_one_gets_all(n):
    scores = torch.zeros(10, n)
    scores[:, -1] = 100.0
    assert float(route(scores, 1).balance_loss) == pytest.approx(n)


def test_the_balance_loss_by_hand():
    """Shares 3/4 and 1/4, mean probabilities 0.65 and 0.35: 2 (0.4875 + 0.0875) = 1.15."""
    p = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])
    assert float(route(p.log(), 1).balance_loss) == pytest.approx(1.15)


def test_every_pick_counts_in_the_shares():
    """Two tokens with two picks each: 0 and 1, 0 and 2."""
    p = torch.tensor([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3]])
    routing = route(p.log(), 2)
    assert routing.shares.tolist() == [0.5, 0.25, 0.25]
    assert float(routing.balance_loss) == pytest.approx(3 * (0.5 * 0.6 + 0.25 * 0.2 * 2))


def test_walking_down_the_balance_loss_evens_the_picks():
    scores = torch.randn(64, 4, generator=torch.Generator().manual_seed(3)) + torch.arange(4.0)
    bias = nn.Parameter(torch.zeros(4))
    before = route(scores, 1).shares.max()
    for _ in range(100):
        loss = route(scores + bias, 1).balance_loss
        (gradient,) = torch.autograd.grad(loss, bias)
        bias.data -= 0.3 * gradient
    assert before > 0.5
    assert route(scores + bias, 1).shares.max() < 0.35


@pytest.mark.parametrize("n_used", [0, 4])
def test_a_token_uses_one_expert_at_least_and_no_more_than_there_are(n_used):
    with pytest.raises(ValueError, match=re.escape(f"can use 1 to 3 experts; got {n_used}.")):
        route(torch.zeros(2, 3), n_used)
