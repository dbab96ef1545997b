// The official TypeScript SDK's client, which has a document. Prints where its user has to sign in, reads the code, and
// prints what a tool answers. usage: typescript_client.mjs NPM_PACKAGES SERVER DOCUMENT
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [packages, server, clientMetadataUrl] = process.argv.slice(2);
const part = (name) => import(pathToFileURL(`${packages}/@modelcontextprotocol/sdk/dist/esm/client/${name}.js`));
const { Client } = await part("index");
const { StreamableHTTPClientTransport } = await part("streamableHttp");

const kept = {};
const redirectUrl = "http://localhost:18999/callback";
const authProvider = {
  redirectUrl,
  clientMetadataUrl,
  clientMetadata: { redirect_uris: [redirectUrl], token_endpoint_auth_method: "none" },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => (kept.verifier = verifier),
  redirectToAuthorization: (url) => console.log(url.href),
};

const connect = async (transport) => {
  const client = new Client({ name: "typescript", version: "1" });
  await client.connect(transport);
  return client;
};
const transport = () => new StreamableHTTPClientTransport(new URL(server), { authProvider });
const first = transport();
await connect(first).catch(() => {});
const code = await new Promise((resolve) => createInterface({ input: process.stdin }).once("line", resolve));
await first.finishAuth(code);
const client = await connect(transport());
console.log(JSON.stringify((await client.callTool({ name: "whoami" })).structuredContent));
process.exit();
