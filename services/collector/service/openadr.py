"""A virtual end node of OpenADR 3: follows a VTN's events, and reports back what the sites delivered.

The VTN is polled, whole lists each time, so that an event that was changed or deleted is noticed however long we were away; a list
of which a page is missing counts as no answer. Why a client of our own: the published ones need a newer Python than ours
(``openadr3-client``) or bring a second HTTP stack, a schema validator and a date library for the two calls that are made here.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from services.collector.core.correspondence import Correspondence
from services.collector.core.grid import GridBook
from services.collector.core.openadr import OadrEvent, Program, asked, report_of
from services.collector.core.paths import MappingError
from services.collector.service.feed import FeedError, Fetched
from services.collector.service.http import HttpSource
from solyx.bus.port import Transient
from solyx.clock import monotonic_s
from solyx.events import DemandResponseReported, GridEventAnnounced, Poison, decode
from solyx.telemetry import get_logger
from solyx.topics import GRID, RESPONSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    import aiohttp

    from services.collector.model import OpenAdrFeed
    from solyx.bus.port import Bus, Received, Tail
    from solyx.events import Event

log = get_logger()

PAGE = 50  # the most that the specification lets a client ask for
MAX_PAGES = 2000
TOKEN_MARGIN_S = 30.0
READ_S = 0.5
RETRY_S = 5.0
LONGEST_RETRY_S = 300.0
NOT_FOUND = 404
_LATER = frozenset({401, 403, 408, 425, 429})
"""Refusals that say nothing against the report: our key, or the moment, is wrong."""

T = TypeVar("T")


class Vtn:
    """The calls to one VTN, with a token that is fetched when it is needed."""

    def __init__(self, feed: OpenAdrFeed, session: aiohttp.ClientSession, directory: Path) -> None:
        self._feed, self._directory = feed, directory
        self._http = HttpSource(session, feed.http, directory)
        self._url = feed.url.rstrip("/")
        self._token, self._token_until_s = "", 0.0

    async def programs(self) -> list[Program]:
        """Those that the VTN shows us."""
        return await self._all("programs", {}, Program)

    async def events(self, program_id: str) -> list[OadrEvent]:
        """Of one program; empty: of all."""
        return await self._all("events", {"programID": program_id} if program_id else {}, OadrEvent)

    async def report(self, report: dict[str, Any], known_id: str) -> str:
        """Create the report, or replace it; its id.

        Raises:
            FeedError: it was not taken.
        """
        body = msgspec.json.encode(report)
        if not known_id:
            known_id = await self._report_id(report)
        if known_id:
            await self._send("PUT", f"reports/{urllib.parse.quote(known_id, safe='')}", body)
            return known_id
        return _Created.of(await self._send("POST", "reports", body))

    async def _report_id(self, report: dict[str, Any]) -> str:
        """Of the report that an earlier process of ours created."""
        params = {"eventID": report["eventID"], "clientName": report["clientName"]}
        found = await self._all("reports", params, _Created)
        return next((one.id for one in found if one.report_name == report["reportName"]), "")

    async def _all(self, path: str, params: dict[str, str], kind: type[T]) -> list[T]:
        found: list[T] = []
        for page in range(MAX_PAGES):
            query = urllib.parse.urlencode({**params, "skip": page * PAGE, "limit": PAGE})
            body = await self._send("GET", f"{path}?{query}", None)
            try:
                part = msgspec.json.decode(body, type=list[kind])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise MappingError(f"{path}: {error}") from error
            found.extend(part)
            if len(part) < PAGE:
                return found
        raise MappingError(f"{path}: more than {MAX_PAGES * PAGE}; name a program")

    async def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        """One call; a token that is refused is fetched anew once."""
        for attempt in (1, 2):
            try:
                headers = await self._headers()
                return await self._http.send(method, f"{self._url}/{path}", body=body, headers=headers)
            except FeedError as error:
                self._token = ""
                if error.status != 401 or attempt == 2 or self._feed.auth is None:
                    raise
        raise AssertionError

    async def _headers(self) -> dict[str, str]:
        auth = self._feed.auth
        if auth is None:
            return {}
        if not self._token or monotonic_s() >= self._token_until_s:
            await self._fetch_token(auth.token_url or f"{self._url}/auth/token")
        return {"Authorization": f"Bearer {self._token}"}

    async def _fetch_token(self, url: str) -> None:
        """OAuth 2.0 client credentials (RFC 6749, section 4.4), as OpenADR 3 asks for."""
        auth = self._feed.auth
        assert auth is not None
        secret = auth.client_secret
        if auth.client_secret_file:
            try:
                file = self._directory / auth.client_secret_file
                secret = (await asyncio.to_thread(file.read_text, encoding="utf-8")).strip()
            except (OSError, UnicodeDecodeError) as error:
                raise FeedError(f"client_secret_file cannot be read: {error}") from error
        fields = {"grant_type": "client_credentials", "client_id": auth.client_id, "client_secret": secret}
        if auth.scope:
            fields["scope"] = auth.scope
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            answer = await self._http.send("POST", url, body=urllib.parse.urlencode(fields).encode(), headers=form)
        except FeedError as error:  # its status is none of the call that needs the token
            raise FeedError(f"no token from {url}: {error}", retry_after_s=error.retry_after_s) from error
        try:
            granted = msgspec.json.decode(answer, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FeedError(f"{url} answered no token: {error}") from error
        margin_s = min(TOKEN_MARGIN_S, granted.expires_in / 2)
        self._token, self._token_until_s = granted.access_token, monotonic_s() + granted.expires_in - margin_s


class _Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 300.0


class _Created(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    report_name: str | None = None

    @classmethod
    def of(cls, body: bytes) -> str:
        """The id that the VTN gave."""
        try:
            return msgspec.json.decode(body, type=cls).id
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FeedError(f"the VTN's answer to a report: {error}") from error


class OpenAdrSource:
    """One feed of ``grid`` from a VTN."""

    def __init__(self, feed: OpenAdrFeed, session: aiohttp.ClientSession, directory: Path, bus: Bus) -> None:
        self._feed, self._bus = feed, bus
        self._vtn = Vtn(feed, session, directory)
        self._book = GridBook(cancel_when_absent=True)
        self._recalled = False
        self._told = Correspondence()
        self.reports = feed.reports
        self.name, self.every_s, self.stale_after_s = feed.name, feed.every_s, feed.stale_after_s

    async def fetch(self, now: datetime) -> Fetched:
        """Events that are new, differ, or are gone."""
        if not self._recalled:
            await asyncio.to_thread(self._recall)
        programs = await self._vtn.programs()
        if self._feed.program:
            programs = [one for one in programs if one.program_name == self._feed.program]
            if not programs:
                raise MappingError(f"program: the VTN shows no program named {self._feed.program!r}")
        events = [event for one in programs for event in await self._vtn.events(one.id)]
        wanted = asked(events, programs, self._feed, now)
        self._told.learn(wanted, now)
        return Fetched(events=self._book.changes(wanted.listed, now), problem="; ".join(wanted.problems))

    def _recall(self) -> None:
        """What an earlier process announced: what the VTN deleted meanwhile is cancelled now."""
        prefix = f"{self._feed.name}."
        try:
            tail = self._bus.tail([GRID.name])
            try:
                while not tail.caught_up():
                    for event in _events(tail.read(max_records=500, timeout_s=READ_S)):
                        if isinstance(event, GridEventAnnounced) and event.event_id.startswith(prefix):
                            self._book.recall(event)
            finally:
                tail.close()
        except Transient as error:
            raise FeedError(f"what was announced before cannot be read from Kafka: {error}") from error
        self._recalled = True

    async def report_back(self) -> None:
        """Follow ``responses`` and pass each on to the VTN, the latest only where several wait; until cancelled."""
        tail: Tail | None = None
        try:
            while True:
                try:
                    if tail is None:
                        tail = await asyncio.to_thread(self._bus.tail, [RESPONSES.name])
                    records = await _read(tail)
                except Transient as error:
                    await asyncio.sleep(error.after_s)
                    continue
                for event in _events(records):
                    if isinstance(event, DemandResponseReported) and event.event_id.startswith(f"{self._feed.name}."):
                        self._told.hear(event)
                await self._report()
        finally:
            if tail is not None:
                await asyncio.to_thread(tail.close)

    async def _report(self) -> None:
        told = self._told
        for key, response, origin in told.due():
            try:
                report = report_of(response, origin, self._feed)
                told.report_ids[key] = await self._vtn.report(report, told.report_ids.get(key, ""))
            except (FeedError, MappingError) as error:
                log.warning("openadr_report_failed", feed=self.name, grid_event=response.event_id, error=str(error))
                had_one = told.report_ids.pop(key, "")
                if isinstance(error, FeedError):
                    if error.status in _LATER or not 400 <= error.status < 500:
                        await asyncio.sleep(min(max(RETRY_S, error.retry_after_s), LONGEST_RETRY_S))
                        return
                    if error.status == NOT_FOUND and had_one:
                        continue  # the VTN has it no more: in the next round it is created
            told.waiting.pop(key, None)


async def _read(tail: Tail) -> Sequence[Received]:
    """The next records. When we are cancelled the read is waited for: a tail belongs to one thread at a time."""
    reading = asyncio.ensure_future(asyncio.to_thread(tail.read, max_records=500, timeout_s=READ_S))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await asyncio.wait({reading})
        raise


def _events(records: Sequence[Received]) -> Iterator[Event]:
    for one in records:
        if one.value is None:
            continue
        try:
            yield decode(one.value, one.headers).event
        except Poison:
            continue
