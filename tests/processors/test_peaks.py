"""Peaks and shares of them, against printed peaks and against published training runs."""

import math

import pytest

from stackkit.atlas import accelerator, accelerators, fact
from stackkit.core.units import MEGA, TERA
from stackkit.processors.peaks import (
    mfu,
    peak_flops_per_s,
    per_mm2,
    per_watt,
    simd_flops_per_s,
    training_flops_per_token,
)

# Peaks


def test_a_multiply_add_counts_twice():
    assert peak_flops_per_s(1, 1, 1) == 2


def test_the_first_tpu_does_92_trillion_operations():
    """Jouppi et al., ISCA 2017: one array of 256 x 256 at 700 MHz."""
    rows, clock_hz = fact("tpu-v1.array_rows").value, fact("tpu-v1.clock_hz").value
    printed = fact("tpu-v1.peak_int8_dense_ops_per_s").value
    assert peak_flops_per_s(clock_hz, 1, rows**2) == pytest.approx(printed, rel=0.005)


@pytest.mark.parametrize(
    ("clock_hz", "units", "fma", "peak"),
    [
        (1530 * MEGA, 640, 4 * 4 * 4, 125 * TERA),  # V100 SXM2 (NVIDIA, Volta whitepaper)
        (940 * MEGA, 4, 128**2, 123 * TERA),  # TPU v3 (Jouppi et al., ISCA 2021)
        (1050 * MEGA, 8, 128**2, 275 * TERA),  # TPU v4 (Jouppi et al., ISCA 2023)
    ],
)
def test_older_peaks_are_clock_times_units(clock_hz, units, fma, peak):
    assert peak_flops_per_s(clock_hz, units, fma) == pytest.approx(peak, rel=0.005)


@pytest.mark.parametrize(
    ("name", "lowest_hz", "highest_hz"),
    [("tpu-v4", 1040e6, 1060e6), ("tpu-v5e", 1450e6, 1550e6), ("tpu-v5p", 1700e6, 1800e6)],
)
def test_the_clock_behind_a_tpu_s_peak_is_a_likely_one(name, lowest_hz, highest_hz):
    """Google prints units and peak. A wrong count of arrays would need half the clock, or twice."""
    facts = accelerator(name).facts
    per_hz = peak_flops_per_s(1, facts["matmul_units"].value, facts["fma_per_clock_per_unit"].value)
    clock_hz = facts["peak_bf16_dense_flops_per_s"].value / per_hz
    assert lowest_hz < clock_hz < highest_hz


def test_a_server_s_vector_peak():
    """Leiserson et al. print 835 GFLOP/s: 18 cores at 2.9 GHz, four doubles, two units."""
    cores = fact("leiserson-matmul.cores").value
    peak = simd_flops_per_s(cores, 2900 * MEGA, lanes=4, fma_units=2)
    assert peak == pytest.approx(835e9, rel=0.001)
    best = 2 * 4096**3 / (fact("leiserson-matmul.python_s").value / 62_806)
    assert best / peak == pytest.approx(0.4045, rel=0.001)


def test_a_fast_kernel_is_below_the_peak_of_its_card():
    """10,752 lanes at 1.8 GHz; the library reaches 60 % of it."""
    peak = peak_flops_per_s(1800 * MEGA, 10_752, 1)
    assert peak == pytest.approx(
        fact("sgemm-cuda-a6000.peak_fp32_dense_flops_per_s").value, rel=1e-3
    )
    assert 0.55 < fact("sgemm-cuda-a6000.cublas_flops_per_s").value / peak < 0.65


@pytest.mark.parametrize("bad", [0, -1, math.inf, math.nan])
def test_an_impossible_part_is_refused(bad):
    with pytest.raises(ValueError, match="clock_hz must be a positive number; got"):
        peak_flops_per_s(bad, 1, 1)
    with pytest.raises(ValueError, match="units must be a positive number; got"):
        peak_flops_per_s(1, bad, 1)
    with pytest.raises(ValueError, match="lanes must be a positive number; got"):
        simd_flops_per_s(1, 1.0, bad, 1)


# The model's work


def test_the_work_of_palm_s_token():
    """Chowdhery et al. 2022, table 22: 3.28 TFLOP, 0.388 and 0.055 for the smaller two."""
    shapes = [(540.35e9, 118, 48), (62.50e9, 64, 32), (8.63e9, 32, 16)]
    printed = [3.28e12, 0.388e12, 0.055e12]
    for (n_params, layers, heads), flops in zip(shapes, printed, strict=True):
        ours = training_flops_per_token(
            n_params, n_layers=layers, attention_dim=heads * 256, context=2048
        )
        assert ours == pytest.approx(flops, rel=0.005)


def test_without_attention_it_is_six_a_parameter():
    assert training_flops_per_token(10) == 60


@pytest.mark.parametrize("name", ["n_layers", "attention_dim", "context"])
def test_a_negative_shape_is_refused(name):
    with pytest.raises(ValueError, match=r"must be zero or more; got"):
        training_flops_per_token(1.0, **{name: -1})


