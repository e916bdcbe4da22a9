# %% [markdown]
# # Lab 7: two roofs over your own machine
#
# *You will build* a bandwidth meter and the roofline, *measure* both roofs of the computer in front
# of you, and *break* the measurement in the way that many benchmarks go wrong.
#
# [Open in Colab](https://colab.research.google.com/github/prompt-to-silicon/prompt-to-silicon/blob/main/labs/7-memory.ipynb)
# · goes with [the chapter](../chapters/7-memory.md) · about 40 minutes of yours
#
# Stored run: {run}. Needs NumPy; uses torch when it is there, and a GPU when torch
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
# - How many billion operations on 32-bit numbers can its CPU do in a second? A multiply-add is two.
# - A matrix is multiplied with 1 vector, then with 16 vectors at once. How many times longer does the
#   second take?

# %%
my_bandwidth_gb_per_s = None
my_gflop_per_s = None
my_slowdown_of_16 = None

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
# Now both roofs of this machine, with all its cores (or its GPU). The meter is
# [`stackkit/memory/measure.py`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/memory/measure.py):
# yours, plus warm-up, more repeats and a working set chosen to be larger than the caches.

# %% tags=["nbval-ignore-output"]
from stackkit.memory import measure_bandwidth, measure_peak_flops

reading = measure_bandwidth("read")
arithmetic = measure_peak_flops("fp32")
here = Roofline(arithmetic.flops_per_s, reading.bytes_per_s)
print(f"{reading.library} on {reading.device}")
print(f"memory      {here.bytes_per_s / 1e9:8.1f} GB/s")
print(f"arithmetic  {here.peak_flops_per_s / 1e9:8.1f} GFLOP/s in fp32")
print(f"ridge point {here.ridge_point:8.1f} FLOP/B")

# %% [markdown]
# ### One matrix, more and more vectors
#
# A decode step multiplies each weight matrix with one vector per request. Here is one such matrix, 6,144 by
# 6,144 in fp32, and batches of 1 to 128 requests. NumPy does it on the CPU, so the roofs below are the CPU's
# even when you have a GPU.

# %% tags=["nbval-ignore-output"]
from stackkit.core.timing import bench

n = 6144
batches = [1, 2, 4, 8, 16, 32, 64, 128]
weights = np.ones((n, n), dtype=np.float32)


def measure_roofs():
    return Roofline(
        measure_peak_flops("fp32", device="cpu").flops_per_s,
        measure_bandwidth("read", device="cpu").bytes_per_s,
    )


before = measure_roofs()
measured_s = {}
for batch in batches:
    vectors = np.ones((n, batch), dtype=np.float32)
    measured_s[batch] = bench(lambda: weights @ vectors).median_s
after = measure_roofs()

# A roof is the best that was seen: another program may have been in the way.
cpu = Roofline(
    max(before.peak_flops_per_s, after.peak_flops_per_s),
    max(before.bytes_per_s, after.bytes_per_s),
)


def work_of(batch):
    """(FLOPs, bytes) of the matrix times `batch` vectors, each byte moved once."""
    return 2 * n * n * batch, 4 * (n * n + 2 * n * batch)


# %% [markdown]
# ## 5. Reconcile
#
# Prediction, model and measurement in one table. The model never saw these shapes: it knows two numbers.

# %% tags=["nbval-ignore-output"]
print(
    "batch  intensity    bounds (ms)      measured   measured/least   per request"
)
for batch in batches:
    flops, n_bytes = work_of(batch)
    least_s, most_s = cpu.bounds(flops, n_bytes)
    took_s = measured_s[batch]
    print(
        f"{batch:5d}  {flops / n_bytes:7.1f}  {least_s * 1e3:7.1f} to {most_s * 1e3:6.1f}"
        f"  {took_s * 1e3:10.1f} ms  {took_s / least_s:10.1f}  {took_s / batch * 1e3:12.2f} ms"
    )


def beside(predicted, measured):
    if predicted is None:
        return f"measured {measured:.1f}, no prediction"
    ratio = measured / predicted
    return f"predicted {predicted:g}, measured {measured:.1f}: {ratio:.2f}x"


print()
print("bandwidth:      ", beside(my_bandwidth_gb_per_s, cpu.bytes_per_s / 1e9))
print("arithmetic:     ", beside(my_gflop_per_s, cpu.peak_flops_per_s / 1e9))
print(
    "16 vectors to 1:",
    beside(my_slowdown_of_16, measured_s[16] / measured_s[1]),
)

# %% [markdown]
# Read the column *measured/least*. At batch 1 and at batch 128 the model is close: one waits for
# memory, the other for arithmetic, and nothing else matters much. In between it is too hopeful, most
# of all for small batches: in the stored run one pass of two takes longer than two passes of one.
# One vector calls a matrix-vector routine, two call a matrix-matrix routine. That one usually first
# copies blocks of the matrix into a layout for wide tiles, and two columns do not repay the copy. The
# model knows two numbers of the machine and nothing of the code. Chapter 6 will open the routine.
#
# Even so, the last column holds the finding of this lab: **in a large enough batch a request is
# cheaper than alone**, because all share one reading of the weights. A batch of two need not be.

