"""Sizes and durations as people write them, and back again.

A *size* is a whole number of bytes. ``K``, ``M``, ``G``, ``T``, ``P`` (with or without ``B``)
are powers of 1000, as disks are sold and links are rated; ``Ki``, ``Mi``, ``Gi``, ``Ti``,
``Pi`` (with or without ``B``) are powers of 1024. nginx, Varnish and Squid read a bare ``G``
as 1024³: whoever carries a figure over from them writes ``GiB``. The decimal reading is the
smaller one, so a limit taken the wrong way errs towards free disk space.

A *duration* is a number of seconds, written as one or more numbers with units, the larger
first: ``30d``, ``1h30m``, ``250ms``. The units are ``w d h m s ms``. A number alone counts
seconds.
"""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i)?)?b?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|w|d|h|m|s)\s*)+", re.IGNORECASE | re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|w|d|h|m|s)", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)

_PREFIXES = "KMGTP"
_UNIT_MILLISECONDS = {
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_MAX_SIZE_BYTES = 2**63 - 1
"""What a file offset can express; more is a slip of the pen."""
_MAX_DURATION_MILLISECONDS = 100 * 365 * 86_400_000
"""A century: longer is a slip of the pen, and ``inf`` would poison every sum of times."""


def parse_size(text: str | int) -> int:
    """Bytes from ``"500G"``, ``"64KiB"``, ``"1.5T"``, ``"4096"`` or ``4096``.

    Raises ``ValueError``, with a sentence for the person who wrote it, on anything else:
    negative numbers, unknown units, fractions of a byte, more than a file can hold.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write it like 500G, 64KiB, 1.5T or 4096")
    number, prefix, binary = match.groups()
    exponent = 0 if prefix is None else 1 + _PREFIXES.index(prefix.upper())
    size = Decimal(number) * (1024 if binary else 1000) ** exponent
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    if size > _MAX_SIZE_BYTES:
        raise ValueError(f"{text!r} is more than a file can hold")
    return int(size)


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling: ``parse_size`` of it gives the same number again."""
    best = str(size_bytes)
    for base, suffix in ((1000, ""), (1024, "iB")):
        for exponent in range(len(_PREFIXES), 0, -1):
            if size_bytes and size_bytes % base**exponent == 0:
                spelling = f"{size_bytes // base**exponent}{_PREFIXES[exponent - 1]}{suffix}"
                best = min(spelling, best, key=len)
                break
    return best


def describe_size(size_bytes: float) -> str:
    """A rounded size for reading, such as ``1.5 GB``; the units are powers of 1000."""
    amount = float(size_bytes)
    for prefix in ("", *_PREFIXES):
        if amount < 999.5 or prefix == _PREFIXES[-1]:
            break
        amount /= 1000
    digits = 0 if not prefix or amount >= 99.95 else 1
    number = f"{amount:.{digits}f}".removesuffix(".0")
    return f"{number} {prefix}B".replace("KB", "kB")


def parse_duration(text: str | float) -> float:
    """Seconds from ``"30d"``, ``"1h30m"``, ``"250ms"``, ``"45"`` or ``45``.

    Raises ``ValueError``, with a sentence for the person who wrote it, on anything else:
    negative numbers, unknown units, a unit given twice or out of order, more than a century.
    """
    spelling = str(text).strip()
    if _NUMBER.fullmatch(spelling):
        spelling += "s"
    if _DURATION.fullmatch(spelling) is None:
        raise ValueError(f"{text!r} is not a duration; write it like 30d, 10m, 1h30m or 250ms")
    parts = [(number, unit.lower()) for number, unit in _DURATION_PART.findall(spelling)]
    scales = [_UNIT_MILLISECONDS[unit] for _, unit in parts]
    if any(later >= earlier for earlier, later in pairwise(scales)):
        raise ValueError(f"{text!r} is not a duration: each unit once, the larger first")
    total = sum(Decimal(number) * scale for (number, _), scale in zip(parts, scales, strict=True))
    if total > _MAX_DURATION_MILLISECONDS:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return float(total / 1000)


def format_duration(seconds: float) -> str:
    """An exact spelling down to the millisecond, the larger units first: ``1h30m``, ``0s``."""
    left = round(seconds * 1000)
    parts = []
    for unit, scale in _UNIT_MILLISECONDS.items():
        # Weeks are read but not written: 30d is plainer than 4w2d.
        if unit != "w" and left >= scale:
            amount, left = divmod(left, scale)
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"
