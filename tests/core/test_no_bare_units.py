"""Powers that stand for a unit are written in ``core/units.py`` and nowhere else."""

import ast
from pathlib import Path

import pytest

import stackkit

PACKAGE = Path(stackkit.__file__).parent
HOME = "core/units.py"
BEFORE_STACKKIT = "book/setup_env.py"  # runs before anything is installed: it can import nothing
LARGE = [10**power for power in (3, 6, 9, 12, 15, 18)]
SMALL = [10.0**-power for power in (3, 6, 9, 12)]

# Not units: an exercise's arguments, where 1e12 FLOP/s and 1e12 B/s make a ridge point of 1.
ALLOWED = {("memory/checks.py", "1e12")}


def bare_units(source: str) -> list[str]:
    """The unit-like powers in a module's code, for example ``["1e9"]`` for ``x / 1e9``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = [node] if isinstance(node, ast.Constant) else []
        if isinstance(node, ast.BinOp) and _is_power(node):
            parts = [node]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
            parts = [side for side in (node.left, node.right) if _is_factor(side)]
        found += [
            ast.get_source_segment(source, part)
            for part in parts
            if not isinstance(part, ast.Constant) or _is_large(part) or part is not node
        ]
    return found


def _is_large(node: ast.Constant) -> bool:
    """1e3 and 1_000_000 are units; an integer 1000 may count anything."""
    kinds = float | int if node.value != LARGE[0] else float
    return isinstance(node.value, kinds) and node.value in LARGE


def _is_factor(node: ast.expr) -> bool:
    """1e-9 is a tolerance until something is multiplied by it; 1024 likewise a count."""
    return isinstance(node, ast.Constant) and (node.value in SMALL or node.value == 1024)


def _is_power(node: ast.BinOp) -> bool:
    if not (isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant)):
        return False
    base, exponent = node.left.value, node.right.value
    if isinstance(node.op, ast.LShift):
        return base == 1 and exponent in (10, 20, 30, 40)
    if isinstance(node.op, ast.Pow):
        return (base == 10 and exponent % 3 == 0) or (base, exponent // 10 * 10) == (2, exponent)
    return False


def modules() -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("module", sorted(modules() - {HOME, BEFORE_STACKKIT}))
def test_a_module_takes_its_units_from_core(module):
    found = bare_units((PACKAGE / module).read_text(encoding="utf-8"))
    assert not [text for text in found if (module, text) not in ALLOWED]


def test_every_allowance_is_still_needed():
    unused = {
        (module, text)
        for module, text in ALLOWED
        if text not in bare_units((PACKAGE / module).read_text(encoding="utf-8"))
    }
    assert not unused


@pytest.mark.parametrize(
    "code",
    [
        "gb = x / 1e9",
        "x = 3.35 * 1e12",
        "million = 1_000_000",
        "x = y * 1e-9",
        "gib = x / 2**30",
        "x = 10**9",
        "mib = x / (1024 * 1024)",
        "mib = 1 << 20",
    ],
)
def test_the_search_finds_a_bare_unit(code):
    assert bare_units(code)


@pytest.mark.parametrize(
    "code",
    [
        "gb = x / GIGA",
        "n = 1000",
        "close = isclose(a, b, rel_tol=1e-6)",
        "size < 1024",
        "flops = 2 * n**3",
        "text = 'x / 1e9'",
    ],
)
def test_the_search_leaves_other_numbers_alone(code):
    assert not bare_units(code)


def test_the_search_reads_the_library():
    assert HOME in modules()
    assert bare_units((PACKAGE / HOME).read_text(encoding="utf-8"))
