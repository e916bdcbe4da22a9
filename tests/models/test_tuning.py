"""After pre-training: what LoRA changes and what it leaves, and preferences by another route."""

import math
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from stackkit.models.training import IGNORED, Schedule, next_token_loss, train  # noqa: E402
from stackkit.models.transformer import Config, Transformer  # noqa: E402
from stackkit.models.tuning import (  # noqa: E402
    LoRA,
    add_lora,
    answer_batches,
    answer_logprob,
    dpo_loss,
    merge_lora,
    padded,
)

CONFIG = Config(2, 24, 3, 1, 8, 40, 13, 16)
IDS = torch.arange(12).view(2, 6)
PAIRS = [([1, 2, 3], [4, 5]), ([6], [7]), ([8, 9], [10, 11, 12])]


def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG)


def tuned(only=("query", "value"), steps: int = 5) -> Transformer:
    """A model with LoRA that has learnt something."""
    changed = model()
    add_lora(changed, 2, only=only)
    train(changed, [(IDS[:, :-1], IDS[:, 1:])] * steps, Schedule(steps, peak=0.05, warmup=0))
    return changed


# LoRA


def test_at_first_nothing_changes():
    changed = model()
    add_lora(changed, 4)
    assert torch.equal(changed(IDS), model()(IDS))


def test_it_is_the_matrix_and_one_of_low_rank():
    """y = (W + scale / r B A) x + bias, the product formed first."""
    torch.manual_seed(0)
    linear = nn.Linear(7, 5)
    lora = LoRA(linear, 3, scale=6.0)
    nn.init.normal_(lora.up)
    change = (6.0 / 3) * lora.up @ lora.down
    x = torch.randn(2, 4, 7)
    wanted = x @ (linear.weight + change).T + linear.bias
    torch.testing.assert_close(lora(x), wanted, rtol=1e-5, atol=1e-5)
    assert int(torch.linalg.matrix_rank(change)) == 3


def test_merged_it_computes_the_same_and_is_a_plain_model_again():
    changed = tuned()
    before = changed(IDS)
    assert not torch.allclose(before, model()(IDS), atol=1e-3)  # it has learnt something
    merge_lora(changed)
    torch.testing.assert_close(changed(IDS), before, rtol=1e-4, atol=1e-5)
    assert changed.state_dict().keys() == model().state_dict().keys()


