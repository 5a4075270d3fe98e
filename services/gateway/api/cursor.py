"""Page cursors: the last id of a page, opaque so that nobody builds on what is inside."""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

_PREFIX = b"j1:"
_ID = re.compile(rb"[0-9a-z]{1,64}")


def encode(last_id: str) -> str:
    """The cursor of the page after ``last_id``."""
    return base64.urlsafe_b64encode(_PREFIX + last_id.encode()).rstrip(b"=").decode()


def encode_key(*texts: str) -> str:
    """The cursor of the page after the row of that key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(texts)).rstrip(b"=").decode()


def decode_key(cursor: str) -> list[str]:
    """The key in a cursor.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        plain = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(plain, type=list[str])
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        msg = "not a cursor"
        raise ValueError(msg) from error


def decode(cursor: str) -> str:
    """The id in a cursor.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        plain = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        msg = "not base64"
        raise ValueError(msg) from error
    last_id = plain.removeprefix(_PREFIX)
    if not plain.startswith(_PREFIX) or not _ID.fullmatch(last_id):
        msg = "not a cursor"
        raise ValueError(msg)
    return last_id.decode()
