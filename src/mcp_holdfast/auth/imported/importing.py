"""Carry another server's state over into this one: by command, and by itself at the first start."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastmcp.server.auth.oauth_proxy import OAuthProxy
from pydantic import SecretStr

from mcp_holdfast.auth.imported import local, proxy
from mcp_holdfast.auth.imported.records import IMPORTED, TakenOver, take_over
from mcp_holdfast.auth.providers import ProviderPlan
from mcp_holdfast.auth.sessions import SESSIONS
from mcp_holdfast.settings import ConfigurationError, Problem, Settings
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.importers import Family, Findings, SourceProblem, fingerprints_of, read_source, sources_in
from mcp_holdfast.storage.importers.fastmcp import CLIENTS as PROXY_CLIENTS
from mcp_holdfast.storage.locations import STORE_ERRORS, store_directory
from mcp_holdfast.storage.opening import OpenStore

log = logging.getLogger(__name__)

SOURCE_VARIABLES = ("OAUTH_STATE_PATH", "MCP_OAUTH_SQLITE_PATH", "MCP_OAUTH_DB")
"""Where vault-mcp, the memory service and otterwiki are told to keep their state."""

KEY_PARAMETERS = ("jwt_signing_key", "upstream_client_secret", "client_secret")
"""The parameters of FastMCP's providers that it derives keys from."""

COLLECTIONS_OF_CLIENTS = (PROXY_CLIENTS, local.CLIENTS, SESSIONS)
MOST_AT_START = 1000
"""Records that are imported while nobody is served; one takes some 20 ms on a busy machine, and longer on a network."""

BEGUN, DONE = "begun", "done"
LONGEST_WAIT = 60.0
WANTED: Mapping[Family, str] = {
    "proxy": "began at an identity provider: set FASTMCP_SERVER_AUTH and its variables as the old server had them",
    "local": "began at a login of the server's own: only FASTMCP_SERVER_AUTH=local can carry them on",
}


def secrets_of(provider: ProviderPlan | None) -> list[str]:
    """What FastMCP, given the same provider, derived its keys from."""
    given = [provider.login.arguments.get(name) for name in KEY_PARAMETERS] if provider else []
    texts = [secret.get_secret_value() if isinstance(secret, SecretStr) else secret for secret in given]
    return [text for text in texts if isinstance(text, str) and text]


def family_of(settings: Settings, provider: ProviderPlan | None) -> Family | None:
    """Whose sessions the login here can carry on; None for those of nobody."""
    if provider is None:
        return "local" if settings.provider == "local" else None
    return "proxy" if issubclass(provider.login.provider_class, OAuthProxy) else None


def check_login(findings: Findings, family: Family | None) -> None:
    """Refuse what the login here could do nothing with.

    Raises:
        SourceProblem: that is so.

    """
    if findings.family != family:
        raise SourceProblem(f"The sessions in {findings.path} ({findings.system}) {WANTED[findings.family]}")


async def carry_over(findings: Findings, store: AtomicStore, settings: Settings, *, dry_run: bool = False) -> TakenOver:
    """Store all that the login here can use; what it cannot is added to what the findings leave.

    Raises:
        LeaseBusy: another import is going on.

    """
    async with Leases(store, lifetime=settings.lease).hold("import", wait=LONGEST_WAIT):
        if findings.family == "local":
            records = local.local_records(findings, lifetime=settings.refresh_token_lifetime)
        else:
            records = proxy.proxy_records(findings)
            if not dry_run:
                await proxy.keep_signing_key(findings, store)
        taken_over = await take_over(records, store, dry_run=dry_run)
        if not dry_run:
            await _note(findings.path, DONE, store)
        return taken_over


