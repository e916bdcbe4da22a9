"""High-speed memory: why the processor waits.

In reading order: ``wires`` (bandwidth is wires times speed), ``work`` (how much arithmetic and
how many bytes one pass of a model is), ``roofline`` (which of the two takes longer on a chip),
``links`` (moving and summing between chips), ``cost`` (seconds of a pass on one chip or several).
Then the machine you sit at: ``measure`` (both its roofs), ``hierarchy`` with its ``loops`` (its
caches), ``calibrate`` (two measurements that predict others). ``figures`` draws.
"""

from stackkit.memory.cost import Efficiency, StepCost, decode_step, max_batch, prefill
from stackkit.memory.links import all_reduce_s, transfer_s
from stackkit.memory.measure import measure_bandwidth, measure_peak_flops
from stackkit.memory.roofline import Roofline, roofline_of
from stackkit.memory.wires import hbm_bytes_per_s
from stackkit.memory.work import Work, decode_work, prefill_work

__all__ = [
    "Efficiency",
    "Roofline",
    "StepCost",
    "Work",
    "all_reduce_s",
    "decode_step",
    "decode_work",
    "hbm_bytes_per_s",
    "max_batch",
    "measure_bandwidth",
    "measure_peak_flops",
    "prefill",
    "prefill_work",
    "roofline_of",
    "transfer_s",
]
