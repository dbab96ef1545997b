"""Who is on a list, by what each provider tells, and who only looks so; and lists that cannot be meant."""

from typing import Any

import pytest
from fastmcp.server.auth.auth import AccessToken, AuthProvider, MultiAuth, TokenVerifier
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.oauth_proxy.models import ClientCode
from fastmcp.server.auth.providers.azure import AzureJWTVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier, RSAKeyPair
from key_value.aio.stores.memory import MemoryStore

from mcp_holdfast import outage
from mcp_holdfast.app import plan
from mcp_holdfast.auth import allow_lists
from mcp_holdfast.auth.allow_lists import AllowLists, let_in_only_allowed
from mcp_holdfast.auth.claims import ENTRA, GOOGLE, Claims, claims_of
from mcp_holdfast.auth.claims import GITHUB as GITHUB_CLAIMS
from mcp_holdfast.auth.providers.names import SHIPPED, find_provider
from mcp_holdfast.settings import ConfigurationError, Settings, load_settings, read_environment

GENERIC = Claims()
KEYCLOAK = Claims(groups=("groups", "realm_access.roles"))
LEFT_OUT = {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph"}}}


def settings_of(**environ: str) -> tuple[Settings, list[str]]:
    environment, problems = read_environment(environ)
    settings, more = load_settings(environment)
    return settings, [str(problem) for problem in [*problems, *more]]


def lists(claims: Claims = GENERIC, **named: str) -> AllowLists:
    environ = {f"HOLDFAST_{name.upper()}": value for name, value in named.items()}
    settings, problems = settings_of(FASTMCP_SERVER_AUTH="oidc", **environ)
    assert problems == []
    return AllowLists(settings, claims)


def verified(email: Any) -> dict[str, Any]:
    return {"sub": "1", "email": email, "email_verified": True}


@pytest.mark.parametrize(
    ("domain", "email"),
    [
        ("example.com", "ada@example.com"),
        ("Example.COM", "Ada@eXample.com"),
        ("other.test, example.com", "ada@example.com"),
        ("bücher.example", "ada@xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "ada@BÜCHER.example"),
        ("straße.example", "ada@xn--strae-oqa.example"),
        ("sub.example.com", "ada@sub.example.com"),
    ],
)
def test_a_domain_lets_in_its_addresses(domain: str, email: str) -> None:
    assert lists(allowed_domains=domain).refusal(verified(email)) is None
    assert lists(allowed_domains=domain).refusal({**verified(email), "email_verified": "true"}) is None


@pytest.mark.parametrize(
    "email",
    [
        "ada@evil-example.com",
        "ada@example.com.evil.test",
        "ada@sub.example.com",
        "ada@com",
        "ada@",
        "@example.com",
        "ada@example.com.",
        "ada@example.com ",
        "ada@example.com\n",
        "ada@evil.test@example.com",
        '"ada@evil.test"@example.com',
        "ada@example.com@evil.test",
        "ada@example.com\0.evil.test",
        "ada@ex\u00adample.com.evil.test",
        "ada@example\u2024evil.com",
        "ada@strasse.example",
        "\ud800@example\ud800.com",
        f"ada@{'a' * 5000}.com",
        ["ada@evil.test", "ada@example.com"],
        {"address": "ada@example.com"},
        7,
        None,
        "",
    ],
    ids=lambda email: ascii(email)[:40],
)
def test_no_address_looks_like_one_of_a_domain(email: Any) -> None:
    assert lists(allowed_domains="example.com, straße.example").refusal(verified(email)) is not None


@pytest.mark.parametrize("said", [None, False, "false", "yes", "True", 1.5, 0, "", [True]], ids=repr)
def test_an_address_that_was_not_verified_is_worth_nothing(said: Any) -> None:
    claims = {"sub": "1", "email": "ada@example.com", "email_verified": said}
    for named in (lists(allowed_domains="example.com"), lists(allowed_users="ada@example.com")):
        refusal = named.refusal(claims)
        assert refusal is not None
        assert "email_verified is not true" in refusal.reason
    assert lists(allowed_users="ada@example.com").refusal({"sub": "1", "email": "ada@example.com"}) is not None


@pytest.mark.parametrize(
    ("named", "claims", "comes_in"),
    [
        ("ada@example.com", verified("ADA@Example.com"), True),
        ("Ada@Example.com", verified("ada@example.com"), True),
        ("kim@example.com", verified("\u212aim@example.com"), False),
        ("ada@example.com", verified("ada@example.com.evil.test"), False),
        ("ada", {"sub": "ada"}, True),
        ("ada", {"sub": "Ada"}, False),
        ("ada", {"sub": "adam"}, False),
        ("ada", {"sub": ["eve", "ada"]}, False),
        ("ada", {"sub": ["ada", "eve"]}, False),
        ("ada", {"sub": "1", "preferred_username": "ada", "name": "ada"}, False),
        ("bob, ada", {"sub": "ada"}, True),
        ('["ada, the first"]', {"sub": "ada, the first"}, True),
        ("ada, the first", {"sub": "ada, the first"}, False),
        ("ada", {}, False),
    ],
)
def test_a_user_is_named_whole(named: str, claims: dict[str, Any], comes_in: bool) -> None:
    assert (lists(allowed_users=named).refusal(claims) is None) is comes_in


@pytest.mark.parametrize(
    ("told", "claims", "comes_in"),
    [
        (GENERIC, {"groups": ["others", "Data Team"]}, True),
        (GENERIC, {"groups": "Data Team"}, True),
        (GENERIC, {"roles": ["Data Team"]}, True),
        (GENERIC, {"groups": ["data team"]}, False),
        (GENERIC, {"groups": ["Data Team 2", "Data"]}, False),
        (GENERIC, {"groups": "others Data Team"}, False),
        (GENERIC, {"groups": []}, False),
        (GENERIC, {"groups": {"Data Team": True}}, False),
        (GENERIC, {"groups": [["Data Team"]]}, False),
        (GENERIC, {"realm_access": {"roles": ["Data Team"]}}, False),
        (KEYCLOAK, {"realm_access": {"roles": ["Data Team"]}}, True),
        (KEYCLOAK, {"realm_access.roles": ["Data Team"]}, True),
        (KEYCLOAK, {"realm_access": ["roles"]}, False),
        (ENTRA, {**LEFT_OUT}, False),
        (ENTRA, {"hasgroups": True}, False),
        (ENTRA, {**LEFT_OUT, "roles": ["Data Team"]}, True),
    ],
)
def test_a_group_is_named_whole(told: Claims, claims: dict[str, Any], comes_in: bool) -> None:
    assert (lists(told, allowed_groups="admins,Data Team").refusal(claims) is None) is comes_in


@pytest.mark.parametrize("claims", [LEFT_OUT, {"hasgroups": True}], ids=["source", "flag"])
def test_groups_that_entra_left_out_are_told_with_the_remedy(claims: dict[str, Any]) -> None:
    refusal = lists(ENTRA, allowed_groups="admins").refusal(claims)
    assert refusal is not None
    assert "Entra left the groups out" in refusal.reason
    assert "app roles" in refusal.reason


def test_users_and_domains_each_let_in_and_a_group_is_needed_as_well() -> None:
    named = lists(allowed_users="bob", allowed_domains="example.com", allowed_groups="admins")
    bob, ada = {"sub": "bob"}, verified("ada@example.com")
    assert named.refusal({**bob, "groups": ["admins"]}) is None
    assert named.refusal({**ada, "groups": ["admins"]}) is None
    assert named.refusal(bob) is not None
    assert named.refusal(ada) is not None
    assert named.refusal({"sub": "eve", "groups": ["admins"]}) is not None


def test_at_google_a_domain_is_its_owners_accounts() -> None:
    named = lists(GOOGLE, allowed_domains="example.com")
    assert named.refusal({**verified("ada@alias.test"), "google_user_data": {"hd": "example.com"}}) is None
    assert named.refusal({**verified("ada@example.com"), "google_user_data": {}}) is not None
    assert named.refusal({**verified("ada@example.com"), "google_user_data": None}) is not None


def test_at_github_nobody_takes_the_number_of_an_account_as_a_login() -> None:
    named = lists(GITHUB_CLAIMS, allowed_users="583231, octocat")
    assert named.refusal({"sub": "583231", "login": "ada"}) is None
    assert named.refusal({"sub": "1", "login": "octocat"}) is None
    assert named.refusal({"sub": "1", "login": "583231"}) is not None


def test_at_entra_nobody_gets_a_role_from_the_administrator_of_another_tenant() -> None:
    several = claims_of(AzureJWTVerifier, {"tenant_id": "organizations"})
    assert lists(several, allowed_groups="mcp-users").refusal({"oid": "1", "roles": ["mcp-users"]}) is not None
    assert lists(several, allowed_groups="mcp-users").refusal({"oid": "1", "groups": ["mcp-users"]}) is None
    assert lists(ENTRA, allowed_groups="mcp-users").refusal({"oid": "1", "roles": ["mcp-users"]}) is None


def test_claims_that_the_operator_names_are_believed_but_for_an_unverified_address() -> None:
    custom = lists(allowed_domains="example.com", domain_claims="https://example.com/mail")
    assert custom.refusal({"https://example.com/mail": "ada@example.com"}) is None
    assert custom.refusal(verified("ada@example.com")) is not None
    assert lists(allowed_domains="example.com", domain_claims="email").refusal({"email": "a@example.com"}) is not None
    assert lists(allowed_users="ada", user_claims="preferred_username").refusal({"sub": "ada"}) is not None


@pytest.mark.parametrize(
    ("name", "arguments", "users", "domains"),
    [
        ("azure", {"tenant_id": "11111111-1111-1111-1111-111111111111"}, ENTRA.users, ENTRA.domains),
        ("azure", {"tenant_id": "Organizations"}, ("oid",), ()),
        ("google", {}, GOOGLE.users, GOOGLE.domains),
        ("github", {}, ("sub", "login"), ()),
        ("cognito", {}, ("sub",), ()),
        ("discord", {}, ("sub",), ()),
        ("oidc", {}, GENERIC.users, GENERIC.domains),
        ("keycloak", {}, KEYCLOAK.users, KEYCLOAK.domains),
    ],
)
def test_a_provider_tells_people_apart_by_what_they_cannot_choose(
    name: str, arguments: dict[str, str], users: tuple[str, ...], domains: tuple[str, ...]
) -> None:
    found = claims_of(find_provider(name, variable="FASTMCP_SERVER_AUTH").provider_class, arguments)
    assert (found.users, found.domains) == (users, domains)


@pytest.mark.parametrize("path", SHIPPED)
def test_every_provider_can_name_users(path: str) -> None:
    assert claims_of(find_provider(path, variable="FASTMCP_SERVER_AUTH").provider_class, {}).users


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HOLDFAST_ALLOWED_DOMAINS", "", "is set to nothing"),
        ("HOLDFAST_ALLOWED_DOMAINS_FILE", "", "is set to nothing"),
        ("HOLDFAST_ALLOWED_USERS", "", "is set to nothing"),
        ("HOLDFAST_ALLOWED_GROUPS", "", "is set to nothing"),
        ("HOLDFAST_ALLOWED_DOMAINS", " , ", "names nobody"),
        ("HOLDFAST_ALLOWED_USERS", "[]", "names nobody"),
        ("HOLDFAST_ALLOWED_DOMAINS", "*.example.com", "*.example.com is no domain"),
        ("HOLDFAST_ALLOWED_DOMAINS", "@example.com", "@example.com is no domain"),
        ("HOLDFAST_ALLOWED_DOMAINS", "ada@example.com", "ada@example.com is no domain"),
        ("HOLDFAST_ALLOWED_DOMAINS", "https://example.com", "is no domain"),
        ("HOLDFAST_ALLOWED_DOMAINS", "example.com.", "is no domain"),
        ("HOLDFAST_ALLOWED_DOMAINS", "com", "com is no domain"),
        ("HOLDFAST_ALLOWED_DOMAINS", "exa mple.com", "is no domain"),
        ("HOLDFAST_ALLOWED_USERS", "*@example.com", "*@example.com is no user"),
        ("HOLDFAST_ALLOWED_USERS", '["ada"', "looks like a JSON list"),
        ("HOLDFAST_ALLOWED_USERS", "[1]", "is not text"),
        ("HOLDFAST_ALLOWED_GROUPS", "*", "* is no group"),
        ("HOLDFAST_GROUP_CLAIMS", "groups", "is set without HOLDFAST_ALLOWED_GROUPS"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_told(variable: str, value: str, says: str) -> None:
    _, problems = settings_of(FASTMCP_SERVER_AUTH="oidc", **{variable: value})
    assert any(problem.startswith(f"{variable}: ") and says in problem for problem in problems)


GITHUB = {"FASTMCP_SERVER_AUTH": "github", "FASTMCP_SERVER_AUTH_GITHUB_CLIENT_ID": "an-id"}
GITHUB |= {"FASTMCP_SERVER_AUTH_GITHUB_CLIENT_SECRET": "s"}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"HOLDFAST_ALLOWED_USERS": "ada"}, "USERS: is set, and with FASTMCP_SERVER_AUTH=local nobody says who"),
        (
            {"HOLDFAST_ALLOWED_USERS": "ada", "FASTMCP_SERVER_AUTH": "none", "HOLDFAST_ALLOW_ANONYMOUS": "true"},
            "USERS: is set, and with FASTMCP_SERVER_AUTH=none nobody says who",
        ),
        ({"HOLDFAST_ALLOWED_DOMAINS": "example.com", **GITHUB}, "DOMAINS: .* says nothing of a person's domain"),
        ({"HOLDFAST_ALLOWED_GROUPS": "admins", **GITHUB}, "GROUPS: .* says nothing of a person's group"),
    ],
)
def test_a_list_that_could_let_nobody_in_stops_the_start(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        plan({"HOLDFAST_SERVER": "demo", **environ})


def test_check_tells_which_claims_the_lists_go_by() -> None:
    checked = plan({"HOLDFAST_SERVER": "demo", "HOLDFAST_ALLOWED_USERS": "Ada, BOB@Example.com", **GITHUB})
    told = {value.variable: value.value for value in checked.effective()}
    assert told["HOLDFAST_ALLOWED_USERS"] == "Ada, bob@example.com"
    assert (told["HOLDFAST_USER_CLAIMS"], told["HOLDFAST_DOMAIN_CLAIMS"]) == ("sub, login", "")
    unlisted = plan({"HOLDFAST_SERVER": "demo", **GITHUB})
    assert "sub, login" not in {value.value for value in unlisted.effective()}


@pytest.mark.parametrize(
    ("verifier", "of_it", "users", "domains", "groups"),
    [
        ("googletokenverifier", {}, "sub, email", "google_user_data.hd", ""),
        ("githubtokenverifier", {}, "sub, login", "", ""),
        ("azurejwtverifier", {"CLIENT_ID": "an-id", "TENANT_ID": "organizations"}, "oid", "", "groups"),
        ("jwt", {"JWKS_URI": "https://idp.example.com/jwks"}, "sub, email", "email", "groups, roles"),
    ],
)
def test_what_verifies_the_tokens_says_what_they_tell(
    verifier: str, of_it: dict[str, str], users: str, domains: str, groups: str
) -> None:
    environ = {"HOLDFAST_SERVER": "demo", "HOLDFAST_ALLOWED_USERS": "ada", "FASTMCP_SERVER_AUTH": "remoteauthprovider"}
    environ |= {
        "FASTMCP_SERVER_AUTH_REMOTEAUTHPROVIDER_TOKEN_VERIFIER": verifier,
        "FASTMCP_SERVER_AUTH_REMOTEAUTHPROVIDER_AUTHORIZATION_SERVERS": "https://idp.example.com",
    }
    environ |= {f"FASTMCP_SERVER_AUTH_{verifier.upper()}_{name}": value for name, value in of_it.items()}
    told = {value.variable: value.value for value in plan(environ).effective()}
    assert [told[f"HOLDFAST_{kind}_CLAIMS"] for kind in ("USER", "DOMAIN", "GROUP")] == [users, domains, groups]


def test_a_list_that_the_provider_can_tell_or_was_told_to_is_taken() -> None:
    plan({"HOLDFAST_SERVER": "demo", "HOLDFAST_ALLOWED_USERS": "ada", **GITHUB})
    claims = {"HOLDFAST_ALLOWED_DOMAINS": "example.com", "HOLDFAST_DOMAIN_CLAIMS": "github_user_data.company"}
    plan({"HOLDFAST_SERVER": "demo", **claims, **GITHUB})


KEYS = {name: RSAKeyPair.generate() for name in ("people", "machines")}


class TestAnyLogin:
    """Of a provider that issues the tokens itself, and of several."""

    def token(self, keys: str, **claims: Any) -> str:
        return KEYS[keys].create_token(subject="1", additional_claims=claims)

    @pytest.fixture
    def login(self, request: pytest.FixtureRequest) -> AuthProvider:
        people, machines = (JWTVerifier(public_key=KEYS[name].public_key) for name in ("people", "machines"))
        login = people if request.param == "one" else MultiAuth(verifiers=[machines, people])
        let_in_only_allowed(login, None, lists(allowed_domains="example.com"))
        return login

    @pytest.mark.parametrize("login", ["one", "several"], indirect=True)
    async def test_verifies_no_token_of_who_is_not_named(self, login: AuthProvider) -> None:
        named = self.token("people", email="ada@example.com", email_verified=True)
        assert await login.verify_token(named) is not None
        assert await login.verify_token(self.token("people")) is None
        assert await login.verify_token(self.token("people", email="ada@example.com")) is None
        assert await login.verify_token("none") is None

    @pytest.mark.parametrize("login", ["several"], indirect=True)
    async def test_has_its_list_for_all_of_its_parts(self, login: AuthProvider) -> None:
        assert await login.verify_token(self.token("machines")) is None


class SomeVerifier(TokenVerifier):
    """Takes the token for the claims, and cannot reach the provider for the first few times."""

    def __init__(self, outages: int) -> None:
        super().__init__()
        self.outages = outages

    async def verify_token(self, token: str) -> AccessToken | None:
        if self.outages:
            self.outages -= 1
            outage.note("the provider is away")
            return None
        return AccessToken(token=token, client_id="a-client", scopes=[], claims={"sub": token})


class TestACode:
    """As a proxy keeps it for somebody who came back from the identity provider."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(allow_lists, "PAUSE", 0.0)

    async def kept(self, person: str, *, outages: int = 0) -> bool:
        proxy = OAuthProxy(
            upstream_authorization_endpoint="https://idp.example.com/authorize",
            upstream_token_endpoint="https://idp.example.com/token",
            upstream_client_id="an-id",
            upstream_client_secret="a secret",
            token_verifier=SomeVerifier(outages),
            base_url="https://mcp.example.com",
            client_storage=MemoryStore(),
            jwt_signing_key=b"k" * 32,
        )
        let_in_only_allowed(proxy, proxy, lists(allowed_users="ada"))
        code = ClientCode(
            code="a-code",
            client_id="a-client",
            redirect_uri="http://localhost/",
            code_challenge=None,
            code_challenge_method="S256",
            scopes=[],
            idp_tokens={"access_token": person},
            expires_at=2e9,
            created_at=0,
        )
        await proxy._code_store.put(key="a-code", value=code, ttl=60)
        return await proxy._code_store.get(key="a-code") is not None

    async def test_is_kept_for_who_is_named_and_for_nobody_else(self) -> None:
        assert await self.kept("ada")
        assert not await self.kept("eve")

    async def test_is_kept_once_the_provider_can_tell_who_it_is(self) -> None:
        with outage.watching() as causes:
            assert await self.kept("ada", outages=3)
            assert not await self.kept("eve", outages=3)
        assert causes == []

    async def test_is_not_kept_while_nobody_can_tell_which_is_an_outage(self) -> None:
        with outage.watching() as causes:
            assert not await self.kept("ada", outages=1000)
        assert causes == ["the provider is away"]
