"""Model shapes: weights counted one matrix at a time, against what the makers publish."""

from dataclasses import replace

import pytest

from stackkit.atlas import model, models
from stackkit.atlas.models import ModelSpec

# Exact counts: safetensors metadata of the repositories on Hugging Face, read in 2024 to 2026.
CHECKPOINTS = {
    "gpt2": 124_439_808,
    "llama-2-7b": 6_738_415_616,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-7b": 7_615_616_512,
    "gemma-2-2b": 2_614_341_888,
    "phi-3-mini": 3_821_079_552,
    "smollm2-135m": 134_515_008,
}
NAMES = [m.id for m in models()]
# Names of size that are no counts: how far the count may lie from a table that rounds to them.
ROUNDED_TO_A_NAME = {"opt-13b": 0.02}


def tensors(m: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint by name, one layer after the other, with its shape.

    Written from the layout of the checkpoints, not from ``ModelSpec.weights``.
    """
    E, V = m.d_model, m.vocab_size
    found = {"wte": (V, E)}
    if m.learned_positions:
        found["wpe"] = (m.learned_positions, E)
    if not m.tied_embeddings:
        found["lm_head"] = (V, E)
    for i in range(m.n_layers):
        layer = latent_attention(m) if m.mla else attention(m)
        is_dense = not m.experts or i < m.experts.n_dense_layers
        layer |= mlp(m, "mlp", m.d_ff) if is_dense else expert_layer(m)
        for norm in range(m.norms_per_layer):
            layer |= {f"norm{norm}.weight": (E,)}
            if m.norm_values == 2:
                layer |= {f"norm{norm}.bias": (E,)}
        found |= {f"{i}.{name}": shape for name, shape in layer.items()}
    found["final_norm"] = (m.norm_values * E,)
    return found


def attention(m: ModelSpec) -> dict[str, tuple[int, ...]]:
    E, D = m.d_model, m.head_dim
    out = {"q": m.n_heads * D, "k": m.n_kv_heads * D, "v": m.n_kv_heads * D}
    found = {f"{name}_proj.weight": (rows, E) for name, rows in out.items()}
    if "qkv" in m.biases:
        found |= {f"{name}_proj.bias": (rows,) for name, rows in out.items()}
    found["o_proj.weight"] = (E, m.n_heads * D)
    if "out" in m.biases:
        found["o_proj.bias"] = (E,)
    if m.sinks:
        found["sinks"] = (m.n_heads,)
    return found


def latent_attention(m: ModelSpec) -> dict[str, tuple[int, ...]]:
    """As in DeepSeek-V3's checkpoint."""
    E, H, a = m.d_model, m.n_heads, m.mla
    return {
        "q_a_proj": (a.q_rank, E),
        "q_a_layernorm": (a.q_rank,),
        "q_b_proj": (H * (a.d_nope + a.d_rope), a.q_rank),
        "kv_a_proj_with_mqa": (a.kv_rank + a.d_rope, E),
        "kv_a_layernorm": (a.kv_rank,),
        "kv_b_proj": (H * (a.d_nope + a.d_value), a.kv_rank),
        "o_proj": (E, H * a.d_value),
    }


def mlp(m: ModelSpec, name: str, F: int) -> dict[str, tuple[int, ...]]:
    E = m.d_model
    shapes = {"up": (F, E), "down": (E, F)} | ({"gate": (F, E)} if m.gated else {})
    found = {f"{name}.{part}.weight": shape for part, shape in shapes.items()}
    if "mlp" in m.biases:
        found |= {f"{name}.{part}.bias": shape[:1] for part, shape in shapes.items()}
    return found


def expert_layer(m: ModelSpec) -> dict[str, tuple[int, ...]]:
    x = m.experts
    found = {"router.weight": (x.n_experts, m.d_model)}
    if x.router_bias:
        found["router.bias"] = (x.n_experts,)
    for i in range(x.n_experts):
        found |= mlp(m, f"experts.{i}", x.d_expert)
    for i in range(x.n_shared):
        found |= mlp(m, f"shared.{i}", x.d_expert)
    return found


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


def test_the_parameters_are_those_of_all_tensors(spec):
    assert spec.params() == sum(map(size, tensors(spec).values()))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_parameters_are_those_of_the_checkpoint(name):
    assert model(name).params() == CHECKPOINTS[name]


def test_a_model_whose_checkpoint_is_known_is_counted_exactly(spec):
    known = spec.facts.get("checkpoint_params")
    assert known is None or spec.params() == known.value


def test_any_other_is_within_a_hundredth_of_the_paper_s_table(spec):
    allowed = ROUNDED_TO_A_NAME.get(spec.id, 0.01)
    assert spec.params() == pytest.approx(spec.published_params.value, rel=allowed)


def test_many_checkpoints_are_known():
    """By a document that prints the exact number; a count of our own would be no test."""
    known = [m.facts["checkpoint_params"] for m in models() if "checkpoint_params" in m.facts]
    assert len(known) >= 12
    assert "derived" not in [fact.kind for fact in known]


def test_a_dense_model_uses_all_its_weights(spec):
    assert (spec.active_params() == spec.params()) is (spec.experts is None)


def test_a_mixture_uses_what_its_authors_say(spec):
    """Within 2 %: what Mixtral's authors count, both tables; or what those of gpt-oss do."""
    said = spec.facts.get("published_active_params")
    if said is None:
        return
    counted = (spec.active_params(), spec.matmul_params())
    assert any(count == pytest.approx(said.value, rel=0.02) for count in counted)


def test_there_are_mixtures_to_hold_against_their_authors():
    assert sum("published_active_params" in m.facts for m in models()) >= 3


def test_an_expert_less_is_a_matrix_triple_less():
    mixtral = model("mixtral-8x7b")
    fewer = replace(mixtral, experts=replace(mixtral.experts, n_used=1))
    one_expert = 3 * mixtral.d_model * mixtral.experts.d_expert * mixtral.n_layers
    assert mixtral.active_params() - fewer.active_params() == one_expert
    assert mixtral.params() == fewer.params()


def test_the_matrices_leave_out_norms_biases_and_tables(spec):
    """Of the experts, those that one token goes to; of the tables, the head, also where tied."""
    shapes = tensors(spec)
    routed = [size(s) for name, s in shapes.items() if ".experts." in name and len(s) == 2]
    matrices = [
        size(s)
        for name, s in shapes.items()
        if len(s) == 2 and ".experts." not in name and name not in ("wte", "wpe", "lm_head")
    ]
    used = sum(routed) * spec.experts.n_used // spec.experts.n_experts if spec.experts else 0
    assert spec.matmul_params() == sum(matrices) + used + spec.vocab_size * spec.d_model


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
        ("qwen2.5-72b", 327_680),  # the same table
        ("deepseek-v3", 70_272),  # the same table: 576 values, 61 layers, 2 bytes
        ("opt-13b", 800 * 1024),  # Kwon et al. (PagedAttention), SOSP 2023, section 3: 800 KB
    ],
)
def test_a_token_of_context_keeps_as_many_bytes_as_published(name, kv_bytes):
    assert model(name).kv_bytes_per_token() == kv_bytes


