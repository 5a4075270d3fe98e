from pathlib import Path

import psutil
import pytest

from devstack import kafka_aot, kafka_jars
from devstack.broker import KafkaBroker

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory with Kafka's jars and nothing prepared."""
    kafka_jars.class_path()
    jars = kafka_jars.cache_directory() / f"kafka-{kafka_jars.KAFKA_VERSION}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kafka_jars.cache_directory().mkdir(parents=True)
    (kafka_jars.cache_directory() / jars.name).symlink_to(jars)
    return kafka_jars.cache_directory()


def options_of(broker: KafkaBroker) -> list[str]:
    assert broker.pid is not None
    return [text for text in psutil.Process(broker.pid).cmdline() if text.startswith("-XX:AOTCache=")]


def test_prepared_classes_are_made_once_and_used(empty_cache: Path, tmp_path: Path) -> None:
    kafka_aot.prepare()
    made = kafka_jars.aot_cache()
    assert made.parent == empty_cache
    assert made.stat().st_size > 1_000_000
    written = made.stat().st_mtime_ns
    kafka_aot.prepare()
    assert made.stat().st_mtime_ns == written
    with KafkaBroker(tmp_path / "broker") as broker:
        assert options_of(broker) == [f"-XX:AOTCache={made}"]


def test_without_prepared_classes_or_with_damaged_ones_kafka_starts_all_the_same(
    empty_cache: Path, tmp_path: Path
) -> None:
    with KafkaBroker(tmp_path / "plain") as broker:
        assert options_of(broker) == []
    kafka_jars.aot_cache().write_bytes(b"no such archive" * 1000)
    with KafkaBroker(tmp_path / "damaged") as broker:
        assert broker.is_running
