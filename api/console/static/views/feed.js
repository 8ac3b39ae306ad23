// All events as they happen: filtered, and paused while one reads.

import { serverTime, stream } from "../api.js";
import { plain } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Actor, Heading, Time, Trouble, useGet } from "../parts.js";
import { go, Link, orderPath, withQuery } from "../router.js";
import { parser } from "../stream.js";

const SHOWN_MAX = 200;
const RECONNECT_MS = 2_000;

export function FeedView({ query }) {
  const [isPaused, setIsPaused] = useState(false);
  const filter = { type: query.get("type") ?? "", customer_id: query.get("customer_id") ?? "" };
  const { events, held, error } = useFeed(filter, isPaused);
  const schemas = useGet("/v1/schemas");
  const types = [...new Set((schemas.data?.items ?? []).map(tag))];
  return html`
    <${Heading} title="Live feed">events of all orders, as they happen<//>
    <${Trouble} error=${error} />
    <div class="bar">
      <select
        aria-label="Type of event"
        value=${filter.type}
        onChange=${(event) => go(withQuery(query, { type: event.target.value }))}
      >
        <option value="">all events</option>
        ${types.map((type) => html`<option value=${type}>${plain(type)}</option>`)}
      </select>
      <input
        aria-label="Customer"
        placeholder="customer"
        value=${filter.customer_id}
        onChange=${(event) => go(withQuery(query, { customer_id: event.target.value.trim() }))}
      />
      <button type="button" aria-pressed=${isPaused} onClick=${() => setIsPaused(!isPaused)}>
        ${isPaused ? "Continue" : "Pause"}
      </button>
      <span role="status" class="muted small">${isPaused ? `Paused; ${held} more since.` : "Following."}</span>
    </div>
    <section class="card">
      ${events.length === 0 && html`<p class="muted">Nothing has happened since this page was opened.</p>`}
      <ol class="timeline feed">
        ${events.map((event) => html`<${Event} key=${event.id} event=${event} />`)}
      </ol>
    </section>
  `;
}

// "orderly.order.item-added.v1" is item-added.
function tag(type) {
  return type.split(".").at(-2);
}

function Event({ event }) {
  return html`<li>
    <${Time} at=${event.time} />
    <${Link} to=${orderPath(event.subject)} class="id">${event.subject}<//>
    <${Actor} name=${event.actor} />
    <span>${event.sentence}</span>
  </li>`;
}

// The last events, the newest first. While paused, what comes is counted and kept.
function useFeed(filter, isPaused) {
  const [events, setEvents] = useState([]);
  const [held, setHeld] = useState([]);
  const [error, setError] = useState(null);
  const paused = useRef(isPaused);
  paused.current = isPaused;
  const key = JSON.stringify(filter);
  useEffect(() => {
    const controller = new AbortController();
    setEvents([]);
    setHeld([]);
    const add = (list) => (event) => [event, ...list].slice(0, SHOWN_MAX);
    follow(filter, controller.signal, setError, (event) => {
      const set = paused.current ? setHeld : setEvents;
      set((list) => add(list)(event));
    });
    return () => controller.abort();
  }, [key]);
  useEffect(() => {
    if (isPaused || !held.length) return;
    setEvents((list) => [...held, ...list].slice(0, SHOWN_MAX));
    setHeld([]);
  }, [isPaused]);
  return { events, held: held.length, error };
}

async function follow(filter, signal, setError, handle) {
  let lastEventId;
  let from;
  while (!signal.aborted) {
    try {
      from ??= (await serverTime()).toISOString();
      const feed = parser(({ id, data }) => {
        lastEventId = id;
        handle(JSON.parse(data));
      });
      setError(null);
      await stream("/v1/events", { ...filter, from, include: "sentences" }, { lastEventId, signal }, feed);
    } catch (failure) {
      if (signal.aborted) return;
      setError(failure);
    }
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}
