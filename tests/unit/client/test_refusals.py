"""What the client makes of refusals, of answers that are none, and of silence."""

import httpx
import pytest

from solyx.client import ApiError, Unreachable
from tests.unit.client.client_server import JOB, Recorder, async_client, client, refusal, says


def test_a_refusal_names_the_fields_and_their_cures() -> None:
    with client(refusal) as solyx, pytest.raises(ApiError) as refused:
        solyx.submit(JOB)
    (error,) = refused.value.errors
    assert (refused.value.status, error.field, error.line) == (422, "resources.cpu", 3)
    assert str(refused.value).splitlines() == [
        "Some fields are wrong (422): 1 field is wrong",
        "  line 3: resources.cpu: is no number; write 2",
    ]


async def test_the_async_client_is_refused_in_the_same_way() -> None:
    async with async_client(refusal) as solyx:
        with pytest.raises(ApiError) as refused:
            await solyx.submit(JOB)
    assert refused.value.errors[0].field == "resources.cpu"


def test_an_error_page_of_a_proxy_is_still_a_refusal() -> None:
    with (
        client(Recorder(httpx.Response(502, content=b"<html>Bad gateway"))) as solyx,
        pytest.raises(ApiError) as refused,
    ):
        solyx.sites()
    assert refused.value.status == 502
    assert "<html>Bad gateway" in str(refused.value)


def test_an_answer_of_another_shape_is_told_not_guessed() -> None:
    with client(Recorder(says({"unexpected": True}))) as solyx, pytest.raises(ApiError, match="unexpected answer"):
        solyx.sites()


def silence(request: httpx.Request) -> httpx.Response:
    msg = "connection refused"
    raise httpx.ConnectError(msg, request=request)


def test_no_answer_names_the_address() -> None:
    with client(silence) as solyx, pytest.raises(Unreachable, match=r"http://solyx\.test: connection refused"):
        solyx.sites()


async def test_the_async_client_says_so_too() -> None:
    async with async_client(silence) as solyx:
        with pytest.raises(Unreachable, match=r"http://solyx\.test: connection refused"):
            await solyx.sites()
