"""Where the command line connects."""

from pathlib import Path

import pytest

from solyx.cli import connection


def test_an_option_wins_over_the_environment_and_that_over_what_run_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SOLYX_URL", "SOLYX_API_KEY", "SOLYX_KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOLYX_STATE_DIR", str(tmp_path))
    assert connection.find(url=None, key=None, kafka=None) == connection.Connection()

    written = connection.Connection(url="http://a", key="sk_a", kafka_bootstrap_servers="a:1")
    (tmp_path / "connection.json").write_text('{"url": "http://a", "key": "sk_a", "kafka_bootstrap_servers": "a:1"}')
    assert connection.find(url=None, key=None, kafka=None) == written

    monkeypatch.setenv("SOLYX_URL", "http://b")
    found = connection.find(url=None, key="sk_c", kafka=None)
    assert found == connection.Connection(url="http://b", key="sk_c", kafka_bootstrap_servers="a:1")
    assert connection.find(url="http://d", key=None, kafka="d:1").url == "http://d"


def test_a_connection_file_that_is_cut_off_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLYX_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("SOLYX_URL", raising=False)
    (tmp_path / "connection.json").write_text('{"url": "http')
    assert connection.find(url=None, key=None, kafka=None).url == connection.Connection().url
