"""The articles' table of training cost by tier, rebuilt from runs that can be counted.

It counts final runs alone, as ``training_cost`` does, on chips rented by the hour; where makers
publish hours they are taken, else FLOPs at the share of the peak that large runs reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from stackkit.atlas import accelerator, fact, facts, model
from stackkit.core.fact import Fact
from stackkit.models.scaling import training_flops
from stackkit.models.training_cost import Interval, RunCost, run_cost


@dataclass(frozen=True)
class FinalRun:
    """One training run, rebuilt."""

    name: str
    basis: str  # what the hours rest on
    cost: RunCost


@dataclass(frozen=True)
class Tier:
    """A row of the articles' table, and the same dollars counted from below."""

    id: str
    article_low: Fact  # as printed, without a source
    article_high: Fact  # where the upper end is open, the note says so
    runs: tuple[FinalRun, ...]  # rebuilt here
    published: dict[str, Fact]  # printed by others, by the fact's name
    unknown: tuple[str, ...]  # of which the atlas has neither hours nor tokens

    @property
    def usd(self) -> Interval | None:
        """From the cheapest run's low to the dearest's high, the median between; None: no run."""
        costs = [run.cost.usd for run in self.runs]
        if not costs:
            return None
        low, high = min(cost.low for cost in costs), max(cost.high for cost in costs)
        return Interval(low, median(cost.value for cost in costs), high)


# Models that the article names, one or two beside them; of fine-tuning, runs of published FLOPs.
_RUNS = {
    "frontier-closed": (),  # no shape is published
    "frontier-open": ("llama-3.1-405b", "deepseek-v3"),
    "mid-open": ("llama-3.1-70b", "qwen2.5-72b", "llama-3-70b"),
    "efficient-open": ("llama-3.1-8b", "mistral-7b", "phi-3-mini", "gemma-2-9b", "llama-3.2-3b"),
    "specialised": ("instructgpt.sft_flop", "instructgpt.ppo_flop"),
}
_PUBLISHED = {  # by Epoch AI and the AI Index, who rent or write off the hardware; by DeepSeek
    "frontier-closed": (
        "frontier-training-cost.gpt4_cloud_usd",
        "frontier-training-cost.gpt4_amortised_usd",
        "frontier-training-cost.gemini_ultra_cloud_usd",
        "frontier-training-cost.gpt45_amortised_usd",
    ),
    "frontier-open": (
        "frontier-training-cost.llama_31_405b_cloud_usd",
        "frontier-training-cost.llama_31_405b_amortised_usd",
        "deepseek-v3.training_usd",
    ),
}


def final_run(name: str) -> FinalRun | None:
    """The run behind a model, or behind a fact in FLOP, on H100s rented at the market's price.

    Published hours of an H100 (or H800, the same die) are taken as they are; else 6 N D at 30-50 %
    of the peak, which is too few hours for a small model on much text: those on the card of Llama
    3.1 8B are 14 % of the peak. None where the atlas has neither.
    """
    chip, rent = accelerator("h100-sxm"), fact("h100-rental-market.usd_per_hour")
    known = facts()
    hours = known.get(f"{name}.training_gpu_hours")
    if hours and hours.note.startswith(("H100", "H800")):
        cost = run_cost(hours=hours, chip=chip, usd_per_gpu_hour=rent)
        return FinalRun(name, "published hours", cost)
    if tokens := known.get(f"{name}.training_tokens"):
        flops = training_flops(model(name).active_params(), tokens.value)
        basis = "6 N D at 30-50 % of the peak"
    elif name in known:
        flops, basis = known[name].value, "published FLOPs at 30-50 % of the peak"
    else:
        return None
    return FinalRun(name, basis, run_cost(flops, chip, usd_per_gpu_hour=rent))


def tier_cost(tier: str) -> Tier:
    """One row of the articles' table, rebuilt: ``tier_cost("mid-open")``.

    Only final runs: the module's docstring says what that leaves out.

    Raises:
        ValueError: when there is no such tier, with those there are.
    """
    if tier not in _RUNS:
        raise ValueError(f"Unknown tier {tier!r}; use one of {', '.join(_RUNS)}.")
    runs = {name: final_run(name) for name in _RUNS[tier]}
    return Tier(
        id=tier,
        article_low=fact(f"tier-{tier}.article_training_cost_low_usd"),
        article_high=fact(f"tier-{tier}.article_training_cost_high_usd"),
        runs=tuple(run for run in runs.values() if run),
        published={name: fact(name) for name in _PUBLISHED.get(tier, ())},
        unknown=tuple(name for name, run in runs.items() if run is None),
    )


def tiers() -> list[Tier]:
    """All five, in the article's order."""
    return [tier_cost(tier) for tier in _RUNS]
