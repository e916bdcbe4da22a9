"""Every rung multiplies right at awkward sizes, and refuses what is no pair of matrices."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from stackkit.processors.ladder import LADDER, is_close, rung

SIZES = [
    (1, 1, 1),
    (3, 3, 3),
    (17, 17, 17),
    (64, 64, 64),
    (100, 100, 100),
    (257, 257, 257),
    (5, 129, 66),
    (130, 1, 7),
    (2, 1030, 5),
    (1, 300, 1),
]
SLOW = {"python": 300_000, "triton": 2_000_000}  # m n k that a rung still does in a second


def ready(name):
    found = LADDER[name]
    if not found.is_ready:  # importing triton to see would fix how it runs
        pytest.skip(f"{' or '.join(found.needs)} is not installed here.")
    return found


def operands(m, k, n, seed=0):
    random = np.random.default_rng(seed)
    return (
        random.standard_normal((m, k), dtype=np.float32),
        random.standard_normal((k, n), dtype=np.float32),
    )


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", LADDER)
def test_a_rung_equals_the_reference_in_fp64(name, size):
    found = ready(name)
    m, k, n = size
    if m * k * n > SLOW.get(name, np.inf):
        size = (33, 65, 34)  # not a multiple of a tile either
    a, b = operands(*size)
    assert is_close(found.fn(a, b), a, b, found.dtype)


@pytest.mark.parametrize("size", [(1, 1, 1), (16, 16, 16), (33, 65, 34), (40, 7, 96)])
def test_the_triton_tiles_equal_torch_in_the_interpreter(size):
    torch = pytest.importorskip("torch", reason="torch is not installed here.")
    found = ready("triton")
    a, b = operands(*size)
    expected = torch.from_numpy(a) @ torch.from_numpy(b)
    torch.testing.assert_close(torch.from_numpy(found.fn(a, b)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LADDER)
def test_a_rung_takes_operands_that_do_not_lie_straight(name):
    """A transposed view and every second column: right all the same, or the view was ignored."""
    found = ready(name)
    a, b = operands(31, 20, 46)
    assert is_close(found.fn(a.T[:, ::2], b[:16, ::2]), a.T[:, ::2], b[:16, ::2], found.dtype)


@pytest.mark.parametrize("name", LADDER)
def test_a_rung_leaves_its_operands_alone(name):
    found = ready(name)
    a, b = operands(9, 5, 6)
    before = a.copy(), b.copy()
    found.fn(a, b)
    assert (a == before[0]).all()
    assert (b == before[1]).all()


@pytest.mark.parametrize("name", LADDER)
def test_one_nan_spoils_its_row_and_no_other(name):
    found = ready(name)
    a, b = operands(6, 5, 7)
    a[2, 3] = np.nan
    result = found.fn(a, b)
    assert np.isnan(result[2]).all()
    assert np.isfinite(np.delete(result, 2, axis=0)).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork.")
def test_the_threads_of_a_pool_do_not_outlive_a_fork():
    """A child has the pool and none of its threads: it must start others, not wait for those."""
    found = ready("threads")
    code = (
        "import os, signal, numpy as np\n"
        "from stackkit.processors.ladder import LADDER\n"
        "a = np.ones((300, 300), 'f')\n"
        "LADDER['threads'].fn(a, a)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(20)\n"
        "    LADDER['threads'].fn(a, a)\n"
        "    os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    assert found.cores == "all"


# The judge


def test_a_result_of_nan_is_not_close():
    """The fault: ``abs(difference) > tolerance`` is false for NaN."""
    a, b = operands(4, 4, 4)
    assert not is_close(np.full((4, 4), np.nan, dtype=np.float32), a, b)


@pytest.mark.parametrize("k", [1, 64, 1000])
def test_an_error_beyond_rounding_is_found(k):
    a, b = operands(5, k, 5)
    good = (a.astype(np.float64) @ b).astype(np.float32)
    assert is_close(good, a, b)
    spoiled = good.copy()
    spoiled[3, 2] += 3 * (k + 2) * 2.0**-24 * (np.abs(a) @ np.abs(b))[3, 2]
    assert not is_close(spoiled, a, b)


def test_infinite_operands_prove_nothing():
    """With an infinite operand any error is allowed, so rubbish would pass."""
    a, b = np.full((2, 2), np.inf, "f"), np.ones((2, 2), "f")
    assert not is_close(np.zeros((2, 2), "f"), a, b)


def test_a_missing_product_is_found():
    a, b = operands(8, 300, 8)
    assert not is_close(a[:, :-1] @ b[:-1], a, b)


def test_a_transposed_result_is_not_close():
    a, b = operands(8, 8, 8)
    assert not is_close((a @ b).T, a, b)
    a, b = operands(8, 8, 4)
    assert not is_close((a @ b).T, a, b)


def test_rounding_to_bf16_is_too_much_for_fp32_but_not_for_bf16():
    torch = pytest.importorskip("torch", reason="torch is not installed here.")
    a, b = operands(16, 64, 16)
    rounded = (torch.from_numpy(a).bfloat16() @ torch.from_numpy(b).bfloat16()).float().numpy()
    assert is_close(rounded, a, b, "bf16")
    assert not is_close(rounded, a, b, "fp32")


# Refusals


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (
            np.ones((2, 3), "f"),
            np.ones((2, 3), "f"),
            r"as many columns .* got \(2, 3\) and \(2, 3\)",
        ),
        (np.ones(3, "f"), np.ones((3, 1), "f"), r"a must be a matrix .* got \(3,\)"),
        (np.ones((1, 3), "f"), np.ones((3, 0), "f"), r"b must be a matrix .* got \(3, 0\)"),
        (np.ones((1, 3)), np.ones((3, 1), "f"), r"a must be float32; got float64"),
        ([[1.0]], np.ones((1, 1), "f"), "a must be a matrix .* got list"),
    ],
)
def test_what_is_no_pair_of_matrices_is_refused(a, b, said):
    with pytest.raises(ValueError, match=said):
        LADDER["numpy"].fn(a, b)


def test_an_unknown_rung_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match="No rung is named 'fast'; the ladder has python, numpy-rows"
    ):
        rung("fast")


def test_a_missing_package_is_named_with_its_command(missing):
    missing("numba")
    assert not LADDER["ikj"].is_ready
    with pytest.raises(
        ModuleNotFoundError, match=r"'ikj' needs numba.*pip install \"numba>=0\.60\""
    ):
        LADDER["ikj"].fn(*operands(2, 2, 2))


def test_the_ladder_loads_no_rung_before_it_is_climbed():

    code = (
        "import sys, stackkit.processors.ladder;"
        "print([m for m in ('numba', 'torch', 'triton') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flops_are_counted_one_by_one():
    count = sum(2 for _m in range(3) for _n in range(4) for _k in range(5))
    assert LADDER["ikj"].flops(3, 4, 5) == count


def test_every_rung_has_its_file():
    for found in LADDER.values():
        assert importlib.util.find_spec(f"stackkit.processors.rungs.{found.module}")
