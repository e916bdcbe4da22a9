"""GGUF files, written by the package gguf and read back; and files that are broken or foreign."""

import re
import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")
pytest.importorskip("tokenizers")

from stackkit import models  # noqa: E402
from stackkit.models.gguf_file import read_gguf  # noqa: E402
from stackkit.models.gguf_tokenizer import GGUFTokenizer  # noqa: E402
from stackkit.models.transformer import Config, Transformer  # noqa: E402

TEMPLATE = (
    "{% for message in messages %}<|s|>{{ message['role'] }} {{ message['content'] }}<|e|>"
    "{% endfor %}{% if add_generation_prompt %}<|s|>assistant {% endif %}"
)
KINDS = gguf.GGMLQuantizationType
PACKED = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


def alphabet():
    """GPT-2's characters for the bytes 0 to 255: OpenAI's own way of counting."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)}
    printable |= set(range(ord("®"), ord("ÿ") + 1))
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


TOKENS = [*alphabet(), "11", "ab", "Ġab", "<|s|>", "<|e|>"]
VALUES = {
    "llama.block_count": 2,
    "llama.embedding_length": 32,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.feed_forward_length": 64,
    "llama.context_length": 16,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 5000.0,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.merges": ["1 1", "a b", "Ġ ab"],
    "tokenizer.ggml.token_type": [1] * (len(TOKENS) - 2) + [3, 3],
    "tokenizer.ggml.eos_token_id": len(TOKENS) - 1,
    "tokenizer.chat_template": TEMPLATE,
}
HAVE_DEFAULTS = ("llama.attention.head_count_kv", "llama.rope.freq_base")
IN_LAYER = {
    "attention_norm": gguf.MODEL_TENSOR.ATTN_NORM,
    "attention.query": gguf.MODEL_TENSOR.ATTN_Q,
    "attention.key": gguf.MODEL_TENSOR.ATTN_K,
    "attention.value": gguf.MODEL_TENSOR.ATTN_V,
    "attention.output": gguf.MODEL_TENSOR.ATTN_OUT,
    "feed_forward_norm": gguf.MODEL_TENSOR.FFN_NORM,
    "feed_forward.gate": gguf.MODEL_TENSOR.FFN_GATE,
    "feed_forward.up": gguf.MODEL_TENSOR.FFN_UP,
    "feed_forward.down": gguf.MODEL_TENSOR.FFN_DOWN,
}


def tensors_of(model):
    """Weights under the names that the package gguf has for them."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    found = {
        "token_embd.weight": weights["embed.weight"],
        "output_norm.weight": weights["norm.weight"],
    }
    if not model.config.tied_embeddings:
        found["output.weight"] = weights["head.weight"]
    for i in range(model.config.n_layers):
        for ours, kind in IN_LAYER.items():
            theirs = gguf.TENSOR_NAMES[kind].format(bid=i) + ".weight"
            found[theirs] = weights[f"layers.{i}.{ours}.weight"]
    return found


def made(tied=True):
    torch.manual_seed(0)
    model = Transformer(
        Config(2, 32, 4, 2, 8, 64, len(TOKENS), 16, 5000.0, tied_embeddings=tied)
    ).requires_grad_(False)
    for weight in model.parameters():
        weight.normal_(std=0.4)
    return model.eval()


MODEL = made()
IDS = torch.tensor([[5, 70, 259, 8, 8, 100]])


def write(path, values, tensors, architecture="llama"):
    """A GGUF file; a tensor is an array, or (bytes of rows, kind)."""
    writer = gguf.GGUFWriter(path, architecture)
    add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32}
    add |= {float: writer.add_float32, list: writer.add_array}
    for key, value in values.items():
        add[type(value)](key, value)
    for name, tensor in tensors.items():
        array, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def packed(array, kind):
    return gguf.quants.quantize(array, KINDS[kind]), KINDS[kind]


