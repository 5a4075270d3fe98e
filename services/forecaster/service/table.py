"""The table in which faust keeps the windows: one compacted changelog topic, rows that name their partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from services.forecaster.core.rows import RowKey
from solyx.bus.port import Transient
from solyx.topics import METRICS

if TYPE_CHECKING:
    from services.forecaster.settings import ForecasterSettings

GROUP = "solyx-forecaster-windows"
"""faust's application id: the consumer group, and the prefix of the changelog topic."""
_TABLE = "panes"
# A pane's rows are rewritten every second and deleted after minutes: with the broker's defaults (segments of 1 GB, compacted
# when half is stale) a recovery would read what nobody needs any more.
_CHANGELOG = NewTopic(
    f"{GROUP}-{_TABLE}-changelog",
    num_partitions=METRICS.partitions,
    replication_factor=-1,  # the broker's default, which faust cannot ask for
    config={
        "cleanup.policy": "compact",
        "segment.bytes": str(16 << 20),
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": "600000",
    },
)


def ensure_table(settings: ForecasterSettings) -> None:
    """Create the table's changelog topic where it is missing.

    Raises:
        Transient: the broker did not create it in time.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for created in admin.create_topics([_CHANGELOG], operation_timeout=10.0, request_timeout=10.0).values():
        try:
            created.result(timeout=15.0)
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Transient(f"the window table's topic: {cause}") from error


def panes_table(app: Any) -> Any:
    """A table whose rows name their partition: rows are written between events, where faust would not know it."""
    from faust.tables.table import Table  # noqa: PLC0415

    class PanesTable(Table):  # type: ignore[type-arg]
        def partition_for_key(self, key: Any) -> int:
            return RowKey.decode(key).partition

    table = PanesTable(
        app,
        name=_TABLE,
        key_type=bytes,
        value_type=bytes,
        partitions=METRICS.partitions,
        store="memory://",
    )
    app.tables.add(table)
    return table
