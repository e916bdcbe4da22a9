"""High-speed memory: why the processor waits.

In reading order: ``wires`` (bandwidth is wires times speed), ``work`` (how much arithmetic and
how many bytes one pass of a model is), ``roofline`` (which of the two takes longer on a chip),
``cost`` (seconds of a pass on one chip or several), ``measure`` (both roofs of the machine you
sit at) and ``figures`` (the roofline, drawn).
"""

from stackkit.memory.cost import Efficiency, StepCost, decode_step, max_batch, prefill
from stackkit.memory.measure import measure_bandwidth, measure_peak_flops
from stackkit.memory.roofline import Roofline, roofline_of
from stackkit.memory.wires import hbm_bytes_per_s
from stackkit.memory.work import Work, decode_work, prefill_work

__all__ = [
    "Efficiency",
    "Roofline",
    "StepCost",
    "Work",
    "decode_step",
    "decode_work",
    "hbm_bytes_per_s",
    "max_batch",
    "measure_bandwidth",
    "measure_peak_flops",
    "prefill",
    "prefill_work",
    "roofline_of",
]
