"""Quantities as people write them, to canonical units: cores to thousandths, sizes to bytes, durations to seconds.

Cores and sizes follow the Kubernetes quantity format ("Resource Management for Pods and Containers"): ``500m``, ``4Gi``, ``4G``.
Durations are ``2h``, ``1h30m``, ``90m``, ``45s``, ``2d``, a number of seconds, or ISO 8601 (``PT2H30M``).
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

_SIZES = {
    "": 1,
    **{prefix + "i": 1024 ** (power + 1) for power, prefix in enumerate("KMGTP")},
    **{prefix: 1000 ** (power + 1) for power, prefix in enumerate("kMGTP")},
    "K": 1000,
}
_NUMBER = r"\d{1,18}(?:\.\d{1,9})?"
_SIZE = re.compile(rf"({_NUMBER})\s?([A-Za-z]*)")
_CPU = re.compile(rf"({_NUMBER})(m?)")
_COMPACT = re.compile(rf"(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m(?:in)?)?(?:({_NUMBER})s)?")
_ISO = re.compile(rf"P(?:({_NUMBER})D)?(?:T(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?")
_WEIGHTS_S = (86400.0, 3600.0, 60.0, 1.0)

MAX_BYTES = 2**60
MAX_CPU_MILLI = 1_000_000_000
MAX_DURATION_S = 10 * 366 * 86400.0

CPU_CURE = 'write cores as a number (2, 0.5) or thousandths as text ("500m")'
SIZE_CURE = 'write bytes as a whole number or a size with a unit ("512Mi", "4Gi", "20G")'
DURATION_CURE = 'write seconds as a number or a duration ("90m", "2h", "1h30m", "2d", "PT2H")'


class QuantityError(ValueError):
    """The text is no quantity of that kind; the message says what it is instead."""


def cpu_milli(value: object) -> int:
    """Thousandths of a core from ``2``, ``0.5``, ``"2"`` or ``"500m"``.

    Raises:
        QuantityError: not such a quantity, negative, or finer than a thousandth.
    """
    if isinstance(value, str):
        return _cpu_text(value)
    number = _number(value)
    return _whole(number * 1000, MAX_CPU_MILLI, "is finer than a thousandth of a core")


def size_bytes(value: object) -> int:
    """Bytes from ``4294967296``, ``"4Gi"`` or ``"4G"``.

    Raises:
        QuantityError: not such a quantity, negative, or no whole number of bytes.
    """
    if isinstance(value, str):
        return _size_text(value)
    return _whole(_number(value), MAX_BYTES, "is no whole number of bytes")


def duration_s(value: object) -> float:
    """Seconds from ``5400``, ``"90m"``, ``"1h30m"`` or ``"PT1H30M"``.

    Raises:
        QuantityError: not such a quantity, negative, or longer than ten years.
    """
    seconds = _duration_text(value) if isinstance(value, str) else float(_number(value))
    if seconds > MAX_DURATION_S:
        msg = "is longer than ten years"
        raise QuantityError(msg)
    return seconds


def _number(value: object) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"is {kind_of(value)}"
        raise QuantityError(msg)
    if isinstance(value, float) and not math.isfinite(value):
        msg = "is not finite"
        raise QuantityError(msg)
    if value < 0:
        msg = "is negative"
        raise QuantityError(msg)
    return value


def _whole(number: float, largest: int, finer: str) -> int:
    if number > largest:
        msg = "is too large"
        raise QuantityError(msg)
    rounded = round(number)
    if abs(number - rounded) > 1e-6 * max(1.0, abs(number) * 1e-6):
        raise QuantityError(finer)
    return rounded


@lru_cache(maxsize=4096)
def _cpu_text(text: str) -> int:
    match = _CPU.fullmatch(text.strip())
    if match is None:
        raise _no_unit(text)
    scale = 1 if match[2] else 1000
    return _whole(float(match[1]) * scale, MAX_CPU_MILLI, "is finer than a thousandth of a core")


@lru_cache(maxsize=4096)
def _size_text(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].removesuffix("B") not in _SIZES:
        raise _no_unit(text)
    scale = _SIZES[match[2].removesuffix("B")]
    exact = int(match[1]) * scale if match[1].isdecimal() else float(match[1]) * scale
    return _whole(exact, MAX_BYTES, "is no whole number of bytes")


@lru_cache(maxsize=4096)
def _duration_text(text: str) -> float:
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped):
        return float(stripped)
    match = _COMPACT.fullmatch(stripped.replace(" ", "")) or _ISO.fullmatch(stripped)
    if match is None or not any(match.groups()):
        raise _no_unit(text)
    return sum(float(part) * weight for part, weight in zip(match.groups(), _WEIGHTS_S, strict=True) if part)


def _no_unit(text: str) -> QuantityError:
    return QuantityError(f"{text[:40]!r} is not understood")


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "an object"),
)


def kind_of(value: object) -> str:
    """What a JSON or YAML value is, in words."""
    if value is None:
        return "null"
    return next((words for kind, words in _KINDS if isinstance(value, kind)), f"a {type(value).__name__}")