def test_a_cache_is_as_large_as_its_authors_say(spec):
    said = spec.facts.get("published_kv_bytes_per_token")
    assert said is None or spec.kv_bytes_per_token() == pytest.approx(said.value, rel=0.01)


def test_the_cache_is_two_vectors_for_each_layer_and_kv_head(spec):
    if spec.mla:
        one_for_all_heads = spec.mla.kv_rank + spec.mla.d_rope
        assert spec.kv_bytes_per_token(1) == spec.n_layers * one_for_all_heads
        return
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


def test_a_window_keeps_no_more_than_its_tokens():
    """Gemma 2: every other layer looks back 4,096 tokens (arXiv 2408.00118, table 1)."""
    gemma = model("gemma-2-9b")
    short, long = gemma.kv_bytes(4096), gemma.kv_bytes(8192)
    assert short == 4096 * gemma.kv_bytes_per_token()
    assert long == 1.5 * short


def test_without_a_window_a_cache_grows_with_the_context(spec):
    if not spec.n_window_layers:
        assert spec.kv_bytes(1000) == 1000 * spec.kv_bytes_per_token()


# Shapes


def test_every_kv_head_serves_as_many_query_heads(spec):
    assert spec.n_heads % spec.n_kv_heads == 0


WIDER_THAN_THE_MODEL = {"gemma-2-2b", "gemma-2-9b", "gemma-2-27b", "gpt-oss-120b", "gpt-oss-20b"}


def test_the_heads_fill_the_model_s_width_where_the_architecture_says_so(spec):
    if spec.mla is None and spec.id not in WIDER_THAN_THE_MODEL:
        assert spec.n_heads * spec.head_dim == spec.d_model


@pytest.mark.parametrize("name", sorted(WIDER_THAN_THE_MODEL))
def test_some_choose_another_width_for_their_heads(name):
    chosen = model(name)
    assert chosen.n_heads * chosen.head_dim != chosen.d_model


@pytest.mark.parametrize(
    ("name", "attention"),
    [("gpt2", "MHA"), ("llama-3.1-8b", "GQA"), ("deepseek-v3", "MLA"), ("llama-2-7b", "MHA")],
)
def test_a_model_says_how_its_heads_share_keys(name, attention):
    assert model(name).attention == attention


def test_one_kv_head_for_all_is_mqa():
    assert shape(n_kv_heads=1).attention == "MQA"


def test_an_unknown_model_is_refused_with_near_names():
    with pytest.raises(
        ValueError, match=r"no 'llama-8b' among its models; near it are .*llama-3-8b"
    ):
        model("llama-8b")
