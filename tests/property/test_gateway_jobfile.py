"""Whatever is sent is either a job in canonical units or a list of errors; never anything else."""

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solyx.events import JobSpec
from solyx.jobfile import Job, JobFileError, parse_job, parse_json, parse_ndjson
from solyx.jobschema import JOB_SCHEMA
from solyx.quantity import MAX_BYTES, QuantityError, cpu_milli, duration_s, size_bytes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(st.sampled_from(sorted(JOB_SCHEMA["properties"])) | st.text(max_size=8), JSON, max_size=8)


def outcome(parse: Callable[[Any], Any], value: object) -> Any:
    """What the parser returns, or the one kind of error that it may raise."""
    try:
        return parse(value)
    except (JobFileError, QuantityError) as error:
        return error


@given(DOCUMENTS)
@settings(max_examples=100, deadline=None)
def test_a_document_is_a_job_or_a_list_of_errors(document: dict[str, object]) -> None:
    result = outcome(parse_job, document)
    if isinstance(result, Job):
        assert msgspec.json.decode(msgspec.json.encode(result.spec), type=JobSpec) == result.spec
    else:
        assert isinstance(result, JobFileError)
        assert result.errors
        assert all(one.message and one.cure for one in result.errors)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_jobs_or_errors(body: bytes) -> None:
    for parse in (parse_json, parse_ndjson):
        result = outcome(parse, body)
        assert not isinstance(result, JobFileError) or result.errors


@given(st.integers(0, 10**6), st.sampled_from(["", "Ki", "Mi", "Gi", "k", "M", "G"]))
@settings(max_examples=60, deadline=None)
def test_a_size_with_its_unit_is_that_many_bytes(number: int, unit: str) -> None:
    base = 1024 if unit.endswith("i") else 1000
    power = " KMG".index(unit[0].upper()) if unit else 0
    assert size_bytes(f"{number}{unit}") == number * base**power


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
@settings(max_examples=60, deadline=None)
def test_a_duration_is_the_sum_of_its_parts_in_both_notations(hours: int, minutes: int, seconds: int) -> None:
    expected = hours * 3600 + minutes * 60 + seconds
    assert duration_s(f"{hours}h{minutes}m{seconds}s") == expected
    assert duration_s(f"PT{hours}H{minutes}M{seconds}S") == expected


@given(st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.booleans(), st.none()))
@settings(max_examples=100, deadline=None)
def test_a_quantity_is_a_bounded_number_or_an_error(value: object) -> None:
    for parse, most in ((cpu_milli, 10**9), (size_bytes, MAX_BYTES), (duration_s, math.inf)):
        result = outcome(parse, value)
        assert str(result) if isinstance(result, QuantityError) else 0 <= result <= most


MINIMAL = {"image": "i", "resources": {"cpu": 1}, "duration_estimate": "1h"}


def described(field: str) -> str:
    """The pattern by which the API describes a field's text."""
    (pattern,) = (one["pattern"] for one in JOB_SCHEMA["properties"][field]["oneOf"] if "pattern" in one)
    return pattern


@given(st.sampled_from(["duration_estimate", "max_delay", "grace_period"]), st.data())
def test_every_duration_that_the_api_describes_is_taken(field: str, data: st.DataObject) -> None:
    text = data.draw(st.from_regex(re.compile(described(field), re.ASCII), fullmatch=True).map(str.strip))
    assert isinstance(parse_job({**MINIMAL, field: text}), Job)


@pytest.mark.parametrize("field", ["duration_estimate", "max_delay", "grace_period"])
@pytest.mark.parametrize(
    "text", ["45", "90s", "1500s", "2m", "2m30s", "60m", "1h", "0.5h", "PT2M", "PT1M30S", "PT45S", "PT1H"]
)
def test_durations_that_are_taken_are_described(field: str, text: str) -> None:
    assert isinstance(parse_job({**MINIMAL, field: text}), Job)
    assert re.fullmatch(described(field), text)


@pytest.mark.parametrize("text", ["1h30m", "2d", "2d12h", "1.5h", "36h", "P2D", "P1DT12H", "PT1H30M", "86400"])
def test_long_durations_that_are_taken_are_described(text: str) -> None:
    assert isinstance(parse_job({**MINIMAL, "duration_estimate": text}), Job)
    assert re.fullmatch(described("duration_estimate"), text)
