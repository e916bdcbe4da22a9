"""What 32 lanes in step make of memory, of branches and of one multiprocessor's room. No timing.

A GPU issues one instruction for a warp of 32 lanes. So what counts is not what one lane does but
what the lanes do together:

    global memory    32-byte sectors touched        ``transactions``, ``efficiency``
    shared memory    different words in one bank    ``shared_bank_conflicts``
    branches         steps of the longest lane      ``run_loop``, ``run_branches``
    residency        blocks that fit at once        ``occupancy``

It knows nothing of caches, which serve a sector's other bytes to a neighbour, nor of latency.

Sources: NVIDIA, CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory" and "Calculating
Occupancy"; CUDA Programming Guide, "SIMT Execution Model", "Shared Memory Access Patterns" and
"Compute Capabilities"; Hopper and Ampere Tuning Guides; the CUDA toolkit's ``cuda_occupancy.h``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stackkit.core.units import KIB

WARP = 32  # lanes
SECTOR_BYTES = 32  # the least that moves between the caches; a line of 128 has four


def transactions(
    addresses_bytes: Iterable[int], access_bytes: int = 4, segment_bytes: int = SECTOR_BYTES
) -> int:
    """Segments of global memory that one load or store of a warp touches.

    Args:
        addresses_bytes: the first byte that each active lane wants; 1 to 32 lanes.
        access_bytes: that each lane wants: 1, 2, 4, 8 or 16, and it divides the address.
        segment_bytes: 32 for sectors; 128 counts cache lines.

    Raises:
        ValueError: when no GPU could make such an access, or segments are no power of two.
    """
    addresses = _lanes("addresses_bytes", addresses_bytes)
    if access_bytes not in (1, 2, 4, 8, 16):
        raise ValueError(f"A lane accesses 1, 2, 4, 8 or 16 bytes; got {access_bytes!r}.")
    if segment_bytes < access_bytes or segment_bytes & (segment_bytes - 1):
        raise ValueError(
            f"segment_bytes must be a power of two, {access_bytes} or more; got {segment_bytes!r}."
        )
    for address in addresses:
        if address % access_bytes:
            raise ValueError(
                f"An access of {access_bytes} bytes needs an address that {access_bytes} divides; "
                f"got {address}."
            )
    return len({address // segment_bytes for address in addresses})


def efficiency(
    addresses_bytes: Iterable[int], access_bytes: int = 4, segment_bytes: int = SECTOR_BYTES
) -> float:
    """Bytes wanted by some lane per byte moved; a byte that several lanes want counts once.

    Raises:
        ValueError: as ``transactions``.
    """
    addresses = list(addresses_bytes)
    moved = transactions(addresses, access_bytes, segment_bytes) * segment_bytes
    return len(set(addresses)) * access_bytes / moved


def shared_bank_conflicts(word_indices: Iterable[int], banks: int = 32) -> int:
    """Passes that one access of a warp to shared memory takes: 1 without conflict, 32 at worst.

    A bank gives one word of 4 bytes a pass, to every lane that wants that word; word ``i`` is in
    bank ``i % banks``.

    Args:
        word_indices: the word that each active lane wants; 1 to 32 lanes.
        banks: of the shared memory.

    Raises:
        ValueError: when a word is negative, or lanes or banks are none or too many.
    """
    _check_whole("banks", banks, 1)
    words = set(_lanes("word_indices", word_indices))
    return max(Counter(word % banks for word in words).values())


@dataclass(frozen=True)
class Issued:
    """What a piece of program took in the warps that ran it."""

    issued_steps: int  # of all warps together
    useful_lane_steps: int  # steps of lanes that were active
    warp: int  # lanes of a warp

    @property
    def lane_utilisation(self) -> float:
        """The fraction of lanes that were active, over all issued steps."""
        return self.useful_lane_steps / (self.warp * self.issued_steps)


def run_loop(trip_counts: Iterable[int], warp: int = WARP) -> Issued:
    """A loop whose lanes leave at different times; a warp goes on until its last lane leaves.

    Args:
        trip_counts: steps of each lane, in order of lanes; the last warp may be part empty.
        warp: lanes of a warp.

    Raises:
        ValueError: when a count is no whole number of 0 or more, or no lane takes a step.
    """
    _check_whole("warp", warp, 1)
    trips = list(trip_counts)
    for trip in trips:
        _check_whole("A trip count", trip, 0)
    if not any(trips):
        raise ValueError("No lane takes a step; give at least one trip count above zero.")
    issued = sum(max(trips[first : first + warp]) for first in range(0, len(trips), warp))
    return Issued(int(issued), int(sum(trips)), warp)


def run_branches(
    paths: Sequence[Hashable], steps: Mapping[Hashable, int], warp: int = WARP
) -> Issued:
    """An if, or a switch; a warp takes every path that one of its lanes takes, one by one.

    Args:
        paths: the path of each lane, in order of lanes: ``True`` or ``False``, or any name.
        steps: path -> its length.
        warp: lanes of a warp.

    Raises:
        ValueError: when a path has no length, a length is no whole number of 0 or more, or no lane
            takes a step.
    """
    _check_whole("warp", warp, 1)
    for path in set(paths):
        if path not in steps:
            raise ValueError(f"steps must give the length of every path; {path!r} is missing.")
        _check_whole(f"The length of path {path!r}", steps[path], 0)
    useful = sum(steps[path] for path in paths)
    if not useful:
        raise ValueError("No lane takes a step; give at least one lane a path above zero steps.")
    warps = [set(paths[first : first + warp]) for first in range(0, len(paths), warp)]
    return Issued(sum(steps[path] for taken in warps for path in taken), useful, warp)


def lane_utilisation(trip_counts: Iterable[int], warp: int = WARP) -> float:
    """The fraction of lanes at work in ``run_loop``; raises what that raises."""
    return run_loop(trip_counts, warp).lane_utilisation


@dataclass(frozen=True)
class SM:
    """The room of one streaming multiprocessor."""

    name: str
    shared_bytes: int  # with the largest share of the L1 cache given to shared memory
    warps: int = 64
    blocks: int = 32
    registers: int = 65_536  # of 32 bits
    partitions: int = 4  # each has its part of the registers, and a warp stays in one
    threads_per_block: int = 1024
    registers_per_thread: int = 255
    register_unit: int = 256  # registers are given to a warp in such lots
    shared_unit_bytes: int = 128  # shared memory to a block, likewise
    reserved_bytes_per_block: int = KIB  # that CUDA keeps in shared memory for itself

    @property
    def shared_bytes_per_block(self) -> int:
        """The most that one block may ask for."""
        return self.shared_bytes - self.reserved_bytes_per_block


H100 = SM("H100, compute capability 9.0", shared_bytes=228 * KIB)
A100 = SM("A100, compute capability 8.0", shared_bytes=164 * KIB)


@dataclass(frozen=True)
class Occupancy:
    """How many blocks of a kernel one multiprocessor holds at once."""

    blocks: int  # 0: a block needs more registers than there are, and a launch fails
    warps: int
    fraction: float  # of the warps that the multiprocessor can hold
    limit: str  # what runs out first: "warps", "blocks", "registers" or "shared memory"


def occupancy(
    threads_per_block: int, registers_per_thread: int, shared_bytes_per_block: int, *, sm: SM
) -> Occupancy:
    """How much of a multiprocessor a kernel's blocks can fill, and what stops the next block.

    A warp's registers are rounded up, and must fit in one partition: 320 threads of 37 registers
    are 10 warps of 1,280 registers, of which a V100 holds 12 in each of 4 partitions. That makes
    4 blocks, though it has the registers of 5.

    Args:
        threads_per_block: 1 to 1,024; a part of a warp takes a whole one.
        registers_per_thread: 1 to 255, as the compiler reports.
        shared_bytes_per_block: 0 or more, static and dynamic together.
        sm: the multiprocessor, ``H100`` or ``A100`` or another.

    Raises:
        ValueError: when no block of any kernel may have so much of one of the three.
    """
    for name, value, least, most in (
        ("threads_per_block", threads_per_block, 1, sm.threads_per_block),
        ("registers_per_thread", registers_per_thread, 1, sm.registers_per_thread),
        ("shared_bytes_per_block", shared_bytes_per_block, 0, sm.shared_bytes_per_block),
    ):
        _check_whole(name, value, least)
        if value > most:
            raise ValueError(f"{name} must be {most:,} or less on {sm.name}; got {value:,}.")
    warps = -(-threads_per_block // WARP)
    registers = _round_up(registers_per_thread * WARP, sm.register_unit)  # of one warp
    shared = shared_bytes_per_block + sm.reserved_bytes_per_block
    shared = _round_up(shared, sm.shared_unit_bytes)  # of one block
    room = {
        "warps": sm.warps // warps,
        "blocks": sm.blocks,
        "registers": sm.registers // sm.partitions // registers * sm.partitions // warps,
        "shared memory": sm.shared_bytes // shared if shared else sm.blocks,
    }
    limit = min(room, key=room.__getitem__)  # the first of equals
    blocks = room[limit]
    return Occupancy(blocks, blocks * warps, blocks * warps / sm.warps, limit)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _lanes(name: str, values: Iterable[int]) -> list[int]:
    """One value for each active lane of a warp, checked."""
    lanes = list(values)
    if not 1 <= len(lanes) <= WARP:
        raise ValueError(f"{name} must be of 1 to {WARP} lanes; got {len(lanes)}.")
    for value in lanes:
        _check_whole(f"Each of {name}", value, 0)
    return [int(value) for value in lanes]


def _check_whole(name: str, value: int, least: int) -> None:
    """Refuse what is no whole number of ``least`` or more."""
    if not value >= least or value % 1 != 0:
        raise ValueError(f"{name} must be a whole number, {least} or more; got {value!r}.")
