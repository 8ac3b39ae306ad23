// One order: why it is where it is, at any version; what happened; money; and what can be done.

import { get, stream } from "../api.js";
import { changes } from "../changes.js";
import { counted, exactTime, money, pieces, plain } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { Badge, Card, Heading, Money, Time, Trouble, useGet, useLoaded } from "../parts.js";
import { go, Link, withQuery } from "../router.js";
import { parser } from "../stream.js";
import { actor, sentence, why } from "../words.js";
import { Commands } from "./commands.js";

const PAGE = 1_000;
const RECONNECT_MS = 3_000;
const SLIDER_MS = 150;

export function OrderView({ orderId, query }) {
  const [known, setKnown] = useState(0);
  const path = `/v1/orders/${encodeURIComponent(orderId)}`;
  const { data: order, error, reload } = useGet(path, known ? { min_version: known } : {});
  const history = useLoaded((signal) => readHistory(path, signal), `${path} ${order?.version}`);
  const newest = useNewestVersion(orderId, order?.version);
  if (!order) return html`<${Heading} title=${orderId} /><${Trouble} error=${error} onRetry=${reload} />`;
  const chosen = Number(query.get("version")) || order.version;
  const version = Math.min(Math.max(chosen, 1), order.version);
  const events = history.data ?? [];
  return html`
    <${Head} order=${order} />
    <${Trouble} error=${error ?? history.error} onRetry=${reload} />
    ${newest > order.version &&
    html`<div class="bar notice" role="status">
      <span>The order has gone on: it is at version ${newest} now.</span>
      <button type="button" class="primary" onClick=${() => setKnown(newest)}>Show version ${newest}</button>
    </div>`}
    <${Why} order=${order} />
    <div class="columns">
      <div>
        <${Versions} path=${path} order=${order} version=${version} events=${events} query=${query} />
        <${Timeline} order=${order} events=${events} version=${version} query=${query} />
        <${Lines} order=${order} />
      </div>
      <div>
        <${Payment} order=${order} events=${events} />
        <${Shipments} order=${order} />
        <${Returns} order=${order} />
        <${Commands} order=${order} onDone=${(result) => setKnown(result.version)} onReload=${() => setKnown(Math.max(newest, order.version + 1))} />
        <${Notes} order=${order} />
      </div>
    </div>
  `;
}

async function readHistory(path, signal) {
  const events = [];
  let cursor = 0;
  while (cursor !== null) {
    const page = await get(`${path}/history`, { limit: PAGE, cursor }, { signal });
    events.push(...page.items);
    cursor = page.next;
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

function Head({ order }) {
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
    </p>
  </div>`;
}

function Why({ order }) {
  const { question, tone, sentences } = why(order);
  return html`<section class="why ${tone}" aria-label="Why">
    <p><strong>${question}</strong> ${sentences.join(" ")}</p>
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
  const event = events.find((one) => one.version === at);
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
      <strong>Version ${at}${event && html`: ${sentence(event.type, event.data, order.currency)}`}</strong>
      <span class="muted">
        ${event && html`<${Time} at=${event.occurred_at} />`}
        ${version < order.version && html` <button type="button" class="plain" onClick=${() => show(order.version)}>Now</button>`}
      </span>
    </p>
    <${Trouble} error=${error} />
    ${data && html`<${Changes} rows=${data} currency=${order.currency} />`}
  <//>`;
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
        ${rows.map(
          ({ path, before, after }) => html`<tr key=${path}>
            <th scope="row">${plain(path)}</th>
            <td>${before === undefined ? html`<span class="muted">–</span>` : html`<del>${shown(path, before, currency)}</del>`}</td>
            <td>${after === undefined ? html`<span class="muted">–</span>` : html`<ins>${shown(path, after, currency)}</ins>`}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Timeline({ order, events, version, query }) {
  const [isWhole, setIsWhole] = useState(false);
  const newestFirst = [...events].reverse();
  const shown = isWhole ? newestFirst : newestFirst.slice(0, 100);
  const show = (number) => go(withQuery(query, { version: number === order.version ? "" : number }), { replace: true });
  return html`<${Card} title="What happened" hint=${counted(events.length, "event")}>
    <ol class="timeline" reversed>
      ${shown.map(
        (one) => html`<li key=${one.version} class=${timelineClass(one.version, version)}>
          <button type="button" class="plain" aria-label="Show version ${one.version}" onClick=${() => show(one.version)}>${one.version}</button>
          <${Time} at=${one.occurred_at} />
          <span class="who">${actor(one.actor)}</span>
          <span>
            ${sentence(one.type, one.data, order.currency)}${" "}<${Origin} event=${one} />
          </span>
        </li>`,
      )}
    </ol>
    ${shown.length < events.length &&
    html`<button type="button" onClick=${() => setIsWhole(true)}>Show all ${events.length}</button>`}
  <//>`;
}

function timelineClass(of, version) {
  if (of > version) return "later";
  return of === version ? "here" : "";
}

function Origin({ event }) {
  return html`<details class="origin">
    <summary class="small muted">by ${plain(event.cause)}</summary>
    <dl class="small">
      <dt>Type</dt><dd><code>${event.type}</code></dd>
      <dt>Cause</dt><dd><code>${event.cause_id}</code></dd>
      ${event.trace_id && html`<dt>Trace</dt><dd><code>${event.trace_id}</code></dd>`}
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

// Events that move money, with how much; the reference is that of their authorisation.
const MOVEMENTS = {
  "payment-authorised": "authorised",
  "payment-captured": "captured",
  "payment-refunded": "refunded",
  "capture-reversed": "capture reversed",
  "refund-reversed": "refund failed",
  "chargeback-opened": "taken back by the bank",
};

function Payment({ order, events }) {
  const { payment, currency } = order;
  const m = (amount) => money(amount, currency);
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
  const movements = events.filter((one) => one.type in MOVEMENTS);
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
    ${movements.length > 0 &&
    html`<details>
      <summary>${counted(movements.length, "movement")}</summary>
      <dl class="sums small">
        ${movements.map(
          (one) => html`<dt><${Time} at=${one.occurred_at} /> ${MOVEMENTS[one.type]} <code>${one.data.step_id ?? one.data.chargeback_id}</code></dt>
            <dd>${m(one.data.amount)}</dd>`,
        )}
      </dl>
    </details>`}
  <//>`;
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