@pytest.fixture
def llama(tmp_path):
    """``llama({key: value})``: the path of a small Llama; None takes a part away."""

    def make(change=None, tensors=None, architecture="llama", model=MODEL):
        parts = VALUES | (change or {}), tensors_of(model) | (tensors or {})
        kept = [{k: v for k, v in part.items() if v is not None} for part in parts]
        return write(tmp_path / "small.gguf", *kept, architecture=architecture)

    return make


def test_values_of_all_kinds_come_back(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "values.gguf", "llama")
    wanted = {"general.architecture": "llama"}
    for kind, value in (
        *(("uint8", 255), ("int8", -128), ("uint16", 65535), ("int16", -32768)),
        *(("uint32", 2**32 - 1), ("int32", -(2**31)), ("uint64", 2**64 - 1), ("int64", -(2**63))),
        *(("float32", 0.15625), ("float64", 0.1), ("bool", True), ("string", "naïve 🙂\n")),
        *(("array", ["a", "", "é"]), ("array", [-1, 2]), ("array", [0.5, 2.0]), ("bool", False)),
    ):
        key = f"x.{len(wanted)}"
        getattr(writer, f"add_{kind}")(key, value)
        wanted[key] = value
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf(tmp_path / "values.gguf").values
    assert found == wanted
    assert [type(v) for v in found.values()] == [type(v) for v in wanted.values()]


@pytest.mark.parametrize("kind", PACKED)
def test_tensors_equal_gguf_s_own_reading(tmp_path, kind):
    random = np.random.default_rng(0)
    arrays = {f"t{i}": random.normal(size=(3 + i, 64)).astype(np.float32) for i in range(3)}
    path = write(tmp_path / "t.gguf", {}, {n: packed(a, kind) for n, a in arrays.items()})
    file, theirs = read_gguf(path), gguf.GGUFReader(path).tensors
    for name, wanted in zip(arrays, theirs, strict=True):
        found = file.tensor(name)
        assert found.dtype == np.float32
        assert found.shape == arrays[name].shape
        np.testing.assert_array_equal(
            found, gguf.quants.dequantize(wanted.data, wanted.tensor_type).reshape(found.shape)
        )


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("F32", 0), ("F16", 2**-11), ("BF16", 2**-8), ("Q8_0", 0.5 / 127)]
)
def test_unpacked_numbers_are_within_half_a_step_of_what_was_packed(tmp_path, kind, tolerance):
    array = np.random.default_rng(1).uniform(-1, 1, (4, 64)).astype(np.float32)
    found = read_gguf(write(tmp_path / "t.gguf", {}, {"t": packed(array, kind)})).tensor("t")
    # The scale of a block of Q8_0 is itself kept in 16 bits.
    assert np.abs(found - array).max() <= tolerance * (1 + 2**-3)


