"""Prometheus remote write 1.0 on the wire: snappy-compressed protobuf to samples.

Format: the Prometheus remote write specification 1.0 and ``prompb/remote.proto``, ``prompb/types.proto``:
``WriteRequest{timeseries=1}``, ``TimeSeries{labels=1, samples=2}``, ``Label{name=1, value=2}``,
``Sample{double value=1, int64 timestamp=2}``. Other fields (metadata, exemplars, native histograms) are skipped.

The simple algorithm (``_series``) reads a series field by field. The fast one is equal to it: a writer sends the same label bytes with
every scrape, so a label block that was read once whole is remembered with its name, and a series that is such a block and one sample of
the usual length is cut in two without reading its labels again. The block ends at a field boundary, so what follows can be
nothing but the sample.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import cramjam
import msgspec

from services.collector.core.series import METRIC_NAME, Sample, SeriesError, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_CACHED_SERIES = 200_000
"""Label blocks that are remembered; past it the memory is emptied and fills again. About 100 MB with long labels."""

_MAX_VARINT_BYTES = 10
_double_at: Callable[[bytes, int], tuple[float]] = struct.Struct("<d").unpack_from

# One sample with a value and a timestamp in ms of six varint bytes (years 1971 to 2109): 09 value(8) 10 time(6)
_SAMPLE_BYTES = 18
_SAMPLE_HEAD = b"\x12\x10\x09"
# The same with the value 0, which protobuf leaves out: 10 time(6)
_ZERO_BYTES = 9
_ZERO_HEAD = b"\x12\x07\x10"


class BadWrite(Exception):  # noqa: N818 - says what the request is; no retry will make it good
    """A payload that is no WriteRequest; says where and why."""


class TooLarge(Exception):  # noqa: N818 - same
    """A payload that decompresses to more than is allowed."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a request holds. ``by_source`` has the finite samples in the order of the request."""

    by_source: dict[str, list[Sample]]
    samples: int  # finite ones
    stale: int  # NaN: the end of a series, or a value that JSON has no number for
    infinite: int
    histograms: int  # native histograms, which are not kept


def decompress(body: bytes, *, max_bytes: int) -> bytes:
    """Undo snappy's block format.

    Raises:
        BadWrite: it is none.
        TooLarge: it says it holds more than ``max_bytes``.
    """
    try:
        size, _ = _varint(body, 0, len(body))  # the length comes first: a bomb is refused before it goes off
    except IndexError:
        raise BadWrite("the body is empty or no snappy block") from None
    if size > max_bytes:
        raise TooLarge(f"the request holds {size} bytes; {max_bytes} are taken at a time")
    try:
        plain = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise BadWrite(f"the body is no snappy block ({error})") from error
    if len(plain) != size:
        raise BadWrite(f"the snappy block holds {len(plain)} bytes and says {size}")
    return plain


class WriteDecoder:
    """Decodes requests of the same writers again and again."""

    def __init__(self, *, source_labels: Sequence[str], default_source: str) -> None:
        """The first of ``source_labels`` that a series has, and that is not empty, is its source."""
        self._source_labels, self._default_source = tuple(source_labels), default_source
        self._known: dict[bytes, tuple[str, str]] = {}  # label block → (source, canonical name)

    def decode(self, plain: bytes) -> Written:
        """The samples of a decompressed WriteRequest.

        Raises:
            BadWrite: it is none, or a series has no name, a bad or repeated label, or text that is no UTF-8.
        """
        by_source: dict[str, list[Sample]] = {}
        tally = _Tally(by_source)
        try:
            self._request(plain, tally)
        except IndexError:
            raise BadWrite(f"the request ends in the middle of a field ({len(plain)} bytes)") from None
        return Written(
            by_source={source: samples for source, samples in by_source.items() if samples},
            samples=sum(map(len, by_source.values())),
            stale=tally.stale,
            infinite=tally.infinite,
            histograms=tally.histograms,
        )

    def _request(self, plain: bytes, tally: _Tally) -> None:
        at, end = 0, len(plain)
        known, add = self._known.get, tally.add
        while at < end:
            tag = plain[at]
            if tag != 0x0A:  # a field other than timeseries
                at = _skipped(plain, at, end)
                continue
            size, at = _varint(plain, at + 1, end)
            to = at + size
            if to > end:
                raise IndexError
            cut = to - _SAMPLE_BYTES
            if plain[cut : cut + 3] == _SAMPLE_HEAD and plain[to - 7] == 0x10:
                time_ms, name = _six_bytes(plain, to), known(plain[at:cut])
                if name is not None and time_ms is not None:
                    add(name, _double_at(plain, to - 15)[0], time_ms)
                    at = to
                    continue
            elif plain[(cut := to - _ZERO_BYTES) : cut + 3] == _ZERO_HEAD:
                time_ms, name = _six_bytes(plain, to), known(plain[at:cut])
                if name is not None and time_ms is not None:
                    add(name, 0.0, time_ms)
                    at = to
                    continue
            self._series(plain, at, to, tally)
            at = to

    def _series(self, plain: bytes, at: int, end: int, tally: _Tally) -> None:
        """One TimeSeries, field by field."""
        labels: dict[str, str] = {}
        samples: list[tuple[float, int]] = []
        start = labels_end = at
        labels_first = True  # the block before labels_end holds nothing else, and holds all of them
        other_seen = False
        while at < end:
            tag = plain[at]
            if tag == 0x0A:
                size, at = _varint(plain, at + 1, end)
                name, value = _label(plain, at, _within(at + size, end))
                if name in labels:
                    raise BadWrite(f"label {name!r} appears twice in a series")
                labels[name] = value
                at += size
                labels_end = at
                labels_first = labels_first and not other_seen
                continue
            other_seen = True
            if tag == 0x12:
                size, at = _varint(plain, at + 1, end)
                samples.append(_sample(plain, at, _within(at + size, end)))
                at += size
                continue
            tally.histograms += tag == 0x22
            at = _skipped(plain, at, end)
        name = self._name(labels)
        for value, time_ms in samples:
            tally.add(name, value, time_ms)
        if labels_first:
            self._remember(plain[start:labels_end], name)

    def _remember(self, block: bytes, name: tuple[str, str]) -> None:
        if len(self._known) >= MAX_CACHED_SERIES:
            self._known.clear()
        self._known[block] = name

    def _name(self, labels: dict[str, str]) -> tuple[str, str]:
        if not labels.get(METRIC_NAME):
            raise BadWrite(f"a series has no metric name: {dict(list(labels.items())[:5])}")
        try:
            name = canonical(labels)
        except SeriesError as error:
            raise BadWrite(str(error)) from error
        named = (labels[label] for label in self._source_labels if labels.get(label))
        return next(named, self._default_source), name


