"""The fields of a job as people write it, one reader each; below ``solyx.jobfile``, which puts them together.

A reader takes a raw JSON or YAML value, its path and the errors so far, and returns the canonical value, or raises ``Wrong``
or ``QuantityError``, which become an error at that path.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from solyx.events.job import DataSet, DeviceRequest, LatencyBound, Resources, Weights
from solyx.quantity import CPU_CURE, DURATION_CURE, SIZE_CURE, QuantityError, cpu_milli, duration_s, kind_of, size_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reader = Callable[[Any, str, "Errors"], Any]
    Table = Mapping[str, tuple[str, Reader]]  # field → canonical name, reader

MAX_NAME = 253  # of a DNS subdomain (RFC 1123), the longest that Kubernetes takes for a name
MAX_TEXT = 4096
MAX_ENTRIES = 1000  # of command, env, labels, allowed_sites
MAX_PARALLELISM = 10_000
MAX_DEVICES = 1024  # of one request
MAX_GRACE_S = 3600.0  # a site that must shed load, or a node that must be repaired, does not wait longer
MAX_WEIGHT = 1_000_000.0  # EUR; far above any price of carbon or of an hour, far below where sums lose their cents
MAX_PRIORITY = 1_000_000_000  # as Kubernetes' user priority classes


class FieldError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to correct."""

    field: str  # path, e.g. resources.devices[0].count; empty: the document as a whole
    message: str
    cure: str
    line: int | None = None  # of an NDJSON body, from 1

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        return f"{place}{self.field + ' ' if self.field else ''}{self.message}; {self.cure}"


class Wrong(Exception):  # noqa: N818 - one value is wrong; becomes a FieldError
    def __init__(self, message: str, cure: str) -> None:
        self.message, self.cure = message, cure