def test_three_dimensions_keep_their_order(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    file = read_gguf(write(tmp_path / "t.gguf", {}, {"t": array}))
    np.testing.assert_array_equal(file.tensor("t"), array)


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_another_alignment_is_kept_to(tmp_path, alignment):
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_custom_alignment(alignment)
    arrays = [np.full((1, n), n, dtype=np.float32) for n in (3, 5)]
    for array in arrays:
        writer.add_tensor(f"t{array.size}", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(tmp_path / "t.gguf")
    assert all(np.array_equal(file.tensor(f"t{array.size}"), array) for array in arrays)


@pytest.mark.parametrize("tied", [True, False])
def test_a_small_llama_is_loaded_by_its_path_and_gives_the_logits_of_its_weights(llama, tied):
    wanted = made(tied)
    model, _ = models.load(llama(model=wanted))
    assert model.config == wanted.config
    assert (model.head.weight is model.embed.weight) == tied
    torch.testing.assert_close(model(IDS), wanted(IDS))


def test_a_path_may_be_text(llama):
    model, tokenizer = models.load(str(llama()))
    assert model.vocab_size == tokenizer.vocab_size == len(TOKENS)


def test_packed_weights_run_as_their_unpacked_numbers_do(llama):
    tensors = tensors_of(MODEL)
    packed_ones = {n: packed(a, "Q8_0") for n, a in tensors.items() if a.ndim == 2}
    model, _ = models.load(llama(tensors=packed_ones))
    copy = made()
    for name in ("embed.weight", "layers.1.feed_forward.down.weight"):
        near = copy.state_dict()[name]
        assert float((model.state_dict()[name] - near).abs().max()) <= float(near.abs().max()) / 200
    cosine = torch.cosine_similarity(model(IDS).flatten(), copy(IDS).flatten(), dim=0)
    assert float(cosine) > 0.999


def test_what_a_file_does_not_say_is_what_llama_has(llama):
    """As many KV heads as heads, heads that fill the model, a base of 10,000."""
    model = Transformer(Config(2, 32, 4, 4, 8, 64, len(TOKENS), 16))
    silent = dict.fromkeys(HAVE_DEFAULTS)
    assert models.load(llama(silent, model=model))[0].config == model.config


def test_values_that_ask_for_nothing_are_let_pass(llama):
    """Some files write out what every Llama does."""
    silent = {
        "llama.rope.scaling.type": "none",
        "llama.rope.scaling.factor": 1.0,
        "llama.rope.scaling.original_context_length": 2048,
        "llama.rope.scale_linear": 1.0,
        "llama.rope.dimension_count": 8,
        "llama.attention.scale": 0.0,
        "llama.attention.causal": True,
        "llama.attention.sliding_window": 0,
        "llama.attention.key_length": 8,
        "llama.attention.value_length": 8,
        "llama.attention.clamp_kqv": 0.0,
        "llama.logit_scale": 1.0,
        "llama.embedding_scale": 1.0,
        "llama.residual_scale": 1.0,
        "llama.expert_count": 0,
    }
    assert models.load(llama(silent))[0].config == MODEL.config


def test_heads_may_be_longer_than_the_model_divided_by_them(llama):
    model = Transformer(Config(2, 32, 4, 2, 16, 64, len(TOKENS), 16, 5000.0))
    model.requires_grad_(False)
    found, _ = models.load(llama({"llama.attention.key_length": 16}, model=model))
    assert found.config == model.config
    torch.testing.assert_close(found(IDS), model(IDS))


@pytest.mark.parametrize("eps", [1e-5, 1e-6, 1e-10, 2.5e-12])
def test_a_small_epsilon_is_what_the_file_was_given(llama, eps):
    """It is kept in fp32, where 1e-5 is 9.99999975e-06."""
    model, _ = models.load(llama({"llama.attention.layer_norm_rms_epsilon": eps}))
    assert model.config.norm_eps == eps


def test_a_loaded_model_writes(llama):
    model, tokenizer = models.load(llama({"tokenizer.ggml.eos_token_id": None}))
    tokens = list(models.generate(model, tokenizer, "ab 11", max_new_tokens=5))
    assert len(tokens) == 5
    assert all(0 <= token.id < len(TOKENS) for token in tokens)


@pytest.fixture
def tokenizer(llama):
    return GGUFTokenizer(read_gguf(llama()))


@pytest.mark.parametrize("text", ["", "ab ab", "naïve 🙂\n\t 11", "<|s|>user<|e|>", "\x00\x7f\xad"])
def test_any_text_decodes_to_itself(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_merges_and_control_tokens_are_applied(tokenizer):
    pieces = [tokenizer.token_bytes(id) for id in tokenizer.encode("abab ab<|e|>\n")]
    assert pieces == [b"ab", b"ab", b" ab", b"<|e|>", b"\n"]
    assert tokenizer.end_ids == {len(TOKENS) - 1}


def test_the_ends_of_a_turn_and_of_a_message_end_a_text_too(llama):
    ends = {"tokenizer.ggml.eot_token_id": 259, "tokenizer.ggml.eom_token_id": 258}
    assert GGUFTokenizer(read_gguf(llama(ends))).end_ids == {258, 259, 260}


@pytest.mark.parametrize("type", [3, 4])
def test_control_tokens_and_the_user_s_own_are_recognised_whole(llama, type):
    types = {"tokenizer.ggml.token_type": [1] * 259 + [type, 3]}
    assert GGUFTokenizer(read_gguf(llama(types))).encode("<|s|>") == [259]


def test_every_byte_is_a_token(tokenizer):
    assert [tokenizer.token_bytes(id) for id in range(256)] == [bytes([b]) for b in range(256)]


def test_a_token_that_only_fills_a_place_stands_for_itself(llama):
    """Its type says unused, and a space is not in the alphabet; a model may still rate it."""
    tokens = [*TOKENS, "[PAD 1]"]
    types = [*VALUES["tokenizer.ggml.token_type"], 5]
    change = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    tokenizer = GGUFTokenizer(read_gguf(llama(change)))
    assert tokenizer.token_bytes(len(TOKENS)) == b"[PAD 1]"
    assert tokenizer.decode([len(TOKENS), 65]) == "[PAD 1]" + tokenizer.decode([65])


@pytest.mark.parametrize(("cutting", "pieces"), [("smollm", 2), ("gpt-2", 1)])
def test_smollm_keeps_digits_single_where_gpt_2_merges_them(llama, cutting, pieces):
    tokenizer = GGUFTokenizer(read_gguf(llama({"tokenizer.ggml.pre": cutting})))
    assert len(tokenizer.encode("11")) == pieces


def test_a_conversation_is_written_by_the_file_s_template(tokenizer):
    pytest.importorskip("jinja2")
    said = [{"role": "user", "content": "ab"}]
    assert tokenizer.apply_chat_template(said) == "<|s|>user ab<|e|><|s|>assistant "
    whole = tokenizer.apply_chat_template(said, add_generation_prompt=False)
    assert whole == "<|s|>user ab<|e|>"


def written(llama, template, **change):
    pytest.importorskip("jinja2")
    ids = {"tokenizer.chat_template": template, "tokenizer.ggml.bos_token_id": 259} | change
    tokenizer = GGUFTokenizer(read_gguf(llama(ids)))
    return tokenizer.apply_chat_template([{"role": "user", "content": "ab"}])


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<|s|>ab<|e|>"),
        ("{% for m in messages %}{% continue %}{{ m.content }}{% endfor %}.", "."),
        ("{% if tools %}{{ raise_exception('no tools') }}{% endif %}ab", "ab"),
        ("{% if messages[0].tool_calls or date is defined %}{{ date }}{% endif %}ab", "ab"),
        ("{% for m in messages %}\n  {% if m %}\nab\n  {% endif %}\n{% endfor %}", "ab\n"),
    ],
    ids=["named tokens", "loop controls", "tools", "absent names", "trimmed blocks"],
)
def test_a_template_is_given_what_transformers_gives(llama, template, wanted):
    assert written(llama, template) == wanted


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('Start with the user.') }}", r"conversation: Start with the user\."),
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{{ messages[0]['name'] }}", "has no attribute 'name'"),
        ("{% for %}", "cannot write this conversation"),
        ("{{ 1 // 0 }}", "cannot write this conversation: .*zero"),
        ("{{ messages.append(1) }}", "attribute .append. .* is unsafe"),
        ("{{ messages.__class__.__mro__ }}", "attribute .__class__. .* is unsafe"),
    ],
)
def test_a_template_that_fails_says_why(llama, template, words):
    with pytest.raises(ValueError, match=words):
        written(llama, template)