def import_at_first_start(
    settings: Settings, provider: ProviderPlan | None, opened: OpenStore, environ: Mapping[str, str]
) -> None:
    """Import what another server left, where it is certain what is meant: one source, and a store without clients.

    Never prevents the start; what fails is tried again at the next one. Leaves no connection open.
    """
    if settings.backend == "memory":
        return
    try:
        asyncio.run(_import_at_first_start(settings, provider, opened, environ))
    except Exception as error:  # noqa: BLE001  # the server is more important
        reason = str(error) or type(error).__name__
        log.error("could not import another server's state; the next start tries again: %s", reason)


async def _import_at_first_start(
    settings: Settings, provider: ProviderPlan | None, opened: OpenStore, environ: Mapping[str, str]
) -> None:
    family = family_of(settings, provider)
    sources = _named_sources(environ) if family == "local" else []
    if family == "proxy":
        sources = sources_in(store_directory(settings.home))
    try:
        states = {source: await _noted(source, opened.store) for source in sources}
        waiting = [source for source, state in states.items() if state != DONE]
        chosen = _certain(waiting, secrets_of(provider))
        if chosen is not None and (states[chosen] == BEGUN or not await _has_clients(opened.store)):
            await _note(chosen, BEGUN, opened.store)
            await _import(chosen, settings, provider, opened.store)
        elif waiting:
            fields = {"sources": [str(source) for source in waiting]}
            log.warning("did not import another server's state; if it is wanted: holdfast import SOURCE", extra=fields)
    finally:
        await opened.backend.close()


async def _import(source: Path, settings: Settings, provider: ProviderPlan | None, store: AtomicStore) -> None:
    findings = read_source(source, secrets_of(provider))
    check_login(findings, family_of(settings, provider))
    if len(findings.records) > MOST_AT_START:
        fields = {"source": str(source), "records": len(findings.records)}
        log.warning("too much for a start to wait for; beside the running server: holdfast import SOURCE", extra=fields)
        return
    taken_over = await carry_over(findings, store, settings)
    fields = {"system": findings.system, "source": str(findings.path), "imported": dict(taken_over.carried)}
    log.info("imported another server's state", extra={**fields, "left": left_texts(findings)})


def keys_of_other_servers(opened: OpenStore) -> list[bytes]:
    """The keys that imported sessions' tokens may be signed with. Leaves no connection open.

    Raises:
        ConfigurationError: the store cannot be read: without the keys those sessions would be refused.

    """

    async def read() -> list[bytes]:
        try:
            return await proxy.imported_keys(opened.store)
        finally:
            await opened.backend.close()

    try:
        return asyncio.run(read())
    except STORE_ERRORS as error:
        what, remedy = f"cannot read the store: {error}", "Repair it, and start again"
        raise ConfigurationError([Problem("FASTMCP_HOME", what, remedy)]) from error


def left_texts(findings: Findings) -> list[str]:
    return [f"{count} {what}: {reason}" for (what, reason), count in sorted(findings.left.items())]


def _named_sources(environ: Mapping[str, str]) -> list[Path]:
    named = [Path(environ[name]) for name in SOURCE_VARIABLES if environ.get(name)]
    return list(dict.fromkeys(path for path in named if path.is_file()))


def _certain(sources: Sequence[Path], secrets: Sequence[str]) -> Path | None:
    """The only source; of trees that FastMCP named by their keys only those count whose key is known here."""
    trees = [source for source in sources if source.is_dir()]
    fingerprints = fingerprints_of(secrets) if trees else frozenset()
    fitting = [source for source in sources if source not in trees or source.name in fingerprints]
    return fitting[0] if len(fitting) == 1 else None


async def _has_clients(store: AtomicStore) -> bool:
    for collection in COLLECTIONS_OF_CLIENTS:
        async for _ in store.entries(collection):
            return True
    return False


async def _noted(source: Path, store: AtomicStore) -> str | None:
    note = await store.get(_name(source), collection=IMPORTED)
    return None if note is None else str(note.get("state"))


async def _note(source: Path, state: str, store: AtomicStore) -> None:
    await store.put(_name(source), {"state": state, "at": time.time()}, collection=IMPORTED)


def _name(source: Path) -> str:
    return f"source {source.resolve()}"
