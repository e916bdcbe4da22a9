# %% [markdown]
# # Lab 7: two roofs over your own machine
#
# *You will build* a bandwidth meter and a latency meter, *measure* the caches and both roofs of the
# computer in front of you, let two measurements *predict* a dozen others, and *break* the meter in the
# way that many benchmarks go wrong.
#
# [Open in Colab](https://colab.research.google.com/github/prompt-to-silicon/prompt-to-silicon/blob/main/labs/7-memory.ipynb)
# · goes with [the chapter](../chapters/7-memory.md) · about 40 minutes of yours
#
# Stored run: {run}. Needs NumPy and numba; uses torch when it is there, and a GPU when torch
# finds one (*not yet run on a GPU*).

# %% [markdown]
# ## 1. Set up
#
# The cell installs the library in Colab and does nothing elsewhere. It changes no package that Colab has.

# %%
import sys

if "google.colab" in sys.modules:
    # %pip install -q "stackkit[labs] @ git+https://github.com/prompt-to-silicon/prompt-to-silicon@main"
    pass

# %% tags=["nbval-ignore-output"]
from stackkit.core.machine import card

print(card())

# %% [markdown]
# ## 2. Predict
#
# Commit yourself before anything runs. Wrong is fine; no number is not. Replace each `None`.
#
# - How many gigabytes can this computer read from memory in a second?
# - How many times longer does one load from memory take than one from the nearest cache?
# - How many billion operations on 32-bit numbers can its CPU do in a second? A multiply-add is two.
# - One token of SmolLM2-135M multiplies 135 million weights, of four bytes each here. How many
#   milliseconds will that take?

# %%
my_bandwidth_gb_per_s = None
my_latency_ratio = None
my_gflop_per_s = None
my_step_ms = None

# %% [markdown]
# ## 3. Build
#
# ### A bandwidth meter
#
# Take an array that is too large for any cache, read all of it, and look at the clock. Do it a few
# times and keep the median: another program may have been in the way once.

# %%
import time
from statistics import median

import numpy as np


