"""API keys and roles: what the gateway checks, and nothing that knows HTTP or SQL.

A key is 256 random bits, so one round of SHA-256 is enough to store it: there is nothing to guess that a slow hash would
protect (unlike a password; NIST SP 800-63B, 5.1.1.2 asks for stretching only of memorised secrets).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from enum import StrEnum

import msgspec

KEY_PREFIX = "sk_"
_KEY_BYTES = 32
_KEY_LENGTH = len(KEY_PREFIX) + 43  # 32 bytes in unpadded base64url
_BEARER = "bearer "


class Role(StrEnum):
    """What a key may do."""

    ADMIN = "admin"  # everything, for every tenant
    SUBMITTER = "submitter"  # submit, read and cancel its tenant's jobs
    VIEWER = "viewer"  # read its tenant's jobs

    @property
    def may_submit(self) -> bool:
        return self is not Role.VIEWER


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, after its key was checked."""

    key_id: str
    tenant: str
    role: Role

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN

    def may_see(self, tenant: str) -> bool:
        """A tenant sees what is its own; an administrator sees all."""
        return self.is_admin or tenant == self.tenant


def new_key() -> str:
    """A fresh API key. It is shown once; only its digest is kept."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def digest(key: str) -> bytes:
    """What is stored of a key: its SHA-256, 32 bytes."""
    return hashlib.sha256(key.encode()).digest()


def matches(key: str, stored: bytes) -> bool:
    """Whether ``stored`` is the key's digest, in constant time."""
    return hmac.compare_digest(digest(key), stored)


def bearer(authorization: str | None) -> str | None:
    """The key in an ``Authorization`` header, or None when it carries none that could be ours."""
    if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
        return None
    key = authorization[len(_BEARER) :].strip()
    return key if key.startswith(KEY_PREFIX) and len(key) == _KEY_LENGTH and key.isascii() else None
