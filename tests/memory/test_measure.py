"""Measuring both roofs: what is counted and what is refused. No test looks at a speed."""

import importlib.util
import math

import pytest

from stackkit.core.machine import MachineCard
from stackkit.core.timing import Timing
from stackkit.core.units import GIB, MIB
from stackkit.memory import measure
from stackkit.memory.measure import BandwidthRun, PeakRun, measure_bandwidth, measure_peak_flops

SMALL = 12_000  # bytes; a multiple of 4, 8 and 12
ONCE = {"device": "cpu", "min_total_s": 0.0}
TWO_SECONDS = Timing(2.0, 1.0, 3.0, 7)


def needs_torch():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed here.")


@pytest.fixture(params=["torch", "numba", "numpy"])
def library(request, missing):
    """The measurement's library: torch and numba where they are installed, and NumPy always."""
    preferred = ["torch", "numba", "numpy"]
    pytest.importorskip(request.param, reason=f"{request.param} is not installed here.")
    missing(*preferred[: preferred.index(request.param)])
    return request.param


# What is counted


@pytest.mark.parametrize(("kernel", "streams"), [("read", 1), ("copy", 2)])
def test_a_kernel_counts_what_it_reads_and_what_it_writes(library, kernel, streams):
    """STREAM: a copy of n floats reads 4 n bytes and writes as many."""
    run = measure_bandwidth(kernel, working_set_bytes=SMALL, **ONCE)
    floats = SMALL // (4 * streams)  # in each array
    assert run.bytes_moved == streams * 4 * floats
    assert run.working_set_bytes == SMALL


