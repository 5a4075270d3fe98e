"""What every Solyx event is: a frozen record that knows its type, topic, key and a reproducible id.

Events are the only thing services share. They are immutable, carry units in their field names, and times are
timezone-aware UTC datetimes (RFC 3339 on the wire).
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""A point in time; without a timezone it is refused."""

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact that happened, or a decision that was taken.

    ``id`` is derived from the content, so the same cause yields the same id however often it is published:
    consumers de-duplicate by it. ``key`` is the Kafka record key (compaction keeps the last record of a key);
    ``ordering_key`` chooses the partition (records of one ordering key stay in order).
    """

    TYPE: ClassVar[str] = ""
    TOPIC: ClassVar[str] = ""

    # Each type has a key and an id of its own, which is checked when the type is made. ABCMeta would check it at every
    # construction, but not when decoding, and a `match` that passes over a type would take twice as long.
    if TYPE_CHECKING:

        @property
        @abstractmethod
        def key(self) -> str:
            """Kafka record key; unit of compaction."""

        @property
        @abstractmethod
        def id(self) -> str:
            """CloudEvents id, derived from the cause."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        missing = [name for name in ("TOPIC", "key", "id") if not getattr(cls, name, None)]
        if cls.TYPE and missing:
            msg = f"{cls.__name__} is an event type without {' and '.join(missing)}"
            raise TypeError(msg)

    @property
    def ordering_key(self) -> str:
        """What the partition is chosen by; defaults to the record key."""
        return self.key

    @property
    def subject(self) -> str:
        """CloudEvents subject; the id of the entity that the event is about."""
        return self.key


class SiteEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something about one site, which has a field ``site``; there may be several things to say of it, each under its own key.

    Ordered by site: one shard sees all that concerns it in order.
    """

    if TYPE_CHECKING:
        site: str  # each type has the field in its own place, which is the place in its schema

    @property
    def ordering_key(self) -> str:
        return self.site

    @property
    def subject(self) -> str:
        return self.site


class WorkloadEvent(SiteEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Something about one job at one site, under one revision of its placement. Keyed by site and job."""

    job_id: str
    tenant: str
    site: str
    revision: PositiveInt

    @property
    def key(self) -> str:
        return f"{self.site}/{self.job_id}"

    @property
    def subject(self) -> str:
        return self.job_id


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value inside an event: frozen, keyword-only, compared by content."""
