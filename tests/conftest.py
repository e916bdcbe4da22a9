"""What tests of several layers share. Hypothesis knows no deadline here: machines are busy."""

import importlib.util
import os
import shutil

import pytest
from hypothesis import settings

# Triton reads this when it is imported, and torch's optimisers import it before any rung does.
if not shutil.which("nvidia-smi"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("local", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def relative_luminance(colour: str) -> float:
    """Of ``"#rrggbb"``. Source: WCAG 2.2, definition of relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast_ratio(one: str, other: str) -> float:
    """Between 1 and 21. Source: WCAG 2.2, definition of contrast ratio."""
    darker, lighter = sorted((relative_luminance(one), relative_luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.fixture
def contrast():
    """The contrast of two colours, ``contrast("#000000", "#ffffff") == 21``."""
    return contrast_ratio


@pytest.fixture
def luminance():
    """The relative luminance of a colour, 0 for black and 1 for white."""
    return relative_luminance


@pytest.fixture
def missing(monkeypatch):
    """``missing("torch", "numba")``: a machine on which those are not installed."""
    find_spec = importlib.util.find_spec

    def hide(*packages):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, package=None: None if name in packages else find_spec(name, package),
        )

    return hide


@pytest.fixture
def without_torch(missing):
    """A machine on which torch is not installed."""
    missing("torch")


@pytest.fixture(autouse=True, scope="module")
def one_thread(request):
    """One thread of torch's for the layers with models, put back afterwards.

    A small product waits longer for a second thread than it takes, on a busy machine many times as
    long; and a sum's last digits depend on how many there are.
    """
    if request.path.parent.name not in ("frameworks", "models") or not importlib.util.find_spec(
        "torch"
    ):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
