// Addresses of the console: each view and its filters have one that can be shared.

import { html, useEffect, useState } from "./html.js";

export const ROOT = "/console";
const CHANGED = "orderly:address";

export function go(address, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  dispatchEvent(new Event(CHANGED));
}

// The path below the root, and the query.
export function useAddress() {
  const [href, setHref] = useState(location.href);
  useEffect(() => {
    const update = () => setHref(location.href);
    addEventListener("popstate", update);
    addEventListener(CHANGED, update);
    return () => {
      removeEventListener("popstate", update);
      removeEventListener(CHANGED, update);
    };
  }, []);
  const url = new URL(href);
  return { path: url.pathname.slice(ROOT.length).replace(/\/$/, "") || "/", query: url.searchParams };
}

// Changes parts of the query of the address; an empty value removes one.
export function withQuery(query, changes) {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of [value].flat()) if (one !== undefined && one !== "" && one !== null) next.append(name, one);
  }
  const text = next.toString();
  return location.pathname + (text ? `?${text}` : "");
}

// A link inside the console; the browser still opens it in a new tab when asked to.
export function Link({ to, children, ...more }) {
  const href = ROOT + to;
  const open = (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(href);
  };
  return html`<a href=${href} onClick=${open} ...${more}>${children}</a>`;
}

export function orderPath(orderId) {
  return `/orders/${encodeURIComponent(orderId)}`;
}
