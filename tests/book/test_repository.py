"""One address, one version, and requirements that agree with each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import stackkit
from stackkit.book import REPOSITORY

ROOT = Path(__file__).parents[2]
OWNER, NAME = REPOSITORY.removeprefix("https://github.com/").split("/")
PINNED = {"jupyter-book": "1.0.4.post1", "torch": "2.13.0"}

# The address

# Where a repository may be named: github.com/owner/name, Colab's github/owner/name, raw files.
_ADDRESS = re.compile(
    r"(?P<host>(?:https?://)?(?:www\.)?github\.com|git@github\.com|"
    r"colab\.research\.google\.com/github|raw\.githubusercontent\.com|mybinder\.org/v2/gh)"
    r"[/:](?P<owner>[\w.-]+)/(?P<name>[\w.-]*\w)",
    re.IGNORECASE,
)
_PAGES = re.compile(r"\b(?P<owner>[\w-]+)\.github\.io\b(?:/(?P<name>[\w.-]*\w))?", re.IGNORECASE)


def strange_addresses(text: str) -> list[str]:
    """Addresses that are nearly ours: our owner with another name, or our name elsewhere."""
    found = [match for match in _ADDRESS.finditer(text) if _is_strange(match)]
    found += [match for match in _PAGES.finditer(text) if match["name"] and _is_strange(match)]
    return [match.group() for match in found]


def _is_strange(match: re.Match[str]) -> bool:
    name = match["name"].removesuffix(".git")
    nearly = match["owner"].lower() == OWNER.lower() or name.lower() == NAME.lower()
    if not nearly:
        return False
    host = match.groupdict().get("host", "")
    plain = not host.lower().endswith("github.com") or host == "https://github.com"
    return (match["owner"], name) != (OWNER, NAME) or not plain


def tracked_texts() -> dict[str, str]:
    """Every text file of the repository, also those not yet added, but for ignored ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("This is no git checkout.")
    texts = {}
    for name in done.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path != Path(__file__) and b"\0" not in path.read_bytes()[:4096]:
            texts[name] = path.read_text(encoding="utf-8")
    return texts


def test_every_file_gives_our_address_alike():
    strange = {name: strange_addresses(text) for name, text in tracked_texts().items()}
    assert {name: found for name, found in strange.items() if found} == {}


@pytest.mark.parametrize("name", ["pyproject.toml", "_config.yml", "labs/src/7-memory.py"])
def test_the_search_reads_the_files_that_give_it(name):
    assert f"github.com/{OWNER}/{NAME}" in tracked_texts()[name]


@pytest.mark.parametrize(
    "address",
    [
        f"https://github.com/{OWNER}/{NAME}",
        f"https://github.com/{OWNER}/{NAME}.git",
        f"git+https://github.com/{OWNER}/{NAME}@main",
        f"https://github.com/{OWNER}/{NAME}/blob/main/labs/7-memory.ipynb",
        f"https://colab.research.google.com/github/{OWNER}/{NAME}/blob/main/labs/7-memory.ipynb",
        f"https://{OWNER}.github.io/{NAME}/",
        "https://github.com/NVIDIA/nvbandwidth",
        "https://someone.github.io/something",
    ],
)
def test_our_address_and_those_of_others_are_left_alone(address):
    assert strange_addresses(f"see [this]({address}).") == []


@pytest.mark.parametrize(
    "address",
    [
        f"https://github.com/{OWNER}/course",
        f"https://github.com/somebody/{NAME}",
        f"https://github.com/{OWNER}/{NAME}-labs/blob/main/x.ipynb",
        f"https://github.com/{OWNER.title()}/{NAME}",
        f"http://github.com/{OWNER}/{NAME}",
        f"https://www.github.com/{OWNER}/{NAME}",
        f"git@github.com:{OWNER}/{NAME}.git",
        f"https://colab.research.google.com/github/{OWNER}/labs/blob/main/7-memory.ipynb",
        f"https://raw.githubusercontent.com/somebody/{NAME}/main/x.png",
        f"https://{OWNER}.github.io/course/",
        f"https://mybinder.org/v2/gh/{OWNER}/course/main",
    ],
)
def test_an_address_that_is_nearly_ours_is_found(address):
    assert len(strange_addresses(f"see [this]({address}).")) == 1


def wrong_colab_links(name: str, text: str) -> list[str]:
    """Links to Colab in a lab's script that do not open that lab's notebook."""
    wanted = REPOSITORY.replace("https://github.com", "https://colab.research.google.com/github")
    wanted += f"/blob/main/labs/{name}.ipynb"
    links = re.findall(r"https://colab\.research\.google\.com[^\s)]*", text)
    return [link for link in links if link != wanted] or ([] if links else ["no link to Colab"])


