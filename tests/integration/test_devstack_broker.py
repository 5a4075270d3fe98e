import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from devstack import kafka_jars
from devstack.broker import DevstackError, KafkaBroker
from tests.processes import ends, has_ended


def make_topic(broker: KafkaBroker, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    for future in admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)]).values():
        future.result(timeout=60)


def produce(broker: KafkaBroker, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value, key=value)
    assert producer.flush(60) == 0


def read(broker: KafkaBroker, topic: str, count: int, **settings: object) -> set[bytes]:
    defaults = {"group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, **defaults, **settings})
    consumer.subscribe([topic])
    values: set[bytes] = set()
    deadline = time.monotonic() + 60
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            values.add(message.value())
    consumer.close()
    return values


def test_what_is_produced_is_consumed(kafka: KafkaBroker) -> None:
    topic = uuid.uuid4().hex
    make_topic(kafka, topic)
    produce(kafka, topic, [b"a", b"b", b"c"])
    assert read(kafka, topic, 3) == {b"a", b"b", b"c"}


def test_a_group_of_the_new_protocol_consumes(kafka: KafkaBroker) -> None:
    topic = uuid.uuid4().hex
    make_topic(kafka, topic)
    produce(kafka, topic, [b"a", b"b"])
    assert read(kafka, topic, 2, **{"group.protocol": "consumer"}) == {b"a", b"b"}


def test_a_transaction_becomes_visible_as_a_whole(kafka: KafkaBroker) -> None:
    topic = uuid.uuid4().hex
    make_topic(kafka, topic)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b"dropped")
    producer.flush(60)
    producer.abort_transaction(60)
    producer.begin_transaction()
    producer.produce(topic, b"kept")
    producer.commit_transaction(60)
    assert read(kafka, topic, 1, **{"isolation.level": "read_committed"}) == {b"kept"}


def test_an_unknown_topic_is_not_created(kafka: KafkaBroker) -> None:
    topic = uuid.uuid4().hex
    errors: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "message.timeout.ms": 1500, "log_level": 0})
    producer.produce(topic, b"x", on_delivery=lambda error, _: errors.append(error))
    producer.flush(60)
    assert errors[0] is not None
    assert topic not in AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=60).topics


def test_data_and_port_survive_a_kill(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path / "kafka") as broker:
        address = broker.bootstrap_servers
        make_topic(broker, "kept")
        produce(broker, "kept", [b"before"])
        broker.kill()
        assert broker.pid is None
        broker.start()
        assert broker.bootstrap_servers == address
        produce(broker, "kept", [b"after"])
        assert read(broker, "kept", 2) == {b"before", b"after"}
    # A later session finds the data too, wherever its free ports lie.
    with KafkaBroker(tmp_path / "kafka") as broker:
        assert read(broker, "kept", 2) == {b"before", b"after"}


def test_a_taken_port_is_named_with_a_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DevstackError, match=f"port {port} is taken") as error:
            KafkaBroker(tmp_path / "kafka", port=port).start()
    assert "choose another port" in error.value.cure


def test_a_second_broker_on_the_same_data_is_refused(kafka: KafkaBroker, tmp_path: Path) -> None:
    with KafkaBroker(tmp_path / "kafka") as broker:
        with pytest.raises(DevstackError, match="another broker uses"):
            KafkaBroker(tmp_path / "kafka").start()
        assert broker.is_running


def test_the_broker_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path / "kafka")
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()
    time.sleep(0.5)
    try:
        assert broker.is_running
    finally:
        broker.stop()


def test_no_broker_is_left_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from devstack.broker import KafkaBroker\n"
        "print(KafkaBroker(sys.argv[1]).start().pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "kafka")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not has_ended(pid)
        os.kill(parent.pid, signal.SIGKILL)
    assert ends(pid)
    with KafkaBroker(tmp_path / "kafka") as broker:
        assert broker.is_running


def test_a_first_start_without_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))  # an empty Maven cache
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: refuses at once
    with pytest.raises(DevstackError, match="cannot fetch Apache Kafka's jars") as error:
        kafka_jars.class_path()
    assert "network access" in error.value.cure


def test_a_damaged_jar_in_the_cache_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"damaged")
    with pytest.raises(DevstackError, match="SHA-256 differs"):
        kafka_jars._check(tmp_path, {"a.jar": "0" * 64})
