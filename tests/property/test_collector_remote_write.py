"""The decoder reads what the protobuf library writes, and never trips over what nobody wrote."""

import contextlib
import math

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from services.collector.core.remote_write import BadWrite, WriteDecoder
from services.collector.core.series import canonical

_FIELD = descriptor_pb2.FieldDescriptorProto


def _messages() -> dict[str, type]:
    """Remote write 1.0, with descriptors built here (prompb/remote.proto and types.proto)."""
    file = descriptor_pb2.FileDescriptorProto(name="write_test.proto", package="write_test", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> None:
        described = file.message_type.add(name=name)
        for field_name, number, kind, label, type_name in fields:
            described.field.add(name=field_name, number=number, type=kind, label=label, type_name=type_name or None)

    one, many = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
    message("Label", ("name", 1, _FIELD.TYPE_STRING, one, ""), ("value", 2, _FIELD.TYPE_STRING, one, ""))
    message("Sample", ("value", 1, _FIELD.TYPE_DOUBLE, one, ""), ("timestamp", 2, _FIELD.TYPE_INT64, one, ""))
    message(
        "TimeSeries",
        ("labels", 1, _FIELD.TYPE_MESSAGE, many, ".write_test.Label"),
        ("samples", 2, _FIELD.TYPE_MESSAGE, many, ".write_test.Sample"),
    )
    message("WriteRequest", ("timeseries", 1, _FIELD.TYPE_MESSAGE, many, ".write_test.TimeSeries"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles(["write_test.proto"], pool)


WriteRequest = _messages()["write_test.WriteRequest"]

labels = st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), st.text(max_size=8), max_size=4)
metrics = st.builds(lambda name, rest: rest | {"__name__": name}, st.from_regex(r"[a-z:]{1,8}", fullmatch=True), labels)
times_ms = st.one_of(st.integers(-(2**44), 2**44), st.integers(2**35, 2**42 - 1))
samples = st.lists(st.tuples(st.floats(), times_ms), max_size=3)
requests = st.lists(st.tuples(metrics, samples), max_size=6)


def encoded(request: list) -> bytes:
    message = WriteRequest()
    for series_labels, series_samples in request:
        series = message.timeseries.add()
        for name, value in sorted(series_labels.items()):
            series.labels.add(name=name, value=value)
        for value, time_ms in series_samples:
            series.samples.add(value=value, timestamp=time_ms)
    return message.SerializeToString()


def expected(request: list) -> list[tuple[str, float, float]]:
    return [
        (canonical(series_labels), value, time_ms / 1000)
        for series_labels, series_samples in request
        for value, time_ms in series_samples
        if math.isfinite(value)
    ]


@settings(max_examples=100, deadline=None)
@given(requests)
def test_what_protobuf_writes_is_read_alike_the_first_time_and_every_time(request):
    decoder = WriteDecoder(source_labels=(), default_source="all")
    for _ in range(2):
        written = decoder.decode(encoded(request))
        assert written.by_source.get("all", []) == expected(request)
        assert written.samples + written.stale + written.infinite == sum(len(one[1]) for one in request)


@settings(max_examples=60, deadline=None)
@given(requests, requests)
def test_labels_known_from_one_request_change_nothing_in_another(first, second):
    decoder = WriteDecoder(source_labels=(), default_source="all")
    decoder.decode(encoded(first))
    assert decoder.decode(encoded(second)).by_source.get("all", []) == expected(second)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), requests)
def test_arbitrary_bytes_are_read_or_refused(noise, request):
    decoder = WriteDecoder(source_labels=(), default_source="all")
    decoder.decode(encoded(request))
    for payload in (noise, encoded(request) + noise, noise + encoded(request)):
        with contextlib.suppress(BadWrite):
            decoder.decode(payload)