# Shares of the peak


@pytest.mark.parametrize(("attention", "printed"), [(True, 0.462), (False, 0.457)])
def test_palm_s_share(attention, printed):
    """Chowdhery et al. 2022, section 4.1 and appendix B: 6,144 chips, 238.3 thousand tokens/s."""
    shape = {"n_layers": 118, "attention_dim": 48 * 256, "context": 2048} if attention else {}
    flops = fact("palm-540b-training.tokens_per_s").value * training_flops_per_token(
        540.35e9, **shape
    )
    peak = accelerator("tpu-v4").peak_flops_per_s["bf16"]
    chips = fact("palm-540b-training.chips").value
    assert mfu(flops, 1.0, peak, n_chips=chips) == pytest.approx(printed, abs=0.001)


def test_the_atlas_has_palm_s_share_as_printed():
    assert fact("palm-540b-training.mfu").value == 0.462


@pytest.mark.parametrize(("attention", "printed"), [(True, 0.302), (False, 0.297)])
def test_megatron_turing_s_share(attention, printed):
    """PaLM, appendix B: steps of 60.1 s, 1,920 sequences of 2,048, on 2,240 A100."""
    shape = {"n_layers": 105, "attention_dim": 20_480, "context": 2048} if attention else {}
    flops = 1920 * 2048 * training_flops_per_token(530e9, **shape)
    peak = accelerator("a100-sxm-80gb").peak_flops_per_s["bf16"]
    assert mfu(flops, 60.1, peak, n_chips=2240) == pytest.approx(printed, abs=0.001)


@pytest.mark.parametrize(
    ("run", "printed"), [("on_8k", 0.43), ("on_16k", 0.41), ("long_context", 0.38)]
)
def test_llama_3_s_shares_are_the_printed_ones_to_a_point(run, printed):
    """The Llama 3 Herd of Models, table 4. 400 / 989 is 40.4 %; the paper prints 41."""
    flops = fact(f"llama-3-405b-training.flops_per_s_{run}").value
    share = mfu(flops, 1.0, accelerator("h100-sxm").peak_flops_per_s["bf16"])
    assert share == pytest.approx(printed, abs=0.0075)


def test_the_sparse_peak_would_halve_the_share():
    """The fault: 430 over 1,979 is 22 %, and no one printed that."""
    flops = fact("llama-3-405b-training.flops_per_s_on_8k").value
    assert mfu(flops, 1.0, 1978.9 * TERA) < 0.22


def test_no_training_run_beats_the_best_product_of_matrices():
    best = fact("mamf-h100-sxm.flops_per_s").value
    assert fact("llama-3-405b-training.flops_per_s_on_8k").value < best


def test_a_share_above_one_is_refused_with_what_to_look_at():
    with pytest.raises(ValueError, match=r"2\.00 of the peak is more than there is: are all chips"):
        mfu(16.0, 1.0, 1.0, n_chips=8)


@pytest.mark.parametrize("name", ["flops", "seconds", "peak_flops_per_s", "n_chips"])
def test_nothing_has_no_share(name):
    numbers = {"flops": 1.0, "seconds": 1.0, "peak_flops_per_s": 2.0, "n_chips": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be a positive number; got 0"):
        mfu(**numbers)


# Per watt and per square millimetre


def test_an_h100_does_1_4_trillion_for_a_joule():
    """989.4e12 / 700 W and / 814 mm2."""
    chip = accelerator("h100-sxm")
    assert per_watt(chip) == pytest.approx(1.413e12, rel=1e-3)
    assert per_mm2(chip) == pytest.approx(1.2155e12, rel=1e-3)
    assert per_watt(chip, "fp8") == pytest.approx(2 * per_watt(chip), rel=1e-3)


@pytest.mark.parametrize("name", ["b200-sxm", "gb200", "b300-sxm"])
def test_two_dies_have_two_areas(name):
    """TSMC 4N and 4NP are one process refined: transistors lie about as dense as an H100's."""
    chip, before = accelerator(name), accelerator("h100-sxm")
    density, density_before = (
        c.value("transistors") / (c.die_area_mm2 * c.compute_dies) for c in (chip, before)
    )
    assert 1 < density / density_before < 1.4
    assert 1 < per_mm2(chip) / per_mm2(before) < 1.4


def test_what_is_not_published_is_none():
    v5e = accelerator("tpu-v5e")
    assert (per_watt(v5e), per_mm2(v5e)) == (None, None)
    assert per_watt(accelerator("a100-sxm-80gb"), "fp8") is None


@pytest.mark.parametrize(("new", "old"), [("h100-sxm", "a100-sxm-80gb"), ("b200-sxm", "h100-sxm")])
def test_a_generation_does_more_for_a_joule(new, old):
    assert per_watt(accelerator(new)) > per_watt(accelerator(old))


def test_most_chips_have_a_value_for_a_joule():
    assert sum(per_watt(chip) is not None for chip in accelerators()) > 15
