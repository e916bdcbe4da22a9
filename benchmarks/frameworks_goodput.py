"""Goodput against load on a simulated H100, for chapter 3: modelled, and the same everywhere."""

from concurrent.futures import ProcessPoolExecutor

NAME = "Goodput against load, simulated"
GOAL = "the curve that chapter 3 shows; a test computes a brief point beside it again."


def report() -> str:
    """Compute and store all points: about a minute each, on all cores."""
    from stackkit.frameworks.goodput import ARRIVALS_S, BRIEF, PROMISED, RATES, point, store

    loads = [(most, rate, ARRIVALS_S) for most in (PROMISED, None) for rate in RATES]
    with ProcessPoolExecutor() as cores:
        points = list(cores.map(point, *zip(*loads, BRIEF, strict=True)))
    store(points)
    rows = [
        f"| {p.most or 'as find blocks'} | {p.rate_per_s} | {p.arrivals_s} s | {p.kept:.1%} "
        f"| {p.rate_per_s * p.kept:.1f} |"
        for p in points
    ]
    return "\n".join(
        [
            "Chats, Llama 3.1 8B on one H100, MLPerf's interactive limits.",
            "",
            "| at once, at most | offered a second | for | kept both limits | good a second |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )
