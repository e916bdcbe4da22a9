"""GGUF files, written by the package gguf and read back; and files that are broken or foreign."""

import re

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


def test_every_byte_is_a_token(tokenizer):
    assert [tokenizer.token_bytes(id) for id in range(256)] == [bytes([b]) for b in range(256)]


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
        ({"llama.attention.head_count_kv": 3}, "4 query heads cannot share 3 KV heads"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_sentence(llama, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        models.load(llama(change))


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
