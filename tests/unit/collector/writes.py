"""Remote write requests made by hand, byte by byte, from the published message layout."""

import struct


def varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def label(name: str, value: str) -> bytes:
    return field(1, field(1, name.encode()) + field(2, value.encode()))


def sample(value: float, time_ms: int) -> bytes:
    """As Prometheus writes it: a value of 0 is left out."""
    encoded = b"\x09" + struct.pack("<d", value) if value else b""
    return field(2, encoded + b"\x10" + varint(time_ms))


def series(labels: dict[str, str], *samples: tuple[float, int]) -> bytes:
    return field(1, b"".join(label(*pair) for pair in sorted(labels.items())) + b"".join(sample(*s) for s in samples))
