// One order: why it is where it is, at any version; what happened; money; and what can be done.

import { get, stream } from "../api.js";
import { changes } from "../changes.js";
import { counted, exactTime, money, pieces, plain } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Actor, Badge, Card, Heading, Money, Prose, Time, Trouble, useGet, useLoaded } from "../parts.js";
import { go, Link, withQuery } from "../router.js";
import { parser } from "../stream.js";
import { Commands } from "./commands.js";

const SHOWN = 100; // Events at first, and then as many more each time.
const PAGE = 1_000; // Events of one request.
const CHANGES_MAX = 200;
const RECONNECT_MS = 3_000;
const SLIDER_MS = 150;
const ATTEMPTS_MS = 10_000;

export function OrderView({ orderId, query }) {
  const [known, setKnown] = useState(0);
  const path = `/v1/orders/${encodeURIComponent(orderId)}`;
  const { data: order, error, reload } = useGet(path, known ? { min_version: known } : {});
  const history = useHistory(path, order?.version);
  const { data: links } = useGet("/v1/links"); // For operators: without it, there are none.
  const newest = useNewestVersion(orderId, order?.version);
  if (!order) return html`<${Heading} title=${orderId} /><${Trouble} error=${error} onRetry=${reload} />`;
  const chosen = Number(query.get("version")) || order.version;
  const version = Math.min(Math.max(chosen, 1), order.version);
  const { events } = history;
  return html`
    <${Head} order=${order} links=${links} />
    <${Trouble} error=${error ?? history.error} onRetry=${reload} />
    ${newest > order.version &&
    html`<div class="bar notice" role="status">
      <span>The order has gone on: it is at version ${newest} now.</span>
      <button type="button" class="primary" onClick=${() => setKnown(newest)}>Show version ${newest}</button>
    </div>`}
    <${Why} path=${path} version=${order.version} />
    <div class="columns">
      <div>
        <${Versions} path=${path} order=${order} version=${version} events=${events} query=${query} />
        <${Timeline} order=${order} history=${history} version=${version} query=${query} links=${links} />
        <${Lines} order=${order} />
      </div>
      <div>
        <${Payment} path=${path} order=${order} />
        <${Shipments} order=${order} />
        <${Returns} order=${order} />
        <${Commands} order=${order} onDone=${(result) => setKnown(result.version)} onReload=${() => setKnown(Math.max(newest, order.version + 1))} />
        <${Notes} order=${order} />
      </div>
    </div>
  `;
}

// The newest events of the order, and on demand those before them; what is loaded stays.
function useHistory(path, version) {
  const loaded = useRef([]);
  const [wanted, setWanted] = useState(SHOWN);
  const first = Math.max((version ?? 0) - wanted + 1, 1);
  const { data, error } = useLoaded(async (signal) => {
    if (!version) return [];
    const known = loaded.current;
    const [oldest, newest] = [known[0]?.version ?? version + 1, known.at(-1)?.version ?? version];
    const before = await readEvents(path, first - 1, oldest - 1, signal);
    const after = await readEvents(path, newest, version, signal);
    loaded.current = [...before, ...known, ...after];
    return loaded.current;
  }, `${path} ${version} ${first}`);
  const events = data ?? [];
  return { events, error, older: (events[0]?.version ?? 1) - 1, showOlder: () => setWanted(wanted + SHOWN) };
}

// The events after one version, up to another.
async function readEvents(path, after, until, signal) {
  const events = [];
  while (after < until) {
    const limit = Math.min(until - after, PAGE);
    const { items } = await get(`${path}/history`, { cursor: after, limit }, { signal });
    if (!items.length) break;
    events.push(...items);
    after = items.at(-1).version;
  }
  return events;
}

