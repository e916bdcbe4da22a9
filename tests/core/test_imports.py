"""What an import costs: the analytic core loads the standard library and nothing else."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "torch", "plotly", "matplotlib", "IPython")
ANALYTIC = """
import stackkit
import stackkit.atlas, stackkit.memory, stackkit.memory.checks
from stackkit.core import checks, fact, figures, ledger, machine, timing, units
timing.bench(lambda: sum(range(1000)), min_runs=2, min_total_s=0)
machine.card()
stackkit.memory.roofline_of(stackkit.atlas.accelerator("h100-sxm")).ridge_point
"""


def modules_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after ``code``."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return modules_after(ANALYTIC)


@pytest.mark.parametrize("library", HEAVY)
def test_the_analytic_core_does_not_load(library, loaded):
    assert library not in loaded


def test_importing_stackkit_loads_no_layer():
    code = "import stackkit, sys; print(*[m for m in sys.modules if m.startswith('stackkit.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
