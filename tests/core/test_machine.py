"""The card of this machine: what is known, and None where it is not."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from stackkit.core import machine
from stackkit.core.machine import MachineCard, card

UNKNOWN = MachineCard(
    cpu=None,
    cores=1,
    cache_bytes={},
    memory_bytes=None,
    gpu=None,
    python="3.11.0",
    numpy=None,
    torch=None,
)


def test_the_card_counts_the_cores_that_this_process_may_use():
    assert 1 <= card().cores <= os.cpu_count()


def test_the_card_names_the_running_python():
    assert card().python == platform.python_version()


def test_memory_is_unknown_or_fits_a_machine_of_today():
    assert card().memory_bytes is None or 2**27 <= card().memory_bytes <= 2**50


def test_caches_grow_with_their_level():
    sizes = [card().cache_bytes[level] for level in sorted(card().cache_bytes)]
    assert sizes == sorted(sizes)


def test_the_card_is_found_out_once():
    assert card() is card()


def test_the_card_prints_a_line_for_each_piece():
    heads = [line.split()[0] for line in str(card()).splitlines()]
    assert heads == ["processor", "caches", "memory", "GPU", "software"]


def test_a_card_of_unknown_pieces_prints_unknown():
    lines = str(UNKNOWN).splitlines()
    assert ["unknown" in line for line in lines[:3]] == [True, True, True]


def test_a_card_of_unknown_pieces_never_prints_none():
    assert "None" not in str(UNKNOWN)


def test_cache_sizes_are_binary():
    full = MachineCard("A chip", 2, {"L1": 32 * 2**10, "L3": 8 * 2**20}, 2**34, None, "3", "2", "2")
    assert "L1 32 KiB, L3 8 MiB" in str(full)
    assert "16.0 GiB" in str(full)


def test_a_missing_package_has_no_version():
    assert machine._version("no-such-package-of-stackkit") is None


def test_a_machine_that_does_not_tell_its_memory_has_none(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert machine._memory_bytes() is None


def test_without_nvidia_smi_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda program: None)
    assert machine._gpu_name() is None


def test_a_failing_nvidia_smi_is_no_gpu(monkeypatch):
    failed = subprocess.CompletedProcess([], returncode=9, stdout="NVIDIA-SMI has failed")
    monkeypatch.setattr(machine.shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: failed)
    assert machine._gpu_name() is None


def test_a_hanging_nvidia_smi_is_no_gpu(monkeypatch):
    def hang(command, **_):
        raise subprocess.TimeoutExpired(command, 10)

    monkeypatch.setattr(machine.shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(machine.subprocess, "run", hang)
    assert machine._gpu_name() is None


def test_of_several_gpus_the_first_is_named(monkeypatch):
    monkeypatch.setattr(machine, "_output", lambda *_: "NVIDIA H100\nNVIDIA H100")
    assert machine._gpu_name() == "NVIDIA H100"


@pytest.fixture
def cache_folder(monkeypatch, tmp_path):
    """What Linux says of core 0's caches, as (type, level, size) to be written by the test."""
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path)

    def write(*caches):
        for i, cache in enumerate(caches):
            (tmp_path / f"index{i}").mkdir()
            for name, text in zip(("type", "level", "size"), cache, strict=True):
                (tmp_path / f"index{i}" / name).write_text(f"{text}\n")

    return write


def test_data_and_unified_caches_are_read_and_instruction_caches_are_not(cache_folder):
    cache_folder(("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "1024K"))
    assert machine._cache_bytes() == {"L1": 48 * 1024, "L2": 1024 * 1024}


def test_a_machine_without_cache_files_has_no_known_caches(cache_folder):
    cache_folder()
    assert machine._cache_bytes() == {}


def a_server(monkeypatch, tmp_path, shared_by):
    """Cores whose last cache of 32 MiB is shared as the list says, core by core."""
    for core, cores in enumerate(shared_by):
        for i, (level, size, shared) in enumerate(((2, "1024K", core), (3, "32768K", cores))):
            index = tmp_path / f"cpu{core}/cache/index{i}"
            index.mkdir(parents=True)
            for name, text in (("level", level), ("size", size), ("shared_cpu_list", shared)):
                (index / name).write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_usable_core_numbers", lambda: list(range(len(shared_by))))
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / str(path).partition("/cpu/")[2])


@pytest.mark.parametrize(
    ("shared_by", "caches"), [(["0-3"] * 4, 1), (["0-1", "0-1", "2-3", "2-3"], 2)]
)
def test_last_caches_are_counted_once_each(monkeypatch, tmp_path, shared_by, caches):
    """A large server's sockets and chiplets have one each; one core sees only its own."""
    a_server(monkeypatch, tmp_path, shared_by)
    assert machine._last_caches_bytes() == caches * 32 * 1024 * 1024


def test_a_machine_without_cache_files_has_no_known_last_caches(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / "nothing")
    assert machine._last_caches_bytes() is None


def test_without_proc_cpuinfo_or_sysctl_the_cpu_is_unknown(monkeypatch):
    def no_such_file(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", no_such_file)
    monkeypatch.setattr(machine, "_output", lambda *_: None)
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    assert machine._cpu_name() is None
