# %% [markdown]
# # Lab 6: a matrix multiply, from the obvious loop up
#
# *You will build* the naive product and a tiled one, *measure* what loop order and tiles are each worth on the computer in
# front of you, count the misses of a cache and the cycles of a systolic array, and *break* the tiles with a bad size.
#
# [Open in Colab](https://colab.research.google.com/github/prompt-to-silicon/prompt-to-silicon/blob/main/labs/6-processors.ipynb)
# · goes with [the chapter](../chapters/6-processors.md) · about 40 minutes of yours
#
# Stored run: {run}. Needs NumPy and numba; uses torch when it is there. The GPU kernel of the ladder is *not yet run on
# a GPU*.

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
# Three loops multiply two square matrices of side `496`, compiled to machine code. Commit yourself before anything runs.
#
# - Swap the two inner loops, change nothing else. How many times faster?
# - Keep the order, but walk the matrices in tiles of `64 x 64`. How many times faster?
# - How many times faster than the three loops in plain Python is this computer's best library?

# %%
my_swap = None
my_tiles = None
my_python_to_best = None

# %% [markdown]
# ## 3. Build
#
# ### The obvious loop
#
# A number of c is a row of a times a column of b. numba compiles the loops as they stand.

# %%
import numpy as np
from numba import njit


@njit
def naive(a, b):
    m, k = a.shape
    n = b.shape[1]
    c = np.zeros((m, n), dtype=np.float32)
    for i in range(m):
        for j in range(n):
            total = np.float32(0)
            for p in range(k):
                total += a[i, p] * b[p, j]
            c[i, j] = total
    return c


# %% [markdown]
# ### The same, tile by tile
#
# Cut the matrices into squares. Of each square of b every number is used for a whole tile of rows before the next
# square is fetched.

# %%
TILE = 64


@njit
def tiled(a, b):
    m, k = a.shape
    n = b.shape[1]
    c = np.zeros((m, n), dtype=np.float32)
    for i0 in range(0, m, TILE):
        for j0 in range(0, n, TILE):
            for p0 in range(0, k, TILE):
                for i in range(i0, min(i0 + TILE, m)):
                    row = a[i, p0 : p0 + TILE]
                    for j in range(j0, min(j0 + TILE, n)):
                        total = c[i, j]
                        for p in range(row.size):
                            total += row[p] * b[p0 + p, j]
                        c[i, j] = total
    return c


# %% [markdown]
# ### The loops swapped
#
# Take one number of a, and a whole row of b. Nothing else changes.


# %%
@njit
def swapped(a, b):
    m, k = a.shape
    n = b.shape[1]
    c = np.zeros((m, n), dtype=np.float32)
    for i in range(m):
        for p in range(k):
            x = a[i, p]
            for j in range(n):
                c[i, j] += x * b[p, j]
    return c


# %% [markdown]
# Before anything is timed it must be right, at sizes that are no multiple of a tile. The judge compares with a
# product in fp64 and allows what rounding of so many numbers explains
# ([`is_close`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/processors/ladder.py)).

# %%
from stackkit.processors import is_close

random = np.random.default_rng(0)


def matrices(m, k, n):
    return (
        random.standard_normal((m, k), dtype=np.float32),
        random.standard_normal((k, n), dtype=np.float32),
    )


for matmul in (naive, tiled, swapped):
    right = []
    for size in ((1, 1, 1), (17, 3, 5), (100, 257, 64)):
        a, b = matrices(*size)
        right.append(is_close(matmul(a, b), a, b))
    print(f"{matmul.__name__}: {right}")

# %% [markdown]
# ## 4. Measure
#
# In turns, so that a slow moment of the machine hurts all alike.

# %% tags=["nbval-ignore-output"]
from stackkit.core.timing import race

a, b = matrices(496, 496, 496)
result = race(
    {
        "swapped": lambda: swapped(a, b),
        "tiled": lambda: tiled(a, b),
        "naive": lambda: naive(a, b),
    },
    rounds=5,
)
print(result)
swap = 1 / result.ratios["swapped"][1]
tiles = 1 / result.ratios["tiled"][1]

# %%
print("swapping two loops is worth 2.5 times or more:", swap > 2.5)
print("tiles of the same order are worth less than the swap:", tiles < swap)

# %% [markdown]
# ### The whole ladder
#
# The library has these and more, one file a rung
# ([`rungs`](https://github.com/prompt-to-silicon/prompt-to-silicon/tree/main/stackkit/processors/rungs)). Climb it: each
# rung is checked, timed, and set against what the roofline of this machine allows in fp32, as measured here: a library that
# found a better moment, or the bf16 rung, can stand above it. `stackkit matmul` does the same in a terminal.

# %% tags=["nbval-ignore-output"]
from stackkit.processors.climb import climb

climbed = climb(512)
print(climbed)

# %% tags=["nbval-ignore-output"]
from stackkit.core.figures import show
from stackkit.processors.figures import climb_figure

