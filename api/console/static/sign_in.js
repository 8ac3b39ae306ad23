// Signing in at the identity provider: OpenID Connect's code flow with PKCE.
//
// It happens in a window of its own, so that this page keeps what was typed, and the secrets of
// the request in its memory. That window hands over the code, which is worth nothing without them.

import { html, render } from "./html.js";
import { ROOT } from "./router.js";

const ADDRESS = `${ROOT}/sign-in`;
const RETURN = `${ROOT}/signed-in`;
const CHANNEL = "orderly:sign-in";

// Where people sign in; null if they need a token.
export async function findProvider() {
  const { provider } = await call("GET", ADDRESS);
  return provider;
}

// A request to the provider: its address, and the secrets that its answer must fit.
export async function prepare(provider) {
  const [state, nonce, codeVerifier] = [random(), random(), random()];
  const address = new URL(provider.authorization_endpoint);
  const parameters = {
    response_type: "code",
    client_id: provider.client_id,
    redirect_uri: redirectUri(),
    scope: provider.scope,
    audience: provider.audience,
    state,
    nonce,
    code_challenge: await challenge(codeVerifier),
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value);
  return { provider, address: address.href, state, nonce, codeVerifier };
}

// By RFC 7636: what the provider is shown of a verifier.
export async function challenge(codeVerifier) {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(codeVerifier));
  return base64url(new Uint8Array(hash));
}

// Calls `handle` with each answer to the current request, until the function that it returns is called.
export function onAnswer(current, handle) {
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = ({ data }) => {
    const request = current();
    if (!request || data.state !== request.state) return; // Of another tab, or forged.
    channel.postMessage({ received: data.state });
    handle(request, data);
  };
  return () => channel.close();
}

// The tokens for an answer; an Error says why there are none.
export async function redeem(request, answer) {
  if (answer.error) throw new Error(`The identity provider did not sign you in: ${answer.error}.`);
  if (answer.iss !== undefined && answer.iss !== request.provider.issuer) {
    throw new Error("The answer is from another identity provider.");
  }
  return call("POST", ADDRESS, {
    code: answer.code,
    code_verifier: request.codeVerifier,
    nonce: request.nonce,
    redirect_uri: redirectUri(),
  });
}

export function renew(refreshToken) {
  return call("POST", `${ADDRESS}/renewal`, { refresh_token: refreshToken });
}

// Whether this is the window to which the provider returns; it hands over the answer, and closes.
export function isReturn() {
  return location.pathname === RETURN;
}

export function handOver(box) {
  const answer = Object.fromEntries(new URLSearchParams(location.search));
  history.replaceState(null, "", RETURN); // No code stays in an address.
  document.title = "Signing in · orderly";
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = ({ data }) => data.received === answer.state && close();
  channel.postMessage(answer);
  render(
    html`<main id="main">
      <h1>Signing in</h1>
      <p>Go on in the window in which you were. You can close this one.</p>
      <p><a href="${ROOT}/">To the inbox</a></p>
    </main>`,
    box,
  );
}

function redirectUri() {
  return location.origin + RETURN;
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    credentials: "omit",
    redirect: "error",
    cache: "no-store",
    headers: body && { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const document = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(document.detail ?? `The service answered ${response.status}.`);
  return document;
}
