"""The training loop: the loss by hand, the schedule by points, one step, and what it reads."""

import math
import re
from itertools import repeat

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from stackkit.models.training import (  # noqa: E402
    IGNORED,
    Schedule,
    batches,
    held_out_loss,
    next_token_loss,
    train,
)
from stackkit.models.transformer import Config, Transformer  # noqa: E402


class Uniform(nn.Module):
    """Every token is as likely as every other."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, self.vocab_size)


class Weights(nn.Module):
    """A matrix, a norm and a frozen matrix, for losses that are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[4.0, -2.0]]))
        self.norm = nn.Parameter(torch.tensor([4.0, -2.0]))
        self.frozen = nn.Parameter(torch.tensor([[3.0]]), requires_grad=False)


def tiny(vocab_size: int = 16) -> Transformer:
    torch.manual_seed(0)
    return Transformer(Config(1, 16, 2, 1, 8, 32, vocab_size, 8))


# The loss


def test_the_loss_is_the_mean_of_minus_log_p():
    """Probabilities 1/2, 1/4 and 1/8 of the tokens that came: (1 + 2 + 3) / 3 bits."""
    p = torch.tensor([[[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]])
    loss = next_token_loss(p.log(), torch.tensor([[0, 1, 2]]))
    assert float(loss) == pytest.approx(2 * math.log(2))


def test_the_loss_equals_loops_in_float64():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 4, IGNORED], [2, 2, 1]])
    terms = []
    for b in range(2):
        for t in range(3):
            if targets[b, t] != IGNORED:
                row = logits[b, t].tolist()
                terms.append(math.log(sum(map(math.exp, row))) - row[targets[b, t]])
    wanted = sum(terms) / len(terms)
    assert len(terms) == 5
    assert float(next_token_loss(logits, targets)) == pytest.approx(wanted, rel=1e-6)


def test_what_is_ignored_has_no_gradient():
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    next_token_loss(logits, torch.tensor([[IGNORED, 1]])).backward()
    assert logits.grad[0, 0].tolist() == [0, 0, 0]
    assert logits.grad[0, 1].tolist() == pytest.approx([1 / 3, -2 / 3, 1 / 3])


def test_the_loss_of_16_bits_is_summed_in_32():
    logits = torch.randn(1, 500, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.arange(500)[None] % 7
    found = next_token_loss(logits, targets)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(next_token_loss(logits.double(), targets)))


# The schedule


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.55), (110, 0.1)],
)
def test_the_rate_rises_to_the_peak_and_falls_along_half_a_cosine(step, share):
    """Warm-up of 10, then 100 steps down to a tenth; half way it has lost half of the fall."""
    schedule = Schedule(steps=110, peak=2e-3, warmup=10)
    assert schedule.rate(step) == pytest.approx(2e-3 * share)


def test_the_rate_never_rises_after_the_peak():
    schedule = Schedule(steps=50, warmup=5)
    rates = [schedule.rate(step) for step in range(50)]
    assert max(rates) == pytest.approx(schedule.peak)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert min(rates[5:]) >= 0.1 * schedule.peak


@pytest.mark.parametrize("warmup", [0, 3])
def test_a_schedule_may_have_no_warm_up_or_nothing_else(warmup):
    schedule = Schedule(steps=3, warmup=warmup)
    assert all(0 < schedule.rate(step) <= 1.000001 * schedule.peak for step in range(3))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": 5, "peak": 0.0}, {"steps": 5, "peak": math.nan}, {"steps": 5}],
)
def test_a_schedule_that_cannot_be_is_refused_with_its_numbers(wrong):
    """The last one has a warm-up of 20 steps in 5."""
    with pytest.raises(ValueError, match=re.escape(f"got steps={wrong['steps']}, peak=")):
        Schedule(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"peak": math.inf},
        *({"floor": floor} for floor in (-1, 5, math.nan)),
        *({"weight_decay": decay} for decay in (-1, math.nan, math.inf)),
        *({"clip": clip} for clip in (0, -1, math.nan)),
    ],
)
def test_a_schedule_that_would_climb_or_learn_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=f"got .*{next(iter(wrong.values()))}"):
        Schedule(steps=50, **wrong)


def test_a_model_with_all_weights_frozen_is_refused():
    frozen = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match=r"Thaw them: model\.requires_grad_\(True\)"):
        train(frozen, [], Schedule(steps=50))


# Windows


def test_windows_are_cut_from_the_text_and_targets_are_one_ahead():
    text = list(range(100, 130))
    for inputs, targets in batches(text, batch=4, tokens=7, steps=5):
        assert inputs.shape == targets.shape == (4, 7)
        assert (targets == inputs + 1).all()
        assert inputs.min() >= 100
        assert targets.max() <= 129


def test_every_window_can_be_drawn_and_the_last_token_is_learnt():
    inputs = torch.cat([x for x, _ in batches([0, 1, 2, 3, 4], batch=10, tokens=2, steps=10)])
    assert {tuple(row) for row in inputs.tolist()} == {(0, 1), (1, 2), (2, 3)}