def test_a_token_that_the_file_does_not_name_is_unknown_to_its_template(llama):
    with pytest.raises(ValueError, match="'bos_token' is undefined"):
        written(llama, "{{ bos_token }}", **{"tokenizer.ggml.bos_token_id": None})


def test_a_file_without_a_template_says_so(llama):
    tokenizer = GGUFTokenizer(read_gguf(llama({"tokenizer.chat_template": None})))
    with pytest.raises(ValueError, match="has no chat template"):
        tokenizer.apply_chat_template([])


def test_a_file_cut_anywhere_is_said_to_be_cut_short(llama, tmp_path):
    data, cut = llama().read_bytes(), tmp_path / "cut.gguf"
    for size in (*range(4, 400, 29), *range(400, len(data) - 200, len(data) // 20)):
        cut.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"^cut\.gguf is cut short"):
            models.load(cut)


@pytest.mark.parametrize("start", [b"", b"GGU", b"PK\x03\x04", b"GGML" + bytes(100)])
@pytest.mark.parametrize("size", [0, 1 << 17])
def test_a_file_of_another_kind_is_named_by_its_first_bytes(tmp_path, start, size):
    path = tmp_path / "other.gguf"
    path.write_bytes(start.ljust(size, b"\0"))
    words = f"other.gguf is no GGUF file: it starts with {path.read_bytes()[:4]!r}, not b'GGUF'"
    with pytest.raises(ValueError, match=re.escape(words)):
        models.load(path)


@pytest.mark.parametrize("version", [0, 1, 4, 3 << 24])
def test_another_version_is_refused(llama, version):
    path = llama()
    data = bytearray(path.read_bytes())
    data[4:8] = version.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"version {version}; 2 and 3 can be read"):
        models.load(path)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "none.gguf"
    with pytest.raises(ValueError, match=r"There is no file .*none\.gguf"):
        models.load(path)
    with pytest.raises(FileNotFoundError):
        read_gguf(path)


