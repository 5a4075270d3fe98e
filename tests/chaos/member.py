"""A process of the zombie test: joins, reads four records, and commits at once or when told to.

Exit status: 0 committed, 3 fenced or refused.
"""

from __future__ import annotations

import sys
import time

from solyx.bus.kafka import KafkaBus
from solyx.bus.port import Fenced, Partition, Transient
from solyx.events import Record


def main() -> int:
    bootstrap, suffix, replica, mode = sys.argv[1:]
    bus = KafkaBus(bootstrap, client_name=replica, transaction_timeout_s=30)
    ownership = bus.join(service=f"zombie{suffix}", replica=replica, shards=1, on_revoked=lambda _: None)
    deadline = time.monotonic() + 60
    while 0 not in ownership.poll(0.1):
        if time.monotonic() > deadline:
            return 1
    source, sink = Partition(f"zin-{suffix}", 0), Partition(f"zout-{suffix}", 0)
    log = bus.open_shard(service=f"zombie{suffix}", shard=0, inputs=[source], own=[sink], ownership=ownership)
    batch = []
    while not log.caught_up():
        batch.extend(log.read(max_records=10, timeout_s=0.2))
    log.lead()
    while not log.caught_up():
        batch.extend(log.read(max_records=10, timeout_s=0.2))
    log.stop_following()
    print(f"read {len(batch)}", flush=True)
    if mode == "wait":
        sys.stdin.readline()
    outputs = [
        Record(sink.topic, r.key, r.key, f"{r.value.decode()} by {replica}".encode(), []) for r in batch if r.value
    ]
    try:
        log.commit(outputs, {source: len(batch)})
    except (Fenced, Transient) as error:
        print(f"refused: {error}", flush=True)
        return 3
    print("committed", flush=True)
    if mode == "go":
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
