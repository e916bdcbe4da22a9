"""Goodput against load on a simulated H100, for chapter 3: modelled, and the same everywhere."""

NAME = "Goodput against load, simulated"
GOAL = "the curve that chapter 3 shows; a test computes a point of it again."


def report() -> str:
    """Compute and store all points."""
    from stackkit.frameworks.goodput import N_CHATS, PROMISED, RATES, point, store

    points = [point(most, rate) for most in (PROMISED, None) for rate in RATES]
    store(points)
    rows = [
        f"| {p.most or 'as find blocks'} | {p.rate_per_s} | {p.kept:.1%} "
        f"| {p.rate_per_s * p.kept:.1f} |"
        for p in points
    ]
    return "\n".join(
        [
            f"{N_CHATS:,} chats, Llama 3.1 8B on one H100, MLPerf's interactive limits.",
            "",
            "| at once, at most | offered a second | kept both limits | good a second |",
            "|---|---|---|---|",
            *rows,
        ]
    )
