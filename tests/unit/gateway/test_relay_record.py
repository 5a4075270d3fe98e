"""The relay writes an event as `encode` would, without decoding it again."""

from services.gateway.api.jobs import Submission, read
from services.gateway.service.relay import SOURCE, record_of
from services.gateway.store.outbox import OutboxRow
from solyx.events import JobSubmitted, decode, encode
from solyx.security import Principal, Role
from tests.gateway_events import START, TRACEPARENT

BODY = b'{"image": "busybox", "resources": {"cpu": 1}, "duration_estimate": 60}'


def submission(**fields: object) -> Submission:
    given = {
        "principal": Principal(key_id="k", tenant="acme", role=Role.SUBMITTER),
        "tenant": None,
        "homes": {"acme": "oslo"},
        "traceparent": TRACEPARENT,
        "now": START,
        "many": False,
        "max_jobs": 10,
    }
    return Submission(**given | fields)


def row_of(body: bytes = BODY, **fields: object) -> OutboxRow:
    (written,) = read(body, submission(**fields)).outbox
    return OutboxRow(5, 1, *written)


def test_the_record_equals_the_encoders() -> None:
    row = row_of()
    written = record_of(row)
    assert written.value is not None
    event = decode(written.value, written.headers).event
    expected = encode(event, source=SOURCE, time=START, traceparent=TRACEPARENT)
    assert (written.topic, written.key, written.ordering_key) == ("jobs", expected.key, expected.ordering_key)
    assert written.value == expected.value
    assert sorted(written.headers) == sorted(expected.headers)


def test_a_job_carries_its_tenants_home_unless_it_names_its_own() -> None:
    event = decode(row_of().payload, record_of(row_of()).headers).event
    assert isinstance(event, JobSubmitted)
    assert event.spec.home_site == "oslo"
    own = row_of(BODY[:-1] + b', "home_site": "bergen"}')
    event = decode(own.payload, record_of(own).headers).event
    assert isinstance(event, JobSubmitted)
    assert event.spec.home_site == "bergen"


def test_without_a_trace_to_continue_each_job_begins_one() -> None:
    first, second = (row_of(traceparent=None).traceparent for _ in range(2))
    assert first != second
    assert first is not None
    assert first.startswith("00-")
