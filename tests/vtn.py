"""A virtual top node of OpenADR 3 for tests: the real one of OpenLEADR where it is installed, and always a small one of our own.

OpenLEADR's (OpenADR 3.1, Rust) is used when ``openleadr-vtn`` is on the path, or where ``SOLYX_TEST_OPENLEADR_VTN`` says:

    cargo install openleadr-vtn --features internal-oauth

Both are driven through the specification's own paths, as a utility's business logic would.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from aiohttp import web

from devstack.postgres import PostgresServer

VEN_ID, VEN_SECRET = "ven-client", "ven-secret"
PROGRAM = "emergency-load-relief"
START_S = 60.0


def openleadr() -> str | None:
    """The program of the real VTN; None where it is not installed."""
    return os.environ.get("SOLYX_TEST_OPENLEADR_VTN") or shutil.which("openleadr-vtn")


class Utility:
    """The business logic: announces, changes and deletes events, reads reports."""

    def __init__(self, url: str, token: str, session: aiohttp.ClientSession) -> None:
        self.url, self._token, self._session = url, token, session
        self.program_id = ""

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"}
        async with self._session.request(method, f"{self.url}/{path}", json=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.status in (200, 201), f"{method} {path}: {answer.status} {text}"
            return json.loads(text) if text else None

    async def enroll(self, *targets: str) -> None:
        """Make the program and the VEN."""
        program = {"objectType": "PROGRAM", "programName": PROGRAM, "intervalPeriod": None}
        self.program_id = (await self.call("POST", "programs", program))["id"]
        ven = {"objectType": "BL_VEN_REQUEST", "clientID": VEN_ID, "venName": "solyx", "targets": list(targets)}
        await self.call("POST", "vens", ven)

    async def announce(self, **changes: Any) -> dict[str, Any]:
        return await self.call("POST", "events", self.event(**changes))

    async def change(self, event: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return await self.call("PUT", f"events/{event['id']}", self.event(**changes))

    async def delete(self, event: dict[str, Any]) -> None:
        await self.call("DELETE", f"events/{event['id']}")

    async def reports(self) -> list[dict[str, Any]]:
        return await self.call("GET", "reports")

    def event(
        self,
        *,
        start: datetime,
        duration: str = "PT1H",
        kind: str = "IMPORT_CAPACITY_LIMIT",
        values: tuple[Any, ...] = (40.0,),
        unit: str | None = "KW",
        targets: tuple[str, ...] = (),
        priority: int | None = None,
    ) -> dict[str, Any]:
        """One value an interval, one interval after the other."""
        begin = start.astimezone(UTC).isoformat().replace("+00:00", "Z")
        descriptor = {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": unit}
        return {
            "objectType": "EVENT",
            "programID": self.program_id,
            "eventName": "load relief",
            "priority": priority,
            "targets": list(targets),
            "payloadDescriptors": [descriptor] if unit else None,
            "intervalPeriod": {"start": begin, "duration": duration},
            "intervals": [{"id": n, "payloads": [{"type": kind, "values": [v]}]} for n, v in enumerate(values)],
        }


class SmallVtn:
    """Programs, VENs, events, reports and tokens in memory, as the OpenAPI document of OpenADR 3 describes them."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {
            kind: {} for kind in ("programs", "vens", "events", "reports")
        }
        self.tokens: dict[str, float] = {}
        self.token_requests = 0
        self.failing = False
        self.refusals: list[int] = []  # statuses of the next answers to reports that are written
        self.url = ""

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/auth/token", self.token)
        app.router.add_get("/{kind}", self.search)
        app.router.add_post("/{kind}", self.create)
        app.router.add_get("/{kind}/{id}", self.one)
        app.router.add_put("/{kind}/{id}", self.update)
        app.router.add_delete("/{kind}/{id}", self.remove)
        return app

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.token_requests += 1
        expected = {"grant_type": "client_credentials", "client_id": VEN_ID, "client_secret": VEN_SECRET}
        if any(form.get(name) != value for name, value in expected.items()):
            return web.json_response({"error": "invalid_client"}, status=401)
        token = secrets.token_urlsafe()
        self.tokens[token] = time.monotonic() + 60
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 60})

    def _objects(self, request: web.Request) -> dict[str, dict[str, Any]]:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.failing:
            raise web.HTTPServiceUnavailable
        if token != "utility" and self.tokens.get(token, 0) < time.monotonic():
            raise web.HTTPUnauthorized
        if token != "utility" and request.method != "GET":
            if request.match_info["kind"] != "reports":
                raise web.HTTPForbidden
            if self.refusals:
                raise _refusal(self.refusals.pop(0))
        return self.objects[request.match_info["kind"]]

    async def search(self, request: web.Request) -> web.Response:
        found = list(self._objects(request).values())
        for name in ("programID", "eventID", "clientName"):
            if name in request.query:
                found = [one for one in found if one.get(name) == request.query[name]]
        skip, limit = int(request.query.get("skip", 0)), int(request.query.get("limit", 50))
        assert limit <= 50
        return web.json_response(found[skip : skip + limit])

    async def one(self, request: web.Request) -> web.Response:
        return web.json_response(self._objects(request)[request.match_info["id"]])

    async def create(self, request: web.Request) -> web.Response:
        objects, number = self._objects(request), secrets.token_hex(8)
        written = {"id": number, "createdDateTime": _now(), "modificationDateTime": _now()}
        objects[number] = await request.json() | written
        return web.json_response(objects[number], status=201)

    async def update(self, request: web.Request) -> web.Response:
        objects, number = self._objects(request), request.match_info["id"]
        if number not in objects:
            raise web.HTTPNotFound
        kept = {"id": number, "createdDateTime": objects[number]["createdDateTime"]}
        objects[number] = await request.json() | kept | {"modificationDateTime": _now()}
        return web.json_response(objects[number])

    async def remove(self, request: web.Request) -> web.Response:
        return web.json_response(self._objects(request).pop(request.match_info["id"]))