// The newest version that the feed tells of, while the page is open; what is shown stays.
function useNewestVersion(orderId, version) {
  const [newest, setNewest] = useState(0);
  useEffect(() => {
    if (!version) return undefined;
    const controller = new AbortController();
    follow({ order_id: orderId, from: `${orderId}@${version}` }, controller.signal, (event) =>
      setNewest((old) => Math.max(old, Number(event.sequence))),
    );
    return () => controller.abort();
  }, [orderId, version]);
  return newest;
}

// Follows the feed until it is aborted; begins again where it was after a failure.
async function follow(query, signal, handle) {
  let lastEventId;
  while (!signal.aborted) {
    const feed = parser(({ id, data }) => {
      lastEventId = id;
      handle(JSON.parse(data));
    });
    try {
      await stream("/v1/events", query, { lastEventId, signal }, feed);
    } catch {
      if (signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}

function Head({ order, links }) {
  const name = order.external_reference ?? order.order_id;
  const { payment } = order;
  return html`<div class="head">
    <${Heading} title=${name} name=${name}>
      ${order.external_reference && html`<code>${order.order_id}</code>`}
    <//>
    <p class="facts">
      <${Badge} status=${order.status} />
      <${Badge} status=${payment.status}>${payment.status === "none" ? "nothing authorised" : plain(payment.status)}<//>
      <${Badge} status=${order.fulfilment_status}>
        ${order.fulfilment_status === "none" ? "nothing shipped" : plain(order.fulfilment_status)}
      <//>
      ${order.return_status !== "none" && html`<${Badge} as="warn">return ${plain(order.return_status)}<//>`}
      <span>customer <${Link} to="/orders?customer_id=${encodeURIComponent(order.customer_id)}">${order.customer_id}<//></span>
      <span>
        ${order.placed_at ? html`placed <${Time} at=${order.placed_at} />` : html`opened <${Time} at=${order.opened_at} />`}
      </span>
      <span>version ${order.version}</span>
      ${links?.workflow && html`<${Elsewhere} href=${filled(links.workflow, order.order_id)}>its workflow in Temporal<//>`}
    </p>
  </div>`;
}

const TONES = { attention: "bad", decision: "warn", progress: "good", rest: "quiet" };

// An address with an id in place of what is in braces.
function filled(template, id) {
  return template.replace(/\{\w+\}/, encodeURIComponent(id));
}

// In a tab of its own: this page would forget its token.
function Elsewhere({ href, children }) {
  return html`<a href=${href} target="_blank" rel="noopener">${children}<span class="unseen">, in a new tab</span></a>`;
}

function Why({ path, version }) {
  const { data, error, reload } = useGet(`${path}/waiting`, { min_version: version });
  const isTried = Boolean(data?.steps.length); // The number of attempts goes up without an event.
  useEffect(() => {
    if (!isTried) return undefined;
    const timer = setInterval(() => document.hidden || reload(), ATTEMPTS_MS);
    return () => clearInterval(timer);
  }, [isTried, reload]);
  // What comes does not move what is below.
  if (!data) return html`<${Trouble} error=${error} />${!error && html`<div class="why"><p>…</p></div>`}`;
  return html`<section class="why ${TONES[data.urgency]}" aria-label="Why">
    <p><strong>${data.question}</strong> <${Prose} text=${data.answer.join(" ")} /></p>
    ${data.waits_for.length > 1 &&
    html`<details>
      <summary class="small">It waits for ${data.waits_for.length} things</summary>
      <ul class="small">
        ${data.waits_for.map((one) => html`<li><${Prose} text=${one} /></li>`)}
      </ul>
    </details>`}
  </section>`;
}

// The order as it was: one version beside the one before it.
function Versions({ path, order, version, events, query }) {
  const { data, error } = useLoaded(async (signal) => {
    const asOf = (number) => (number ? get(path, { version: number }, { signal }) : {});
    return changes(...(await Promise.all([asOf(version - 1), asOf(version)])));
  }, `${path} ${version}`);
  const show = (number) => go(withQuery(query, { version: number === order.version ? "" : number }), { replace: true });
  const [dragged, setDragged] = useState(null);
  useEffect(() => {
    if (dragged === null) return undefined;
    // Browsers allow few changes of the address in a second, and each version is two requests.
    const timer = setTimeout(() => {
      show(dragged);
      setDragged(null);
    }, SLIDER_MS);
    return () => clearTimeout(timer);
  }, [dragged]);
  const at = dragged ?? version;
  const event = useEvent(path, at, events, dragged === null);
  return html`<${Card} title="Time" hint="the order at any of its versions">
    <input
      class="slider"
      type="range"
      min="1"
      max=${order.version}
      value=${at}
      aria-label="Version"
      aria-valuetext="version ${at}${event ? `: ${plain(event.type)}` : ""}"
      onInput=${(change) => setDragged(Number(change.target.value))}
    />
    <p class="row">
      <strong>Version ${at}${event && html`: ${event.sentence}`}</strong>
      <span class="muted">
        ${event && html`<${Time} at=${event.occurred_at} />`}
        ${version < order.version && html` <button type="button" class="plain" onClick=${() => show(order.version)}>Now</button>`}
      </span>
    </p>
    <${Trouble} error=${error} />
    ${data && html`<${Changes} rows=${data} currency=${order.currency} />`}
  <//>`;
}

// An event that may be older than those of the timeline.
function useEvent(path, version, events, isSettled) {
  const known = events.find((one) => one.version === version);
  const { data } = useLoaded(
    async (signal) => (known || !isSettled || !events.length ? [] : readEvents(path, version - 1, version, signal)),
    `${path} ${version} ${Boolean(known)} ${isSettled} ${events.length > 0}`,
  );
  return known ?? data?.find((one) => one.version === version);
}

const AMOUNTS = /(total|amount|price|discount|tax|charge|authorised|captured|refunded|voided|earned|capturable|refundable|disputed|pending|share of discounts)$/;

// A value as people write it: amounts with their currency, times in the viewer's zone.
function shown(path, value, currency) {
  if (typeof value === "number" && AMOUNTS.test(plain(path))) return money(value, currency);
  if (/^\d{4}-\d\d-\d\dT.*Z$/.test(value)) return exactTime(value);
  return String(value);
}

function Changes({ rows, currency }) {
  if (!rows.length) return html`<p class="muted">Nothing that is shown changed.</p>`;
  const others = rows.length - CHANGES_MAX;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="What changed">
    <table class="changes">
      <thead>
        <tr>
          <th scope="col">Changed</th>
          <th scope="col">Before</th>
          <th scope="col">After</th>
        </tr>
      </thead>
      <tbody>
        ${rows.slice(0, CHANGES_MAX).map(
          ({ path, before, after }) => html`<tr key=${path}>
            <th scope="row">${plain(path)}</th>
            <td>${before === undefined ? html`<span class="muted">–</span>` : html`<del>${shown(path, before, currency)}</del>`}</td>
            <td>${after === undefined ? html`<span class="muted">–</span>` : html`<ins>${shown(path, after, currency)}</ins>`}</td>
          </tr>`,
        )}
      </tbody>
    </table>
    ${others > 0 && html`<p class="muted small">And ${counted(others, "other change")}.</p>`}
  </div>`;
}

function Timeline({ order, history, version, query, links }) {
  const newestFirst = [...history.events].reverse();
  const show = (number) => go(withQuery(query, { version: number === order.version ? "" : number }), { replace: true });
  return html`<${Card} title="What happened" hint=${counted(order.version, "event")}>
    <ol class="timeline" reversed>
      ${newestFirst.map(
        (one) => html`<li key=${one.version} class=${timelineClass(one.version, version)}>
          <button type="button" class="plain" aria-label="Show version ${one.version}" onClick=${() => show(one.version)}>${one.version}</button>
          <${Time} at=${one.occurred_at} />
          <${Actor} name=${one.actor} />
          <span>${one.sentence}${" "}<${Origin} event=${one} links=${links} /></span>
        </li>`,
      )}
    </ol>
    ${history.older > 0 &&
    html`<button type="button" onClick=${history.showOlder}>Show older events</button>
      <span class="muted small">${counted(history.older, "event")} before these</span>`}
  <//>`;
}

function timelineClass(of, version) {
  if (of > version) return "later";
  return of === version ? "here" : "";
}

function Origin({ event, links }) {
  const trace = html`<code>${event.trace_id}</code>`;
  return html`<details class="origin">
    <summary class="small muted">by ${plain(event.cause)}</summary>
    <dl class="small">
      <dt>Type</dt><dd><code>${event.type}</code></dd>
      <dt>Cause</dt><dd><code>${event.cause_id}</code></dd>
      ${event.trace_id &&
      html`<dt>Trace</dt>
        <dd>${links?.trace ? html`<${Elsewhere} href=${filled(links.trace, event.trace_id)}>${trace}<//>` : trace}</dd>`}
      ${event.request_id && html`<dt>Request</dt><dd><code>${event.request_id}</code></dd>`}
      <dt>Data</dt><dd><pre>${JSON.stringify(event.data, null, 1)}</pre></dd>
    </dl>
  </details>`;
}

// Pieces of a line by what became of them; what there is none of has no column.
const COUNTS = { quantity: "Ordered", reserved: "Reserved", shipped: "Shipped", delivered: "Delivered", returned: "Returned", cancelled: "Cancelled" };

function Lines({ order }) {
  const m = (amount) => html`<${Money} amount=${amount} currency=${order.currency} />`;
  const counts = Object.entries(COUNTS).filter(
    ([name]) => name === "quantity" || name === "shipped" || order.lines.some((line) => line[name]),
  );
  return html`<${Card} title="Lines">
    <table class="cards">
      <thead>
        <tr>
          <th scope="col">Line</th>
          <th scope="col" class="number">Price</th>
          ${counts.map(([, label]) => html`<th scope="col" class="number">${label}</th>`)}
          <th scope="col" class="number">Total</th>
        </tr>
      </thead>
      <tbody>
        ${order.lines.map(
          (line) => html`<tr key=${line.line_id}>
            <th scope="row">${line.title} <span class="id">${line.sku}</span></th>
            <td data-label="Price" class="number">${m(line.unit_price)}</td>
            ${counts.map(
              ([name, label]) => html`<td data-label=${label} class="number ${line[name] ? "" : "muted"}">${line[name]}</td>`,
            )}
            <td data-label="Total" class="number">${m(line.total)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
    <dl class="sums">
      ${order.discounts.map((one) => html`<dt>Discount ${one.reason ?? ""}</dt><dd>${m(-one.amount)}</dd>`)}
      <dt>Shipping</dt><dd>${m(order.shipping_charge)}</dd>
      <dt><strong>Total</strong></dt><dd><strong>${m(order.total)}</strong></dd>
    </dl>
  <//>`;
}

function Payment({ path, order }) {
  const { payment, currency } = order;
  const m = (amount) => money(amount, currency);
  const { data } = useGet(`${path}/transactions`, { min_version: order.version });
  const rows = [
    ["ordered", order.total],
    ["authorised", payment.authorised],
    ["captured", payment.captured],
    ["refunded", payment.refunded],
    ["refund under way", payment.refund_pending],
    ["disputed", payment.disputed],
    ["can be captured", payment.capturable],
    ["can be refunded now", payment.refundable],
  ];
  const always = new Set(["ordered", "authorised", "captured", "refunded", "can be refunded now"]);
  return html`<${Card} title="Money" hint=${payment.method ?? ""}>
    <${Bar} order=${order} />
    <dl class="sums">
      ${rows
        .filter(([name, amount]) => amount || always.has(name))
        .map(([name, amount]) => html`<dt>${name}</dt><dd>${m(amount)}</dd>`)}
    </dl>
    ${payment.authorisations.map(
      (one) => html`<p class="small muted" key=${one.authorisation_id}>
        <code>${one.reference}</code> at the payment service, ${m(one.amount)}${one.capturable > 0 && html`,
        to be captured until <${Time} at=${one.capture_by} />`}
      </p>`,
    )}
    ${data?.items.length > 0 && html`<${Transactions} items=${data.items} />`}
  <//>`;
}

function Transactions({ items }) {
  return html`<details>
    <summary>${counted(items.length, "transaction")}</summary>
    <ul class="plain-list small">
      ${items.map(
        (one) => html`<li key=${one.version}>
          <${Time} at=${one.at} /> ${one.sentence}
          <span class="muted block">
            ${one.reference && html`<code>${one.reference}</code> `}${one.idempotency_key && html`key <code>${one.idempotency_key}</code>`}
          </span>
        </li>`,
      )}
    </ul>
  </details>`;
}

// Captured and authorised, as shares of what was ordered.
function Bar({ order }) {
  const { captured, refunded, capturable } = order.payment;
  const whole = Math.max(order.total, captured + capturable, 1);
  const kept = captured - refunded;
  return html`<svg class="shares" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
    <rect class="rest" width="100" height="6" />
    <rect class="authorised" width=${(100 * (kept + capturable)) / whole} height="6" />
    <rect class="captured" width=${(100 * kept) / whole} height="6" />
  </svg>`;
}

const SHIPMENT_TONES = { planned: "warn", dispatched: "good", delivered: "good", failed: "bad" };

function Shipments({ order }) {
  if (!order.shipments.length) return null;
  return html`<${Card} title="Shipments">
    <ul class="plain-list">
      ${order.shipments.map(
        (one) => html`<li key=${one.shipment_id} class="row split">
          <span>
            <strong>${one.shipment_id}</strong>
            <span class="small muted block">from ${one.location}, ${pieces(one.lines.reduce((n, line) => n + line.quantity, 0))}</span>
            <${Address} address=${one.address} />
          </span>
          <span class="end">
            <${Badge} as=${SHIPMENT_TONES[one.status] ?? "quiet"}>${plain(one.status)}<//>
            <span class="small block">${one.tracking ? html`<code>${one.tracking}</code>` : html`<span class="muted">no tracking</span>`}</span>
          </span>
        </li>`,
      )}
    </ul>
  <//>`;
}

function Address({ address }) {
  if (!address) return null;
  if (address.erased) return html`<span class="small muted block">address erased</span>`;
  if (address.unreadable) return html`<span class="small muted block">address unreadable</span>`;
  const parts = [address.name, address.line1, address.line2, `${address.postal_code ?? ""} ${address.city ?? ""}`.trim(), address.country];
  return html`<span class="small muted block">${parts.filter(Boolean).join(", ")}</span>`;
}

function Returns({ order }) {
  if (!order.returns.length) return null;
  return html`<${Card} title="Returns">
    <ul class="plain-list">
      ${order.returns.map(
        (one) => html`<li key=${one.return_id} class="row split">
          <span>
            <strong>${one.return_id}</strong>
            <span class="small muted block">${pieces(one.lines.reduce((n, line) => n + line.quantity, 0))}${one.reason && `: ${one.reason}`}</span>
          </span>
          <${Badge} as=${one.status === "requested" ? "warn" : one.status === "rejected" ? "quiet" : "good"}>${one.status}<//>
        </li>`,
      )}
    </ul>
  <//>`;
}

function Notes({ order }) {
  if (!order.notes.length) return null;
  return html`<${Card} title="Notes">
    ${order.notes.map((note) => html`<p class="note" key=${note.note_id}>${note.text}</p>`)}
  <//>`;
}
