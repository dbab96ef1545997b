// The official TypeScript SDK's client. Reads a tool's name a line and prints what the tool answered, as JSON, a line.
// usage: typescript_client.mjs URL; keeps its registration and tokens in ~/oauth.json
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { homedir } from "node:os";
import { createInterface } from "node:readline";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

// Where the browser brings the authorization code.
class Callback {
  async listen() {
    this.server = createServer((request, response) => {
      const code = new URL(request.url, this.url).searchParams.get("code");
      response.end("Signed in. You can close this window.");
      if (code) this.server.emit("code", code);
    });
    this.server.listen(0, "localhost");
    await once(this.server, "listening");
    this.url = `http://localhost:${this.server.address().port}/callback`;
    return this;
  }

  async code() {
    const [code] = await once(this.server, "code");
    return code;
  }
}

// What the SDK asks of an application: keep a few things, and open the browser.
class StoredLogin {
  constructor(path, redirectUrl) {
    this.path = path;
    this.redirectUrl = redirectUrl;
    this.kept = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : {};
  }

  keep(changes) {
    Object.assign(this.kept, changes);
    writeFileSync(this.path, JSON.stringify(this.kept));
  }

  get clientMetadata() {
    return {
      client_name: "TypeScript SDK",
      redirect_uris: [this.redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    };
  }

  clientInformation = () => this.kept.client;
  saveClientInformation = (client) => this.keep({ client });
  tokens = () => this.kept.tokens;
  saveTokens = (tokens) => this.keep({ tokens });
  codeVerifier = () => this.kept.verifier;
  saveCodeVerifier = (verifier) => this.keep({ verifier });

  invalidateCredentials(scope) {
    const everything = { client: undefined, tokens: undefined, verifier: undefined };
    this.keep(scope === "all" ? everything : { [scope]: undefined });
  }

  redirectToAuthorization(url) {
    spawn(process.env.BROWSER, [url.href], { stdio: "ignore" });
  }
}

async function connect(url, login, callback) {
  const client = new Client({ name: "typescript", version: "1" });
  const transport = new StreamableHTTPClientTransport(url, { authProvider: login });
  try {
    await client.connect(transport);
    return client;
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(await callback.code());
    return connect(url, login, callback);
  }
}

const url = new URL(process.argv[2]);
const callback = await new Callback().listen();
const login = new StoredLogin(`${homedir()}/oauth.json`, callback.url);
let client = await connect(url, login, callback);

async function call(tool) {
  try {
    return await client.callTool({ name: tool });
  } catch (error) {
    // A restarted server does not know the MCP session any more; clients then open a new one.
    if (error.code !== 404) throw error;
    client = await connect(url, login, callback);
    return client.callTool({ name: tool });
  }
}

for await (const tool of createInterface({ input: process.stdin })) {
  const result = await call(tool);
  console.log(JSON.stringify(result.structuredContent));
}
process.exit();
