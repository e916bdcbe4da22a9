"""How well two measurements predict products, and a whole decode step, that were not measured."""

import numpy as np

from stackkit.atlas import model
from stackkit.core.timing import bench
from stackkit.memory import decode_step
from stackkit.memory.calibrate import Report, predict_and_check

NAME = "Two measurements predict the rest"
GOAL = "median error of unseen products 20 % or less; those that miss it have a reason."
WHY = (
    "Two to eight columns miss by a factor: torch and NumPy then call the matrix-matrix routine, "
    "which first copies blocks of the large operand into a layout for wide tiles, and so few "
    "columns do not repay the copy. The model knows two numbers of the machine and no routine."
)
BATCHES = (1, 16, 64)


def report() -> str:
    """The error table, and every matrix of one decode step of SmolLM2-135M, in NumPy."""
    checked = predict_and_check()
    return f"```text\n{checked}\n```\n\n{WHY}\n\n```text\n{_decode(checked)}\n```"


def _decode(checked: Report) -> str:
    spec = model("smollm2-135m")
    random = np.random.default_rng(0)
    matrices = [
        random.random(weight.shape, dtype=np.float32)
        for weight in spec.weights()
        for _ in range(weight.multiplied)
    ]
    lines = [f"all {len(matrices)} matrices of one step of {spec.name}, fp32, NumPy"]
    for batch in BATCHES:
        x = {w.shape[1]: random.random((w.shape[1], batch), dtype=np.float32) for w in matrices}
        took_s = bench(lambda x=x: [w @ x[w.shape[1]] for w in matrices]).median_s
        cost = decode_step(spec, checked.roofline, batch=batch, context=1, weight_dtype="fp32")
        lines.append(
            f"batch {batch:3d}: predicted {cost.upper_s * 1e3:6.1f} ms, measured "
            f"{took_s * 1e3:6.1f} ms, {took_s / cost.upper_s:.2f}"
        )
    return "\n".join(lines)
