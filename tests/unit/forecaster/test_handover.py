"""What stands between faust-streaming and the loss of messages when partitions change hands (services/forecaster/service/handover.py)."""

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from services.forecaster.service.handover import Offsets, held_app
from services.forecaster.service.windows import WindowWorker
from services.forecaster.settings import ForecasterSettings

METRICS, CHANGELOG = TP("metrics", 0), TP("group-panes-changelog", 0)


class Thread:
    """The consumer's thread as far as a recovery asks it: seeks one partition after the other, like aiokafka."""

    def __init__(self) -> None:
        self.wanted = None
        self.taken_while_seeking: list[TP] = []

    def assignment(self) -> set[TP]:
        return {METRICS, CHANGELOG}

    async def getmany(self, wanted, _timeout_s):
        self.wanted = wanted
        return {}

    async def seek_to_committed(self) -> dict[TP, int]:
        for _ in range(3):
            await asyncio.sleep(0)
            self.taken_while_seeking += self.takes()
        return {METRICS: 7, CHANGELOG: None}

    def takes(self) -> list[TP]:
        """The partitions that aiokafka's ``fetched_records`` takes records of now: of all when it is given an empty set."""
        return [tp for tp in (METRICS, CHANGELOG) if not (self.wanted and tp not in self.wanted)]


@pytest.fixture
def app(tmp_path):
    ready: list[list[TP]] = []

    def on_ready() -> None:
        ready.append(app.consumer._thread.takes())
        app.consumer.release()

    app = held_app("group", on_ready=on_ready, broker="kafka://127.0.0.1:1", datadir=str(tmp_path), store="memory://")
    app.tables = SimpleNamespace(
        changelog_topics={CHANGELOG.topic},
        recovery=SimpleNamespace(_generation_id=4),
        on_actives_ready=lambda: None,
        on_standbys_ready=lambda: None,
        values=list,
        on_rebalance_start=lambda: None,
    )
    app.consumer_generation_id = 4
    app.consumer._thread.thread_loop.close()
    app.consumer._thread = Thread()
    app.ready = ready
    return app


async def recover(app) -> None:
    """The end of a recovery, by faust's own code."""
    from faust.tables.recovery import Recovery

    recovery = Recovery(app, app.tables)
    app._fetcher = SimpleNamespace(maybe_start=lambda: asyncio.sleep(0))
    app.assignor = SimpleNamespace(assigned_standbys=dict)
    app.on_rebalance_start()
    consumer = app.consumer
    consumer.stop_flow()
    consumer._owns = True
    consumer._set_active_tps(consumer.assignment())
    await consumer._getmany(consumer._get_active_partitions(), 1.0)  # a fetch that waits through all of the rest
    consumer.pause_partitions({METRICS})
    assert consumer._thread.takes() == [CHANGELOG]
    consumer.resume_flow()
    consumer.pause_partitions({CHANGELOG})  # "recovery done"
    assert consumer._thread.takes() == []
    await recovery.on_recovery_completed(4)


async def test_no_record_of_a_source_is_taken_before_faust_has_emptied_its_queues_for_the_last_time(app):
    await recover(app)
    assert app.consumer._thread.taken_while_seeking == []
    assert app.ready == [[]]
    assert app.flow_control.is_active()
    assert app.consumer._thread.takes() == [METRICS]


async def test_a_recovery_of_partitions_that_are_being_given_up_is_none(app):
    app.consumer._owns = True
    assert app.consumer.recovered_what_it_owns()
    app.consumer_generation_id = 5
    assert not app.consumer.recovered_what_it_owns()
    app.consumer_generation_id, app.consumer._owns = 4, False
    assert not app.consumer.recovered_what_it_owns()


def event(partition: int, offset: int) -> SimpleNamespace:
    return SimpleNamespace(
        message=SimpleNamespace(topic="metrics", partition=partition, offset=offset, headers=(), value=b"")
    )


def test_an_event_that_comes_while_partitions_are_given_up_is_neither_counted_nor_committed(tmp_path):
    settings = ForecasterSettings(kafka_bootstrap_servers="127.0.0.1:1", state_dir=str(tmp_path))
    worker = WindowWorker(settings, settings.clock())
    worker._park = lambda *_: None
    worker.recovered = True
    worker._fold(event(0, 41))
    worker.recovered = False
    worker._fold(event(0, 42))
    worker._save()
    assert worker.events == 1
    assert worker._offsets.due() == {0: 42}


STEPS = st.lists(st.sampled_from(["fold", "save", "commit", "give up"]), max_size=40)


@given(STEPS)
def test_what_is_committed_was_saved_and_what_was_saved_is_committed_in_the_end(steps):
    """The simple equal: a log of which a reader has folded, saved and committed ever longer heads."""
    offsets = Offsets()
    folded = saved = committed = 0
    for step in steps:
        match step:
            case "fold":
                offsets.folded(3, folded)
                folded += 1
            case "save":
                offsets.saved()
                saved = folded
            case "commit":
                due = offsets.due()
                committed = due.get(3, committed)
                offsets.committed(due)
            case "give up":  # the next owner, or the same one later, reads from what was committed
                offsets.clear()
                folded = saved = committed
        assert committed <= saved <= folded
    offsets.saved()
    assert offsets.due().get(3, committed) == folded


def test_a_commit_that_ends_after_more_was_saved_leaves_the_rest_due():
    offsets = Offsets()
    offsets.folded(0, 0)
    offsets.saved()
    due = offsets.due()
    offsets.folded(0, 1)
    offsets.saved()
    offsets.committed(due)
    assert offsets.due() == {0: 2}


async def test_an_unreadable_event_is_not_committed_before_the_dead_letters_have_it(tmp_path):
    settings = ForecasterSettings(kafka_bootstrap_servers="127.0.0.1:1", state_dir=str(tmp_path))
    worker = WindowWorker(settings, settings.clock())
    committed: list[dict] = []

    async def commit(offsets: dict) -> bool:
        committed.append(offsets)
        return True

    async def send(record, partition) -> None:
        raise ConnectionError("the broker does not take it")

    worker._app = SimpleNamespace(consumer=SimpleNamespace(_commit_offsets=commit))
    worker._send = send
    worker.recovered = True
    unreadable = event(0, 41)
    unreadable.message.timestamp, unreadable.message.key = 0.0, b"k"
    worker._fold(unreadable)
    await worker._save_and_commit()
    assert committed == []
    assert isinstance(worker.failed, ConnectionError)
