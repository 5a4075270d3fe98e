"""Keys: what is made, what is kept, what is taken."""

import pytest

from solyx.security import Principal, Role, bearer, digest, matches, new_key


def test_keys_are_long_random_and_carry_their_prefix() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("sk_") and len(key) == 46 for key in keys)


def test_only_the_digest_is_kept_and_only_the_key_matches_it() -> None:
    key = new_key()
    stored = digest(key)
    assert len(stored) == 32
    assert key.encode() not in stored
    assert matches(key, stored)
    assert not matches(new_key(), stored)


def test_a_bearer_header_yields_the_key() -> None:
    key = new_key()
    assert bearer(f"Bearer {key}") == key
    assert bearer(f"bearer  {key} ") == key


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic abc", "Bearer sk_short", "Bearer pk_" + "a" * 43, "Bearer sk_" + "é" * 43]
)
def test_what_is_no_key_of_ours_is_not_looked_up(header: str | None) -> None:
    assert bearer(header) is None


def test_a_tenant_sees_its_own_and_an_administrator_sees_all() -> None:
    submitter = Principal(key_id="1", tenant="a", role=Role.SUBMITTER)
    admin = Principal(key_id="2", tenant="admin", role=Role.ADMIN)
    assert submitter.may_see("a")
    assert not submitter.may_see("b")
    assert admin.may_see("b")
    assert not Role.VIEWER.may_submit
