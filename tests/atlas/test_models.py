"""Model shapes: weights counted one matrix at a time, against what the makers publish."""

import pytest

from stackkit.atlas import model, models
from stackkit.atlas.models import ModelSpec

# safetensors metadata of the official repositories on Hugging Face, read in 2024 to 2026.
PUBLISHED_PARAMS = {
    "smollm2-135m": 134_515_008,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
}
NAMES = [m.id for m in models()]


def weights(m: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Llama checkpoint by name, with its shape (out, in)."""
    E, F, D = m.d_model, m.d_ff, m.head_dim
    tensors = {"embed_tokens": (m.vocab_size, E), "norm": (E,)}
    if not m.tied_embeddings:
        tensors["lm_head"] = (m.vocab_size, E)
    for i in range(m.n_layers):
        tensors |= {
            f"{i}.q_proj": (m.n_heads * D, E),
            f"{i}.k_proj": (m.n_kv_heads * D, E),
            f"{i}.v_proj": (m.n_kv_heads * D, E),
            f"{i}.o_proj": (E, m.n_heads * D),
            f"{i}.gate_proj": (F, E),
            f"{i}.up_proj": (F, E),
            f"{i}.down_proj": (E, F),
            f"{i}.input_layernorm": (E,),
            f"{i}.post_attention_layernorm": (E,),
        }
    return tensors


def size(shape: tuple[int, ...]) -> int:
    rows, columns = (*shape, 1)[:2]
    return rows * columns


def shape(**changes) -> ModelSpec:
    """A model of another family or size, for figures that are published of it."""
    whole = {
        "id": "other",
        "name": "Other",
        "n_layers": 32,
        "d_model": 4096,
        "n_heads": 32,
        "n_kv_heads": 32,
        "head_dim": 128,
        "d_ff": 11008,
        "vocab_size": 32000,
        "max_context": 4096,
        "tied_embeddings": False,
        "facts": {},
    }
    return ModelSpec(**whole | changes)


@pytest.fixture(params=NAMES)
def spec(request):
    return model(request.param)


def test_every_model_of_the_atlas_has_a_published_count_here():
    assert set(NAMES) == set(PUBLISHED_PARAMS)


def test_the_parameters_are_those_of_all_tensors(spec):
    assert spec.params() == sum(map(size, weights(spec).values()))


def test_the_parameters_are_those_published(spec):
    assert spec.params() == PUBLISHED_PARAMS[spec.id]


def test_the_published_count_in_the_atlas_is_within_a_thousandth(spec):
    assert spec.facts["published_params"].value == pytest.approx(spec.params(), rel=1e-3)


def test_llama_2_7b_has_6_74_billion_parameters():
    """Touvron et al. 2023, arXiv 2307.09288; 6,738,415,616 in the checkpoint's metadata."""
    assert shape().params() == 6_738_415_616


def test_a_dense_model_uses_all_its_weights(spec):
    assert spec.active_params() == spec.params()


def test_the_matrices_leave_out_norms_and_the_input_table(spec):
    tensors = weights(spec)
    head = tensors.pop("lm_head", tensors["embed_tokens"])  # a tied head multiplies all the same
    tensors.pop("embed_tokens")
    matrices = [shape for shape in tensors.values() if len(shape) == 2]
    assert spec.matmul_params() == sum(map(size, matrices)) + size(head)


def test_tying_the_embeddings_saves_one_table_and_no_work():
    tied, untied = shape(tied_embeddings=True), shape()
    assert untied.params() - tied.params() == 32000 * 4096
    assert tied.matmul_params() == untied.matmul_params()


# Keys and values


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        ("llama-3.1-8b", 131_072),  # future-shock.ai, The Weight of Remembering, 2026: 128 KiB
        ("llama-3.1-405b", 516_096),  # DeepSeek-V3 hardware paper, arXiv 2505.09343, table 1
    ],
)
def test_a_token_of_context_keeps_as_many_bytes_as_published(name, kv_bytes):
    assert model(name).kv_bytes_per_token() == kv_bytes


def test_qwen_2_5_72b_keeps_327_680_bytes_a_token():
    """DeepSeek-V3 hardware paper, arXiv 2505.09343, table 1; its shape from its config.json."""
    qwen = shape(n_layers=80, d_model=8192, n_heads=64, n_kv_heads=8)
    assert qwen.kv_bytes_per_token() == 327_680


def test_opt_13b_keeps_800_kib_a_token():
    """Kwon et al. (PagedAttention), SOSP 2023, section 3: 2 x 5120 x 40 x 2 bytes."""
    opt = shape(n_layers=40, d_model=5120, n_heads=40, n_kv_heads=40)
    assert opt.kv_bytes_per_token() == 2 * 5120 * 40 * 2 == 800 * 1024


def test_the_cache_is_two_vectors_for_each_layer_and_kv_head(spec):
    vectors = [
        (layer, head, kind)
        for layer in range(spec.n_layers)
        for head in range(spec.n_kv_heads)
        for kind in ("key", "value")
    ]
    assert spec.kv_bytes_per_token(1) == len(vectors) * spec.head_dim


def test_query_heads_would_count_four_times_too_many_bytes():
    """The fault of calculators that ignore grouped queries, for Llama-3-8B."""
    llama = model("llama-3.1-8b")
    by_query_heads = 2 * llama.n_layers * llama.n_heads * llama.head_dim * 2
    assert by_query_heads == 4 * llama.kv_bytes_per_token()


def test_half_the_bytes_per_value_is_half_the_cache(spec):
    assert spec.kv_bytes_per_token(1) == spec.kv_bytes_per_token(2) / 2


# Shapes


def test_every_kv_head_serves_as_many_query_heads(spec):
    assert spec.n_heads % spec.n_kv_heads == 0


def test_the_heads_fill_the_model_s_width(spec):
    assert spec.n_heads * spec.head_dim == spec.d_model


def test_an_unknown_model_is_refused_with_near_names():
    with pytest.raises(ValueError, match=r"no 'llama' among .*near it are .*llama-3\.1-8b"):
        model("llama")
