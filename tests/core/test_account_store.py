"""stores/accounts.py: what an account's Secret says, and that no key is ever lost there."""

from __future__ import annotations

from typing import Any

import pytest

from acmeistio.errors import Conflict, Misconfigured
from acmeistio.issuer import Issuer
from acmeistio.ports import Term
from acmeistio.stores.accounts import NEXT_KEY, AccountStore, StoredAccount
from acmeistio.stores.secrets import TLS_KEY, encoded
from tests.simulated.objects import ObjectStore, SimulatedObjects
from tests.simulated.system import ConstantLeadership

NAMESPACE, NAME = "acmeistio", "acmeistio-account-ca"
ISSUER = Issuer("ca", "https://ca.example/directory")
TERM = Term("simulated", 1)
ACCOUNT = StoredAccount(b"key", "https://ca.example/account/1")


class Bed:
    """A store of accounts, and the objects behind it."""

    def __init__(self) -> None:
        self.objects = ObjectStore()
        self.store = AccountStore(SimulatedObjects(self.objects, ConstantLeadership()), NAMESPACE)

    def edit(self, change: Any) -> None:
        """What a user does to the Secret."""
        self.objects.edit("Secret", NAMESPACE, NAME, change)


@pytest.fixture
async def bed() -> Bed:
    """One account is stored."""
    bed = Bed()
    await bed.store.write(ISSUER, ACCOUNT, TERM)
    return bed


async def test_what_is_written_is_read(bed: Bed) -> None:
    """All of it, and nothing before it is there."""
    assert await Bed().store.read(ISSUER) is None
    assert await bed.store.read(ISSUER) == ACCOUNT
    following = StoredAccount(b"key", None, b"next", rolled_over_for="x", deactivated_at="y")
    await bed.store.write(ISSUER, following, TERM)
    assert await bed.store.read(ISSUER) == following


async def test_what_users_wrote_stays(bed: Bed) -> None:
    """Their annotations are read, and never taken away."""
    bed.edit(
        lambda secret: secret["metadata"]["annotations"].update(
            {
                "acmeistio.io/rollover-requested-at": "now",
                "acmeistio.io/deactivate-requested": "true",
                "note": "ours",
            }
        )
    )
    read = await bed.store.read(ISSUER)
    assert read
    assert (read.rollover_requested_at, read.wants_rollover) == ("now", True)
    assert read.deactivate_requested
    await bed.store.write(ISSUER, read, TERM)
    assert await bed.store.read(ISSUER) == read
    secret = bed.objects.get("Secret", NAMESPACE, NAME)
    assert secret
    assert secret["metadata"]["annotations"]["note"] == "ours"


async def test_the_url_is_of_one_directory(bed: Bed) -> None:
    """Another CA has another account for the same key."""
    read = await bed.store.read(Issuer("ca", "https://other.example/directory"))
    assert read == StoredAccount(b"key")


async def test_the_next_key_becomes_the_key(bed: Bed) -> None:
    """The last step of a rollover: one write, in which the old one goes."""
    await bed.store.write(ISSUER, StoredAccount(b"key", ACCOUNT.url, b"next"), TERM)
    await bed.store.write(ISSUER, StoredAccount(b"next", ACCOUNT.url), TERM)
    secret = bed.objects.get("Secret", NAMESPACE, NAME)
    assert secret
    assert secret["data"] == {TLS_KEY: encoded(b"next")}


async def test_a_key_that_somebody_put_there_is_not_overwritten(bed: Bed) -> None:
    """A restored backup, or an account made meanwhile, is not lost."""
    bed.edit(lambda secret: secret["data"].update({TLS_KEY: encoded(b"restored")}))
    with pytest.raises(Conflict, match="another key"):
        await bed.store.write(ISSUER, ACCOUNT, TERM)
    bed.edit(lambda secret: secret["data"].clear())
    with pytest.raises(Conflict):
        await bed.store.write(ISSUER, ACCOUNT, TERM)


@pytest.mark.parametrize(
    "data", [None, {}, {TLS_KEY: "no base64!"}, {TLS_KEY: encoded(b"key"), NEXT_KEY: "!"}]
)
async def test_a_secret_without_a_key(bed: Bed, data: Any) -> None:
    """A new account is never made silently: somebody has to say so."""
    bed.edit(lambda secret: secret.update(data=data))
    with pytest.raises(Misconfigured, match=f"Secret {NAMESPACE}/{NAME} holds no account key"):
        await bed.store.read(ISSUER)


@pytest.mark.parametrize("notes", [None, [], {"acmeistio.io/account-url": 5}])
async def test_odd_annotations_say_nothing(bed: Bed, notes: Any) -> None:
    """A wrong shape reads as absent."""
    bed.edit(lambda secret: secret["metadata"].update(annotations=notes))
    assert await bed.store.read(ISSUER) == StoredAccount(b"key")


def test_no_key_is_shown() -> None:
    """Neither of them is in a log (DESIGN §5, Secrets in memory)."""
    shown = repr(StoredAccount(b"secret-1", "url", b"secret-2"))
    assert "secret" not in shown
