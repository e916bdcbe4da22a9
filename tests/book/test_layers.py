"""Imports go down the stack, and a layer has the same name in five places."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import stackkit
from stackkit.atlas import layers

ROOT = Path(__file__).parents[2]
NOT_LAYERS = {"core", "atlas", "book"}

# Imports


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter, as `make test` runs it."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def contract(kind: str) -> dict:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [found] = [c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == kind]
    return found


CONTRACTS = """\
[tool.importlinter]
root_package = "tower"
include_external_packages = true

[[tool.importlinter.contracts]]
name = "Imports go down the tower"
type = "layers"
containers = ["tower"]
exhaustive = {exhaustive}
layers = ["top", "(missing)", "middle", "ground"]

[[tool.importlinter.contracts]]
name = "The ground needs the standard library alone"
type = "forbidden"
source_modules = ["tower.ground"]
forbidden_modules = ["numpy"]
"""


@pytest.fixture
def tower(tmp_path) -> Path:
    """A package of three layers under the contracts of the same types as ours, with our options."""
    exhaustive = str(contract("layers")["exhaustive"]).lower()
    (tmp_path / "pyproject.toml").write_text(CONTRACTS.format(exhaustive=exhaustive))
    (tmp_path / "tower").mkdir()
    for name, code in {
        "__init__": "",
        "top": "from tower import middle, ground\n",
        "middle": "import tower.ground\n",
        "ground": "import math\n",
    }.items():
        (tmp_path / "tower" / f"{name}.py").write_text(code)
    return tmp_path


def test_our_imports_go_down_the_stack():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_that_go_down_are_allowed(tower):
    done = lint_imports(tower)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "code", ["import tower.top\n", "def late():\n    from tower.top import middle\n"]
)
def test_an_import_that_goes_up_is_refused(code, tower):
    (tower / "tower" / "ground.py").write_text(code)
    done = lint_imports(tower)
    assert done.returncode != 0
    assert "tower.ground is not allowed to import tower.top" in done.stdout


def test_an_import_that_goes_up_by_a_detour_is_refused(tower):
    """Through a module outside the layers' list: such a module must be put on it first."""
    (tower / "tower" / "helper.py").write_text("import tower.top\n")
    (tower / "tower" / "ground.py").write_text("import tower.helper\n")
    assert lint_imports(tower).returncode != 0


def test_a_layer_that_is_not_on_the_list_is_refused(tower):
    (tower / "tower" / "cellar.py").write_text("")
    done = lint_imports(tower)
    assert done.returncode != 0
    assert "cellar" in done.stdout


def test_a_library_where_none_may_be_is_refused(tower):
    (tower / "tower" / "ground.py").write_text("import numpy\n")
    done = lint_imports(tower)
    assert done.returncode != 0
    assert "tower.ground is not allowed to import numpy" in done.stdout


def test_the_contract_lists_the_layers_in_the_order_of_the_atlas():
    listed = [name.strip("()") for name in contract("layers")["layers"]]
    assert [name for name in listed if name in {layer.name for layer in layers()}] == [
        layer.name for layer in layers()
    ]


def test_atlas_and_core_lie_below_every_layer_and_the_book_above():
    listed = contract("layers")["layers"]
    assert listed[0] == "book"
    assert listed[-2:] == ["atlas", "core"]


# One name, five places


def missing_places(root: Path, packages: list[str], numbers: dict[str, int]) -> list[str]:
    """Where a layer's name should stand and does not.

    Args:
        root: the repository.
        packages: the layers that are packages of stackkit.
        numbers: the chapter of each layer that the atlas knows.
    """
    missing = []
    for name in packages:
        if name not in numbers:
            missing.append(f"{name}: a row in layers.toml")
            continue
        page = f"{numbers[name]}-{name}"
        places = (f"chapters/{page}.md", f"labs/{page}.ipynb", f"labs/src/{page}.py")
        missing += [f"{name}: {place}" for place in places if not (root / place).is_file()]
        if not list((root / "tests" / name).glob("test_*.py")):
            missing.append(f"{name}: tests/{name}/test_*.py")
        if f"/{page}\n" not in (root / "_toc.yml").read_text(encoding="utf-8"):
            missing.append(f"{name}: an entry in _toc.yml")
    return missing


def packages_of_layers() -> list[str]:
    found = {package.name for package in pkgutil.iter_modules(stackkit.__path__) if package.ispkg}
    return sorted(found - NOT_LAYERS)


def test_a_layer_has_its_name_in_five_places():
    numbers = {layer.name: layer.number for layer in layers()}
    assert missing_places(ROOT, packages_of_layers(), numbers) == []


def test_the_memory_layer_is_looked_at():
    assert "memory" in packages_of_layers()


@pytest.fixture
def places(tmp_path) -> Path:
    """A repository with one layer, complete."""
    for name in (
        "chapters/7-memory.md",
        "labs/7-memory.ipynb",
        "labs/src/7-memory.py",
        "tests/memory/test_x.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "_toc.yml").write_text("- file: chapters/7-memory\n- file: labs/7-memory\n")
    return tmp_path


def test_a_complete_layer_misses_nothing(places):
    assert missing_places(places, ["memory"], {"memory": 7}) == []


@pytest.mark.parametrize(
    "name",
    ["chapters/7-memory.md", "labs/7-memory.ipynb", "labs/src/7-memory.py"],
)
def test_a_place_where_a_layer_is_missing_is_found(name, places):
    (places / name).unlink()
    assert missing_places(places, ["memory"], {"memory": 7}) == [f"memory: {name}"]


def test_a_layer_without_tests_is_found(places):
    (places / "tests/memory/test_x.py").unlink()
    assert missing_places(places, ["memory"], {"memory": 7}) == ["memory: tests/memory/test_*.py"]


def test_a_layer_with_another_number_is_found(places):
    assert len(missing_places(places, ["memory"], {"memory": 6})) == 4


def test_a_layer_that_the_atlas_does_not_know_is_found(places):
    assert missing_places(places, ["memory"], {}) == ["memory: a row in layers.toml"]


def test_a_layer_that_nobody_can_reach_is_found(places):
    (places / "_toc.yml").write_text("- file: chapters/index\n")
    assert missing_places(places, ["memory"], {"memory": 7}) == ["memory: an entry in _toc.yml"]