def test_another_architecture_is_refused(llama):
    with pytest.raises(ValueError, match="architecture 'qwen2'; only 'llama' can be run"):
        models.load(llama(architecture="qwen2"))


@pytest.mark.parametrize(
    "key", [k for k in VALUES if k.startswith("llama.") and k not in HAVE_DEFAULTS]
)
def test_a_missing_value_is_named(llama, key):
    with pytest.raises(ValueError, match=rf"small\.gguf does not say its {key}"):
        models.load(llama({key: None}))


@pytest.mark.parametrize("key", ["tokenizer.ggml.tokens", "tokenizer.ggml.merges"])
def test_a_missing_part_of_the_tokenizer_is_named(llama, key):
    with pytest.raises(ValueError, match=rf"small\.gguf .*{key}"):
        models.load(llama({key: None}))


@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "token_embd.weight"])
def test_a_missing_tensor_is_named(llama, name):
    with pytest.raises(ValueError, match=f"has no tensor '{name}'"):
        models.load(llama(tensors={name: None}))


def test_a_tensor_of_another_shape_is_named(llama):
    wrong = {"blk.0.attn_q.weight": np.zeros((32, 16), dtype=np.float32)}
    with pytest.raises(ValueError, match=r"blk\.0\.attn_q\.weight"):
        models.load(llama(tensors=wrong))


