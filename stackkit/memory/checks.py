"""Exercises of the memory layer; ``check("memory.<name>", answer)`` grades them."""

from __future__ import annotations

from stackkit.atlas import accelerator, memory, model
from stackkit.core.checks import Exercise, Slip, function, number
from stackkit.core.units import BITS_PER_BYTE, GIGA
from stackkit.memory.roofline import Roofline, roofline_of
from stackkit.memory.wires import hbm_bytes_per_s
from stackkit.memory.work import decode_work


def _attainable(peak_flops_per_s: float, bytes_per_s: float, intensity: float) -> float:
    return Roofline(peak_flops_per_s, bytes_per_s).attainable(intensity)


def _stack_bandwidth() -> Exercise:
    hbm3 = memory("hbm3")
    gbit_per_pin = hbm3.bits_per_s_per_pin / GIGA
    right = hbm_bytes_per_s(hbm3.bus_bits, gbit_per_pin)
    return number(
        right,
        "B/s",
        rel=0.01,
        slips=[
            Slip(right * BITS_PER_BYTE, "That is bits per second; a byte is eight of them."),
            Slip(right / GIGA, "The number is right in GB/s; give it in B/s."),
            Slip(2 * right, "The rate per pin already counts both clock edges."),
            Slip(right / hbm3.bus_bits, "That is one wire; the stack has many."),
        ],
    )


def _ridge_point() -> Exercise:
    chip = accelerator("h200-sxm")
    right = roofline_of(chip).ridge_point
    return number(
        right,
        "FLOP/B",
        slips=[
            Slip(2 * right, "You divided the sparse peak; the roofline wants the dense one, half."),
            Slip(1 / right, "Upside down: FLOP/s divided by B/s gives FLOP per byte."),
            Slip(
                right * chip.memory_bytes_per_s / accelerator("h100-sxm").memory_bytes_per_s,
                "That is the H100. The H200 has the same die and faster memory.",
            ),
            Slip(right / BITS_PER_BYTE, "Bandwidth in bits: divide it by eight first."),
        ],
    )


def _decode_rate() -> Exercise:
    chip, llama = accelerator("h200-sxm"), model("llama-3.1-8b")
    step = decode_work(llama, batch=1, context=1024)
    lower_s, _ = roofline_of(chip).bounds(step.flops, step.bytes)
    right = 1 / lower_s
    return number(
        right,
        "token/s",
        rel=0.08,  # with or without the KV cache and the input table, both fair on an envelope
        slips=[
            Slip(right * 2, "One byte a weight? bf16 takes two."),
            Slip(lower_s, "That is seconds per token; tokens per second is its inverse."),
            Slip(
                chip.peak_flops_per_s["bf16"] / step.flops,
                "That is how fast the arithmetic alone could go. Which of the two roofs is lower?",
            ),
            Slip(
                1 / roofline_of(accelerator("h100-sxm")).bounds(step.flops, step.bytes)[0],
                "That is the H100; the question is about the H200.",
            ),
        ],
    )


def _batch_rate() -> Exercise:
    chip, llama = accelerator("h200-sxm"), model("llama-3.1-8b")
    requests, context = 32, 8192
    step = decode_work(llama, batch=requests, context=context)
    bandwidth = chip.memory_bytes_per_s

    def rate(n_bytes: float) -> float:
        return requests * bandwidth / n_bytes

    groups = llama.n_heads / llama.n_kv_heads
    return number(
        rate(step.bytes),
        "token/s",
        rel=0.05,  # the input table counted in or not, both fair on an envelope
        slips=[
            Slip(rate(step.weight_bytes), "And the caches? Each request reads its own."),
            Slip(rate(step.kv_bytes), "And the weights? They are read once a step."),
            Slip(
                rate(step.weight_bytes + groups * step.kv_bytes),
                "The cache has one key and value for each KV head; there are fewer of those "
                "than query heads.",
            ),
            Slip(
                rate(requests * step.weight_bytes + step.kv_bytes),
                "The weights are read once for the whole batch, not once for each request.",
            ),
            Slip(rate(step.bytes) / requests, "That is one request's share; how many share?"),
        ],
    )


EXERCISES: dict[str, Exercise] = {
    "stack-bandwidth": _stack_bandwidth(),
    "ridge-point": _ridge_point(),
    "decode-rate": _decode_rate(),
    "batch-rate": _batch_rate(),
    "attainable": function(
        _attainable,
        cases=[
            (989e12, 3.35e12, 1.0),
            (989e12, 3.35e12, 1e4),
            (70e9, 25e9, 0.25),
            (1e12, 1e12, 1.0),
        ],
        slips=[
            Slip(
                lambda peak, bandwidth, intensity: max(peak, intensity * bandwidth),
                "The lower roof is the one you hit your head on: min, not max.",
            ),
            Slip(
                lambda peak, bandwidth, intensity: intensity * bandwidth,
                "Past the ridge point the memory is no longer the limit: cap it at the peak.",
            ),
            Slip(
                lambda peak, bandwidth, intensity: peak,
                "That is the flat roof alone; at low intensity the memory sets the pace.",
            ),
            Slip(
                lambda peak, bandwidth, intensity: min(peak, bandwidth / max(intensity, 1e-30)),
                "FLOP/B times B/s gives FLOP/s: multiply, do not divide.",
            ),
        ],
    ),
}
