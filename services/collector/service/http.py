"""HTTP sources: one request with authentication, TLS, a bounded time and a bounded answer; whatever fails is a ``FeedError``."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import TYPE_CHECKING

import aiohttp

from services.collector.service.feed import FeedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from services.collector.model import Auth, Http, Tls

MAX_CONNECTIONS = 100
_SHOWN = 300  # letters of an error's body


class HttpSource:
    """Asks with the credentials and checks of one ``Http``. A redirection is a failure: it would take the secrets elsewhere."""

    def __init__(self, session: aiohttp.ClientSession, http: Http, directory: Path) -> None:
        """File names in ``http`` are relative to ``directory``."""
        self._session, self._http, self._directory = session, http, directory
        self._ssl: ssl.SSLContext | None = None  # made at the first use: a bad certificate is this feed's failure only

    async def get(self, url: str) -> bytes:
        """The body of a 200 answer.

        Raises:
            FeedError: there is none, in time and of a bearable size.
        """
        return await self.send("GET", url)

    async def send(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of a 200 or 201 answer; a ``body`` is JSON unless ``headers`` say otherwise.

        Raises:
            FeedError: there is none, in time and of a bearable size.
        """
        timeout = aiohttp.ClientTimeout(total=self._http.timeout_s)
        try:
            sent = {
                **({} if body is None else {"Content-Type": "application/json"}),
                **self._http.headers,
                **await asyncio.to_thread(_authorization, self._http.auth, self._directory),
                **(headers or {}),
            }
            if self._ssl is None:
                self._ssl = await asyncio.to_thread(_ssl_context, self._http.tls, self._directory)
            async with self._session.request(
                method, url, data=body, headers=sent, ssl=self._ssl, timeout=timeout, allow_redirects=False
            ) as answer:
                if answer.status not in (200, 201):
                    text = (await answer.content.read(4 * _SHOWN)).decode(errors="replace")[:_SHOWN]
                    retry_after = answer.headers.get("Retry-After", "")
                    after_s = float(retry_after) if retry_after.isdecimal() else 0.0
                    message = f"{answer.status} {answer.reason}: {text}"
                    raise FeedError(message, retry_after_s=after_s, status=answer.status)
                return await self._body(answer)
        except TimeoutError as error:
            raise FeedError(f"no answer within {self._http.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FeedError(f"{type(error).__name__}: {error}") from error

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in answer.content.iter_chunked(1 << 16):
            size += len(chunk)
            if size > self._http.max_bytes:
                raise FeedError(f"the answer is larger than max_bytes ({self._http.max_bytes})")
            chunks.append(chunk)
        return b"".join(chunks)


def open_session() -> aiohttp.ClientSession:
    """The connections that all sources of the process share. Cookies of one source mean nothing to another."""
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "solyx-collector"}
    )


def _ssl_context(tls: Tls, directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(directory / tls.ca_file) if tls.ca_file else None)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file:
        key = str(directory / tls.key_file) if tls.key_file else None
        context.load_cert_chain(str(directory / tls.cert_file), key)
    return context


def _authorization(auth: Auth, directory: Path) -> dict[str, str]:
    if auth.username:
        pair = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    token = auth.bearer_token
    if auth.bearer_token_file:
        token = (directory / auth.bearer_token_file).read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}
