"""Several public URLs of one store: what begins at one of them ends there."""

import hashlib

from fastmcp.server.auth.oauth_proxy import OAuthProxy


def keep_sign_ins_to_one_host(provider: OAuthProxy, base_url: str) -> None:
    """Have a proxy know only the sign-ins that began under its own public URL, and only the codes that it gave.

    Its tokens name the URL as issuer and audience, and need no more than that.
    """
    name = hashlib.sha256(base_url.encode()).hexdigest()[:16]
    for adapter in (provider._transaction_store, provider._code_store):
        adapter._default_collection = f"{adapter._default_collection}-{name}"