def _refusal(status: int) -> web.HTTPException:
    return {400: web.HTTPBadRequest, 403: web.HTTPForbidden, 429: web.HTTPTooManyRequests}[status]()


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@asynccontextmanager
async def small_vtn() -> AsyncIterator[tuple[Utility, SmallVtn]]:
    """Our own, listening on loopback."""
    vtn = SmallVtn()
    runner = web.AppRunner(vtn.application(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    vtn.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        yield Utility(vtn.url, "utility", session), vtn
    await runner.cleanup()


@asynccontextmanager
async def openleadr_vtn(server: PostgresServer, directory: Path) -> AsyncIterator[Utility]:
    """OpenLEADR's, as a child process with a database of its own."""
    program = openleadr()
    assert program is not None
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url, secret = f"http://127.0.0.1:{port}", secrets.token_bytes(32)
    settings = {
        "DATABASE_URL": await _database(server),
        "PORT": str(port),
        "OAUTH_TYPE": "INTERNAL",
        "OAUTH_TOKEN_URL": f"{url}/auth/token",
        "OAUTH_BASE64_SECRET": base64.b64encode(secret).decode(),
        "RUST_LOG": "warn",
    }
    with (directory / "openleadr.log").open("wb") as log:
        process = subprocess.Popen([program], env=os.environ | settings, cwd=directory, stdout=log, stderr=log)  # noqa: ASYNC220 - returns at once
    try:
        async with aiohttp.ClientSession() as session:
            utility = Utility(url, _token_of_the_utility(secret), session)
            await _answers(utility, process)
            scopes = ["read_targets", "read_ven_objects", "write_reports_ven"]
            user = await utility.call("POST", "users", {"reference": "solyx", "scope": scopes})
            await utility.call("POST", f"users/{user['id']}", {"client_id": VEN_ID, "client_secret": VEN_SECRET})
            yield utility
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


async def _database(server: PostgresServer) -> str:
    """The address of an empty one, which ends with the test's server."""
    name = f"vtn_{secrets.token_hex(8)}"
    connection = await asyncpg.connect(server.url.replace("+asyncpg", ""))
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return server.url_of(name).replace("+asyncpg", "")


async def _answers(utility: Utility, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(START_S):
        while True:
            assert process.poll() is None, "the VTN ended; see openleadr.log"
            try:
                await utility.call("GET", "programs")
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)
            else:
                return


def _token_of_the_utility(secret: bytes) -> str:
    """A JWT (RFC 7519, HS256) with which its user administration lets us in."""
    scopes = "read_all write_programs write_events write_vens_bl write_users write_reports_bl"
    now = int(time.time())
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "utility", "iat": now, "exp": now + 3600, "scope": scopes})
    text = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_base64url(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
