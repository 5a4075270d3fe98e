"""Remote write payloads: good ones are read, bad ones are refused with the reason."""

import struct

import cramjam
import pytest

from services.collector.core.remote_write import BadWrite, TooLarge, WriteDecoder, Written, decompress
from tests.unit.collector.writes import field, label, sample, series, varint

TIME_MS = 1_700_000_000_123
UP = {"__name__": "up", "job": "node", "instance": "a:9100"}
STALE_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]  # Prometheus's staleness marker


@pytest.fixture
def decoder() -> WriteDecoder:
    return WriteDecoder(source_labels=("site", "instance"), default_source="nobody")


def test_bytes_written_out_by_hand_are_read(decoder):
    # WriteRequest{timeseries: [{labels: [{name: "__name__", value: "m"}], samples: [{value: 1.5, timestamp: 1000}]}]}
    request = bytes.fromhex("0a1d0a0d0a085f5f6e616d655f5f12016d120c09000000000000f83f10e807")
    assert decoder.decode(request).by_source == {"nobody": [("m", 1.5, 1.0)]}


def test_a_series_is_named_canonically_and_belongs_to_its_first_source_label(decoder):
    written = decoder.decode(series(UP, (1.0, TIME_MS)) + series(UP | {"site": "berlin"}, (0.0, TIME_MS)))
    assert written.by_source == {
        "a:9100": [('up{instance="a:9100",job="node"}', 1.0, TIME_MS / 1000)],
        "berlin": [('up{instance="a:9100",job="node",site="berlin"}', 0.0, TIME_MS / 1000)],
    }


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5e-300])
@pytest.mark.parametrize("time_ms", [TIME_MS, 0, 5, -1, 2**35 - 1, 2**35, 2**42 - 1, 2**42])
def test_the_second_scrape_of_a_series_reads_like_the_first(decoder, value, time_ms):
    encoded = field(2, (b"\x09" + struct.pack("<d", value) if value else b"") + b"\x10" + varint(time_ms % 2**64))
    request = field(1, b"".join(label(*pair) for pair in sorted(UP.items())) + encoded)
    first = decoder.decode(request)
    assert first.by_source["a:9100"] == [('up{instance="a:9100",job="node"}', value, time_ms / 1000)]
    assert decoder.decode(request) == first


def test_a_sample_of_usual_length_with_other_fields_inside_is_read_field_by_field(decoder):
    decoder.decode(series(UP, (1.0, TIME_MS)))  # its labels are known from here on
    odd = field(
        2, b"\x09" + struct.pack("<d", 7.0) + b"\x10\x05" + b"\x18\xff\xff\xff\x7f"
    )  # 16 bytes, an unknown field 3
    assert len(odd) == 18
    request = field(1, b"".join(label(*pair) for pair in sorted(UP.items())) + odd)
    assert decoder.decode(request).by_source["a:9100"][0][1:] == (7.0, 0.005)


def test_a_label_that_looks_like_a_sample_is_a_label(decoder):
    disguise = sample(3.0, TIME_MS).decode("latin-1")
    labels = {"__name__": "m", "z": disguise if disguise.isascii() else "\x12\x10\x09" + "a" * 8 + "\x10" + "b" * 6}
    for _ in range(2):
        assert decoder.decode(series(labels)).samples == 0
        assert decoder.decode(series(labels, (4.0, TIME_MS))).by_source["nobody"][0][1] == 4.0


def test_labels_after_the_samples_still_count(decoder):
    late = field(1, label("__name__", "m") + sample(1.0, TIME_MS) + label("zone", "DE"))
    plain = field(1, label("__name__", "m") + sample(1.0, TIME_MS))
    for _ in range(2):
        assert decoder.decode(late).by_source["nobody"][0][0] == 'm{zone="DE"}'
        assert decoder.decode(plain).by_source["nobody"][0][0] == "m"


def test_several_samples_of_a_series_keep_their_order(decoder):
    written = decoder.decode(series(UP, (1.0, TIME_MS), (2.0, TIME_MS + 1), (0.0, TIME_MS + 2)))
    assert [value for _, value, _ in written.by_source["a:9100"]] == [1.0, 2.0, 0.0]


def test_values_that_json_has_no_number_for_are_left_out_and_counted(decoder):
    samples = (STALE_NAN, TIME_MS), (float("nan"), TIME_MS), (float("inf"), TIME_MS), (float("-inf"), TIME_MS)
    for _ in range(2):  # read slowly, then by the known labels
        written = decoder.decode(b"".join(series(UP, one) for one in samples))
        assert written == Written(by_source={}, samples=0, stale=2, infinite=2, histograms=0)


def test_metadata_exemplars_and_histograms_are_skipped(decoder):
    metadata = field(3, varint(1 << 3) + varint(1) + field(2, b"up"))
    extras = field(3, b"\x09" + bytes(8)) + field(4, b"\x1d\x00\x00\x00\x00")
    body = field(1, label("__name__", "m") + sample(1.0, TIME_MS) + extras)
    written = decoder.decode(metadata + body + metadata)
    assert (written.samples, written.histograms) == (1, 1)


def test_nothing_is_nothing(decoder):
    assert decoder.decode(b"").samples == 0


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_request_that_is_cut_off_is_refused(decoder, cut):
    whole = series(UP, (1.0, TIME_MS))
    decoder.decode(whole)
    with pytest.raises(BadWrite):
        decoder.decode(whole[:-cut])


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (series({"job": "x"}, (1.0, 1)), "no metric name"),
        (field(1, label("__name__", "m") * 2 + sample(1.0, 1)), "appears twice"),
        (series({"__name__": "m", "0bad": "x"}, (1.0, 1)), "label name"),
        (field(1, field(1, field(1, b"__name__") + field(2, b"\xff\xfe"))), "no UTF-8"),
        (series({"__name__": "m", "a": "x" * 40_000}, (1.0, 1)), "longer than"),
        (b"\x0b", "wire type"),
        (b"\xff" * 12, "more than 10 bytes"),
        (series({"__name__": "m"}, (1.0, 2**60)), "timestamp"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(decoder, request_bytes, reason):
    with pytest.raises(BadWrite, match=reason):
        decoder.decode(request_bytes)


def test_snappy_is_undone():
    plain = series(UP, (1.0, TIME_MS)) * 50
    assert decompress(bytes(cramjam.snappy.compress_raw(plain)), max_bytes=10_000) == plain


@pytest.mark.parametrize("body", [b"", b"\x80", b"no snappy at all", b"\x09\x10hello"])
def test_what_is_no_snappy_block_is_refused(body):
    with pytest.raises(BadWrite):
        decompress(body, max_bytes=10_000)


def test_a_bomb_is_refused_by_what_it_says_it_holds():
    with pytest.raises(TooLarge, match="10000000"):
        decompress(bytes(cramjam.snappy.compress_raw(bytes(10_000_000))), max_bytes=1_000_000)
