"""From logits to the next token.

    p = softmax(logits / temperature), cut to the top k, then to the least set that holds top p
    token = argmax(log p + g),  g_i = -log(-log u_i),  u drawn from (seed, position) alone

The second line is the Gumbel-max trick: it draws i with probability p_i. A draw by running sums
would flip when a sum moves by a rounding error; this one only where two tokens are all but equal.
And because the noise depends on the seed and the place in the text, not on what was drawn before,
a request gives the same text alone, in a batch, or taken up again, as far as its logits agree.
Sources: Maddison et al., arXiv 1411.0030; top p: Holtzman et al., arXiv 1904.09751.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stackkit.frameworks.requests import check_settings


def sample(
    logits: Any,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    position: int = 0,
) -> int:
    """Draw one token.

    Args:
        logits: (V,), a tensor or an array; not modified.
        temperature: 0 takes the likeliest token, whatever ``top_k`` and ``top_p`` say.
        top_k: draw among so many likeliest; None for all.
        top_p: draw among the fewest that hold this probability together; None for all.
        seed: of the request, 0 or more.
        position: of the new token in its text.

    Raises:
        ValueError: when a setting is out of range, or the largest logit is no finite number.
    """
    check_settings(temperature, top_k, top_p)
    if temperature == 0:
        best = int(logits.argmax())  # a NaN where there is one, as in NumPy
        _check_largest(float(logits[best]))
        return best
    p = distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    with np.errstate(divide="ignore"):  # what was cut has log 0, and is never drawn
        return int(np.argmax(np.log(p) + gumbel_noise(len(p), seed, position)))


def distribution(
    logits: Any, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """Probabilities that ``sample`` draws from: (V,) float64, zeros where cut.

    Of tokens as likely as the last one that top k takes, all stay. Temperature 0 puts all on the
    likeliest.

    Raises:
        ValueError: as for ``sample``.
    """
    check_settings(temperature, top_k, top_p)
    if hasattr(logits, "detach"):  # a tensor, of any format, on any device
        logits = logits.detach().float().cpu().numpy()
    x = np.asarray(logits, dtype=np.float64)
    _check_largest(x.max())  # NaN where there is one
    if temperature == 0:
        return (np.arange(len(x)) == x.argmax()).astype(np.float64)
    x = (x - x.max()) / temperature
    if top_k is not None and top_k < len(x):
        x = np.where(x >= np.partition(x, -int(top_k))[-int(top_k)], x, -np.inf)
    p = np.exp(x)
    p /= p.sum()
    if top_p is not None and top_p < 1:
        order = np.argsort(-x, kind="stable")  # by logits: rounding can make p alike
        before = np.cumsum(p[order]) - p[order]  # held by those likelier
        p[order[before > top_p - 1e-12]] = 0  # sums of shares are off by some 1e-16
        p /= p.sum()
    return p


def _check_largest(logit: float) -> None:
    """Others may be minus infinity: a token that must not come."""
    if not np.isfinite(logit):
        raise ValueError(
            f"The largest logit is {logit}, not a finite number: the model's weights or input "
            "are broken."
        )


def gumbel_noise(n: int, seed: int, position: int) -> np.ndarray:
    """(n,) draws of the Gumbel distribution, the same for the same seed and position."""
    return -np.log(-np.log(uniforms(n, seed, position)))


def uniforms(n: int, seed: int, position: int, stream: int = 0) -> np.ndarray:
    """(n,) draws from (0, 1), the same for the same seed, position and stream."""
    # Philox computes the draw from a key and a counter: no state runs along.
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, position, stream]))
    return np.maximum(generator.random(n), np.finfo(np.float64).tiny)