# %%
each = {batch: measured_s[batch] / batch for batch in batches}
print(
    "a request in a batch of 64 costs less than half of one alone:",
    each[64] < each[1] / 2,
)
least = {batch: cpu.bounds(*work_of(batch))[0] for batch in batches}
print(
    "no pass beats its bound by a factor of two:",
    all(measured_s[b] > least[b] / 2 for b in batches),
)

# %% tags=["nbval-ignore-output"]
from stackkit.core.figures import show
from stackkit.memory.figures import roofline_figure

figure = roofline_figure(
    {"both roofs of this machine, measured": cpu},
    measured={
        f"batch {batch}": (
            np.divide(*work_of(batch)),
            work_of(batch)[0] / measured_s[batch],
        )
        for batch in (1, 4, 16, 64)
    },
    intensities=(0.25, 64),
    title="One matrix, four batches",
)
show(
    figure,
    caption=(
        "In the stored run batch 1 lies on the slanted roof: it waits for "
        "memory. Batch 64 lies near the flat one. Between them the markers sag "
        "below both roofs: there the code is the limit."
    ),
    alt=(
        "Log-log roofline of the machine that ran this lab. Markers for "
        "batches 1, 4, 16 and 64 move to the right and up; in the stored run "
        "the first touches the bandwidth roof, the last nearly touches the "
        "arithmetic roof, and the two between lie well below."
    ),
)

# %% [markdown]
# ## 6. Break it
#
# Make the working set small and measure the "memory" again, with one core.

# %% tags=["nbval-ignore-output"]
from stackkit.core.figures import (
    DASHES,
    PALETTE,
    log_ticks,
    new_figure,
    rounded,
)
from stackkit.core.units import GIGA, KIB, MIB

largest_cache = max(card().cache_bytes.values(), default=8 * MIB)
sizes = [256 * KIB]
while sizes[-1] < max(256 * MIB, 4 * largest_cache):
    sizes.append(2 * sizes[-1])
curve = [
    measure_bandwidth(
        "read",
        working_set_bytes=size,
        device="cpu",
        threads=1,
        min_total_s=0.1,
    ).bytes_per_s
    for size in sizes
]
figure = new_figure(
    "Read bandwidth against working set",
    "working set (MiB)",
    "read (GB/s)",
    log="x",
)
figure.add_scatter(
    x=rounded(size / MIB for size in sizes),
    y=rounded(speed / GIGA for speed in curve),
    mode="markers",
    name="measured",
    marker={"color": PALETTE[0], "size": 9},
)
figure.update_xaxes(log_ticks(sizes[0] / MIB, sizes[-1] / MIB))
# What the system says of its caches: upright lines.
for name, size in card().cache_bytes.items():
    if size >= sizes[0]:
        figure.add_scatter(
            x=[size / MIB] * 2,
            y=[0, round(max(curve) / GIGA)],
            mode="lines",
            name=f"size of {name}",
            line={"color": "#808890", "dash": DASHES[int(name[1:])]},
        )
show(
    figure,
    caption=(
        "One core. While the data fit a cache, the meter reads several times "
        "the memory's speed: a benchmark with small arrays measures the cache."
    ),
    alt=(
        "Measured read bandwidth of one core over working sets from 256 KiB "
        "to past every cache. It is high while the data fit the last cache and falls to "
        "a plateau, the memory's speed, once they do not."
    ),
)

# %%
inside = [size <= max(largest_cache / 4, sizes[0]) for size in sizes]
cached = [speed for speed, fits in zip(curve, inside, strict=True) if fits]
print(
    "inside the cache the meter shows 1.5 times the memory's speed or more:",
    median(cached) > 1.5 * curve[-1],
)

# %% [markdown]
# The machine is fine; the question was wrong. The second and every later pass found its data in the
# cache. `measure_bandwidth` therefore takes at least four times the largest cache unless you tell it
# otherwise, and so should you.

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
# ## 8. The ledger
#
# What this layer adds to the prompt's bill, on the book's reference: Llama 3.1 70B in bf16 on eight H100s, one
# request alone with `1,024 tokens` of context.

# %%
from stackkit.core.ledger import Entry

large = decode_work(model("llama-3.1-70b"), batch=1, context=1024)
eight = Roofline(
    8 * h100.peak_flops_per_s["bf16"], 8 * h100.memory_bytes_per_s
)
least_s, most_s = eight.bounds(large.flops, large.bytes)
for quantity, value, unit, low, high in (
    (
        "weights read",
        large.weight_bytes,
        "B",
        large.weight_bytes,
        large.weight_bytes,
    ),
    ("KV cache read", large.kv_bytes, "B", large.kv_bytes, large.kv_bytes),
    ("time, links not counted", least_s, "s", least_s, most_s),
):
    print(
        Entry("memory", quantity, value, unit, "modelled", low, high, "token")
    )

# %% [markdown]
# ## 9. In production
#
# - [STREAM](https://www.cs.virginia.edu/stream/) is the meter everyone quotes. It counts the bytes a
#   program asks for, and wants each array at least four times all last-level caches together.
# - NVIDIA's [nvbandwidth](https://github.com/NVIDIA/nvbandwidth) times copies between GPUs and hosts,
#   and within a GPU.
# - Nsight Compute draws a roofline for each kernel of a program.
# - Serving engines choose the batch by this arithmetic: large enough to share the reading of the weights,
#   small enough that the cache of keys and values fits and nobody waits too long.
