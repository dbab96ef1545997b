// What makes the OpenID provider of identity_provider.mjs behave as a vendor's does: addresses, tokens and manners.
// Each flavour tells how it differs from `plain`; the vendors' pages that say so are named in docs/providers.

const { ISSUER, CLIENT_ID } = process.env;
const ISSUER_PATH = new URL(ISSUER).pathname.replace(/\/$/, "");
export const DISCOVERY = "/.well-known/openid-configuration";
const YEARS = 10 * 365 * 24 * 60 * 60;

const without = (object, ...names) => Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));

const plain = {
  routes: {
    authorization: "/authorize",
    token: "/token",
    revocation: "/revoke",
    introspection: "/introspect",
    jwks: "/jwks",
  },
  scopes: ["openid", "profile", "email", "offline_access"],
  discoveryPath: DISCOVERY,
  discoveryDocument: (document) => document,
  // Who registers a client: its owner in a console, or the client itself (RFC 7591).
  clientsRegister: false,
  pkceRequired: true,
  accessTokenLifetime: Number(process.env.ACCESS_TOKEN_LIFETIME),
  accessTokenFormat: process.env.ACCESS_TOKEN_FORMAT,
  // Whether `resource` (RFC 8707) chooses whom an access token is for; where it was not given, or is not known:
  knowsResources: true,
  audience: "urn:holdfast:tests",
  // What is in an access token that is a JWT.
  claims: (claims) => claims,
  issuesRefreshToken: (scopes) => scopes.has("offline_access"),
  rotates: process.env.ROTATE_REFRESH_TOKENS !== "no",
  // Whether a refresh token that was rotated stays good.
  forgivesReuse: false,
  // What is done about an authorization request's parameters before it is looked at.
  takeRequest: (parameters) => parameters,
  // What is done about a token response before it is sent.
  tokenResponse: (ctx) => ctx.body,
  // What the vendor's own API answers about an access token; it gets none where the token is not good.
  api: {},
  // Where an access token is deleted by an API of the vendor's own.
  deletion: undefined,
};

// offline_access, without asking the person each time. oidc-provider grants it only where they are asked.
const consenting = (parameters) => parameters.set("prompt", "consent");

const entra = {
  routes: {
    authorization: `${ISSUER_PATH.replace("/v2.0", "")}/oauth2/v2.0/authorize`,
    token: `${ISSUER_PATH.replace("/v2.0", "")}/oauth2/v2.0/token`,
    jwks: `${ISSUER_PATH.replace("/v2.0", "")}/discovery/v2.0/keys`,
  },
  scopes: [...plain.scopes, `api://${CLIENT_ID}/access_as_user`],
  discoveryPath: `${ISSUER_PATH}${DISCOVERY}`,
  accessTokenFormat: "jwt",
  knowsResources: false,
  audience: CLIENT_ID,
  claims: ({ scope, client_id, ...claims }) => ({
    ...claims,
    azp: client_id,
    oid: `${claims.sub}-object-id`,
    preferred_username: `${claims.sub}@example.com`,
    scp: scope.split(" ").filter((name) => name.startsWith("api://")).map((name) => name.split("/").pop()).join(" "),
    tid: ISSUER_PATH.split("/")[1],
    ver: "2.0",
  }),
  rotates: true,
  forgivesReuse: true,
  takeRequest: consenting,
};

const auth0 = {
  routes: {
    authorization: "/authorize",
    token: "/oauth/token",
    revocation: "/oauth/revoke",
    jwks: "/.well-known/jwks.json",
    userinfo: "/userinfo",
  },
  accessTokenFormat: "jwt",
  knowsResources: false,
  claims: ({ client_id, ...claims }) => ({
    ...claims,
    aud: [claims.aud, `${ISSUER}userinfo`],
    azp: client_id,
    sub: `auth0|${claims.sub}`,
  }),
  rotates: true,
  takeRequest(parameters) {
    consenting(parameters);
    parameters.set("resource", parameters.get("audience"));
  },
};

const keycloak = {
  routes: Object.fromEntries(
    Object.entries({ authorization: "auth", token: "token", revocation: "revoke", jwks: "certs", userinfo: "userinfo" })
      .map(([name, path]) => [name, `${ISSUER_PATH}/protocol/openid-connect/${path}`])
      .concat([["registration", `${ISSUER_PATH}/clients-registrations/openid-connect`]]),
  ),
  discoveryPath: `${ISSUER_PATH}${DISCOVERY}`,
  clientsRegister: true,
  accessTokenFormat: "jwt",
  knowsResources: false,
  // By an audience mapper in a client scope.
  audience: "holdfast",
  claims: ({ client_id, ...claims }) => ({
    ...claims,
    azp: client_id,
    preferred_username: claims.sub,
    realm_access: { roles: ["offline_access", "reader"] },
    sub: `${claims.sub}-user-id`,
    typ: "Bearer",
  }),
  // To every client, for as long as its session lives; offline_access makes it live longer.
  issuesRefreshToken: () => true,
  // "Revoke Refresh Token" is on.
  rotates: true,
  takeRequest: consenting,
};

