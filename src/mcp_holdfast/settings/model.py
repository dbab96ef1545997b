"""Every setting, its variable and its default."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic.fields import FieldInfo

from mcp_holdfast.settings.access import ClaimNames, Domains, Groups, Tags, Team, Users
from mcp_holdfast.settings.clients import Clients
from mcp_holdfast.settings.tokens import Tokens
from mcp_holdfast.settings.values import (
    Backend,
    BaseUrls,
    Duration,
    DurationOrOff,
    HostNames,
    Key,
    Keys,
    Origins,
    RedirectPatterns,
    backend_name,
    check_pin,
    check_proxies,
    check_storage_url,
    lowered,
    whole_number,
)


def variable(*names: str, default: Any) -> Any:
    """A setting, its variable first and then the aliases that work too."""
    return Field(default=default, validation_alias=AliasChoices(*names))


class Settings(BaseModel):
    """Every setting of Holdfast itself. Payloads and providers read further variables; durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, hide_input_in_errors=True)

    server: str = variable("HOLDFAST_SERVER", default="")
    home: Path = variable("FASTMCP_HOME", default=Path("/data"))
    backend: Annotated[Backend, BeforeValidator(backend_name)] = variable(
        "EXA_MCP_STORAGE_BACKEND",
        "HOLDFAST_STORAGE",
        "EXA_MCP_OAUTH_STORAGE_BACKEND",
        "MCP_OAUTH_STORAGE_BACKEND",
        default="filetree",
    )
    storage_url: Annotated[SecretStr, AfterValidator(check_storage_url)] | None = variable(
        "HOLDFAST_STORAGE_URL", default=None
    )
    storage_wait: Annotated[DurationOrOff, Field(le=3600)] = variable("HOLDFAST_STORAGE_WAIT", default=0)
    storage_key: Key | None = variable("HOLDFAST_STORAGE_KEY", default=None)
    storage_key_previous: Keys = variable("HOLDFAST_STORAGE_KEY_PREVIOUS", default=())
    signing_key: Key | None = variable("HOLDFAST_SIGNING_KEY", default=None)
    signing_key_previous: Keys = variable("HOLDFAST_SIGNING_KEY_PREVIOUS", default=())

    provider: str = variable("FASTMCP_SERVER_AUTH", default="local")
    allow_anonymous: bool = variable("HOLDFAST_ALLOW_ANONYMOUS", default=False)
    base_urls: BaseUrls = variable("HOLDFAST_BASE_URL", "OAUTH_ISSUER_URL", default=())
    allowed_hosts: HostNames = variable("HOLDFAST_ALLOWED_HOSTS", default=())
    allowed_origins: Origins = variable("HOLDFAST_ALLOWED_ORIGINS", default=())

    pin: Annotated[SecretStr, AfterValidator(check_pin)] | None = variable("HOLDFAST_PIN", "OAUTH_PIN", default=None)
    signin_page_lifetime: Duration = variable("HOLDFAST_SIGNIN_PAGE_LIFETIME", default=3600)
    code_lifetime: Duration = variable("HOLDFAST_CODE_LIFETIME", default=600)
    access_token_lifetime: Duration | None = variable("HOLDFAST_ACCESS_TOKEN_LIFETIME", default=None)
    refresh_token_lifetime: Duration = variable("HOLDFAST_REFRESH_TOKEN_LIFETIME", default=30 * 86400)
    refresh_ahead: Annotated[DurationOrOff, Field(le=3600)] = variable("HOLDFAST_REFRESH_AHEAD", default=30)
    refresh_grace: DurationOrOff = variable("HOLDFAST_REFRESH_GRACE", default=60)
    token_cache: Annotated[DurationOrOff, Field(le=300)] = variable("HOLDFAST_TOKEN_CACHE", default=10)
    lease: Annotated[Duration, Field(ge=2, le=300)] = variable("HOLDFAST_LEASE", default=10)
    sweep_interval: DurationOrOff = variable("HOLDFAST_SWEEP_INTERVAL", default=60)
    quarantine: Duration = variable("HOLDFAST_QUARANTINE", default=7 * 86400)

    redirect_uris: RedirectPatterns = variable("HOLDFAST_REDIRECT_URIS", default=())
    clients: Clients = variable("HOLDFAST_CLIENTS", default={})
    registrations_per_minute: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=100_000)] = variable(
        "HOLDFAST_REGISTRATIONS_PER_MINUTE", default=20
    )
    registration_lifetime: Duration = variable("HOLDFAST_REGISTRATION_LIFETIME", default=86400)
    cimd: Annotated[Literal["auto", "on", "off"], BeforeValidator(lowered)] = variable("HOLDFAST_CIMD", default="auto")

    tokens: Tokens = variable("HOLDFAST_TOKENS", default={})
    allowed_users: Users = variable("HOLDFAST_ALLOWED_USERS", default=())
    allowed_domains: Domains = variable("HOLDFAST_ALLOWED_DOMAINS", default=())
    allowed_groups: Groups = variable("HOLDFAST_ALLOWED_GROUPS", default=())
    user_claims: ClaimNames = variable("HOLDFAST_USER_CLAIMS", default=())
    domain_claims: ClaimNames = variable("HOLDFAST_DOMAIN_CLAIMS", default=())
    group_claims: ClaimNames = variable("HOLDFAST_GROUP_CLAIMS", default=())
    cloudflare_team: Team | None = variable("HOLDFAST_CLOUDFLARE_TEAM", default=None)
    cloudflare_audience: Tags = variable("HOLDFAST_CLOUDFLARE_AUDIENCE", default=())

    workers: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=512)] = variable("WEB_CONCURRENCY", default=1)
    replicas: bool = variable("HOLDFAST_REPLICAS", default=False)
    drain: Annotated[DurationOrOff, Field(le=85)] = variable("HOLDFAST_DRAIN", default=0)
    port: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=65535)] = variable("PORT", default=8000)
    forwarded_allow_ips: Annotated[str, AfterValidator(check_proxies)] = variable(
        "FORWARDED_ALLOW_IPS", default="127.0.0.1"
    )
    gunicorn_arguments: str = variable("GUNICORN_CMD_ARGS", default="")
    metrics_token: Key | None = variable("HOLDFAST_METRICS_TOKEN", default=None)
    audit_log: bool = variable("HOLDFAST_AUDIT_LOG", default=True)
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lowered)] = variable(
        "LOG_LEVEL", default="info"
    )
    log_format: Annotated[Literal["text", "json"], BeforeValidator(lowered)] = variable("LOG_FORMAT", default="text")

    @model_validator(mode="after")
    def _default_base_url(self) -> Self:
        if not self.base_urls:
            object.__setattr__(self, "base_urls", (f"http://localhost:{self.port}",))
        return self

    @property
    def base_url(self) -> str:
        """The first of the public URLs: what is served to who asks for a host that none of them names."""
        return self.base_urls[0]


def variables_of(setting: FieldInfo) -> tuple[str, ...]:
    """The variable of a setting and its aliases, the variable first."""
    return tuple(str(name) for name in cast("AliasChoices", setting.validation_alias).choices)


def variable_names() -> frozenset[str]:
    """The names of all variables that Holdfast itself reads, aliases included."""
    return frozenset(name for setting in Settings.model_fields.values() for name in variables_of(setting))
