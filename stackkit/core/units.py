"""SI prefixes, binary prefixes, and one way to print a quantity.

Quantities are plain floats in SI base units (bytes, seconds, FLOP/s) and the unit stands in
the variable's name. Decimal prefixes are powers of ten; only ``KIB``, ``MIB`` and ``GIB`` are
powers of two (IEC 80000-13). This is the one module that may write such powers as literals.
"""

KILO, MEGA, GIGA, TERA, PETA, EXA = 1e3, 1e6, 1e9, 1e12, 1e15, 1e18
MILLI, MICRO, NANO, PICO = 1e-3, 1e-6, 1e-9, 1e-12
KIB, MIB, GIB = 2**10, 2**20, 2**30
BITS_PER_BYTE = 8

_PREFIXES = (
    (EXA, "E"),
    (PETA, "P"),
    (TERA, "T"),
    (GIGA, "G"),
    (MEGA, "M"),
    (KILO, "k"),
    (1.0, ""),
    (MILLI, "m"),
    (MICRO, "µ"),
    (NANO, "n"),
    (PICO, "p"),
)

# Units that carry a prefix. Any other unit ("mm2", "year", "FLOP/B") is printed as it is.
PREFIXED_UNITS = {"B", "B/s", "bit/s", "FLOP", "FLOP/s", "OP/s", "s", "W", "Wh", "J"}
PREFIXED_UNITS |= {"J/bit", "Hz", "token/s"}
_SHOWN = {"mm2": "mm²", "cm2": "cm²", "USD/h": "per hour", "USD/Mtoken": "per million tokens"}


def si(value: float, unit: str = "", digits: int = 3) -> str:
    """Print a quantity with the decimal prefix that suits it.

    Args:
        value: the quantity in base units.
        unit: its unit, for example ``"B/s"``; ``""`` for a bare number.
        digits: significant digits. Trailing zeros behind the point are dropped.

    Returns:
        ``"3.35 TB/s"`` for ``si(3.35e12, "B/s")``. A unit without prefixes, or none, is in words
        from a million on, ``"8.03 billion"``; a whole number below that is exact, ``"1,024"``.
        Money is to the cent below a thousand dollars, ``"$55.04 per hour"``.
    """
    if value == 0 or value != value or value in (float("inf"), float("-inf")):
        return f"{value:g} {unit}".strip()
    rounded = float(f"{value:.{digits}g}")  # once, so that 999.9999 MB prints as 1 GB
    if unit in PREFIXED_UNITS:
        scale, prefix = next((s, p) for s, p in _PREFIXES if abs(rounded) >= s or p == "p")
        if abs(value) >= KILO * EXA:  # a training run's FLOPs: no prefix that anyone reads
            return f"{value:.{digits - 1}e} {unit}".replace("e+", "e")
        return f"{_plain(rounded / scale, digits)} {prefix}{unit}"
    if unit.startswith("USD"):
        return _money(value, unit, digits)
    if abs(value) >= MEGA:
        scale, word = next((s, w) for s, w in _WORDS if abs(rounded) >= s)
        return f"{_plain(rounded / scale, digits)} {word} {unit}".strip()
    exact = f"{value:,.0f}" if float(value).is_integer() else _plain(value, digits)
    return f"{exact} {_SHOWN.get(unit, unit)}".strip()


_WORDS = ((TERA, "trillion"), (GIGA, "billion"), (MEGA, "million"))


def _money(value: float, unit: str, digits: int) -> str:
    """Dollars as they are quoted: cents where they count, words from a million on."""
    if abs(value) >= MEGA:
        text = si(value, "", digits)
    else:
        text = f"{value:,.2f}".removesuffix(".00") if abs(value) >= 0.1 else _plain(value, digits)
    per = _SHOWN.get(unit, unit.removeprefix("USD").replace("/", "per "))
    return f"${text} {per}".strip().replace("$-", "-$")


def _plain(number: float, digits: int) -> str:
    """Round to significant digits, never in scientific notation, thousands grouped."""
    rounded = float(f"{number:.{digits}g}")
    exponent = int(f"{rounded:.16e}".partition("e")[2])
    text = f"{rounded:,.{max(0, digits - 1 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