@pytest.mark.parametrize(
    "source", sorted((ROOT / "labs" / "src").glob("*.py")), ids=lambda p: p.stem
)
def test_a_lab_opens_itself_in_colab(source):
    assert wrong_colab_links(source.stem, source.read_text(encoding="utf-8")) == []


def test_a_lab_that_opens_another_in_colab_is_found():
    link = (
        f"https://colab.research.google.com/github/{OWNER}/{NAME}/blob/main/labs/6-processors.ipynb"
    )
    assert wrong_colab_links("7-memory", f"[Open]({link})") == [link]
    assert wrong_colab_links("6-processors", f"[Open]({link})") == []


def test_a_lab_without_a_link_to_colab_is_found():
    assert wrong_colab_links("7-memory", "no link") == ["no link to Colab"]


# The version


def text_of(name: str) -> str:
    if not (ROOT / name).exists():
        pytest.skip(f"There is no {name} yet.")
    return (ROOT / name).read_text(encoding="utf-8")


def newest_version(changelog: str) -> str:
    """The first version with a heading of its own: ``## 0.1.0 - date`` or ``## [0.1.0] - date``."""
    return re.findall(r"^## \[?v?(\d[\w.]*)", changelog, re.MULTILINE)[0]


def test_the_version_is_one_that_pip_understands():
    assert str(Version(stackkit.__version__)) == stackkit.__version__


def test_the_citation_gives_our_version_and_address():
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["version"] == stackkit.__version__
    assert citation["repository-code"] == REPOSITORY


def test_the_changelog_opens_with_our_version():
    assert newest_version(text_of("CHANGELOG.md")) == stackkit.__version__


@pytest.mark.parametrize(
    "heading", ["## 0.2.0 - 2030-01-01", "## [0.2.0] - 2030-01-01", "## 0.2.0"]
)
def test_the_newest_version_stands_first(heading):
    changelog = f"# Changelog\n\n## Unreleased\n\n{heading}\n\n### Added\n\n## 0.1.0 - 2029-01-01\n"
    assert newest_version(changelog) == "0.2.0"


# The requirements


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements() -> list[Requirement]:
    extras = project()["optional-dependencies"].values()
    lines = [*project()["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in lines]


def constraints() -> dict[str, str]:
    """``{"torch": "2.13.0", ...}`` of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def unbounded(wanted: list[Requirement]) -> list[str]:
    """Requirements that have no lower bound, or that name one exact version."""
    return [
        str(requirement)
        for requirement in wanted
        if not any(part.operator == ">=" for part in requirement.specifier)
        or any(part.operator in ("==", "===", "~=") for part in requirement.specifier)
    ]


def unmet(wanted: list[Requirement], pins: dict[str, str]) -> list[str]:
    """Requirements without a pin, or with one that they do not allow."""
    return [
        str(requirement)
        for requirement in wanted
        if (pin := pins.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(pin, prereleases=True)
    ]


def test_a_plain_install_needs_numpy_alone():
    assert [Requirement(line).name for line in project()["dependencies"]] == ["numpy"]


def test_every_requirement_has_a_lower_bound_and_none_is_exact():
    assert unbounded(requirements()) == []


@pytest.mark.parametrize("line", ["torch", "torch<3", "torch==2.13.0", "torch~=2.4", "torch!=2.5"])
def test_a_requirement_without_a_lower_bound_or_with_an_exact_one_is_found(line):
    assert unbounded([Requirement(line), Requirement("numpy>=1.26,<3")]) == [line]


# torch with CUDA asks for one version of triton, torch for CPUs for none: a pin would forbid one.
UNPINNED = {"triton"}


def test_every_requirement_is_pinned_to_a_version_that_it_allows():
    wanted = [found for found in requirements() if found.name not in UNPINNED]
    assert len(wanted) < len(requirements())
    assert unmet(wanted, constraints()) == []


@pytest.mark.parametrize("line", ["torch>=2.14", "torch<2", "triton>=3"])
def test_a_pin_that_is_missing_or_not_allowed_is_found(line):
    assert unmet([Requirement(line), Requirement("torch>=2.4")], {"torch": "2.13.0"}) == [line]


def test_every_constraint_is_an_exact_version():
    assert [name for name, version in constraints().items() if not Version(version)] == []


@pytest.mark.parametrize("name", PINNED)
def test_the_versions_that_the_design_names_are_pinned(name):
    assert constraints()[name] == PINNED[name]


def test_triton_is_not_pinned():
    """Where torch brings it, torch chooses its version; on a CPU nobody wants its 290 MB."""
    assert "triton" not in constraints()


def test_no_constraint_is_given_twice():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    names = [canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)]
    assert len(names) == len(set(names))
