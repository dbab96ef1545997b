"""Which class a name means, and how the variables of a class begin."""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from fastmcp.server.auth import AuthProvider, OAuthProvider, OAuthProxy, RemoteAuthProvider, TokenVerifier
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier

from mcp_holdfast.settings import ConfigurationError, Problem

SELECTOR = "FASTMCP_SERVER_AUTH"

SHIPPED: Mapping[str, tuple[str, ...]] = {
    "fastmcp.server.auth.MultiAuth": ("multi",),
    "fastmcp.server.auth.RemoteAuthProvider": ("remote",),
    "fastmcp.server.auth.oauth_proxy.OAuthProxy": ("oauth",),
    "fastmcp.server.auth.oidc_proxy.OIDCProxy": ("oidc",),
    "fastmcp.server.auth.providers.auth0.Auth0Provider": ("auth0",),
    "fastmcp.server.auth.providers.aws.AWSCognitoProvider": ("aws_cognito", "cognito"),
    "fastmcp.server.auth.providers.aws.AWSCognitoTokenVerifier": (),
    "fastmcp.server.auth.providers.azure.AzureJWTVerifier": (),
    "fastmcp.server.auth.providers.azure.AzureProvider": ("azure", "entra"),
    "fastmcp.server.auth.providers.clerk.ClerkProvider": ("clerk",),
    "fastmcp.server.auth.providers.clerk.ClerkTokenVerifier": (),
    "fastmcp.server.auth.providers.debug.DebugTokenVerifier": (),
    "fastmcp.server.auth.providers.descope.DescopeProvider": ("descope",),
    "fastmcp.server.auth.providers.discord.DiscordProvider": ("discord",),
    "fastmcp.server.auth.providers.discord.DiscordTokenVerifier": (),
    "fastmcp.server.auth.providers.github.GitHubProvider": ("github",),
    "fastmcp.server.auth.providers.github.GitHubTokenVerifier": (),
    "fastmcp.server.auth.providers.google.GoogleProvider": ("google",),
    "fastmcp.server.auth.providers.google.GoogleTokenVerifier": (),
    "fastmcp.server.auth.providers.huggingface.HuggingFaceProvider": ("huggingface",),
    "fastmcp.server.auth.providers.huggingface.HuggingFaceTokenVerifier": (),
    "fastmcp.server.auth.providers.in_memory.InMemoryOAuthProvider": (),
    "fastmcp.server.auth.providers.introspection.IntrospectionTokenVerifier": ("introspection",),
    "fastmcp.server.auth.providers.jwt.JWTVerifier": ("jwt",),
    "fastmcp.server.auth.providers.jwt.StaticTokenVerifier": (),
    "fastmcp.server.auth.providers.keycloak.KeycloakAuthProvider": ("keycloak",),
    "fastmcp.server.auth.providers.oci.OCIProvider": ("oci",),
    "fastmcp.server.auth.providers.propelauth.PropelAuthProvider": ("propelauth",),
    "fastmcp.server.auth.providers.scalekit.ScalekitProvider": ("scalekit",),
    "fastmcp.server.auth.providers.supabase.SupabaseProvider": ("supabase",),
    "fastmcp.server.auth.providers.workos.AuthKitProvider": ("authkit",),
    "fastmcp.server.auth.providers.workos.WorkOSProvider": ("workos",),
    "fastmcp.server.auth.providers.workos.WorkOSTokenVerifier": (),
}
"""Every provider class of FastMCP by its path, with its short names; the words of FastMCP 2.14 are first."""


def _class_word(path: str) -> str:
    return path.rpartition(".")[2].lower()


SHORT_NAMES: Mapping[str, str] = {word: path for path, words in SHIPPED.items() for word in (*words, _class_word(path))}
"""What may stand for a class instead of its path; its variables begin with FASTMCP_SERVER_AUTH_ and such a word."""

EXASOL_MARK = "exa."
EXASOL_PREFIX = "EXA_AUTH_"
EXASOL_CLASSES = (JWTVerifier, IntrospectionTokenVerifier, RemoteAuthProvider, OAuthProxy)
"""The classes that exasol configures through EXA_AUTH_*, a proxy and its token verifier alike."""

BASE_CLASSES = (AuthProvider, TokenVerifier, OAuthProvider)


@dataclass(frozen=True)
class NamedProvider:
    """A provider class and the prefixes of its variables, the one to recommend first."""

    provider_class: type[AuthProvider]
    prefixes: tuple[str, ...]


def find_provider(name: str, *, variable: str = SELECTOR) -> NamedProvider:
    """Find the class that a short name or a path means: of FastMCP 2.14, of exasol (`exa.` in front), or of now.

    Raises:
        ConfigurationError: it means none; `variable` is where the name was set.

    """
    path = SHORT_NAMES.get(name.lower(), name).removeprefix(EXASOL_MARK)
    provider_class = _import_class(path, variable)
    word = name.lower() if name.lower() in SHORT_NAMES else ""
    return NamedProvider(provider_class, prefixes_of(provider_class, word, exasol=name.startswith(EXASOL_MARK)))


def prefixes_of(provider_class: type[AuthProvider], word: str = "", *, exasol: bool = False) -> tuple[str, ...]:
    """Return the prefixes of a class's variables; `word` is what was said for it, `exasol` whether in exasol's way."""
    words = [word] if word else []
    words += [known for known, path in SHORT_NAMES.items() if _is_path_of(path, provider_class)]
    words.append(provider_class.__name__.lower())
    prefixes = [prefix_of(word) for word in dict.fromkeys(words)]
    if exasol:
        prefixes.insert(0, EXASOL_PREFIX)
    elif provider_class in EXASOL_CLASSES:
        prefixes.append(EXASOL_PREFIX)
    return tuple(prefixes)


def prefix_of(word: str) -> str:
    return f"{SELECTOR}_{word.upper()}_"


def _is_path_of(path: str, provider_class: type[AuthProvider]) -> bool:
    """Whether a path of FastMCP's is that of a class; it may name a package that has the class from its module."""
    module_name, _, class_name = path.rpartition(".")
    return class_name == provider_class.__name__ and f"{provider_class.__module__}.".startswith(f"{module_name}.")


def _import_class(path: str, variable: str) -> type[AuthProvider]:
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        raise _unknown(f"{path} is not a provider", path, variable)
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise _unknown(f"there is no module {error.name}", path, variable) from None
        raise _unimportable(module_name, error, variable) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing runs any code
        raise _unimportable(module_name, error, variable) from None
    if found is None:
        raise _unknown(f"module {module_name} has no {class_name}", path, variable)
    if not (inspect.isclass(found) and issubclass(found, AuthProvider)):
        raise _unknown(f"{path} is not a FastMCP auth provider class", path, variable)
    if found in BASE_CLASSES or inspect.isabstract(found):
        raise _unknown(f"{path} is only a base class of providers", path, variable)
    return found


def _unknown(what: str, path: str, variable: str) -> ConfigurationError:
    nearest = difflib.get_close_matches(path, [*SHORT_NAMES, *SHIPPED], n=1, cutoff=0.7)
    words = sorted(word for words in SHIPPED.values() for word in words)
    remedy = f"Did you mean {nearest[0]}?" if nearest else f"Give a full class path, or one of {', '.join(words)}"
    return ConfigurationError([Problem(variable, what, remedy)])


def _unimportable(module_name: str, error: BaseException, variable: str) -> ConfigurationError:
    what = f"importing {module_name} fails: {type(error).__name__}: {error}"
    return ConfigurationError([Problem(variable, what, "Install what it needs, or choose another provider")])
