"""Where the command line connects to: options, then environment, then what a running ``./run`` wrote down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from solyx.client import Client

Json = Annotated[bool, typer.Option("--json", help="JSON for programs instead of a table.")]
Url = Annotated[str | None, typer.Option(help="The gateway; default $SOLYX_URL.", show_default=False)]
Key = Annotated[str | None, typer.Option(help="The API key; default $SOLYX_API_KEY.", show_default=False)]


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway and a broker. ``./run`` writes one as ``connection.json`` into its state directory."""

    url: str = "http://127.0.0.1:8080"
    key: str = ""
    kafka_bootstrap_servers: str = "127.0.0.1:9092"


def find(*, url: str | None, key: str | None, kafka: str | None) -> Connection:
    """The connection to use; each part by itself."""
    path = Path(os.environ.get("SOLYX_STATE_DIR", ".solyx")) / "connection.json"
    try:
        written = msgspec.json.decode(path.read_bytes(), type=Connection)
    except (FileNotFoundError, msgspec.MsgspecError):
        written = Connection()
    return Connection(
        url=url or os.environ.get("SOLYX_URL") or written.url,
        key=key or os.environ.get("SOLYX_API_KEY") or written.key,
        kafka_bootstrap_servers=kafka
        or os.environ.get("SOLYX_KAFKA_BOOTSTRAP_SERVERS")
        or written.kafka_bootstrap_servers,
    )


def connect(url: str | None, key: str | None) -> Client:
    """A client of the gateway to use."""
    found = find(url=url, key=key, kafka=None)
    return Client(found.url, key=found.key)