show(
    climb_figure(climbed),
    caption=(
        "In the stored run Python's loops lie more than three decades under "
        "the roof of a core. Compiling buys more than one and a half, the "
        "swapped loops one, blocks in registers half a one. No rung waits for "
        "memory at this size: all stand right of the ridge."
    ),
    alt=(
        "Log-log roofline of the machine that ran this lab, for one core "
        "and for all. The rungs stand nearly above each other at 30 to 90 "
        "FLOP per byte: Python lowest, then the compiled naive loops, the "
        "swapped ones, and blocked, threads and the libraries near the "
        "roofs, torch in bf16 above them at 171."
    ),
)

# %%
speed = {step.rung.name: step.flops_per_s for step in climbed.steps}
print("the ladder spans a factor of 100 or more:", climbed.ratio > 100)
print("registers beat the swapped loops:", speed["blocked"] > speed["ikj"])

# %% [markdown]
# ### Where the bytes went
#
# A cache of `32 KiB` as a core has it, played access by access: a line of `64 bytes`, `8 ways`, the least recently used
# line leaves.

# %%
from stackkit.core.units import KIB
from stackkit.processors.caches import Cache, misses, predicted_misses

l1 = Cache(32 * KIB, 64, 8)
side = 240
print("order            misses   formula   accesses a miss")
for name, order, tile in (
    ("ijk", "ijk", None),
    ("ijk, tiles 32", "ijk", 32),
    ("ikj", "ikj", None),
    ("ikj, tiles 32", "ikj", 32),
):
    found = misses(order, side, side, side, l1, tile=tile)
    formula = predicted_misses(order, side, side, side, l1, tile=tile)
    print(
        f"{name:14} {found.misses:9,} {formula:9,.0f}"
        f" {found.accesses / found.misses:10.1f}"
    )

# %% [markdown]
# So tiles do what they promise: a tenth of the misses and less. Why, then, are they worth nothing above, or less? Because a miss
# of the nearest cache costs a dozen cycles, and the naive order's loop is slow for another reason: one number a load, one
# multiply-add an instruction, and a tile makes it shorter. Take that away first, and then the misses are what is left. (The
# race ran at `496`, not at `512`: section 6 says why.)

# %% [markdown]
# ### A grid that multiplies
#
# The TPU's way. Weights lie in the grid, rows stream through, and the cycles are counted one by one.

# %%
from stackkit.processors import SystolicArray

grid = SystolicArray(16, 16)
x, w = matrices(8, 40, 24)
x, w = np.round(4 * x), np.round(4 * w)
run = grid.matmul(x, w, double_buffered=True)
print("exact:", bool((run.result == x @ w).all()))
print(
    f"{run.cycles} cycles, the closed form says",
    grid.cycles(8, 40, 24, double_buffered=True),
)
print(f"multipliers at work: {run.utilisation:.1%}")
# of the chapter's 8 / 16, 40 x 24 fills 5 grids of 6, edges apart,
# and filling and draining take the rest
for rows in (1, 8, 128, 1024):
    share = SystolicArray(128, 128).utilisation(
        rows, 4096, 4096, double_buffered=True
    )
    print(f"{rows:5} rows through a 128 x 128 grid: {share:6.1%}")

# %% [markdown]
# ## 5. Reconcile


# %% tags=["nbval-ignore-output"]
def beside(predicted, measured):
    if predicted is None:
        return f"measured {measured:,.1f}, no prediction"
    ratio = measured / predicted
    return f"predicted {predicted:g}, measured {measured:,.1f}: {ratio:.2f}x"


print("swapping the loops: ", beside(my_swap, swap))
print("tiles, same order:  ", beside(my_tiles, tiles))
print("Python to the best: ", beside(my_python_to_best, climbed.ratio))

# %% [markdown]
# If you said that tiling is what makes a product fast, you are in good company and half right. Tiles decide from which
# memory the numbers come; the order of the loops decides whether they come sixteen at a time. A fast product needs both, and
# registers besides.

# %% [markdown]
# ## 6. Break it
#
# The tiles fit the cache, three times over. Now change the side of the matrices from `240` to `256`, and nothing else.

# %%
for side in (240, 256):
    found = misses("ikj", side, side, side, l1, tile=32)
    formula = predicted_misses("ikj", side, side, side, l1, tile=32)
    print(
        f"side {side}: {found.misses:8,} misses, the formula says {formula:8,.0f}"
    )

# %% [markdown]
# A row of `256` numbers is `1,024 bytes`, so the rows of a tile fall into few of the cache's sets and push each other out,
# while the others stand empty. Put the side back and it is well again. Libraries copy each tile into a panel of their own
# first; a benchmark with powers of two measures this and not the loop. Here is the clock's word on it, for the naive loop, whose
# columns suffer most: nanoseconds for each multiply-add at sides that differ by a few percent.

# %% tags=["nbval-ignore-output"]
from stackkit.core.timing import bench
from stackkit.core.units import NANO

