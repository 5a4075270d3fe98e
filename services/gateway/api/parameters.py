"""Query parameters that several paths take: parsed, or refused with what to write instead."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from services.gateway.api.problem import ApiProblem, invalid_field

if TYPE_CHECKING:
    from pydantic import JsonValue

    from solyx.security import Principal

DATE_TIME: dict[str, JsonValue] = {"format": "date-time"}


def no_nul(**parameters: str | None) -> None:
    """Refuse what no text in the database can hold."""
    for name, value in parameters.items():
        if value is not None and "\0" in value:
            raise invalid_field(name, "holds a NUL character", "remove it")


def time_of(name: str, text: str | None) -> datetime | None:
    """A moment with its zone."""
    if text is None:
        return None
    try:
        time = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        time = None
    if time is None or time.tzinfo is None:
        raise invalid_field(name, f"{text[:40]!r} is no time", 'write RFC 3339 with a zone ("2026-12-01T06:00:00Z")')
    return time


def label_of(text: str) -> tuple[str, str]:
    """Key and value of a label that is asked for."""
    key, separator, value = text.partition("=")
    if not separator or not key or "\0" in text:
        raise invalid_field("label", f"{text[:80]!r} is no label", "write key=value")
    return key, value


def tenant_seen(principal: Principal, tenant: str | None, what: str) -> str | None:
    """Whose things are shown; None: everybody's. A tenant sees its own, an administrator what it asks for."""
    if tenant is not None and not principal.may_see(tenant):
        raise ApiProblem("forbidden", f"only an administrator's key sees another tenant's {what}")
    return tenant if principal.is_admin else principal.tenant
