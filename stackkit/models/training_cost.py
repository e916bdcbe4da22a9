"""What a training run needs: memory, hours, dollars, energy, carbon.

    memory  = 16 N + activations          weights 2, gradients 2, Adam's fp32 copies 3 x 4 bytes
    hours   = C / (peak x MFU)            of one chip
    dollars = hours x rent;  energy = hours x watts x PUE;  CO2 = energy x carbon of the grid

It knows only the final run: no failed runs, experiments, data or people. What others print of
those (atlas: ``openai-compute-2024``, ``olmo-2-training``, ``frontier-training-cost``): final runs
were a tenth of OpenAI's research compute in 2024, development added half to OLMo 2's training, and
staff is 29-49 % of a frontier model's cost. Sources: Rajbhandari et al. (ZeRO), arXiv 1910.02054,
section 3.1; Korthikanti et al., arXiv 2205.05198, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stackkit.atlas import Accelerator, ModelSpec, fact
from stackkit.core.fact import Fact
from stackkit.core.units import KILO
from stackkit.models.scaling import check_positive

SECONDS_PER_HOUR = 3600
WEIGHT_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 2, 2, 12  # of a parameter, mixed-precision Adam


@dataclass(frozen=True)
class Interval:
    """A quantity and the bounds it may have.

    A product takes lows with lows and highs with highs, as if every extreme could meet every
    other: the widest that the inputs allow, wider than is likely.

    Raises:
        ValueError: when the three are not positive and in order.
    """

    low: float
    value: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high < math.inf:
            raise ValueError(
                "An interval is positive and in order, low <= value <= high; "
                f"got {self.low!r}, {self.value!r}, {self.high!r}."
            )

    @staticmethod
    def of(x: Interval | Fact | float) -> Interval:
        """A fact with its own bounds; a plain number has none but itself."""
        if isinstance(x, Interval):
            return x
        if isinstance(x, Fact):
            low, high = (x.value if end is None else end for end in (x.low, x.high))
            return Interval(low, x.value, high)
        return Interval(x, x, x)

    def __mul__(self, other: Interval | Fact | float) -> Interval:
        other = Interval.of(other)
        return Interval(self.low * other.low, self.value * other.value, self.high * other.high)

    def __truediv__(self, other: Interval | Fact | float) -> Interval:
        other = Interval.of(other)
        return self * Interval(1 / other.high, 1 / other.value, 1 / other.low)


Quantity = Interval | Fact | float
LARGE_RUN_MFU = Interval(0.30, 0.40, 0.50)  # published: MT-NLG 0.30, Llama 3 0.38-0.43, PaLM 0.46


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training step, over all chips, if nothing is kept twice."""

    weight_bytes: float
    gradient_bytes: float
    optimizer_bytes: float  # Adam's fp32 weights, momentum and variance
    activation_bytes: float

    @property
    def bytes(self) -> float:
        """All of it."""
        states = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes
        return states + self.activation_bytes


def training_memory(
    model: ModelSpec, *, tokens: int, batch: int = 1, recompute: str = "attention"
) -> TrainingMemory:
    """Memory of mixed-precision training with Adam: 16 bytes a parameter, and the activations.

    The scores of the output, tokens x V, are left out.

    Args:
        model: the model's shape.
        tokens: of one sequence.
        batch: sequences of which the activations are alive at one time.
        recompute: as of ``activation_bytes_per_layer``.

    Raises:
        ValueError: as ``activation_bytes_per_layer``, or when the model takes fewer tokens.
    """
    if tokens > model.max_context:
        raise ValueError(
            f"{model.name} takes at most {model.max_context} tokens; got {tokens}. "
            "Shorten the sequence."
        )
    n_params = model.params()
    layer = activation_bytes_per_layer(
        tokens, batch, model.d_model, model.n_heads, recompute=recompute
    )
    return TrainingMemory(
        weight_bytes=WEIGHT_BYTES * n_params,
        gradient_bytes=GRADIENT_BYTES * n_params,
        optimizer_bytes=OPTIMIZER_BYTES * n_params,
        activation_bytes=layer * model.n_layers,
    )


