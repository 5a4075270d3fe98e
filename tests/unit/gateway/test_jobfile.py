"""Jobs as people write them: what is taken, and what is said about the rest."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
import yaml

from solyx.events import DataSet, DeviceRequest, JobSpec, LatencyBound, Resources, Weights
from solyx.jobfile import (
    DEFAULT_NAME,
    MAX_JOB_BYTES,
    JobFileError,
    parse_job,
    parse_json,
    parse_ndjson,
)
from solyx.jobschema import EXAMPLE

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINIMAL = {"image": "busybox", "resources": {"cpu": 1}, "duration_estimate": "10m"}


def errors_of(document: object) -> dict[str, tuple[str, str]]:
    with pytest.raises(JobFileError) as caught:
        parse_job(document, now=NOW)
    return {error.field: (error.message, error.cure) for error in caught.value.errors}


def test_the_least_a_job_needs_is_image_resources_and_duration() -> None:
    assert parse_job(MINIMAL).spec == JobSpec(
        name=DEFAULT_NAME, image="busybox", resources=Resources(cpu_milli=1000), duration_estimate_s=600
    )


def test_the_documented_example_is_read_in_canonical_units() -> None:
    assert parse_job(EXAMPLE).spec == JobSpec(
        name="train-resnet",
        image="ghcr.io/acme/train:1.4",
        command=("python", "train.py", "--epochs", "90"),
        env={"DATA": "/data/imagenet"},
        resources=Resources(
            cpu_milli=8000, memory_bytes=32 * 2**30, devices=(DeviceRequest(models=("A100", "H100"), count=2),)
        ),
        parallelism=4,
        duration_estimate_s=6 * 3600,
        max_delay_s=24 * 3600,
        priority=10,
        preemptible=True,
        suspendable=True,
        grace_period_s=120,
        data=DataSet(size_bytes=150 * 2**30, site="frankfurt"),
        allowed_sites=("frankfurt", "texas"),
        max_latency=LatencyBound(to="newyork", max_ms=120),
        tolerations=("maintenance",),
        weights=Weights(carbon_eur_per_t=150, delay_eur_per_h=0.2),
        labels={"team": "vision"},
    )


@pytest.mark.parametrize(
    ("field", "value", "canonical", "expected"),
    [
        ("duration_estimate", 90, "duration_estimate_s", 90),
        ("duration_estimate", 0.5, "duration_estimate_s", 0.5),
        ("duration_estimate", "90", "duration_estimate_s", 90),
        ("duration_estimate", "1h30m", "duration_estimate_s", 5400),
        ("duration_estimate", "2d", "duration_estimate_s", 172800),
        ("duration_estimate", "PT2H30M", "duration_estimate_s", 9000),
        ("duration_estimate", "P1DT1S", "duration_estimate_s", 86401),
        ("max_delay", 0, "max_delay_s", 0),
        ("deadline", "2026-11-22T06:00:00+02:00", "deadline", datetime(2026, 11, 22, 4, tzinfo=UTC)),
        ("max_latency", {"to": "oslo", "ms": 25}, "max_latency", LatencyBound(to="oslo", max_ms=25)),
        ("home_site", "oslo", "home_site", "oslo"),
        ("priority", -5, "priority", -5),
        ("grace_period", "2m", "grace_period_s", 120),
        ("grace_period", 0, "grace_period_s", 0),
        ("grace_period", None, "grace_period_s", 30),
        ("tolerations", ["gpu-only", "spot", "spot"], "tolerations", ("gpu-only", "spot")),
        ("tolerations", [], "tolerations", ()),
        ("weights", {"carbon_eur_per_t": 80}, "weights", Weights(carbon_eur_per_t=80)),
        ("weights", {"delay_eur_per_h": 0}, "weights", Weights(delay_eur_per_h=0)),
        ("weights", {}, "weights", Weights()),
        ("labels", None, "labels", {}),
    ],
)
def test_a_field_is_read(field: str, value: object, canonical: str, expected: object) -> None:
    assert getattr(parse_job({**MINIMAL, field: value}, now=NOW).spec, canonical) == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"cpu": "500m"}, Resources(cpu_milli=500)),
        ({"cpu": "2"}, Resources(cpu_milli=2000)),
        ({"cpu": 0.5, "memory": 1024}, Resources(cpu_milli=500, memory_bytes=1024)),
        ({"cpu": 1, "memory": "1.5Gi"}, Resources(cpu_milli=1000, memory_bytes=1536 * 2**20)),
        ({"cpu": 1, "memory": "20GB"}, Resources(cpu_milli=1000, memory_bytes=20_000_000_000)),
        ({"devices": [{"count": 0.25}]}, Resources(devices=(DeviceRequest(share_milli=250),))),
        (
            {"devices": [{"kind": "tpu", "model": "v5e", "count": 4.0}]},
            Resources(devices=(DeviceRequest(kind="tpu", models=("v5e",), count=4),)),
        ),
    ],
)
def test_resources_are_read(resources: object, expected: Resources) -> None:
    assert parse_job({**MINIMAL, "resources": resources}).spec.resources == expected


def test_a_latency_bound_may_be_flat() -> None:
    assert parse_job({**MINIMAL, "max_latency_ms": 20, "to": "oslo"}).spec.max_latency == LatencyBound(
        to="oslo", max_ms=20
    )


def test_yaml_times_and_quantities_are_read() -> None:
    text = """
    image: busybox
    resources: {cpu: 500m, memory: 4Gi}
    duration_estimate: 2h
    deadline: 2026-11-23T06:00:00Z
    """
    spec = parse_job(yaml.safe_load(text), now=NOW).spec
    assert spec.deadline == datetime(2026, 11, 23, 6, tzinfo=UTC)
    assert spec.resources.memory_bytes == 4 * 2**30


def test_an_administrators_document_names_the_tenant() -> None:
    assert parse_job({**MINIMAL, "tenant": "acme"}).tenant == "acme"
    assert parse_job(MINIMAL).tenant is None


@pytest.mark.parametrize(
    ("document", "field", "says", "cure"),
    [
        ({}, "image", "is missing", "container image"),
        ({}, "resources", "is missing", "cpu"),
        ({}, "duration_estimate", "is missing", "2h"),
        ([], "", "is a list", "an object"),
        ({**MINIMAL, "resorces": 1}, "resorces", "is not a field", "did you mean 'resources'"),
        ({**MINIMAL, "cpu": 1}, "cpu", "is not a field", "resources.cpu"),
        ({**MINIMAL, "image": ""}, "image", "is empty", "value"),
        ({**MINIMAL, "image": "a b"}, "image", "white space", "reference"),
        ({**MINIMAL, "image": 5}, "image", "is a number", "text"),
        ({**MINIMAL, "name": "a\nb"}, "name", "is no name", "one line"),
        ({**MINIMAL, "command": "python train.py"}, "command", "is text", "list"),
        ({**MINIMAL, "command": ["a", 1]}, "command[1]", "is a number", "quotes"),
        ({**MINIMAL, "env": {"A": 1}}, "env.A", "is a number", '"1"'),
        ({**MINIMAL, "env": {"A": "x\0"}}, "env.A", "NUL", "shorten"),
        ({**MINIMAL, "resources": {}}, "resources", "no cores and no devices", "cpu or devices"),
        ({**MINIMAL, "resources": {"cpu": "4Gi"}}, "resources.cpu", "not understood", "500m"),
        ({**MINIMAL, "resources": {"cpu": 0.0001}}, "resources.cpu", "finer", "500m"),
        ({**MINIMAL, "resources": {"cpu": -1}}, "resources.cpu", "is negative", "500m"),
        ({**MINIMAL, "resources": {"cpu": True}}, "resources.cpu", "true or false", "500m"),
        ({**MINIMAL, "resources": {"cpu": 1, "memory": "4 GiB/s"}}, "resources.memory", "not understood", "4Gi"),
        ({**MINIMAL, "resources": {"cpu": 1, "memory": "500m"}}, "resources.memory", "not understood", "512Mi"),
        ({**MINIMAL, "resources": {"gpu": 1}}, "resources.gpu", "is not a field", "cpu"),
        ({**MINIMAL, "resources": {"devices": {"gpu": 1}}}, "resources.devices", "is an object", "list"),
        ({**MINIMAL, "resources": {"devices": [{"count": 1.5}]}}, "resources.devices[0].count", "neither", "0.001"),
        ({**MINIMAL, "resources": {"devices": [{"count": 0}]}}, "resources.devices[0].count", "neither", "0.001"),
        ({**MINIMAL, "resources": {"devices": [{"kind": "cpu"}]}}, "resources.devices[0].kind", "no kind", "fpga"),
        (
            {**MINIMAL, "resources": {"devices": [{"model": "a", "models": ["b"]}]}},
            "resources.devices[0].model",
            "beside models",
            "one of them",
        ),
        ({**MINIMAL, "parallelism": 0}, "parallelism", "less than", "1 to"),
        ({**MINIMAL, "parallelism": 1.5}, "parallelism", "not a whole number", "whole"),
        ({**MINIMAL, "duration_estimate": "2 weeks"}, "duration_estimate", "not understood", "90m"),
        ({**MINIMAL, "duration_estimate": 0}, "duration_estimate", "is zero", "90m"),
        ({**MINIMAL, "duration_estimate": "P"}, "duration_estimate", "not understood", "90m"),
        ({**MINIMAL, "duration_estimate": 1e12}, "duration_estimate", "ten years", "90m"),
        ({**MINIMAL, "deadline": "tomorrow"}, "deadline", "is no time", "RFC 3339"),
        ({**MINIMAL, "deadline": "2026-11-22T06:00:00"}, "deadline", "no time zone", "RFC 3339"),
        ({**MINIMAL, "deadline": "2026-11-20T06:00:00Z"}, "deadline", "in the past", "after 2026-11-21T12:00"),
        ({**MINIMAL, "deadline": "2026-11-21T12:05:00Z"}, "deadline", "before the job could end", "12:10"),
        (
            {**MINIMAL, "deadline": "2026-11-23T00:00:00Z", "max_delay": 1},
            "max_delay",
            "beside deadline",
            "one of the two",
        ),
        ({**MINIMAL, "preemptible": "yes"}, "preemptible", "is text", "true or false"),
        ({**MINIMAL, "grace_period": "2h"}, "grace_period", "longer than 1 h", '"1h"'),
        ({**MINIMAL, "grace_period": "soon"}, "grace_period", "not understood", "90m"),
        ({**MINIMAL, "grace_period_s": 30}, "grace_period_s", "is not a field", "did you mean 'grace_period'"),
        ({**MINIMAL, "tolerations": "spot"}, "tolerations", "is text", "list"),
        ({**MINIMAL, "tolerations": ["spot", " "]}, "tolerations[1]", "is no taint", "/v1/sites"),
        ({**MINIMAL, "weights": 80}, "weights", "is a number", "carbon_eur_per_t"),
        ({**MINIMAL, "weights": {"carbon": 80}}, "weights.carbon", "is not a field", "carbon_eur_per_t"),
        ({**MINIMAL, "weights": {"carbon_eur_per_t": -1}}, "weights.carbon_eur_per_t", "is no number", "EUR"),
        ({**MINIMAL, "weights": {"delay_eur_per_h": "1"}}, "weights.delay_eur_per_h", "is no number", "EUR"),
        ({**MINIMAL, "data": {"size": "1Gi"}}, "data.site", "is missing", "add it"),
        ({**MINIMAL, "data": {"size": "1 apple", "site": "a"}}, "data.size", "not understood", "4Gi"),
        ({**MINIMAL, "allowed_sites": []}, "allowed_sites", "is empty", "at least one"),
        ({**MINIMAL, "max_latency_ms": 5}, "to", "is missing", "name the place"),
        ({**MINIMAL, "to": "oslo"}, "max_latency_ms", "is missing", "milliseconds"),
        ({**MINIMAL, "max_latency": {"to": "oslo", "ms": 0}}, "max_latency.ms", "milliseconds", "25"),
        ({**MINIMAL, "priority": 10**12}, "priority", "more than", "1000000000"),
    ],
)
def test_an_error_names_field_and_cure(document: object, field: str, says: str, cure: str) -> None:
    message, remedy = errors_of(document)[field]
    assert says in message
    assert cure in remedy


def test_all_errors_of_a_document_are_reported_together() -> None:
    assert set(errors_of({"image": 1, "resources": {"cpu": "x"}, "duration_estimate": "y", "z": 1})) == {
        "image",
        "resources.cpu",
        "duration_estimate",
        "z",
    }


def test_a_deadline_is_compared_only_when_the_time_is_known() -> None:
    past = {**MINIMAL, "deadline": datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2)))}
    assert parse_job(past).spec.deadline == datetime(2019, 12, 31, 22, tzinfo=UTC)


def test_ndjson_errors_name_line_and_field_and_nothing_is_accepted() -> None:
    good = msgspec.json.encode(MINIMAL)
    with pytest.raises(JobFileError) as caught:
        parse_ndjson(b"\n".join([good, b'{"image": 3}', b"", b"{", good]))
    found = [(error.line, error.field) for error in caught.value.errors]
    assert found == [(2, "image"), (2, "resources"), (2, "duration_estimate"), (4, "")]


def test_ndjson_keeps_the_order_of_lines_and_skips_empty_ones() -> None:
    lines = [msgspec.json.encode({**MINIMAL, "name": f"n{number}"}) for number in range(5)]
    assert [job.spec.name for job in parse_ndjson(b"\n\n".join(lines) + b"\r\n")] == ["n0", "n1", "n2", "n3", "n4"]


@pytest.mark.parametrize(("body", "says"), [(b"", "holds no job"), (b"\n \n", "holds no job"), (b"\xff", "is no JSON")])
def test_an_empty_or_unreadable_ndjson_body_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(JobFileError, match=says):
        parse_ndjson(body)


def test_more_jobs_than_allowed_are_refused() -> None:
    with pytest.raises(JobFileError, match="more than 2 jobs"):
        parse_ndjson(b"\n".join([msgspec.json.encode(MINIMAL)] * 3), max_jobs=2)


def test_a_job_too_large_for_a_record_is_refused() -> None:
    with pytest.raises(JobFileError, match="is larger than"):
        parse_json(msgspec.json.encode({**MINIMAL, "env": {"A": "x" * MAX_JOB_BYTES}}))


def test_deeply_nested_json_is_refused_not_a_crash() -> None:
    with pytest.raises(JobFileError):
        parse_json(b'{"env":' * 20_000)