for side in (496, 512, 1000, 1024):
    a, b = matrices(side, side, side)
    seconds = bench(
        lambda: naive(a, b), min_runs=2, min_total_s=0, warmup=0
    ).median_s
    print(f"side {side:5}: {seconds / side**3 / NANO:5.2f} ns")

# %% [markdown]
# And a second break: a kernel that returns rubbish. A judge that asks whether the difference is *larger* than a tolerance
# lets it pass, because a comparison with NaN is always false.

# %%
a, b = matrices(64, 64, 64)
rubbish = np.full((64, 64), np.nan, dtype=np.float32)
careless = not np.any(np.abs(rubbish - a @ b) > 1e-3)
print("a careless judge accepts it:", bool(careless))
print("ours accepts it:", is_close(rubbish, a, b))

# %% [markdown]
# ## 7. Exercises
#
# **Exercise 1.** A B200's tensor cores: `b200.facts` has their clock, their number and the multiply-adds of each in a
# clock. What is its dense bf16 peak in FLOP/s?

# %%
from stackkit.atlas import accelerator
from stackkit.core.checks import check

b200 = accelerator("b200-sxm")
for name in ("boost_clock_hz", "matmul_units", "fma_per_clock_per_unit"):
    print(name, b200.facts[name])

peak_flops_per_s = None
check("processors.peak", peak_flops_per_s)

# %% tags=["hide-cell"]
# @title Solution of exercise 1
check(
    "processors.peak",
    b200.facts["boost_clock_hz"].value
    * b200.facts["matmul_units"].value
    * b200.facts["fma_per_clock_per_unit"].value
    * 2,
)

# %% [markdown]
# **Exercise 2.** Two matrices of `1,024 x 1,024` in fp32 are multiplied, each of the three moved once. How many FLOP per byte?

# %%
flop_per_byte = None
check("processors.intensity", flop_per_byte)

# %% tags=["hide-cell"]
# @title Solution of exercise 2
check("processors.intensity", 2 * 1024**3 / (3 * 1024**2 * 4))

# %% [markdown]
# **Exercise 3.** Write the bytes that a product of side `n` moves with tiles of side `tile` that fit the cache: both operands
# read once for each row or column of tiles, the result written once, fp32.


# %%
def tiled_bytes(n, tile):
    return None


check("processors.tiled-bytes", tiled_bytes)


# %% tags=["hide-cell"]
# @title Solution of exercise 3
def tiled_bytes_solution(n, tile):
    return 4 * (2 * n * n * (n / tile) + n * n)


check("processors.tiled-bytes", tiled_bytes_solution)

# %% [markdown]
# **Exercise 4.** A decode step of `8` requests goes through a grid of `128 x 128` with two sets of weights; the weight matrix is
# `4,096 x 4,096`. Which share of the multipliers works?

# %%
share_at_work = None
check("processors.skinny", share_at_work)

# %% tags=["hide-cell"]
# @title Solution of exercise 4
check("processors.skinny", 8 / 128)

# %% [markdown]
# **Exercise 5.** The 32 threads of a warp go around a loop 1, 2, 3, ... 32 times. Which share of the lanes works, over the whole
# loop?

# %%
share_of_lanes = None
check("processors.lanes", share_of_lanes)

# %% tags=["hide-cell"]
# @title Solution of exercise 5
check("processors.lanes", sum(range(1, 33)) / (32 * 32))

# %% [markdown]
# ## 8. The ledger
#
# What this layer adds to the prompt's bill, on the book's reference: Llama 3.1 70B in bf16, one request alone with
# `1,024 tokens` of context.

# %%
from stackkit.atlas import model
from stackkit.core.ledger import Entry
from stackkit.memory import decode_work

work = decode_work(model("llama-3.1-70b"), batch=1, context=1024)
h100 = accelerator("h100-sxm")
least_s = work.flops / (8 * h100.peak_flops_per_s["bf16"])
for quantity, value, unit in (
    ("arithmetic", work.flops, "FLOP"),
    ("on eight H100s, at their peak", least_s, "s"),
):
    print(
        Entry(
            "processors",
            quantity,
            value,
            unit,
            "modelled",
            value,
            value,
            "token",
        )
    )

# %% [markdown]
# Compare that time with the one in lab 7's ledger: the multipliers are busy for a third of a percent of it.

# %% [markdown]
# ## 9. In production
#
# - [BLIS](https://github.com/flame/blis) is a BLAS library written to be read: its five loops around a micro-kernel are our
#   `blocked` with all sizes as parameters.
# - [CUTLASS](https://github.com/NVIDIA/cutlass) does the same for tensor cores, with copies that run ahead of the arithmetic.
# - [Triton](https://github.com/triton-lang/triton)'s matmul tutorial is our Triton rung, not timed here, with its tile sizes searched for.
# - cuBLAS, MKL and oneDNN choose among hundreds of kernels by shape; when they choose badly, you see it as MFU.
