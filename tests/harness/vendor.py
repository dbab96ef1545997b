"""The identity provider of identity_provider.py with the addresses and manners of a vendor's."""

from dataclasses import dataclass
from pathlib import Path

from harness.identity_provider import IdentityProvider
from harness.outside import Outside


@dataclass(frozen=True)
class Vendor:
    """A flavour of identity_provider_flavours.mjs: `asked` are its hosts that servers ask, `shown` that of people."""

    flavour: str
    issuer: str
    asked: frozenset[str]
    shown: str


class VendorIdentityProvider(IdentityProvider):
    """Is reached as the vendor is, by its own host names."""

    def __init__(self, directory: Path, vendor: Vendor, *, client_id: str, access_token_lifetime: int = 3600) -> None:
        super().__init__(directory, access_token_lifetime=access_token_lifetime)
        self.client_id = client_id
        self.issuer = vendor.issuer
        self.outside = Outside(directory, vendor.asked | {vendor.shown})
        self.environment |= {
            "FLAVOUR": vendor.flavour,
            "ISSUER": vendor.issuer,
            "CLIENT_ID": client_id,
            **self.outside.of_players,
        }

    def stop(self) -> None:
        super().stop()
        self.outside.close()