class _Tally:
    """Collects the samples of one request."""

    __slots__ = ("_by_source", "histograms", "infinite", "stale")

    def __init__(self, by_source: dict[str, list[Sample]]) -> None:
        self._by_source = by_source
        self.stale = self.infinite = self.histograms = 0

    def add(self, name: tuple[str, str], value: float, time_ms: int) -> None:
        if value - value != 0.0:  # NaN or infinite
            if value != value:  # noqa: PLR0124 - NaN alone differs from itself
                self.stale += 1
            else:
                self.infinite += 1
            return
        source, series = name
        samples = self._by_source.get(source)
        if samples is None:
            samples = self._by_source[source] = []
        samples.append((series, value, time_ms / 1000))


def _label(plain: bytes, at: int, end: int) -> tuple[str, str]:
    name = value = b""
    while at < end:
        tag = plain[at]
        if tag not in (0x0A, 0x12):
            at = _skipped(plain, at, end)
            continue
        size, at = _varint(plain, at + 1, end)
        text = plain[at : _within(at + size, end)]
        name, value = (text, value) if tag == 0x0A else (name, text)
        at += size
    try:
        return name.decode(), value.decode()
    except UnicodeDecodeError as error:
        raise BadWrite(f"a label is no UTF-8: {name[:50]!r}") from error


def _sample(plain: bytes, at: int, end: int) -> tuple[float, int]:
    value, time_ms = 0.0, 0
    while at < end:
        tag = plain[at]
        if tag == 0x09:
            value = _double_at(plain, _within(at + 9, end) - 8)[0]
            at += 9
        elif tag == 0x10:
            number, at = _varint(plain, at + 1, end)
            time_ms = number - (1 << 64) if number >> 63 else number
        else:
            at = _skipped(plain, at, end)
    if not -(1 << 45) < time_ms < (1 << 45):  # beyond the years 855 and 3084: a wrong unit
        raise BadWrite(f"a sample has the timestamp {time_ms} ms")
    return value, time_ms


def _six_bytes(plain: bytes, to: int) -> int | None:
    """The varint in the six bytes before ``to``; None where they are not one varint of that length."""
    b0, b1, b2, b3, b4, b5 = plain[to - 6 : to]
    if not b0 & b1 & b2 & b3 & b4 & 0x80 or b5 & 0x80:
        return None
    return (b0 & 127) | (b1 & 127) << 7 | (b2 & 127) << 14 | (b3 & 127) << 21 | (b4 & 127) << 28 | b5 << 35


def _varint(plain: bytes, at: int, end: int) -> tuple[int, int]:
    """A base-128 number and the place after it; IndexError when it is cut off."""
    byte = plain[at]
    if byte < 0x80 and at < end:
        return byte, at + 1
    number = shift = 0
    for place in range(at, min(at + _MAX_VARINT_BYTES, end)):
        byte = plain[place]
        number |= (byte & 127) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, place + 1
        shift += 7
    if end - at >= _MAX_VARINT_BYTES:
        raise BadWrite(f"the number at byte {at} has more than {_MAX_VARINT_BYTES} bytes")
    raise IndexError


def _within(to: int, end: int) -> int:
    if to > end:
        raise IndexError
    return to


def _skipped(plain: bytes, at: int, end: int) -> int:
    """The place after a field that is not kept."""
    begin = at
    tag, at = _varint(plain, at, end)
    match tag & 7:
        case 0:  # varint
            _, at = _varint(plain, at, end)
        case 1:  # 64 bits
            at += 8
        case 2:  # bytes with their length
            size, at = _varint(plain, at, end)
            at += size
        case 5:  # 32 bits
            at += 4
        case wire_type:
            raise BadWrite(f"the field at byte {begin} has the wire type {wire_type}, which no WriteRequest has")
    if tag >> 3 == 0:
        raise BadWrite(f"the field at byte {begin} has the number 0")
    return _within(at, end)
