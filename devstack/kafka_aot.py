"""Before the first start of a stack: prepares Kafka's classes once, loaded and linked (JEP 483, JEP 514), which halves its start.

The JVM writes them at the end of a run, so a broker on a directory of its own is started, used a little and stopped. Nothing
depends on it: without them Kafka starts in the ordinary way, only slower.
"""

import contextlib
import fcntl
import sys
import tempfile
from pathlib import Path

from devstack.broker import KafkaBroker
from devstack.errors import DevstackError
from devstack.kafka_jars import aot_cache, class_path
from solyx.bus.kafka import KafkaBus
from solyx.bus.port import Transient
from solyx.topics import TOPICS

__all__ = ["prepare"]

_WRITTEN_WITHIN_S = 60.0  # 5 s on 2 idle cores


def prepare() -> None:
    """Make the cache unless it is there. Whatever fails here fails without harm."""
    class_path()
    cache = aot_cache()
    if cache.is_file():
        return
    with contextlib.suppress(OSError, DevstackError, Transient), (cache.parent / "kafka-aot.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several may start at once
        if cache.is_file():
            return
        print("devstack: preparing faster starts of Kafka (about 10 s, once)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="kafka-aot-", dir=cache.parent) as scratch:
            made = Path(scratch) / "classes.aot"
            _train(Path(scratch) / "broker", made)
            made.replace(cache)


def _train(directory: Path, output: Path) -> None:
    broker = KafkaBroker(directory, jvm=(f"-XX:AOTCacheOutput={output}",)).start()
    try:
        with KafkaBus(broker.bootstrap_servers, client_name="training") as bus:
            bus.ensure_topics(TOPICS)
    finally:
        broker.stop(within_s=_WRITTEN_WITHIN_S)
