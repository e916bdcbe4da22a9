"""A model that counts can be made on by hand."""

from stackkit.atlas.models import ModelSpec

# Small and awkward: no two sizes alike, so that none can stand in for another.
TINY = ModelSpec(
    id="tiny",
    name="Tiny",
    n_layers=2,
    d_model=10,
    n_heads=6,
    n_kv_heads=3,
    head_dim=4,
    d_ff=7,
    vocab_size=11,
    max_context=64,
    tied_embeddings=False,
    facts={},
)
