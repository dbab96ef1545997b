"""Who may use the server: the kinds of values of HOLDFAST_ALLOWED_* and HOLDFAST_CLOUDFLARE_*."""

import json
import re
import string
from typing import Annotated, Any

import idna
from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

LOWERED = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
CLOUDFLARE = ".cloudflareaccess.com"


def _problem(reason: str, **values: str) -> PydanticCustomError:
    return PydanticCustomError("access", reason, values)


def normal_user(name: str) -> str:
    """A user as it is compared: an address without regard to case, everything else letter by letter.

    Of ASCII letters only: what else has two cases may be two people to who gave the names.
    """
    return name.translate(LOWERED) if "@" in name else name


def normal_domain(name: str) -> str | None:
    """A domain as it is compared, in ASCII (RFC 5891); None where it is none."""
    try:
        domain = idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        return None
    return None if domain.endswith(".") or "." not in domain else domain


def _split(value: Any) -> Any:
    """Names with spaces in them are divided by commas, those with commas are in a JSON list."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            raise _problem("looks like a JSON list but is none") from None
        if not all(isinstance(name, str) for name in value):
            raise _problem("has something in its list that is not text")
    else:
        value = re.split(r"[,\n]", value)
    return [name.strip() for name in value if name.strip()]


def _check_not_empty(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise _problem("names nobody")
    return names


def _check_user(name: str) -> str:
    if "*" in name or not name.isprintable():
        raise _problem("{name} is no user; each is named in full, and domains in HOLDFAST_ALLOWED_DOMAINS", name=name)
    return normal_user(name)


def _check_domain(name: str) -> str:
    domain = normal_domain(name)
    if domain is None:
        raise _problem("{name} is no domain; write it as example.com, each subdomain by itself", name=name)
    return domain


def _check_group(name: str) -> str:
    if "*" in name or not name.isprintable():
        raise _problem("{name} is no group; each is named in full", name=name)
    return name


def _check_claim(name: str) -> str:
    if not name.isprintable() or " " in name:
        raise _problem("{name} is no claim; write it as groups, or realm_access.roles for one in another", name=name)
    return name


def _team(value: Any) -> Any:
    """The team's name, of its domain or URL too."""
    if not isinstance(value, str):
        return value
    name = value.strip().lower().removeprefix("https://").rstrip("/").removesuffix(CLOUDFLARE)
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise _problem(f"is not the name of a team, as in example of https://example{CLOUDFLARE}")
    return name


def _check_tag(tag: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", tag):
        raise _problem("is not an application's audience tag: 64 hexadecimal digits")
    return tag


Users = Annotated[
    tuple[Annotated[str, AfterValidator(_check_user)], ...], BeforeValidator(_split), AfterValidator(_check_not_empty)
]
Domains = Annotated[
    tuple[Annotated[str, AfterValidator(_check_domain)], ...], BeforeValidator(_split), AfterValidator(_check_not_empty)
]
Groups = Annotated[
    tuple[Annotated[str, AfterValidator(_check_group)], ...], BeforeValidator(_split), AfterValidator(_check_not_empty)
]
ClaimNames = Annotated[
    tuple[Annotated[str, AfterValidator(_check_claim)], ...], BeforeValidator(_split), AfterValidator(_check_not_empty)
]
Tags = Annotated[
    tuple[Annotated[str, AfterValidator(_check_tag)], ...], BeforeValidator(_split), AfterValidator(_check_not_empty)
]
Team = Annotated[str, BeforeValidator(_team)]