def test_the_seed_decides_the_windows():
    def drawn(seed):
        windows = batches(range(1000), batch=3, tokens=4, steps=6, seed=seed)
        return [x.tolist() for x, _ in windows]

    torch.manual_seed(1)
    first = drawn(0)
    torch.manual_seed(2)  # torch's own state has no say
    assert drawn(0) == first
    assert drawn(1) != first
    assert len(first) == 6


def test_a_text_of_one_window_is_enough_and_a_shorter_one_is_refused():
    [(inputs, targets)] = batches([5, 6, 7], batch=1, tokens=2, steps=1)
    assert (inputs.tolist(), targets.tolist()) == ([[5, 6]], [[6, 7]])
    with pytest.raises(ValueError, match="needs 4 tokens; the text has 3"):
        next(batches([5, 6, 7], batch=1, tokens=3, steps=1))


# The loop


def test_it_learns_one_batch_by_heart():
    model = tiny()
    ids = torch.randint(16, (4, 9), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = torch.arange(4)  # the first token says which of the four texts it is
    losses = train(model, repeat((ids[:, :-1], ids[:, 1:])), Schedule(60, peak=3e-2, warmup=10))
    assert losses[0] == pytest.approx(math.log(16), rel=0.05)  # it knows nothing yet
    assert losses[-1] < 0.05
    assert torch.equal(model(ids[:, :-1]).argmax(-1), ids[:, 1:])


def test_the_first_step_is_that_of_the_paper():
    """AdamW: m / sqrt(v) is the gradient's sign, so a step is rate (sign + decay w).

    The norm decays not at all, and what is frozen stays.
    """
    model, rate = Weights(), 0.01
    train(
        model,
        [(1.0,)],
        Schedule(1, peak=rate, warmup=1, weight_decay=0.5),
        loss=lambda c: (c * model.matrix).sum() - (c * model.norm).sum(),
    )
    wanted = [w - rate * (1 + 0.5 * w) for w in (4.0, -2.0)]
    assert model.matrix[0].tolist() == pytest.approx(wanted)
    assert model.norm.tolist() == pytest.approx([4.0 + rate, -2.0 + rate])
    assert model.frozen.tolist() == [[3.0]]


def test_weights_without_a_gradient_shrink_and_norms_do_not():
    model = Weights()
    schedule = Schedule(3, peak=0.1, warmup=0, weight_decay=0.5)
    train(model, repeat(()), schedule, loss=lambda: 0 * (model.matrix.sum() + model.norm.sum()))
    left = math.prod(1 - 0.5 * schedule.rate(step) for step in range(3))
    assert model.matrix[0].tolist() == pytest.approx([4 * left, -2 * left])
    assert model.norm.tolist() == [4.0, -2.0]


@pytest.mark.parametrize(("slope", "length"), [(1e6, 1.0), (0.25, 0.5)])
def test_a_gradient_is_cut_to_the_clip_and_a_short_one_is_left(slope, length):
    """Four weights of one slope: a gradient twice as long as the slope."""
    model = Weights()
    train(
        model,
        [()],
        Schedule(1, warmup=0, clip=1.0),
        loss=lambda: slope * (model.matrix.sum() + model.norm.sum()),
    )
    gradients = torch.cat([model.matrix.grad.flatten(), model.norm.grad])
    assert float(gradients.norm()) == pytest.approx(length, rel=1e-4)


def test_each_step_reports_the_loss_before_it():
    model, told = Weights(), []
    losses = train(
        model,
        [(1.0,), (2.0,)],
        Schedule(2, peak=1e-9, warmup=0),
        loss=lambda c: c * model.matrix.sum(),
        report=lambda *line: told.append(line),
    )
    assert losses == pytest.approx([2.0, 4.0])
    assert told == list(enumerate(losses))


def test_it_takes_no_more_steps_than_the_schedule_has():
    model = Weights()
    losses = train(model, repeat(()), Schedule(4, warmup=0), loss=lambda: model.matrix.sum())
    assert len(losses) == 4
    assert not model.training


# What was held out


@pytest.mark.parametrize(("n", "windows"), [(8, 1), (14, 1), (15, 2), (22, 3)])
def test_the_loss_of_a_model_that_knows_nothing_is_log_v(n, windows):
    """Windows of 7 targets, side by side: each needs the token before it, too."""
    assert held_out_loss(Uniform(11), [3] * n, 7) == pytest.approx([math.log(11)] * windows)


def test_held_out_windows_follow_each_other():
    """No target is left out or counted twice: their losses add up to the text's, token by token."""
    model, ids = tiny(), torch.randint(16, (17,), generator=torch.Generator().manual_seed(1))
    total = 0.0
    for target in range(1, 17):
        start = (target - 1) // 8 * 8  # of the window it stands in
        row = F.log_softmax(model(ids[None, start:target])[0, -1].detach(), dim=-1)
        total -= float(row[ids[target]])
    assert 8 * sum(held_out_loss(model, ids.tolist(), 8)) == pytest.approx(total, rel=1e-5)