class Errors:
    """Collects what is wrong, so that a user corrects a file in one go."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []

    def add(self, field: str, message: str, cure: str) -> None:
        self.found.append(FieldError(field=field, message=message, cure=cure))


def read_fields(document: object, table: Table, path: str, errors: Errors) -> dict[str, Any]:
    """Read each field of an object by its reader in ``table``, under the canonical name that stands there."""
    if not isinstance(document, dict):
        errors.add(path, f"is {kind_of(document)}", f"write an object with some of: {', '.join(table)}")
        return {}
    prefix = f"{path}." if path else ""
    values: dict[str, Any] = {}
    for name, raw in document.items():
        entry = table.get(name)
        if entry is None:
            errors.add(f"{prefix}{str(name)[:80]}", "is not a field here", _suggestion(str(name), table))
            continue
        if raw is None:
            continue  # null is as good as absent
        try:
            values[entry[0]] = entry[1](raw, prefix + name, errors)
        except Wrong as wrong:
            errors.add(prefix + name, wrong.message, wrong.cure)
            values[entry[0]] = None
        except QuantityError as error:
            errors.add(prefix + name, str(error), _QUANTITY_CURES[entry[0]])
            values[entry[0]] = None
    return values


def _suggestion(name: str, table: Table) -> str:
    if table is JOB and name in _RESOURCES:
        return f"write it as resources.{name}"
    close = difflib.get_close_matches(name, table, n=1)
    return f"did you mean {close[0]!r}?" if close else f"remove it; known are: {', '.join(table)}"


def _text(value: Any, _path: str, _found: Errors) -> str:
    if not isinstance(value, str):
        raise Wrong(f"is {kind_of(value)}", "write text, in quotes")
    if not value or value.isspace():
        raise Wrong("is empty", "write a value or leave the field out")
    return _clean(value)


def _clean(value: str) -> str:
    if "\0" in value:
        raise Wrong("holds a NUL character", "remove it")
    if len(value) > MAX_TEXT:
        raise Wrong(f"is longer than {MAX_TEXT} characters", "shorten it")
    return value


def _name(value: Any, path: str, errors: Errors) -> str:
    text = _text(value, path, errors)
    if len(text) > MAX_NAME or not text.isprintable():
        raise Wrong(f"is no name of at most {MAX_NAME} printable characters", "shorten it, on one line")
    return text


def _image(value: Any, path: str, errors: Errors) -> str:
    text = _text(value, path, errors)
    if any(character.isspace() for character in text):
        raise Wrong("holds white space", 'write a container image reference ("ghcr.io/acme/train:1.4")')
    return text


def _flag(value: Any, _path: str, _found: Errors) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"is {kind_of(value)}", "write true or false")
    return value


def _whole_number(least: int, most: int) -> Reader:
    def read(value: Any, _path: str, _found: Errors) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"is {kind_of(value)}, not a whole number", f"write a whole number from {least} to {most}")
        if not least <= value <= most:
            raise Wrong(f"is {'less than' if value < least else 'more than'} allowed", f"write {least} to {most}")
        return value

    return read


def _texts(value: Any, path: str, errors: Errors) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Wrong(f"is {kind_of(value)}", 'write a list of texts (["a", "b"])')
    if len(value) > MAX_ENTRIES:
        raise Wrong(f"has more than {MAX_ENTRIES} entries", "shorten it")
    texts: list[str] = []
    for index, item in enumerate(value):
        if not isinstance(item, str):
            errors.add(f"{path}[{index}]", f"is {kind_of(item)}", "write text, in quotes")
        elif "\0" in item or len(item) > MAX_TEXT:
            errors.add(f"{path}[{index}]", f"is longer than {MAX_TEXT} characters or holds NUL", "shorten it")
        else:
            texts.append(item)
    return tuple(texts)


def _sites(value: Any, path: str, errors: Errors) -> tuple[str, ...]:
    sites = _texts(value, path, errors)
    if not sites:
        raise Wrong("is empty: no site would be left", "name at least one site or leave the field out")
    for index, site in enumerate(sites):
        if not site or site.isspace() or len(site) > MAX_NAME:
            errors.add(f"{path}[{index}]", "is no site's name", "see GET /v1/sites")
    return tuple(dict.fromkeys(sites))


def _text_map(value: Any, path: str, errors: Errors) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Wrong(f"is {kind_of(value)}", 'write an object of texts ({"key": "value"})')
    if len(value) > MAX_ENTRIES:
        raise Wrong(f"has more than {MAX_ENTRIES} entries", "shorten it")
    for key, text in value.items():
        where = f"{path}.{str(key)[:80]}"
        if not isinstance(key, str) or not key or "\0" in key or len(key) > MAX_NAME:
            errors.add(where, f"is no key of at most {MAX_NAME} characters", "rename it")
        if not isinstance(text, str):
            errors.add(where, f"is {kind_of(text)}", f'write text, in quotes ("{str(text)[:20]}")')
        elif "\0" in text or len(text) > MAX_TEXT:
            errors.add(where, f"is longer than {MAX_TEXT} characters or holds NUL", "shorten it")
    return value


def _cpu(value: Any, _path: str, _found: Errors) -> int:
    return cpu_milli(value)


def _size(value: Any, _path: str, _found: Errors) -> int:
    return size_bytes(value)


def _duration(value: Any, _path: str, _found: Errors) -> float:
    return duration_s(value)


def _positive_duration(value: Any, _path: str, _found: Errors) -> float:
    seconds = duration_s(value)
    if seconds <= 0:
        msg = "is zero"
        raise QuantityError(msg)
    return seconds


def _grace(value: Any, _path: str, _found: Errors) -> float:
    seconds = duration_s(value)
    if seconds > MAX_GRACE_S:
        raise Wrong("is longer than 1 h", 'write at most "1h": what is killed goes on from its last checkpoint')
    return seconds


def _tolerations(value: Any, path: str, errors: Errors) -> tuple[str, ...]:
    taints = _texts(value, path, errors)
    for index, taint in enumerate(taints):
        if not taint or taint.isspace() or len(taint) > MAX_NAME:
            errors.add(f"{path}[{index}]", f"is no taint of at most {MAX_NAME} characters", "see GET /v1/sites")
    return tuple(dict.fromkeys(taints))


def _weight(value: Any, _path: str, _found: Errors) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_WEIGHT:
        raise Wrong(f"is no number from 0 to {MAX_WEIGHT:,.0f}", "write EUR as a number (80), or leave the field out")
    return float(value)


def _weights(value: Any, path: str, errors: Errors) -> Weights | None:
    before = len(errors.found)
    fields = read_fields(value, _WEIGHTS, path, errors)
    return Weights(**fields) if len(errors.found) == before else None


_TIME_CURE = 'write RFC 3339 with a zone ("2026-12-01T06:00:00Z")'


def _time(value: Any, _path: str, _found: Errors) -> datetime:
    if isinstance(value, str):
        try:
            value = msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            raise Wrong(f"{value[:40]!r} is no time", _TIME_CURE) from None
    if not isinstance(value, datetime):
        raise Wrong(f"is {kind_of(value)}", _TIME_CURE)
    if value.tzinfo is None:
        raise Wrong("has no time zone", _TIME_CURE)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise Wrong("is out of range", _TIME_CURE) from None


def _milliseconds(value: Any, _path: str, _found: Errors) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 60_000:
        raise Wrong("is no number of milliseconds above 0, at most 60000", "write a number (25)")
    return float(value)


def _count(value: Any, _path: str, _found: Errors) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"is {kind_of(value)}", "write whole devices (1, 2, 4) or a share of one (0.5)")
    if 0 < value < 1:
        if round(value * 1000) < 1 or abs(value * 1000 - round(value * 1000)) > 1e-6:
            raise Wrong("is finer than a thousandth of a device", "write a share such as 0.5 or 0.25")
        return value
    if value != value // 1 or not 1 <= value <= MAX_DEVICES:
        raise Wrong(
            "is neither a whole number of devices nor a share of one", f"write 1 to {MAX_DEVICES}, or 0.001 to 0.999"
        )
    return int(value)


def _kind(value: Any, _path: str, _found: Errors) -> str:
    if value not in ("gpu", "tpu", "fpga"):
        raise Wrong(f"{str(value)[:40]!r} is no kind of device", 'write "gpu", "tpu" or "fpga"')
    return value


def _model(value: Any, path: str, errors: Errors) -> tuple[str, ...]:
    return (_name(value, path, errors),)


def _devices(value: Any, path: str, errors: Errors) -> tuple[DeviceRequest, ...]:
    if not isinstance(value, list):
        raise Wrong(f"is {kind_of(value)}", 'write a list ([{"kind": "gpu", "count": 1}])')
    if len(value) > 16:
        raise Wrong("has more than 16 requests", "join requests of equal models")
    before = len(errors.found)
    requests: list[DeviceRequest] = []
    for index, item in enumerate(value):
        where = f"{path}[{index}]"
        if isinstance(item, dict) and "model" in item and "models" in item:
            errors.add(f"{where}.model", "stands beside models", "keep one of them")
            continue
        fields = read_fields(item, _DEVICE, where, errors)
        count = fields.pop("count", 1)
        if len(errors.found) > before:
            continue
        if count < 1:
            requests.append(DeviceRequest(**fields, count=1, share_milli=round(count * 1000)))
        else:
            requests.append(DeviceRequest(**fields, count=count))
    return tuple(requests)


def _resources(value: Any, path: str, errors: Errors) -> Resources | None:
    before = len(errors.found)
    fields = read_fields(value, _RESOURCES, path, errors)
    if len(errors.found) > before:
        return None
    return Resources(**fields)


def _data(value: Any, path: str, errors: Errors) -> DataSet | None:
    fields = read_fields(value, _DATA, path, errors)
    return DataSet(**fields) if _complete(fields, {"size_bytes": "size", "site": "site"}, path, errors) else None


def _max_latency(value: Any, path: str, errors: Errors) -> LatencyBound | None:
    fields = read_fields(value, _LATENCY, path, errors)
    return LatencyBound(**fields) if _complete(fields, {"to": "to", "max_ms": "ms"}, path, errors) else None


def _complete(fields: dict[str, Any], needed: Mapping[str, str], path: str, errors: Errors) -> bool:
    """Report missing fields; False also when one of them is wrong (and already reported)."""
    for canonical, name in needed.items():
        if canonical not in fields:
            errors.add(f"{path}.{name}", "is missing", "add it")
    return all(fields.get(canonical) is not None for canonical in needed)


_DEVICE: Table = {
    "kind": ("kind", _kind),
    "model": ("models", _model),
    "models": ("models", _texts),
    "count": ("count", _count),
}
_RESOURCES: Table = {"cpu": ("cpu_milli", _cpu), "memory": ("memory_bytes", _size), "devices": ("devices", _devices)}
_DATA: Table = {"size": ("size_bytes", _size), "site": ("site", _name)}
_WEIGHTS: Table = {
    "carbon_eur_per_t": ("carbon_eur_per_t", _weight),
    "delay_eur_per_h": ("delay_eur_per_h", _weight),
}
_LATENCY: Table = {"to": ("to", _name), "ms": ("max_ms", _milliseconds)}
JOB: Table = {
    "name": ("name", _name),
    "tenant": ("tenant", _name),
    "image": ("image", _image),
    "command": ("command", _texts),
    "env": ("env", _text_map),
    "resources": ("resources", _resources),
    "parallelism": ("parallelism", _whole_number(1, MAX_PARALLELISM)),
    "duration_estimate": ("duration_estimate_s", _positive_duration),
    "deadline": ("deadline", _time),
    "max_delay": ("max_delay_s", _duration),
    "priority": ("priority", _whole_number(-MAX_PRIORITY, MAX_PRIORITY)),
    "preemptible": ("preemptible", _flag),
    "suspendable": ("suspendable", _flag),
    "grace_period": ("grace_period_s", _grace),
    "data": ("data", _data),
    "allowed_sites": ("allowed_sites", _sites),
    "home_site": ("home_site", _name),
    "max_latency": ("max_latency", _max_latency),
    "max_latency_ms": ("max_latency_ms", _milliseconds),
    "to": ("to", _name),
    "tolerations": ("tolerations", _tolerations),
    "weights": ("weights", _weights),
    "labels": ("labels", _text_map),
}
_QUANTITY_CURES = {
    "cpu_milli": CPU_CURE,
    "memory_bytes": SIZE_CURE,
    "size_bytes": SIZE_CURE,
    "duration_estimate_s": DURATION_CURE,
    "max_delay_s": DURATION_CURE,
    "grace_period_s": DURATION_CURE,
}
