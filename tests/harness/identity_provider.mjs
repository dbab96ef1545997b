// An OpenID provider with a control interface for tests. identity_provider.py starts it and says what it is for.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { DatabaseSync } from "node:sqlite";
import { json, text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import Provider from "../clients/node_modules/oidc-provider/lib/index.js";
import { DISCOVERY, flavour } from "./identity_provider_flavours.mjs";

const { ISSUER, HOST, PORT, TLS_PORT, CERTIFICATE, CERTIFICATE_KEY, STATE, CLIENT_ID, CLIENT_SECRET } = process.env;
const DAY = 24 * 60 * 60;
// Stands for the audience of tokens that were asked for without naming a resource, which must be a URI.
const DEFAULT_RESOURCE = "urn:holdfast:tests";

// SQLite survives kill -9; that it may lose something in a power cut is what makes it fast.
const database = new DatabaseSync(STATE);
database.exec(`
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = OFF;
  CREATE TABLE IF NOT EXISTS record (
    model TEXT, id TEXT, uid TEXT, grant_id TEXT, payload TEXT, PRIMARY KEY (model, id)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS record_by_uid ON record (model, uid);
  CREATE INDEX IF NOT EXISTS record_by_grant ON record (model, grant_id);
  CREATE TABLE IF NOT EXISTS event (name TEXT PRIMARY KEY, times INTEGER);
`);
const put = database.prepare("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?)");
const get = database.prepare("SELECT payload FROM record WHERE model = ? AND id = ?");
const getByUid = database.prepare("SELECT payload FROM record WHERE model = ? AND uid = ?");
const consume = database.prepare(
  "UPDATE record SET payload = json_set(payload, '$.consumed', unixepoch()) WHERE model = ? AND id = ?",
);
const remove = database.prepare("DELETE FROM record WHERE model = ? AND id = ?");
const removeByGrant = database.prepare("DELETE FROM record WHERE model = ? AND grant_id = ?");
const removeGrants = database.prepare("DELETE FROM record WHERE model = 'Grant' OR grant_id IS NOT NULL");
const count = database.prepare("INSERT INTO event VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1");
const counted = database.prepare("SELECT name, times FROM event");

const parsed = (row) => row && JSON.parse(row.payload);

// oidc-provider's interface to a database. It checks expiry by itself.
class Records {
  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload) {
    put.run(this.model, id, payload.uid ?? null, payload.grantId ?? null, JSON.stringify(payload));
  }

  async find(id) {
    return parsed(get.get(this.model, id));
  }

  async findByUid(uid) {
    return parsed(getByUid.get(this.model, uid));
  }

  async consume(id) {
    if (this.model !== "RefreshToken" || !flavour.forgivesReuse) consume.run(this.model, id);
  }

  async destroy(id) {
    remove.run(this.model, id);
  }

  async revokeByGrantId(grantId) {
    removeByGrant.run(this.model, grantId);
  }
}

const keyRecords = new Records("SigningKeys");

// The first key signs; those before it are published for as long as their tokens live.
async function addSigningKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const key = { ...privateKey.export({ format: "jwk" }), alg: "RS256", use: "sig", kid: randomUUID() };
  const keys = { keys: [key, ...((await keyRecords.find("current"))?.keys ?? [])] };
  await keyRecords.upsert("current", keys);
  return keys;
}

const provider = new Provider(ISSUER, {
  adapter: Records,
  jwks: (await keyRecords.find("current")) ?? (await addSigningKey()),
  cookies: { keys: ["signs the cookies of tests"] },
  scopes: flavour.scopes,
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, name: sub, email: `${sub}@example.test`, email_verified: true }),
  }),
  routes: flavour.routes,
  pkce: { required: () => flavour.pkceRequired },
  issueRefreshToken: (_, client, code) =>
    client.grantTypeAllowed("refresh_token") && flavour.issuesRefreshToken(code.scopes),
  rotateRefreshToken: flavour.rotates,
  formats: {
    customizers: {
      jwt(_, __, token) {
        token.payload = { ...flavour.claims(token.payload), ...told[token.payload.sub] };
      },
    },
  },
  ttl: {
    AccessToken: flavour.accessTokenLifetime,
    AuthorizationCode: 60,
    Grant: 30 * DAY,
    IdToken: flavour.accessTokenLifetime,
    Interaction: 60 * 60,
    RefreshToken: 30 * DAY,
    Session: DAY,
  },
  features: {
    devInteractions: { enabled: true },
    introspection: { enabled: "introspection" in flavour.routes },
    revocation: { enabled: "revocation" in flavour.routes },
    registration: { enabled: flavour.clientsRegister },
    resourceIndicators: {
      enabled: flavour.accessTokenFormat === "jwt" || flavour.knowsResources,
      defaultResource: () => DEFAULT_RESOURCE,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: flavour.scopes.join(" "),
        audience: resource === DEFAULT_RESOURCE ? flavour.audience : resource,
        accessTokenFormat: flavour.accessTokenFormat,
        accessTokenTTL: flavour.accessTokenLifetime,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});

const REUSES = { refresh_token: "reuses", authorization_code: "code_reuses" };