def read_bandwidth(n_bytes, repeats=7):
    """Bytes per second when an array of n_bytes is read from end to end."""
    array = np.ones(n_bytes // 4, dtype=np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        array.max()
        times.append(time.perf_counter() - start)
    return n_bytes / median(times)


# %% tags=["nbval-ignore-output"]
print(f"one core reads {read_bandwidth(2**28) / 1e9:.1f} GB/s")

# %% [markdown]
# ### A latency meter
#
# The loop above never waits: the processor sees that you go through the array in order, and fetches ahead.
# To see the wait, make each load depend on the one before. Fill an array with directions, `places[i]` says
# where to go after `i`, in random order, one stop in each cache line (`64 bytes`); then follow them.
# Python itself would take longer than the memory, so numba compiles the loop.

# %%
from numba import njit


def directions(n_bytes):
    """One cycle through all cache lines of an array, in random order."""
    stops = np.random.default_rng(0).permutation(n_bytes // 64) * 8
    places = np.zeros(n_bytes // 64 * 8, dtype=np.int64)
    places[stops] = np.roll(stops, -1)
    return places


@njit
def follow(places, steps, here):
    for _ in range(steps):
        here = places[here]
    return here


places = directions(2**16)
print("back at the start after 1,024 stops:", follow(places, 1024, 0) == 0)


# %% tags=["nbval-ignore-output"]
def latency(n_bytes, steps=300_000):
    """Seconds of one load that waits for the one before."""
    places = directions(n_bytes)
    here = follow(places, steps, 0)  # compiles, and fills the caches
    start = time.perf_counter()
    follow(places, steps, here)  # goes on: from 0 it would find its own trail
    return (time.perf_counter() - start) / steps


for n_bytes in (2**14, 2**27):
    print(f"{n_bytes // 1024:7,} KiB: {latency(n_bytes) * 1e9:6.1f} ns a load")

# %% [markdown]
# ### The roofline
#
# The arithmetic takes `flops / peak` seconds, the bytes take `bytes / bandwidth`. Overlapped, you wait
# for the longer; not overlapped, for the sum.


# %%
def bounds(flops, n_bytes, peak, bandwidth):
    """Seconds, with perfect overlap and with none."""
    compute_s, memory_s = flops / peak, n_bytes / bandwidth
    return max(compute_s, memory_s), compute_s + memory_s


# %% [markdown]
# That is the whole model. The library's version is
# [`Roofline`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/memory/roofline.py);
# it refuses impossible input and knows the ridge point. Both must say the same of an H100 that makes one token
# with an 8-billion-parameter model:

# %%
from stackkit.atlas import accelerator, model
from stackkit.memory import Roofline, decode_work, roofline_of

h100 = accelerator("h100-sxm")
step = decode_work(model("llama-3.1-8b"), batch=1, context=1024)
ours = bounds(
    step.flops,
    step.bytes,
    h100.peak_flops_per_s["bf16"],
    h100.memory_bytes_per_s,
)
library = roofline_of(h100).bounds(step.flops, step.bytes)
print(f"built here: {ours[0] * 1e3:.2f} to {ours[1] * 1e3:.2f} ms a token")
print(
    f"library:    {library[0] * 1e3:.2f} to {library[1] * 1e3:.2f} ms a token"
)
print("the same:", ours == library)

# %% [markdown]
# ## 4. Measure
#
# ### The caches
#
# Now both meters over working sets from `8 KiB` to past every cache, with one core. The library's meters are yours,
# with more repeats
# ([`loops.py`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/memory/loops.py),
# [`hierarchy.py`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/memory/hierarchy.py)).

# %% tags=["nbval-ignore-output"]
from stackkit.core.figures import (
    DASHES,
    PALETTE,
    SYMBOLS,
    log_ticks,
    new_figure,
    rounded,
    show,
)
from stackkit.core.units import GIGA, KIB, MIB, NANO
from stackkit.memory.hierarchy import (
    latency_curve,
    read_curve,
    steps,
    working_sets,
)

sizes = working_sets()
caches = card().cache_bytes
reads = read_curve(sizes)
waits = latency_curve(sizes)
by_all = read_curve(
    [size for size in sizes if size >= MIB], all_cores=True
)  # below that, waking the other cores takes longer than the reading


def with_caches(figure, top):
    """Add what the system says of its caches: upright lines."""
    for i, (name, size) in enumerate(caches.items()):
        figure.add_scatter(
            x=[size / MIB] * 2,
            y=[1, top],
            mode="lines",
            name=f"{name}, {size // KIB:,} KiB",
            line={"color": "#808890", "dash": DASHES[i + 1]},
        )
    figure.update_xaxes(log_ticks(sizes[0] / MIB, sizes[-1] / MIB))
    return figure


figure = new_figure(
    "Reading in order",
    "working set (MiB)",
    "read (GB/s)",
    log="x",
)
for i, (name, curve) in enumerate(
    {"one core": reads, "all cores": by_all}.items()
):
    figure.add_scatter(
        x=rounded(size / MIB for size in curve),
        y=rounded(speed / GIGA for speed in curve.values()),
        mode="markers",
        name=name,
        marker={"color": PALETTE[i], "symbol": SYMBOLS[i], "size": 8},
    )
show(
    with_caches(figure, round(max(*reads.values(), *by_all.values()) / GIGA)),
    caption=(
        "Markers are measured; lines are the cache sizes that the system "
        "reports. In the stored run one core reads from its second cache, "
        "and from most of the last one, two to four times as fast as from "
        "memory, where two cores read little more than one."
    ),
    alt=(
        "Read bandwidth over working sets from 8 KiB to past every cache, "
        "of one core and of all. It is highest in the nearest cache, steps "
        "down a little at the second and falls steeply around the size of "
        "the last one, to the memory's speed."
    ),
)


# %% tags=["nbval-ignore-output"]
figure = new_figure(
    "One load after another",
    "working set (MiB)",
    "latency (ns)",
    log="xy",
)
figure.add_scatter(
    x=rounded(size / MIB for size in waits),
    y=rounded(wait / NANO for wait in waits.values()),
    mode="markers",
    name="measured, one core",
    marker={"color": PALETTE[0], "size": 8},
)
with_caches(figure, round(max(waits.values()) / NANO))
low, high = min(waits.values()) / NANO, max(waits.values()) / NANO
figure.update_yaxes(log_ticks(low, high))
show(
    figure,
    caption=(
        "In the stored run a load from memory takes about a hundred times "
        "as long as one from the nearest cache. The steepest step comes "
        "before the working set has the size of the last cache."
    ),
    alt=(
        "Latency of dependent loads over working sets from 8 KiB to past "
        "every cache, on a log scale: under 2 nanoseconds in the first "
        "cache, 4 to 16 in the second and beyond, then a steep rise to more "
        "than 100 nanoseconds before the size of the last cache."
    ),
)

# %% tags=["nbval-ignore-output"]
found = steps(caches, reads, waits)
print("cache   bandwidth inside / outside   latency outside / inside")
for name, (faster, longer) in found.items():
    print(f"{name:5}  {faster:20.1f}  {longer:26.1f}")

# %% [markdown]
# Which curve shows which cache? In the stored run the latency steps up by two to three past each of the nearer caches,
# while the bandwidth moves less, because the processor fetches ahead. Where the last steep rise of the latency comes
# differs from run to run; on the machine of the stored run it was seen anywhere between a fifth of the last cache and
# most of it. That cache is shared, in a rented machine with strangers; and past some megabytes a random load must also
# look up where its page of memory lies. This meter cannot tell the two apart.

# %%
own = [pair for name, pair in found.items() if name in ("L1", "L2")]
print(
    "each core's own caches show in a curve, by 1.3 or more:",
    all(max(pair) > 1.3 for pair in own) if own else "none reported",
)
nearest, farthest = waits[sizes[0]], waits[sizes[-1]]
print("memory is 10 times as far or more:", farthest > 10 * nearest)

# %% [markdown]
# With a GPU the same curve runs there. Its second cache of tens of megabytes is the step to look for.

# %% tags=["nbval-ignore-output"]
from stackkit.memory import measure_bandwidth, measure_peak_flops

reading = measure_bandwidth("read")
if reading.device == "cuda":
    for size in (2**k * MIB for k in range(1, 12)):
        run = measure_bandwidth("read", working_set_bytes=size)
        print(f"{size // MIB:6} MiB {run.bytes_per_s / GIGA:9.1f} GB/s")
else:
    print("no GPU here")

# %% [markdown]
# ### Both roofs
#
# With all cores (or the GPU). The meter is
# [`stackkit/memory/measure.py`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/memory/measure.py):
# the working set is chosen to be larger than the caches.

# %% tags=["nbval-ignore-output"]
arithmetic = measure_peak_flops("fp32")
here = Roofline(arithmetic.flops_per_s, reading.bytes_per_s)
print(f"{reading.library} on {reading.device}")
print(f"memory      {here.bytes_per_s / 1e9:8.1f} GB/s")
print(f"arithmetic  {here.peak_flops_per_s / 1e9:8.1f} GFLOP/s in fp32")
print(f"ridge point {here.ridge_point:8.1f} FLOP/B")

# %% [markdown]
# ## 5. Reconcile
#
# ### Two measurements predict a dozen
#
# Time one large matrix times a vector, which is nearly all bytes, and one square matrix times another, which is
# nearly all arithmetic. Solve for bandwidth and peak. Then predict other products that were not measured, measure
# them, and compare. All are timed in turns, on the CPU, and each prediction is held against the
# measurement of its own round: a slow minute of this machine hurts both alike
# ([`calibrate.py`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/memory/calibrate.py)).

# %% tags=["nbval-ignore-output"]
from stackkit.memory.calibrate import predict_and_check

report = predict_and_check(rounds=5)
print(report)

# %% [markdown]
# *Predicted* is the upper bound, the sum. A CPU's library first copies blocks of its operands and then multiplies,
# so little overlaps. Most ratios lie near 1. The exceptions are the products with 2, 4 and 8 columns, and they are
# off by a factor, not by a few percent. One column calls a matrix-vector routine, two call a matrix-matrix routine,
# which copies the large matrix into a layout for wide tiles; so few columns do not repay that. The model knows two
# numbers of the machine and nothing of the code. Chapter 6 will open the routine.
#
# The rows of 6,144 x 6,144 hold the finding that serving lives by: **in a large enough batch a request is cheaper
# than alone**, because all share one reading of the weights. A batch of two need not be.

# %%
took = {row.product.n: row.measured_s for row in report.rows[:1]} | {
    row.product.n: row.measured_s
    for row in report.rows
    if row.product.m == row.product.k == 6144
}
print(
    "a request in a batch of 64 costs less than half of one alone:",
    took[64] / 64 < took[1] / 2,
)
print(
    "no product beats its lower bound by a factor of two:",
    all(row.measured_s > row.lower_s / 2 for row in report.rows),
)
print(
    "half of the predictions are within a third:",
    report.median_error < 1 / 3,
)

# %% tags=["nbval-ignore-output"]
from stackkit.memory.figures import roofline_figure

figure = roofline_figure(
    {"from two measurements": report.roofline},
    measured={
        f"{row.product.n} columns": (
            row.product.flops / row.product.bytes,
            row.product.flops / row.measured_s,
        )
        for row in report.rows
        if row.product.m == row.product.k == 6144
        and row.product.n in (1, 2, 8, 16, 64, 128)
    },
    intensities=(0.25, 64),
    title="One matrix, more and more columns",
)
show(
    figure,
    caption=(
        "In the stored run one column lies on the slanted roof: it waits "
        "for memory. 128 lie near the flat one. From 2 to 16 the markers "
        "sag below both: there the code is the limit."
    ),
    alt=(
        "Log-log roofline of the machine that ran this lab. Markers for 1, "
        "2, 8, 16, 64 and 128 columns move to the right; the first touches "
        "the bandwidth roof, the last nearly touches the arithmetic roof, "
        "and those between lie well below."
    ),
)

# %% [markdown]
# ### A whole decode step
#
# SmolLM2-135M is a real model that chapter 2 will run. Here are all its matrices in their true shapes, filled with
# random numbers, and one decode step for 1, 16 and 64 requests. The same cost model that says what an H100 does
# takes the roofline of your machine instead.

# %% tags=["nbval-ignore-output"]
from stackkit.core.timing import bench
from stackkit.memory import decode_step

smollm2 = model("smollm2-135m")
random = np.random.default_rng(0)
matrices = [
    random.random(weight.shape, dtype=np.float32)
    for weight in smollm2.weights()
    for _ in range(weight.multiplied)
]
print(f"{len(matrices)} matrices, {sum(m.size for m in matrices):,} weights")
step_s = {}
for batch in (1, 16, 64):
    inputs = {
        m.shape[1]: random.random((m.shape[1], batch), dtype=np.float32)
        for m in matrices
    }
    step_s[batch] = bench(
        lambda: [m @ inputs[m.shape[1]] for m in matrices], min_runs=5
    ).median_s
    cost = decode_step(
        smollm2,
        report.roofline,
        batch=batch,
        context=1,
        weight_dtype="fp32",
    )
    ends = f"{cost.lower_s * 1e3:.1f} to {cost.upper_s * 1e3:.1f} ms"
    print(
        f"{batch:3} requests: predicted {ends},"
        f" measured {step_s[batch] * 1e3:.1f} ms,"
        f" {batch / step_s[batch]:.0f} token/s in all"
    )


# %% [markdown]
# Nothing in the prediction is from this model's run: two products of other shapes gave it. (Attention, norms and
# sampling are not in it; chapter 2 adds them.) Your own predictions:


# %% tags=["nbval-ignore-output"]
def beside(predicted, measured):
    if predicted is None:
        return f"measured {measured:.1f}, no prediction"
    ratio = measured / predicted
    return f"predicted {predicted:g}, measured {measured:.1f}: {ratio:.2f}x"


peak = here.peak_flops_per_s
print("GB/s:          ", beside(my_bandwidth_gb_per_s, here.bytes_per_s / 1e9))
print("memory to cache:", beside(my_latency_ratio, farthest / nearest))
print("GFLOP/s:       ", beside(my_gflop_per_s, peak / 1e9))
print("ms a step:     ", beside(my_step_ms, step_s[1] * 1e3))

# %%
print(
    "64 requests share a step for less than 20 times the price of one:",
    step_s[64] < 20 * step_s[1],
)

# %% [markdown]
# ## 6. Break it
#
# Make the working set small and measure the "memory" again, with one core.

# %% tags=["nbval-ignore-output"]
small = measure_bandwidth(
    "read", working_set_bytes=256 * KIB, device="cpu", threads=1
)
honest = measure_bandwidth("read", device="cpu", threads=1)
for run in (small, honest):
    size = run.working_set_bytes // KIB
    print(f"{size:9,} KiB: {run.bytes_per_s / GIGA:7.1f} GB/s")

# %%
print(
    "from the cache one core reads 1.5 times the memory's speed or more:",
    reads[256 * KIB] > 1.5 * reads[sizes[-1]],
)

# %% [markdown]
# The machine is fine; the question was wrong. The second and every later pass found its data in the
# cache. `measure_bandwidth` therefore takes four times all last caches together, where memory allows, unless you tell
# it otherwise; and so should you.

# %% [markdown]
# ## 7. Exercises
#
# Give each answer in base units (B/s, FLOP/B, token/s) and run the cell. The figures you need are in
# the atlas: `h100.facts` shows what it knows of a chip.
#
# **Exercise 1.** The atlas knows how many data wires an HBM3 stack has and how fast each one runs.
# How many bytes per second does the stack deliver?

# %%
from stackkit.atlas import fact
from stackkit.core.checks import check

print(fact("hbm3.bus_bits"), "at", fact("hbm3.bits_per_s_per_pin"))

stack_bytes_per_s = None
check("memory.stack-bandwidth", stack_bytes_per_s)

# %% tags=["hide-cell"]
# @title Solution of exercise 1
check("memory.stack-bandwidth", 1024 * 6.4e9 / 8)

# %% [markdown]
# **Exercise 2.** What is the ridge point of an H200 in bf16, dense, in FLOP/B?

# %%
ridge_point = None
check("memory.ridge-point", ridge_point)

# %% tags=["hide-cell"]
# @title Solution of exercise 2
h200 = accelerator("h200-sxm")
check(
    "memory.ridge-point",
    h200.peak_flops_per_s["bf16"] / h200.memory_bytes_per_s,
)

# %% [markdown]
# **Exercise 3.** At most how many tokens per second can one H200 make for a single request with Llama 3.1 8B in
# bf16, at `1,024 tokens` of context?

# %%
tokens_per_s = None
check("memory.decode-rate", tokens_per_s)

# %% tags=["hide-cell"]
# @title Solution of exercise 3
least_s, most_s = roofline_of(h200).bounds(step.flops, step.bytes)
print(f"between {1 / most_s:.0f} and {1 / least_s:.0f} token/s")
check("memory.decode-rate", 1 / least_s)


# %% [markdown]
# **Exercise 4.** Write the roofline as a function: FLOP/s that a machine can reach at an intensity in FLOP/B.


# %%
def attainable(peak_flops_per_s, bytes_per_s, intensity):
    return None


check("memory.attainable", attainable)


# %% tags=["hide-cell"]
# @title Solution of exercise 4
def attainable_solution(peak_flops_per_s, bytes_per_s, intensity):
    return min(peak_flops_per_s, intensity * bytes_per_s)


check("memory.attainable", attainable_solution)

# %% [markdown]
# **Exercise 5.** The one to do on paper: Llama 3.1 8B in bf16 on one H200, `32 requests` of `8,192 tokens` each. At
# most how many tokens per second do all of them get together?

# %%
tokens_per_s_of_all = None
check("memory.batch-rate", tokens_per_s_of_all)

# %% tags=["hide-cell"]
# @title Solution of exercise 5
batch = decode_work(model("llama-3.1-8b"), batch=32, context=8192)
least_s, _ = roofline_of(h200).bounds(batch.flops, batch.bytes)
print(f"weights {batch.weight_bytes / 1e9:.1f} GB")
print(f"caches  {batch.kv_bytes / 1e9:.1f} GB")
check("memory.batch-rate", 32 / least_s)

# %% [markdown]
# ## 8. The ledger
#
# What this layer adds to the prompt's bill, on the book's reference: Llama 3.1 70B in bf16 on eight H100s, one
# request alone with `1,024 tokens` of context.

# %%
from stackkit.core.ledger import Entry

large = decode_step(
    model("llama-3.1-70b"), h100, batch=1, context=1024, n_chips=8
)
for quantity, value, unit, low, high in (
    ("weights read", large.weight_bytes, "B", None, None),
    ("KV cache read", large.kv_bytes, "B", None, None),
    ("sent by each chip", large.link_bytes, "B", None, None),
    ("time", large.lower_s, "s", large.lower_s, large.upper_s),
):
    ends = (low or value, high or value)
    print(Entry("memory", quantity, value, unit, "modelled", *ends, "token"))

# %% [markdown]
# The time knows the bytes on the links and not their latency. What others measured of one such sum, and how many there
# are:

# %%
one_sum = fact("nccl-8xh100.all_reduce_16_kib_s")
sums = 2 * model("llama-3.1-70b").n_layers
print(f"{sums} sums of {one_sum} each: {sums * one_sum.value * 1e3:.1f} ms")

# %% [markdown]
# ## 9. In production
#
# - [STREAM](https://www.cs.virginia.edu/stream/) is the meter everyone quotes. It counts the bytes a
#   program asks for, and wants each array at least four times all last-level caches together.
# - [LIKWID](https://github.com/RRZE-HPC/likwid) has load loops written by hand; `make bench` runs ours beside them.
#   [lmbench](https://lmbench.sourceforge.net/) measures latency as you did.
# - NVIDIA's [nvbandwidth](https://github.com/NVIDIA/nvbandwidth) times copies between GPUs and hosts,
#   and within a GPU.
# - Nsight Compute draws a roofline for each kernel of a program.
# - Serving engines choose the batch by this arithmetic: large enough to share the reading of the weights,
#   small enough that the cache of keys and values fits and nobody waits too long.
