// Small parts that all views share.

import { get } from "./api.js";
import { exactTime, money, plain, time, utc } from "./format.js";
import { html, useCallback, useEffect, useRef, useState } from "./html.js";

// How urgent a status is: the class of its badge.
function tone(status) {
  if (["declined", "on_hold", "awaiting_customer", "requested"].includes(status)) return "warn";
  if (["cancelled", "expired", "none", "draft", "cancelling"].includes(status)) return "quiet";
  return "good";
}

export function Badge({ status, as, children }) {
  return html`<span class="badge ${as ?? tone(status)}">${children ?? plain(status)}</span>`;
}

export function Time({ at }) {
  if (!at) return html`<span class="muted">–</span>`;
  return html`<time datetime=${at} title="${exactTime(at)} · ${utc(at)}">${time(at)}</time>`;
}

// Who caused an event: "operator:olga" is operator olga.
export function Actor({ name }) {
  return html`<span class="who">${name.replace(":", " ")}</span>`;
}

// Sentences of the service, with what is typed as code: `retry-step`.
export function Prose({ text }) {
  return text.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));
}

export function Money({ amount, currency }) {
  return html`<span class="money">${money(amount, currency)}</span>`;
}

export function Card({ title, hint, children, ...more }) {
  return html`<section class="card" ...${more}>
    <h2>${title} ${hint && html`<small>${hint}</small>`}</h2>
    ${children}
  </section>`;
}

// What went wrong, and how to go on.
export function Trouble({ error, onRetry }) {
  if (!error) return null;
  const id = error.document?.request_id;
  return html`<div class="notice bad" role="alert">
    <p>${error.status ? error.message : "The service cannot be reached. Nothing was changed."}</p>
    ${error.document?.errors?.map(
      (one) => html`<p class="small">${one.pointer ?? one.parameter ?? one.header}: ${one.detail}</p>`,
    )}
    ${id && html`<p class="small muted">Request ${id}</p>`}
    ${onRetry && html`<button type="button" onClick=${onRetry}>Try again</button>`}
  </div>`;
}

// What a function loads; `key` says when to load again. What was loaded stays until there is more.
export function useLoaded(load, key) {
  const [state, setState] = useState({ data: null, error: null, isLoading: true });
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const controller = new AbortController();
    setState((old) => ({ ...old, isLoading: true }));
    latest
      .current(controller.signal)
      .then((data) => setState({ data, error: null, isLoading: false }))
      .catch((error) => {
        if (!controller.signal.aborted) setState((old) => ({ ...old, error, isLoading: false }));
      });
    return () => controller.abort();
  }, [key, round]);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  return { ...state, reload };
}

export function useGet(path, query = {}) {
  return useLoaded((signal) => get(path, query, { signal }), JSON.stringify([path, query]));
}

// The heading of a view: it names the page, and gets the focus when the page changes.
export function Heading({ title, children, name = title }) {
  const heading = useRef(null);
  useEffect(() => {
    document.title = `${name} · orderly`;
  }, [name]);
  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
  }, []);
  return html`<h1 ref=${heading} tabindex="-1">${title} ${children && html`<small>${children}</small>`}</h1>`;
}
