"""Between chips: how long to move something, and to sum it over all of them.

    transfer:    seconds = latency + bytes / bandwidth
    all-reduce:  a chip sends 2 (n - 1) / n of the bytes, in 2 (n - 1) steps around a ring

Bandwidth is one direction, of one chip, to all others together. It knows nothing of congestion, or
of switches that do the sum themselves: those send each byte once, and beat the ring by up to 2.
Source: Patarasuk and Yuan, J. Parallel Distrib. Comput. 69(2), 2009; nccl-tests, PERFORMANCE.md.
"""

from __future__ import annotations

import math


def transfer_s(n_bytes: float, one_way_bytes_per_s: float, *, latency_s: float = 0.0) -> float:
    """Seconds to move ``n_bytes`` over a link.

    Raises:
        ValueError: when the bandwidth is not above zero, or bytes or latency are below it.
    """
    if not 0 < one_way_bytes_per_s < math.inf:
        raise ValueError(
            f"A link needs a bandwidth above zero, in B/s; got {one_way_bytes_per_s!r}."
        )
    _check(n_bytes=n_bytes, latency_s=latency_s)
    return latency_s + n_bytes / one_way_bytes_per_s


def all_reduce_s(
    n_bytes: float, n_chips: int, one_way_bytes_per_s: float, *, latency_s: float = 0.0
) -> float:
    """Seconds until each of ``n_chips`` holds the sum of all their ``n_bytes``, as a ring.

    Args:
        n_bytes: of one chip's share of the sum, which is as large as the sum.
        n_chips: that take part.
        one_way_bytes_per_s: of each chip's link, one direction.
        latency_s: of one step to the neighbour.

    Raises:
        ValueError: as ``transfer_s``, or when ``n_chips`` is no whole number of 1 or more.
    """
    _check(latency_s=latency_s)
    sent = all_reduce_bytes(n_bytes, n_chips)
    steps = 2 * (n_chips - 1)
    return steps * latency_s + transfer_s(sent, one_way_bytes_per_s)


def all_reduce_bytes(n_bytes: float, n_chips: int) -> float:
    """Bytes that one chip sends in a ring all-reduce of ``n_bytes``.

    Raises:
        ValueError: when ``n_chips`` is no whole number of 1 or more, or the bytes are negative.
    """
    check_chips(n_chips)
    _check(n_bytes=n_bytes)
    return 2 * (n_chips - 1) / n_chips * n_bytes


def check_chips(n_chips: int) -> None:
    """Refuse what cannot be a number of chips."""
    if not 1 <= n_chips < math.inf or n_chips != int(n_chips):
        raise ValueError(f"n_chips must be a whole number, 1 or more; got {n_chips!r}.")


def _check(**quantities: float) -> None:
    for name, value in quantities.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be zero or more; got {value!r}.")