def activation_bytes_per_layer(
    s: int, b: int, h: int, a: int, *, recompute: str = "attention"
) -> float:
    """Bytes that one layer keeps for the backward pass: s b h (34 + 5 a s / h), in 16 bit.

    Counted for GPT's layer: as many key as query heads, a plain feed-forward of 4 h, dropout.
    Gated feed-forwards keep more, grouped queries and no dropout less.

    Args:
        s, b, h, a: tokens of a sequence, sequences, model dimension, query heads.
        recompute: ``"none"`` keeps all. ``"attention"`` keeps nothing of s x s, 34 s b h: selective
            recomputation, and what tiled attention does anyway. ``"full"`` keeps a layer's input,
            2 s b h, and runs the layer forward once more.

    Raises:
        ValueError: when a size is not positive, or ``recompute`` is none of the three.
    """
    check_positive(s=s, b=b, h=h, a=a)
    kept = {"none": 34 + 5 * a * s / h, "attention": 34, "full": 2}
    if recompute not in kept:
        raise ValueError(f"Unknown recompute {recompute!r}; use one of {', '.join(kept)}.")
    return s * b * h * kept[recompute]


@dataclass(frozen=True)
class RunCost:
    """The final run alone; what the chips' makers, builders and researchers cost is not in it."""

    gpu_hours: Interval
    usd: Interval
    energy_wh: Interval  # at the plug of the data centre
    co2_kg: Interval  # of that energy, where the machines stand


def gpu_hours(
    flops: Quantity, chip: Accelerator, mfu: Quantity = LARGE_RUN_MFU, dtype: str = "bf16"
) -> Interval:
    """Hours of one chip that ``flops`` take at a share ``mfu`` of its dense peak.

    Raises:
        ValueError: when the atlas has no peak of that format, or the share is above 1.
    """
    if dtype not in chip.peak_flops_per_s:
        known = ", ".join(chip.peak_flops_per_s) or "none"
        raise ValueError(f"The atlas has no {dtype} peak for {chip.name}; it has {known}.")
    share = Interval.of(mfu)
    if share.high > 1:
        raise ValueError(f"mfu is a share of the peak, at most 1; got {share.high!r}.")
    return Interval.of(flops) / share / (chip.peak_flops_per_s[dtype] * SECONDS_PER_HOUR)


def run_cost(
    flops: Quantity | None = None,
    chip: Accelerator | None = None,
    *,
    usd_per_gpu_hour: Quantity,
    mfu: Quantity = LARGE_RUN_MFU,
    hours: Quantity | None = None,
    watts: Quantity | None = None,
    pue: Quantity | None = None,
    kg_co2_per_kwh: Quantity | None = None,
) -> RunCost:
    """Cost of a run from its FLOPs, or from its hours where those are published.

    Args:
        flops: of the model, recomputation not counted; not needed when ``hours`` are known.
        chip: gives the dense bf16 peak and the power.
        usd_per_gpu_hour: rent of one chip with its share of the server.
        mfu: share of the peak that goes into the model, over the whole run.
        hours: of one chip, if known.
        watts: of one chip; left out, the most it may draw (TDP), without its server's other parts.
        pue: of the data centre; left out, Google's fleet, at most the industry's average.
        kg_co2_per_kwh: of the grid; left out, the US mix, between France's and the world's.

    Raises:
        ValueError: when both FLOPs and hours, or power and chip, are missing, or one is impossible.
    """
    if hours is None and (flops is None or chip is None):
        raise ValueError("A run needs flops and a chip, or its hours; give one of the two.")
    if watts is None and (chip is None or chip.tdp_w is None):
        raise ValueError("The power of the chip is not in the atlas; give watts.")
    if pue is None:
        best, average = fact("pue.google_fleet").value, fact("pue.industry_average").value
        pue = Interval(best, best, average)
    if kg_co2_per_kwh is None:
        places = ("bloom-176b-training", "us-grid", "world-grid")
        grids = (fact(f"{place}.kg_co2_per_kilowatt_hour").value for place in places)
        kg_co2_per_kwh = Interval(*grids)
    time = gpu_hours(flops, chip, mfu) if hours is None else Interval.of(hours)
    pue = Interval.of(pue)
    if pue.low < 1:
        raise ValueError(
            f"A PUE is 1 or more, all energy over that of the machines; got {pue.low}."
        )
    energy = time * (chip.tdp_w if watts is None else watts) * pue
    return RunCost(time, time * usd_per_gpu_hour, energy, energy * kg_co2_per_kwh / KILO)
