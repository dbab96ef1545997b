"""Canaille with one person and one client, over TLS. Runs in its own environment."""

import asyncio
import os

from canaille import create_app  # type: ignore[import-not-found]
from canaille.app import models  # type: ignore[import-not-found]
from canaille.backends import Backend  # type: ignore[import-not-found]
from hypercorn.asyncio import serve  # type: ignore[import-not-found]
from hypercorn.config import Config  # type: ignore[import-not-found]

HOST, LIFETIME = os.environ["HOST"], int(os.environ["ACCESS_TOKEN_LIFETIME"])

app = create_app(
    {
        "SECRET_KEY": "signs the cookies of tests",
        "SERVER_NAME": HOST,
        "PREFERRED_URL_SCHEME": "https",
        "OAUTH2_TOKEN_EXPIRES_IN": {"authorization_code": LIFETIME, "refresh_token": LIFETIME},
        "CANAILLE": {"DATABASE": "sql"},
        "CANAILLE_SQL": {"DATABASE_URI": f"sqlite:///{os.environ['STATE']}"},
        "CANAILLE_OIDC": {"REQUIRE_NONCE": False},
    },
    init_backend=True,
)
with app.app_context():
    Backend.instance.install(app)
    with Backend.instance.session():
        person = models.User(
            user_name=os.environ["ACCOUNT"],
            password=os.environ["PASSWORD"],
            family_name="Lovelace",
            formatted_name="Ada Lovelace",
            emails=["ada@example.com"],
        )
        Backend.instance.save(person)
        client = models.Client(
            client_id=os.environ["CLIENT_ID"],
            client_secret=os.environ["CLIENT_SECRET"],
            client_name="Holdfast",
            client_uri="https://mcp.example.com",
            redirect_uris=[os.environ["REDIRECT_URI"]],
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            scope=["openid", "profile", "email"],
            token_endpoint_auth_method="client_secret_basic",
            id_token_signed_response_alg="RS512",
        )
        Backend.instance.save(client)

config = Config()
config.bind = [f"127.0.0.1:{os.environ['TLS_PORT']}"]
config.certfile, config.keyfile = os.environ["CERTIFICATE"], os.environ["CERTIFICATE_KEY"]
asyncio.run(serve(app, config))
