"""Which partition an ordering key belongs to: Kafka's default, murmur2 of the key's bytes, so that every client agrees.

Source: the ``murmur2`` of Apache Kafka's Java client (``org.apache.kafka.common.utils.Utils``), after Austin Appleby's
MurmurHash2 with seed 0x9747b28c; the same as librdkafka's ``partitioner=murmur2_random`` for a record with that key.
"""

from __future__ import annotations

from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_R = 24
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit hash as an unsigned number."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * _M) & _MASK
        k ^= k >> _R
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    if length > whole:
        h ^= int.from_bytes(data[whole:], "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    h ^= h >> 15
    return h


@lru_cache(maxsize=65536)
def partition_of(ordering_key: str, partitions: int) -> int:
    """The partition of a key among ``partitions``."""
    return (murmur2(ordering_key.encode()) & 0x7FFFFFFF) % partitions
