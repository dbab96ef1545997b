"""What the settings come to, for people: each value without its secrets, and where it came from."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from mcp_holdfast.settings.engine_urls import exasol_variables, shown
from mcp_holdfast.settings.environment import DEFAULT, Environment
from mcp_holdfast.settings.loading import server_name
from mcp_holdfast.settings.model import Settings, variables_of
from mcp_holdfast.settings.values import in_largest_unit, is_duration

MASK = "***"


@dataclass(frozen=True)
class EffectiveValue:
    """A variable, its value as it works, secrets masked, and its source: the environment, a file, a default."""

    variable: str
    value: str
    source: str


def effective_settings(settings: Settings, environment: Environment) -> Iterator[EffectiveValue]:
    """Tell every setting of Holdfast's own, in the order of the model."""
    for name, setting in Settings.model_fields.items():
        names = variables_of(setting)
        variable = next((name for name in names if name in environment.values), names[0])
        value, source = _shown(getattr(settings, name), setting), environment.source(variable)
        if source == DEFAULT:
            value, source = _made_up(name, settings, environment) or (value, source)
        yield EffectiveValue(variable, value, source)


def _made_up(name: str, settings: Settings, environment: Environment) -> tuple[str, str] | None:
    """The value and the source of what was not set and still is no fixed default."""
    if name == "server":
        return server_name(settings, environment), DEFAULT
    if name == "storage_url" and settings.storage_url is not None:
        return shown(settings.storage_url.get_secret_value()), ", ".join(
            exasol_variables(settings.backend, environment.values)
        )
    if name == "backend" and settings.storage_url is not None:
        return settings.backend, "HOLDFAST_STORAGE_URL"
    if name in {"storage_key", "signing_key"}:
        file = settings.home / "keys" / f"{name.removesuffix('_key')}.key"
        return MASK, "generated at each start" if settings.backend == "memory" else f"generated, in {file}"
    if name == "pin" and settings.provider == "local":
        return MASK, "generated, shown once at the first start"
    return None


def without_credentials(text: str) -> str:
    """A text with the user and password of each URL in it masked."""
    return re.sub(r"://[^/@\s]+@", f"://{MASK}@", text)


def _shown(value: Any, setting: FieldInfo) -> str:
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, dict):
        return ", ".join(value)
    if isinstance(value, tuple):
        return ", ".join(_shown(item, setting) for item in value)
    if isinstance(value, SecretStr):
        return shown(value.get_secret_value()) if "HOLDFAST_STORAGE_URL" in variables_of(setting) else MASK
    if isinstance(value, bool):
        return str(value).lower()
    if is_duration(setting):
        return in_largest_unit(value)
    return without_credentials(str(value))
