"""How HTTP sources are asked."""

from __future__ import annotations

from typing import Annotated

import msgspec

from services.collector.model.parts import Config, Positive


class Auth(Config, frozen=True, kw_only=True):
    """At most one of the two ways."""

    username: str = ""
    password: str = ""
    bearer_token: str = ""
    bearer_token_file: str = ""  # read anew for each request, so that a rotated token is used

    def __post_init__(self) -> None:
        ways = [bool(self.username or self.password), bool(self.bearer_token), bool(self.bearer_token_file)]
        if sum(ways) > 1:
            raise ValueError("more than one way to authenticate. Keep username and password, or one bearer token")
        if self.password and not self.username:
            raise ValueError("a password without a username. Add `username`")


class Tls(Config, frozen=True, kw_only=True):
    """How an https server is checked, and how it may check us."""

    verify: bool = True
    ca_file: str = ""  # empty: the system's authorities
    cert_file: str = ""  # client certificate
    key_file: str = ""

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise ValueError("a key_file without a cert_file. Add `cert_file`")


class Http(Config, frozen=True, kw_only=True):
    """How one HTTP source is asked."""

    headers: dict[str, str] = msgspec.field(default_factory=dict)
    auth: Auth = Auth()
    tls: Tls = Tls()
    timeout_s: Positive = 10.0
    max_bytes: Annotated[int, msgspec.Meta(gt=0)] = 64 * 1024 * 1024
