// Requests to the public API, with the caller's own token.
// The token is in the memory of this page alone: not in a cookie, a store or an address.

import { renew } from "./sign_in.js";

let token = "";
let refreshToken = ""; // Of the identity provider, if it gave one.
let renewing = null;
let askForToken = async () => {
  throw new Error("no sign-in");
};

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `The API answered ${status}.`);
    this.status = status;
    this.code = document.code ?? "unknown";
    this.document = document;
  }
}

// `ask(reason)` resolves to {token, refresh_token} once the person has signed in.
export function onSignIn(ask) {
  askForToken = ask;
}

export function signOut() {
  keep({ token: "", refresh_token: "" });
}

function keep(tokens) {
  token = tokens.token;
  refreshToken = tokens.refresh_token ?? refreshToken; // A provider may leave it as it is.
}

// Who the token is for, as it says itself; the API alone checks it.
export function subject() {
  try {
    const [, claims] = token.split(".");
    const bytes = Uint8Array.from(atob(claims.replaceAll("-", "+").replaceAll("_", "/")), (c) =>
      c.charCodeAt(0),
    );
    return JSON.parse(new TextDecoder().decode(bytes)).sub ?? "";
  } catch {
    return "";
  }
}

// The service writes the times in its sentences in the viewer's zone.
const PREFER = `timezone=${Intl.DateTimeFormat().resolvedOptions().timeZone}`;

// A response, after as many sign-ins as it takes: what was typed on the page stays meanwhile.
async function send(path, options = {}) {
  let isRenewed = false;
  for (;;) {
    const headers = { Prefer: PREFER, ...options.headers };
    const used = token;
    if (used) headers.Authorization = `Bearer ${used}`;
    const response = await fetch(path, { ...options, headers, credentials: "omit", redirect: "error" });
    if (response.status !== 401) return response;
    const document = await response.json().catch(() => ({}));
    if (token !== used) continue; // Another request has signed in meanwhile.
    if (refreshToken && !isRenewed) {
      isRenewed = true;
      await renewToken();
    } else {
      keep(await askForToken(used ? document.detail : ""));
    }
  }
}

// All requests under way share one renewal. If it fails, the person is asked.
function renewToken() {
  renewing ??= renew(refreshToken)
    .then(keep)
    .catch(() => {
      refreshToken = "";
    })
    .finally(() => {
      renewing = null;
    });
  return renewing;
}

export async function request(method, path, { body, headers, signal } = {}) {
  const sent = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await send(path, {
    method,
    signal,
    headers: { ...sent, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const document = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, document);
  return document;
}

export function get(path, query = {}, options = {}) {
  return request("GET", address(path, query), options);
}

export function address(path, query) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== undefined && one !== "") parameters.append(name, one);
  }
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

// Saves what the API answers as a file.
export async function download(path, query, name) {
  const response = await send(address(path, query));
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// A stream of server-sent events: its text, as it comes. Ends when the server ends it.
export async function stream(path, query, { lastEventId, signal }, onText) {
  const headers = { Accept: "text/event-stream" };
  if (lastEventId) headers["Last-Event-ID"] = lastEventId;
  const response = await send(address(path, query), { headers, signal });
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onText(value);
  }
}

// The server's clock: the browser's may be wrong.
export async function serverTime() {
  const response = await fetch("/healthz", { credentials: "omit", cache: "no-store" });
  return new Date(response.headers.get("Date") ?? Date.now());
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
