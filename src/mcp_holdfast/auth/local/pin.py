"""The PIN that the owner signs in with: hashed, and hard to guess even for someone with many addresses."""

import asyncio
import logging
import time

from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.protocols import AsyncKeyValue
from pydantic import BaseModel, Field

from mcp_holdfast.auth.argon2 import hashed, matches
from mcp_holdfast.auth.local.workers import WorkersLock
from mcp_holdfast.auth.registrations import network_of
from mcp_holdfast.settings import normal_pin
from mcp_holdfast.storage.keys import KeyRing

log = logging.getLogger(__name__)

COLLECTION = "holdfast_login"
PIN = "pin"
EVERYONE = "tries of everyone"

FREE_TRIES_OF_ADDRESS = 5
LONGEST_DELAY_OF_ADDRESS = 15 * 60
FREE_TRIES_OF_EVERYONE = 50
LENGTH_BEYOND_GUESSING = 12
LONGEST_DELAY_OF_EVERYONE = 60
TRIES_ARE_REMEMBERED_FOR = 24 * 3600
ADDRESS_IS_KNOWN_FOR = 30 * 24 * 3600


class WrongPin(Exception):
    """The PIN is not the right one."""


class TooManyTries(Exception):
    """No PIN is looked at before `retry_after` seconds have passed."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"too many tries, next one in {retry_after} s")


class Tries(BaseModel):
    """Tries that were wrong, the time of the last one (seconds since the epoch), and whether a right one came too."""

    failures: int = Field(default=0, ge=0)
    last: float = Field(default=0, allow_inf_nan=False)
    known: bool = False


class PinCheck:
    """Checks PINs. Failed tries are counted in the store, so a restart does not forgive them."""

    def __init__(self, store: AsyncKeyValue) -> None:
        self._store = store
        self._tries: PydanticAdapter[Tries] = PydanticAdapter(
            key_value=store, pydantic_model=Tries, default_collection=COLLECTION, raise_on_validation_error=False
        )
        self._hash = ""
        self._limits_everyone = False
        self._one_at_a_time = WorkersLock()

    async def prepare(self, given: str | None, *, made_up: str) -> str | None:
        """Take the given PIN, else the stored one, else the one made up. Return that if it is new.

        Only a short PIN needs a limit for all addresses together, which has a price: who guesses from many addresses
        then keeps the owner waiting too.
        """
        stored = await self._store.get(PIN, collection=COLLECTION)
        if given is not None:
            self._hash = hashed(normal_pin(given))
            self._limits_everyone = len(normal_pin(given)) < LENGTH_BEYOND_GUESSING
            if stored is not None:
                await self._store.delete(PIN, collection=COLLECTION)
            return None
        if stored is not None:
            self._hash = stored["hash"]
            return None
        self._hash = hashed(normal_pin(made_up))
        await self._store.put(PIN, {"hash": self._hash}, collection=COLLECTION)
        return made_up

    async def check(self, pin: str, address: str) -> None:
        """Let the right PIN pass.

        Tries are taken one at a time and count before they are looked at, so tries sent at once cannot slip through.

        Raises:
            WrongPin: it is another one.
            TooManyTries: this address, or all together, must wait first.

        """
        address_key = f"tries of {network_of(address)}"
        async with self._one_at_a_time:
            of_address = await self._tries.get(address_key) or Tries()
            of_everyone = await self._tries.get(EVERYONE) or Tries()
            counts_for_everyone = self._limits_everyone and not of_address.known
            _refuse_before(of_address, FREE_TRIES_OF_ADDRESS, LONGEST_DELAY_OF_ADDRESS)
            if counts_for_everyone:
                _refuse_before(of_everyone, FREE_TRIES_OF_EVERYONE, LONGEST_DELAY_OF_EVERYONE)
                await self._count(EVERYONE, of_everyone)
            await self._count(address_key, of_address)
            if not await asyncio.to_thread(matches, normal_pin(pin), self._hash):
                log.warning("refused a wrong sign-in PIN", extra={"address": address})
                raise WrongPin
            await self._tries.put(address_key, Tries(known=True), ttl=ADDRESS_IS_KNOWN_FOR)
            if counts_for_everyone:
                await self._tries.put(EVERYONE, of_everyone, ttl=TRIES_ARE_REMEMBERED_FOR)

    async def _count(self, key: str, tries: Tries) -> None:
        counted = tries.model_copy(update={"failures": tries.failures + 1, "last": time.time()})
        await self._tries.put(key, counted, ttl=ADDRESS_IS_KNOWN_FOR if tries.known else TRIES_ARE_REMEMBERED_FOR)


def _refuse_before(tries: Tries, free: int, longest: int) -> None:
    """Delay each try beyond the free ones, twice as long as the one before."""
    excess = tries.failures - free
    if excess < 0:
        return
    delay = min(2.0 ** min(excess, 30), longest)
    remaining = tries.last + delay - time.time()
    if remaining > 0:
        raise TooManyTries(int(min(remaining, longest)) + 1)


def made_up_pin(ring: KeyRing) -> str:
    """A PIN of 12 digits, the same for all replicas that share a key, so that all of them show the same one."""
    number = int.from_bytes(ring.derive("sign-in PIN")[0]) % 10**12
    return "-".join(f"{number:012}"[start : start + 4] for start in (0, 4, 8))