provider.on("grant.success", (ctx) => {
  count.run(ctx.oidc.params.grant_type === "refresh_token" ? "refreshes" : "redemptions");
});
provider.on("grant.revoked", (ctx) => {
  count.run(ctx.oidc.route === "revocation" ? "revocations" : REUSES[ctx.oidc.params.grant_type]);
});
for (const event of ["grant.error", "authorization.error", "revocation.error", "server_error"]) {
  provider.on(event, (_, error) => console.log(event, error.message, error.error_detail ?? ""));
}

// What goes wrong at present: by path, the status to answer with and the seconds to wait before.
let faults = {};
// Claims of access tokens that are JWTs, by account, beside those that all have.
let told = {};

const controls = {
  "GET /control/counts": () => Object.fromEntries(counted.all().map(({ name, times }) => [name, times])),
  "PUT /control/faults": (wanted) => {
    faults = wanted;
  },
  "PUT /control/claims": (wanted) => {
    told = wanted;
  },
  "PUT /control/redirect-uris": (redirect_uris) =>
    new Records("Client").upsert(CLIENT_ID, {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      redirect_uris,
      response_types: ["code"],
      grant_types: ["authorization_code", "refresh_token"],
    }),
  // Takes effect at the next start.
  "POST /control/rotate-keys": async () => {
    await addSigningKey();
  },
  "POST /control/revoke-all": () => {
    removeGrants.run();
  },
};

async function answerControls(ctx, next) {
  const control = controls[`${ctx.method} ${ctx.path}`];
  if (!control) return next();
  ctx.body = (await control(ctx.method === "PUT" ? await json(ctx.req) : undefined)) ?? {};
}

// What servers ask when they verify a token.
const COUNTED_PATHS = new Set(["/introspect", "/jwks", ...Object.keys(flavour.api)]);

async function countRequest(ctx, next) {
  if (COUNTED_PATHS.has(ctx.path)) count.run(ctx.path);
  return next();
}

async function fail(ctx, next) {
  const { delay, status } = faults[ctx.path] ?? {};
  if (delay) {
    // Read first, so that the request is carried out even if its sender is gone by then.
    ctx.req.body = await text(ctx.req);
    await sleep(1000 * delay);
  }
  if (!status) return next();
  ctx.status = status;
  ctx.body = { error: "temporarily_unavailable" };
}

// Signs in and consents at once, without the pages: POST /interaction/<uid>/approve?account=<name>.
async function approveAtOnce(ctx, next) {
  if (ctx.method !== "POST" || !/^\/interaction\/[^/]+\/approve$/.test(ctx.path)) return next();
  const { params } = await provider.interactionDetails(ctx.req, ctx.res);
  const accountId = ctx.query.account;
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  for (const resource of [params.resource].flat()) grant.addResourceScope(resource, params.scope);
  await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId }, consent: { grantId: await grant.save() } });
}

// oidc-provider looks whether a token was used and marks it used in two steps; between them a reuse would go unseen.
let lastExchange = Promise.resolve();

async function exchangeOneAtATime(ctx, next) {
  if (ctx.path !== flavour.routes.token) return next();
  const exchange = lastExchange.then(next);
  lastExchange = exchange.catch(() => {});
  return exchange;
}

async function answerApi(ctx, next) {
  const answer = flavour.api[ctx.path];
  if (!answer) return next();
  const value = ctx.query.access_token ?? ctx.get("authorization").replace(/^Bearer /, "");
  const { status = 200, headers = {}, body } = answer(await provider.AccessToken.find(value));
  ctx.status = status;
  ctx.set(headers);
  ctx.body = body;
}

// Only with the client's own credentials.
async function deleteToken(ctx, next) {
  if (ctx.method !== "DELETE" || ctx.path !== flavour.deletion) return next();
  const credentials = Buffer.from(`${CLIENT_ID}:${CLIENT_SECRET}`).toString("base64");
  const token = await provider.AccessToken.find((await json(ctx.req)).access_token);
  ctx.status = ctx.get("authorization") !== `Basic ${credentials}` ? 401 : token ? 204 : 404;
  if (ctx.status !== 204) return;
  await token.destroy();
  count.run("revocations");
}

async function beLikeTheVendor(ctx, next) {
  if (ctx.path === flavour.discoveryPath) {
    // oidc-provider would take what differs for the path that it is mounted at.
    ctx.req.originalUrl = ctx.url = DISCOVERY;
    await next();
    ctx.body = flavour.discoveryDocument(ctx.body);
  } else if (ctx.path === flavour.routes.token) {
    await next();
    ctx.body = flavour.tokenResponse(ctx);
  } else {
    if (ctx.path === flavour.routes.authorization) ctx.search = takenParameters(ctx.search);
    await next();
  }
}

function takenParameters(search) {
  const parameters = new URLSearchParams(search);
  if (!flavour.knowsResources) parameters.delete("resource");
  flavour.takeRequest(parameters);
  return parameters.toString();
}

for (const middleware of [
  answerControls,
  countRequest,
  fail,
  answerApi,
  deleteToken,
  beLikeTheVendor,
  approveAtOnce,
  exchangeOneAtATime,
]) {
  provider.use(middleware);
}
provider.listen(Number(PORT), HOST);
if (TLS_PORT) {
  const certified = { cert: readFileSync(CERTIFICATE), key: readFileSync(CERTIFICATE_KEY) };
  createServer(certified, provider.callback()).listen(Number(TLS_PORT), HOST);
}