const COGNITO_LOGIN = "https://people.auth.eu-west-1.amazoncognito.com";

const cognito = {
  routes: {
    authorization: "/oauth2/authorize",
    token: "/oauth2/token",
    revocation: "/oauth2/revoke",
    userinfo: "/oauth2/userInfo",
    jwks: `${ISSUER_PATH}/.well-known/jwks.json`,
  },
  scopes: ["openid", "profile", "email", "phone"],
  discoveryPath: `${ISSUER_PATH}${DISCOVERY}`,
  discoveryDocument: (document) => ({
    ...document,
    authorization_endpoint: `${COGNITO_LOGIN}/oauth2/authorize`,
    token_endpoint: `${COGNITO_LOGIN}/oauth2/token`,
    revocation_endpoint: `${COGNITO_LOGIN}/oauth2/revoke`,
    userinfo_endpoint: `${COGNITO_LOGIN}/oauth2/userInfo`,
  }),
  accessTokenFormat: "jwt",
  knowsResources: false,
  claims: (claims) => ({
    ...claims,
    // There is none, but oidc-provider wants something here.
    aud: { toJSON: () => undefined },
    "cognito:groups": ["readers"],
    sub: `${claims.sub}-user-id`,
    token_use: "access",
    username: claims.sub,
    version: 2,
  }),
  issuesRefreshToken: () => true,
  rotates: false,
  tokenResponse: refreshTokenOnce,
};

const GOOGLE_EMAIL = "https://www.googleapis.com/auth/userinfo.email";

const google = {
  routes: {
    authorization: "/o/oauth2/v2/auth",
    token: "/token",
    revocation: "/revoke",
    jwks: "/oauth2/v3/certs",
    userinfo: "/v1/userinfo",
  },
  scopes: ["openid", GOOGLE_EMAIL, "https://www.googleapis.com/auth/userinfo.profile"],
  pkceRequired: false,
  accessTokenFormat: "opaque",
  knowsResources: false,
  issuesRefreshToken: () => true,
  rotates: false,
  tokenResponse: refreshTokenOnce,
  api: {
    "/tokeninfo": (token) =>
      token
        ? {
            body: {
              aud: CLIENT_ID,
              azp: CLIENT_ID,
              sub: token.accountId,
              scope: token.scope,
              expires_in: String(token.remainingTTL),
              email: `${token.accountId}@example.com`,
              email_verified: "true",
            },
          }
        : { status: 400, body: { error: "invalid_token" } },
    "/oauth2/v2/userinfo": (token) =>
      token
        ? { body: { id: token.accountId, name: token.accountId, email: `${token.accountId}@example.com` } }
        : { status: 401, body: { error: { status: "UNAUTHENTICATED" } } },
  },
};

// An OAuth App, whose tokens live until they are revoked.
const github = {
  routes: { authorization: "/login/oauth/authorize", token: "/login/oauth/access_token" },
  scopes: ["user", "read:user", "repo"],
  pkceRequired: false,
  accessTokenLifetime: YEARS,
  accessTokenFormat: "opaque",
  knowsResources: false,
  issuesRefreshToken: () => false,
  rotates: false,
  tokenResponse(ctx) {
    // Errors too are answered with 200, and scopes are divided by commas.
    ctx.status = 200;
    const { scope, ...answer } = without(ctx.body, "expires_in");
    const body = scope === undefined ? answer : { ...answer, scope: scope.replaceAll(" ", ",") };
    if (ctx.accepts("application/x-www-form-urlencoded", "json") === "json") return body;
    ctx.type = "application/x-www-form-urlencoded";
    return new URLSearchParams(body).toString();
  },
  api: {
    "/user": (token) => aboutGitHubUser(token, (login) => ({ id: 4242, login, name: login, email: `${login}@example.com` })),
    "/user/repos": (token) => aboutGitHubUser(token, () => []),
  },
  deletion: `/applications/${CLIENT_ID}/token`,
};

function aboutGitHubUser(token, body) {
  if (!token) return { status: 401, body: { message: "Bad credentials" } };
  return { headers: { "x-oauth-scopes": [...token.scopes].join(", ") }, body: body(token.accountId) };
}

// With the code only; a refresh brings a new access token and nothing else.
function refreshTokenOnce(ctx) {
  return ctx.oidc.params?.grant_type === "refresh_token" ? without(ctx.body, "refresh_token") : ctx.body;
}

const flavours = { plain, entra, auth0, keycloak, cognito, google, github };

export const flavour = { ...plain, ...flavours[process.env.FLAVOUR ?? "plain"] };