def test_merged_into_a_tied_head_it_leaves_the_input_table_alone():
    changed = model()
    table = changed.embed.weight.clone()
    add_lora(changed, 2, only="head")
    nn.init.normal_(changed.head.up)
    before = changed(IDS)
    merge_lora(changed)
    torch.testing.assert_close(changed(IDS), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(changed.embed.weight, table)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_it_has_the_format_of_the_matrix(dtype):
    lora = LoRA(nn.Linear(7, 5, dtype=dtype), 3, scale=6.0)
    nn.init.constant_(lora.up, 0.25)
    x = torch.ones(2, 7, dtype=dtype)
    assert lora(x).dtype == dtype
    rounding = {"rtol": 0.05, "atol": 0.02} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(lora.merged()(x), lora(x), **rounding)


@given(st.integers(1, 6), st.integers(6, 9), st.integers(6, 9))
def test_a_matrix_gets_rank_times_in_and_out_parameters(rank, into, out):
    lora = LoRA(nn.Linear(into, out), rank, 1.0)
    learnt = sum(p.numel() for p in lora.parameters() if p.requires_grad)
    assert learnt == rank * (into + out)


@pytest.mark.parametrize(("kinds", "rank"), [(1, 8), (2, 4), (4, 2)])
def test_the_published_number_of_parameters(kinds, rank):
    """Hu et al., table 5: 18 million for so many matrices of each of GPT-3's 96 layers."""
    with torch.device("meta"):
        lora = LoRA(nn.Linear(12_288, 12_288, bias=False), rank, 1.0)
    learnt = sum(p.numel() for p in lora.parameters() if p.requires_grad)
    assert 96 * kinds * learnt // 10**6 == 18


@pytest.mark.parametrize("only", [("query", "value"), ("gate", "up", "down"), ("output",)])
def test_only_the_named_matrices_learn(only):
    changed = tuned(only)
    merge_lora(changed)
    before = model().state_dict()
    moved = {
        key.split(".")[-2] for key, w in changed.state_dict().items() if not w.equal(before[key])
    }
    assert moved == set(only)


def test_the_frozen_weights_stay_while_it_learns():
    changed, before = tuned(), model().state_dict()
    for key, weight in changed.state_dict().items():
        if not key.endswith((".up", ".down")):
            assert torch.equal(weight, before[key.replace(".frozen", "")])


def test_what_is_returned_is_all_that_is_left_to_learn():
    changed = model()
    learnt = add_lora(changed, 2)
    assert {id(p) for p in learnt} == {id(p) for p in changed.parameters() if p.requires_grad}
    assert len(learnt) == 2 * 2 * CONFIG.n_layers  # A and B of query and value


@pytest.mark.parametrize("rank", [0, 6])
def test_a_rank_above_the_matrix_s_own_is_refused(rank):
    with pytest.raises(ValueError, match=f"rank must be 1 to 5 for this matrix; got {rank}"):
        LoRA(nn.Linear(7, 5), rank, 1.0)


def test_a_name_that_no_matrix_has_is_refused():
    with pytest.raises(ValueError, match="no matrix called q_proj or v_proj"):
        add_lora(model(), 2, only=("q_proj", "v_proj"))


# Prompts with answers


def test_prompts_and_answers_are_laid_out_one_beside_the_other():
    inputs, targets = padded(PAIRS)
    _ = IGNORED
    assert inputs.tolist() == [[1, 2, 3, 4], [6, 0, 0, 0], [8, 9, 10, 11]]
    assert targets.tolist() == [[_, _, 4, 5], [7, _, _, _], [_, 10, 11, 12]]


pairs_of = st.lists(
    st.tuples(
        st.lists(st.integers(0, 12), min_size=1, max_size=6),
        st.lists(st.integers(0, 12), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=4,
)


@given(pairs_of)
def test_what_counts_are_the_answers_alone(pairs):
    inputs, targets = padded(pairs)
    assert inputs.shape == targets.shape
    for (prompt, answer), row, wanted in zip(pairs, inputs.tolist(), targets, strict=True):
        text = prompt + answer
        assert wanted[wanted != IGNORED].tolist() == answer
        assert row == (text[:-1] + [0] * len(row))[: len(row)]


@pytest.mark.parametrize("pairs", [[([], [1, 2])], [([1, 2, 3], [4]), ([], [5])]])
def test_an_answer_to_no_prompt_is_refused(pairs):
    """Its first token would follow nothing."""
    with pytest.raises(ValueError, match="prompt"):
        padded(pairs)


def test_batches_are_pairs_drawn_by_the_seed():
    rows = {
        (tuple(x.tolist()[0]), tuple(y.tolist()[0])) for x, y in map(padded, ([p] for p in PAIRS))
    }
    drawn = list(answer_batches(PAIRS, batch=1, steps=40, seed=1))
    again = list(answer_batches(PAIRS, batch=1, steps=40, seed=1))
    other = list(answer_batches(PAIRS, batch=1, steps=40, seed=2))
    assert {(tuple(x[0].tolist()), tuple(y[0].tolist())) for x, y in drawn} == rows
    assert [x.tolist() for x, _ in drawn] == [x.tolist() for x, _ in again]
    assert [x.tolist() for x, _ in drawn] != [x.tolist() for x, _ in other]


def test_the_probability_of_an_answer_is_the_product_over_its_tokens():
    """One text at a time, one token at a time, without filling."""
    net = model()
    with torch.no_grad():
        found = answer_logprob(net, *padded(PAIRS))
        for (prompt, answer), logprob in zip(PAIRS, found.tolist(), strict=True):
            product = 1.0
            for i, id in enumerate(answer):
                p = torch.softmax(net(torch.tensor([prompt + answer[:i]]))[0, -1].double(), dim=-1)
                product *= float(p[id])
            assert logprob == pytest.approx(math.log(product), rel=1e-5)


def test_probabilities_and_the_loss_tell_the_same():
    inputs, targets = padded(PAIRS)
    net = model()
    n = int((targets != IGNORED).sum())
    with torch.no_grad():
        loss = float(next_token_loss(net(inputs), targets))
        whole = float(answer_logprob(net, inputs, targets).sum())
    assert -whole / n == pytest.approx(loss, rel=1e-5)


# Preferences

logprobs = st.lists(st.tuples(*[st.floats(-60, 0)] * 4), min_size=1, max_size=5).map(
    lambda rows: torch.tensor(rows, dtype=torch.float64).T
)


@given(logprobs)
def test_before_the_first_step_the_loss_is_log_2(four):
    preferred, other = four[:2]
    assert float(dpo_loss(preferred, other, preferred, other)) == pytest.approx(math.log(2))


@given(logprobs, st.floats(0.01, 2))
def test_the_loss_is_how_unlikely_the_preference_is(four, beta):
    """Bradley-Terry: the preferred wins with odds exp(beta margin), rewards being log p / p0."""
    a, b, a0, b0 = four.numpy()
    wins = np.exp(beta * (a - a0)) / (np.exp(beta * (a - a0)) + np.exp(beta * (b - b0)))
    wanted = np.mean(-np.log(wins))
    assert float(dpo_loss(*four, beta=beta)) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@given(logprobs, st.floats(0.01, 2))
def test_the_gradient_lifts_the_preferred_and_sinks_the_other(four, beta):
    """Rafailov et al., section 4: by beta sigmoid(-beta margin), more where it is still wrong."""
    a, b, a0, b0 = four
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    dpo_loss(a, b, a0, b0, beta).backward()
    margin = ((a - a0) - (b - b0)).detach()
    wanted = (beta / (1 + torch.exp(beta * margin)) / len(a)).tolist()
    assert (-a.grad).tolist() == pytest.approx(wanted, rel=1e-9)
    assert b.grad.tolist() == pytest.approx(wanted, rel=1e-9)


def test_very_bad_pairs_do_not_overflow():
    far = torch.tensor([-1e5])
    assert float(dpo_loss(far, -far, 0 * far, 0 * far, beta=1.0)) == pytest.approx(2e5)


def test_learning_from_a_preference_makes_it_likelier():
    net = model()
    liked, other = padded([([1, 2], [3, 4])]), padded([([1, 2], [5, 6])])
    add_lora(net, 2)
    with torch.no_grad():
        before = answer_logprob(net, *liked), answer_logprob(net, *other)

    def loss():
        return dpo_loss(answer_logprob(net, *liked), answer_logprob(net, *other), *before)

    losses = train(net, [()] * 20, Schedule(20, peak=0.02, warmup=0), loss=loss)
    assert losses[0] == pytest.approx(math.log(2))
    assert losses[-1] < losses[0] - 0.01
    assert answer_logprob(net, *liked) - before[0] > answer_logprob(net, *other) - before[1]


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan])
def test_a_beta_that_is_none_is_refused(beta):
    zero = torch.zeros(1)
    with pytest.raises(ValueError, match=re.escape(f"beta must be above 0; got {beta}.")):
        dpo_loss(zero, zero, zero, zero, beta)