def test_weights_that_the_transformer_has_no_place_for_are_refused(llama):
    """A bias left out would give other text without a word."""
    extra = {"blk.0.attn_q.bias": np.ones(32, dtype=np.float32)}
    with pytest.raises(ValueError, match=r"blk\.0\.attn_q\.bias"):
        models.load(llama(tensors=extra))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokenizer.ggml.model": "llama"}, "has a tokenizer of the kind 'llama'"),
        ({"tokenizer.ggml.model": None}, "has a tokenizer of the kind None"),
        ({"tokenizer.ggml.pre": "qwen2"}, "cut as 'qwen2'; known is 'gpt2' with 'smollm'"),
        ({"llama.expert_count": 8}, "has llama.expert_count, which this transformer does not"),
        ({"llama.rope.scaling.type": "yarn"}, "has llama.rope.scaling.type"),
        ({"llama.rope.scaling.factor": 4.0}, "has llama.rope.scaling.factor"),
        ({"llama.rope.scale_linear": 4.0}, "has llama.rope.scale_linear"),
        ({"llama.rope.dimension_count": 4}, "turns a part of each head"),
        ({"llama.attention.scale": 0.5}, "has llama.attention.scale"),
        ({"llama.attention.scale": 1.0}, "has llama.attention.scale"),
        ({"llama.attention.causal": False}, "has llama.attention.causal"),
        ({"llama.attention.sliding_window": 4}, "has llama.attention.sliding_window"),
        ({"llama.attention.clamp_kqv": 1.0}, "has llama.attention.clamp_kqv"),
        ({"llama.attention.value_length": 4}, "values of another length than keys"),
        ({"llama.logit_scale": 0.1}, "has llama.logit_scale"),
        ({"llama.embedding_scale": 12.0}, "has llama.embedding_scale"),
        ({"llama.residual_scale": 0.2}, "has llama.residual_scale"),
        ({"llama.attention.head_count_kv": 3}, "4 query heads cannot share 3 KV heads"),
        ({"tokenizer.ggml.add_bos_token": True}, "wants a token before each text"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_sentence(llama, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        models.load(llama(change))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("attention.head_count", value) for value in (0, [4, 4], 33)),
        *(("attention.head_count_kv", value) for value in (0, [2, 2])),
        *(("feed_forward_length", value) for value in (0, [64, 64])),
        *(("block_count", value) for value in (0, "two", 2**32 - 1)),
        *(("context_length", value) for value in (0, 2**31)),
        *(("rope.freq_base", value) for value in (0.0, -1.0, float("inf"), "x")),
        *(("attention.layer_norm_rms_epsilon", value) for value in (0.0, float("nan"), "x")),
        ("embedding_length", True),
    ],
)
def test_a_size_that_makes_no_sense_is_named(llama, key, value):
    path = llama({f"llama.{key}": value})
    words = rf"small\.gguf says {re.escape(repr(value))} as its llama\.{key}; a .*number .* needed"
    with pytest.raises(ValueError, match=words):
        models.load(path)


def test_more_layers_than_the_file_has_are_refused_before_they_are_built(llama, monkeypatch):
    monkeypatch.setattr("stackkit.models.transformer.Transformer", None)
    with pytest.raises(ValueError, match=r"has no tensor 'blk\.2\.attn_norm\.weight'"):
        models.load(llama({"llama.block_count": 20}))
    with pytest.raises(ValueError, match="says 2000 as its"):
        models.load(llama({"llama.block_count": 2000}))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tokens", 5, "tokens that is no list of texts"),
        ("tokens", [1, 2], "tokens that is no list of texts"),
        ("merges", "a b", "merges that is no list of texts"),
        ("merges", ["a b", "ab"], "has the merge 'ab'; two tokens that make a third"),
        ("merges", ["a b c"], "has the merge 'a b c'"),
        ("merges", ["a zz"], "has the merge 'a zz'"),
        ("merges", ["b a"], "has the merge 'b a'"),
        ("token_type", [1] * 300 + [3], "no list of 261 numbers"),
        ("token_type", 3, "no list of 261 numbers"),
        ("eos_token_id", 261, "says 261 as its tokenizer.ggml.eos_token_id; an id below 261"),
        ("eot_token_id", "end", "says 'end' as its tokenizer.ggml.eot_token_id"),
    ],
)
def test_lists_of_the_tokenizer_that_do_not_fit_are_named(llama, key, value, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        models.load(llama({f"tokenizer.ggml.{key}": value}))


@pytest.mark.parametrize("alignment", [0, "32"])
def test_an_alignment_that_is_none_is_named(llama, alignment):
    path = llama({"general.alignment": alignment})
    with pytest.raises(ValueError, match=f"says {alignment!r} as its general.alignment"):
        read_gguf(path)


def test_arrays_within_arrays_end_somewhere(tmp_path):
    path, kinds = tmp_path / "deep.gguf", struct.pack("<IQ", 9, 1) * 3000
    head = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 9)
    path.write_bytes(head + kinds)
    with pytest.raises(ValueError, match=r"deep\.gguf nests arrays more than 4 deep"):
        read_gguf(path)


