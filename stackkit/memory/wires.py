"""Bandwidth is wires times speed.

    bytes/s = data wires x bits per second on each / 8

It knows nothing of latency, refresh or page misses: this is the most that the pins can carry.
"""

import math

from stackkit.core.units import BITS_PER_BYTE, GIGA


def hbm_bytes_per_s(bus_bits: float, gbit_per_pin: float) -> float:
    """Peak bandwidth of a memory bus.

    Args:
        bus_bits: data wires, of one device or of all devices together.
        gbit_per_pin: Gbit/s on each wire; decimal, both clock edges counted.

    Returns:
        Bytes per second, decimal. 1024 wires at 6.4 Gbit/s give 819.2e9 (JEDEC JESD238, HBM3).

    Raises:
        ValueError: when either is not a positive number.
    """
    for name, value in (("bus_bits", bus_bits), ("gbit_per_pin", gbit_per_pin)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number; got {value!r}.")
    return bus_bits * gbit_per_pin * GIGA / BITS_PER_BYTE