def test_triad_counts_two_reads_and_a_write(library):
    if library == "numpy":
        pytest.skip("NumPy has no triad.")
    run = measure_bandwidth("triad", working_set_bytes=SMALL, **ONCE)
    assert run.bytes_moved == 3 * 4 * (SMALL // 12)


def test_the_working_set_is_never_more_than_asked():
    run = measure_bandwidth("copy", working_set_bytes=SMALL + 7, **ONCE)
    assert run.working_set_bytes == SMALL


def test_a_bandwidth_is_a_positive_number(library):
    run = measure_bandwidth("copy", working_set_bytes=SMALL, **ONCE)
    assert 0 < run.bytes_per_s < math.inf


def test_a_run_says_what_it_ran_on(library):
    run = measure_bandwidth("copy", working_set_bytes=SMALL, **ONCE)
    assert (run.kernel, run.device, run.library) == ("copy", "cpu", library)


def test_a_peak_is_a_positive_number(library):
    run = measure_peak_flops("fp32", n=17, **ONCE)
    assert 0 < run.flops_per_s < math.inf
    used = "torch" if library == "torch" else "numpy"  # which multiplies with BLAS
    assert (run.n, run.dtype, run.device, run.library) == (17, "fp32", "cpu", used)


def test_what_is_fetched_before_it_is_overwritten_is_stated():
    """STREAM's rule: a write-allocating cache moves 3 parts for a copy's 2, 4 for a triad's 3."""
    moved = {"read": 1.0, "copy": 3 / 2, "triad": 4 / 3}
    for kernel, factor in moved.items():
        run = BandwidthRun(kernel, 120, 120, "cpu", "numpy", TWO_SECONDS)
        assert run.write_allocate_bytes_per_s == pytest.approx(factor * run.bytes_per_s)


def test_bandwidth_is_bytes_by_the_median_time():
    assert BandwidthRun("copy", 80, 80, "cpu", "numpy", TWO_SECONDS).bytes_per_s == 40


def test_a_square_matmul_is_two_n_cubed_flops():
    """n^2 dot products of n multiplies and n adds."""
    n = 3
    flops = sum(2 for _row in range(n) for _column in range(n) for _k in range(n))
    assert PeakRun(n, "fp32", "cpu", "numpy", TWO_SECONDS).flops_per_s == flops / 2.0


def test_a_size_given_in_decimal_units_is_accepted():
    """``working_set_bytes=64 * MEGA`` is what a reader writes; MEGA is a float."""
    assert measure_bandwidth("copy", working_set_bytes=12e3, **ONCE).working_set_bytes == 12_000


# The default working set


def a_machine(monkeypatch, *, caches_bytes, memory_bytes):
    card = MachineCard("A chip", 2, {}, memory_bytes, None, "3.11", None, None, caches_bytes)
    monkeypatch.setattr(measure, "card", lambda: card)


def test_the_default_is_past_every_cache(monkeypatch):
    a_machine(monkeypatch, caches_bytes=512 * MIB, memory_bytes=512 * GIB)
    assert measure.default_working_set() == 4 * 512 * MIB


def test_the_default_is_at_least_256_mib(monkeypatch):
    a_machine(monkeypatch, caches_bytes=MIB, memory_bytes=512 * GIB)
    assert measure.default_working_set() == 256 * MIB


def test_the_default_leaves_a_small_machine_its_memory(monkeypatch):
    a_machine(monkeypatch, caches_bytes=MIB, memory_bytes=1 * GIB)
    assert measure.default_working_set() == 128 * MIB


@pytest.mark.parametrize(("free_bytes", "wanted"), [(78 * GIB, 4 * GIB), (2 * GIB, GIB // 2)])
def test_the_default_on_a_gpu_knows_the_gpu_and_not_the_host(monkeypatch, free_bytes, wanted):
    torch = pytest.importorskip("torch", reason="torch is not installed here.")
    a_machine(monkeypatch, caches_bytes=512 * MIB, memory_bytes=1 * GIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_bytes, 80 * GIB))
    assert measure.default_working_set("cuda") == wanted


def test_an_unknown_machine_has_a_default_too(monkeypatch):
    a_machine(monkeypatch, caches_bytes=None, memory_bytes=None)
    assert measure.default_working_set() == 256 * MIB


# Refusals


def test_an_unknown_kernel_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="one of read, copy, triad; got 'scale'"):
        measure_bandwidth("scale")


def test_a_tiny_working_set_is_refused():
    with pytest.raises(ValueError, match="working_set_bytes must be 1024 or more; got 1023"):
        measure_bandwidth("copy", working_set_bytes=1023, device="cpu")


@pytest.mark.parametrize("size", [math.nan, math.inf])
def test_a_working_set_that_is_no_size_is_refused(size):
    with pytest.raises(ValueError, match=f"1024 or more; got {size}"):
        measure_bandwidth("copy", working_set_bytes=size, device="cpu")


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda'; got 'tpu'"):
        measure_bandwidth("copy", device="tpu")


def test_cuda_without_torch_is_refused_with_a_way_out(without_torch):
    with pytest.raises(ValueError, match=r"No CUDA device is ready.*Use device='cpu'"):
        measure_bandwidth("copy", device="cuda")


def test_cuda_without_a_gpu_is_refused_with_a_way_out(monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed here.")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"torch finds none\. Use device='cpu'"):
        measure_peak_flops(device="cuda")


def test_without_torch_the_device_is_the_cpu(without_torch):
    assert measure._device(None) == "cpu"


def test_triad_with_numpy_alone_is_refused_with_the_command(missing):
    missing("torch", "numba")
    with pytest.raises(ValueError, match=r'triad needs numba: pip install "numba>=0\.60"'):
        measure_bandwidth("triad", working_set_bytes=SMALL, device="cpu")


def test_a_format_that_numpy_lacks_is_refused_with_those_it_has(without_torch):
    pytest.importorskip("numpy")
    with pytest.raises(ValueError, match="Cannot measure 'bf16'; use one of fp64, fp32"):
        measure_peak_flops("bf16", n=3, device="cpu")


def test_a_format_that_torch_lacks_is_refused_with_those_it_has():
    needs_torch()
    with pytest.raises(ValueError, match=r"Cannot measure 'int4'; use one of .*bf16"):
        measure_peak_flops("int4", n=3, device="cpu")


def test_a_matrix_without_rows_is_refused():
    with pytest.raises(ValueError, match="n must be 1 or more; got 0"):
        measure_peak_flops(n=0, device="cpu")


@pytest.mark.parametrize("threads", [0, -2])
def test_no_threads_are_refused(threads):
    with pytest.raises(ValueError, match=f"threads must be 1 or more; got {threads}"):
        measure_bandwidth("read", threads=threads)


def test_torch_gets_its_threads_back():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    before = torch.get_num_threads()
    measure_bandwidth("read", working_set_bytes=MIB, device="cpu", threads=1, min_total_s=0.0)
    assert torch.get_num_threads() == before