SIZES = {"one": 32, "two": 64}  # numbers in fp32: the second tensor lies at byte 128


@pytest.fixture
def moved(tmp_path):
    """``moved("two", offset=64)``: a file of two tensors, and of one another place or shape."""

    def make(name, **change):
        arrays = {name: np.zeros(size, dtype=np.float32) for name, size in SIZES.items()}
        path = write(tmp_path / "t.gguf", {}, arrays)
        data = bytearray(path.read_bytes())
        at = data.index(struct.pack("<Q", 3) + name.encode()) + 8 + 3
        record = {"n_dims": 1, "size": SIZES[name], "kind": 0, "offset": 128 * (name == "two")}
        struct.pack_into("<IQIQ", data, at, *(record | change).values())
        path.write_bytes(data)
        return path

    return make


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("two", {"offset": 1}, "'two' lies at byte 1, which is no multiple of 32"),
        ("two", {"offset": 0}, "'two' needs 256 bytes, but the next tensor starts after 0"),
        ("two", {"offset": 96}, "'one' needs 128 bytes, but the next tensor starts after 96"),
        ("one", {"size": 64}, "'one' needs 256 bytes, but the next tensor starts after 128"),
        ("two", {"offset": 2**63}, "t.gguf is cut short"),
        ("two", {"size": 2**62}, "t.gguf is cut short"),
        ("one", {"n_dims": 2**32 - 1}, "has 'one' in 4294967295 dimensions"),
        ("two", {"size": 33, "kind": KINDS.Q8_0}, "in rows of 33 numbers; they come in blocks"),
    ],
)
def test_a_tensor_in_a_wrong_place_is_named(moved, name, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        list(map(read_gguf(moved(name, **change)).tensor, SIZES))


def test_two_tensors_of_one_name_are_refused(moved):
    path = moved("two")
    path.write_bytes(path.read_bytes().replace(b"two", b"one"))
    with pytest.raises(ValueError, match=r"t\.gguf has two tensors 'one'"):
        read_gguf(path)


def test_scaled_positions_kept_as_a_tensor_are_refused(llama):
    with pytest.raises(ValueError, match="has scaled positions"):
        models.load(llama(tensors={"rope_freqs.weight": np.ones(4, dtype=np.float32)}))


def test_a_packing_that_gguf_cannot_unpack_is_named(tmp_path):
    rows = np.zeros((1, 292), dtype=np.uint8)
    file = read_gguf(write(tmp_path / "t.gguf", {}, {"t": (rows, KINDS.Q8_K)}))
    with pytest.raises(ValueError, match=r"t\.gguf packs 't' as Q8_K, which gguf cannot unpack"):
        file.tensor("t")


def test_a_packing_that_no_one_knows_is_named(tmp_path):
    path = write(tmp_path / "t.gguf", {}, {"name-of-it": np.zeros((1, 32), dtype=np.float32)})
    data = path.read_bytes()
    kind = data.index(b"name-of-it") + len(b"name-of-it") + 4 + 2 * 8
    path.write_bytes(data[:kind] + (999).to_bytes(4, "little") + data[kind + 4 :])
    with pytest.raises(ValueError, match=r"t\.gguf packs 'name-of-it' as .*999"):
        read_gguf(path).tensor("name-of-it")


def test_a_value_of_an_unknown_type_is_refused(tmp_path):
    path = write(tmp_path / "t.gguf", {"x.key": 7}, {})
    data = path.read_bytes()
    kind = data.index(b"x.key") + len(b"x.key")
    path.write_bytes(data[:kind] + (13).to_bytes(4, "little") + data[kind + 4 :])
    with pytest.raises(ValueError, match=r"t\.gguf has a value of the unknown type 13"):
        read_gguf(path)
