"""Settings that are JSON objects of named entries: how they are read, and how what is wrong with one is told."""

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import ErrorDetails, PydanticCustomError

OWN = "entry"
"""The type of errors whose messages are ours."""

SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
"""RFC 6749, section 3.3."""

REASONS = {
    "missing": "is missing",
    "model_type": "is not an object",
    "dict_type": "is not an object",
    "string_type": "is not text",
    "tuple_type": "is not a list",
}


def wrong(message: str, /, **values: Any) -> PydanticCustomError:
    """What is wrong with an entry; `{names}` in the message stand for values."""
    return PydanticCustomError(OWN, message, values)


def read_object(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        raise wrong("is not JSON: see line {line}, column {column}", line=error.lineno, column=error.colno) from None
    except RecursionError:
        raise wrong("is nested too deeply") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise wrong("names {name} twice in one object", name=repeated[0][:128])
    return dict(pairs)


def check_scope(scope: str) -> str:
    if not SCOPE.fullmatch(scope):
        raise wrong("is not a list of scopes with one space between them")
    return scope


@dataclass(frozen=True)
class Entries:
    """The entries of one setting: what the `whole` is not where it is none, their fields, and what to say of them.

    `refused` are fields that are not taken on purpose, with the reason; `reasons` are by type of error.
    """

    whole: str
    fields: Collection[str]
    refused: Mapping[str, str]
    reasons: Mapping[str, str] = field(default_factory=dict)

    def reason_of(self, detail: ErrorDetails) -> str:
        """Say what is wrong, and in which entry; nothing that was given is repeated but names."""
        place = [str(part) for part in detail["loc"][1:]]
        reason = self._reason(detail, place)
        if not place:
            return reason
        return f"entry {place[0][:128]!r}: {' '.join([_field(place[1:]), reason]).strip()}"

    def _reason(self, detail: ErrorDetails, place: Sequence[str]) -> str:
        kind = detail["type"]
        if kind == "extra_forbidden" and place[-1] in self.refused:
            return self.refused[place[-1]]
        if kind == "extra_forbidden":
            nearest = difflib.get_close_matches(place[-1], self.fields, n=1)
            return f"is not known; perhaps {nearest[0]} is meant" if nearest else "is not known"
        if kind == OWN:
            return detail["msg"]
        reasons = REASONS if place else {**REASONS, "dict_type": self.whole}
        return {**reasons, **self.reasons}.get(kind, "is malformed")


def _field(place: Sequence[str]) -> str:
    """The name of a field, and the number of the item in it, counted from 1."""
    names = [part for part in place if part != "[key]"]
    return f"{names[0][:128]} {int(names[1]) + 1}" if len(names) > 1 and names[1].isdigit() else " ".join(names)[:128]
