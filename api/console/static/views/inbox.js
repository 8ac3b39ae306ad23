// Everything that waits for a person, grouped by cause.

import { get, newKey, request } from "../api.js";
import { counted, money, plain, sentenceCase } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { Badge, Heading, Time, Trouble, useGet } from "../parts.js";
import { Link, orderPath } from "../router.js";
import { EndpointsDown } from "./webhooks.js";

const LOOK_SECONDS = 20;
const NAMES = {
  unpaid: "shipped unpaid",
  chargeback: "disputed",
  "stuck-step": "stuck",
  orphaned: "no running workflow",
  discrepancy: "discrepancy",
  "awaits-payment": "customer must pay",
  "awaits-shortfall": "customer must decide",
  held: "held",
  deadline: "deadline within a day",
};
const URGENT = ["unpaid", "chargeback", "stuck-step", "orphaned", "discrepancy"];

export function InboxView() {
  const { data, error, reload } = useGet("/v1/inbox", { limit: 500 });
  const hasNews = useNews(data);
  if (!data) return html`<${Heading} title="Inbox" /><${Trouble} error=${error} onRetry=${reload} />`;
  return html`
    <${Heading} title="Inbox">${summary(data)}<//>
    <${Trouble} error=${error} onRetry=${reload} />
    <div class="bar" role="status">
      ${hasNews
        ? html`<span>Something has changed.</span> <button type="button" class="primary" onClick=${reload}>Show it</button>`
        : html`<span class="muted small">This page says when something changes; it does not move by itself.</span>`}
    </div>
    ${!data.is_complete && html`<p class="notice warn">There may be more: of each kind, the oldest are shown.</p>`}
    <${Kinds} groups=${data.groups} />
    ${data.groups.map((group) => html`<${Group} key=${group.kind + group.cause} group=${group} onDone=${reload} />`)}
    <${EndpointsDown} />
    <${Parked} orders=${data.parked_orders} />
  `;
}

function summary({ orders, since, parked_orders: parked }) {
  if (!orders && !parked.length) return "Nothing waits for a person.";
  const oldest = since ? html`; the oldest since <${Time} at=${since} />` : "";
  return html`${counted(orders, "order")} wait${orders === 1 ? "s" : ""} for a person${oldest}`;
}

// Whether the inbox differs from what is shown: nothing moves while one reads.
function useNews(shown) {
  const [hasNews, setHasNews] = useState(false);
  useEffect(() => {
    setHasNews(false);
    if (!shown) return undefined;
    const before = fingerprint(shown);
    const look = async () => {
      if (document.hidden) return;
      try {
        setHasNews(fingerprint(await get("/v1/inbox", { limit: 500 })) !== before);
      } catch {
        // The next look may succeed; what is shown stays.
      }
    };
    const timer = setInterval(look, LOOK_SECONDS * 1_000);
    return () => clearInterval(timer);
  }, [shown]);
  return hasNews;
}

function fingerprint(inbox) {
  const items = inbox.groups.flatMap((group) => group.items.map((item) => [group.kind, item.order_id, item.version]));
  return JSON.stringify([items, inbox.parked_orders]);
}

function Kinds({ groups }) {
  const counts = new Map();
  for (const { kind, orders } of groups) counts.set(kind, (counts.get(kind) ?? 0) + orders);
  return html`<ul class="chips" aria-label="Kinds">
    ${[...counts].map(
      ([kind, number]) => html`<li><${Badge} as=${tone(kind)}>${NAMES[kind] ?? plain(kind)} ${number}<//></li>`,
    )}
  </ul>`;
}

function tone(kind) {
  if (URGENT.includes(kind)) return "bad";
  return kind === "deadline" ? "quiet" : "warn";
}

function Group({ group, onDone }) {
  const amounts = group.amounts.map((one) => money(one.amount, one.currency)).join(" and ");
  return html`<section class="card">
    <div class="row">
      <h2>
        ${sentenceCase(group.cause)}
        <small>
          <${Badge} as=${tone(group.kind)}>${NAMES[group.kind] ?? plain(group.kind)}<//>
          ${" "}${counted(group.orders, "order")}, ${amounts}
        </small>
      </h2>
      ${group.kind === "stuck-step" && html`<${RetryAll} group=${group} onDone=${onDone} />`}
    </div>
    <table class="cards inbox">
      <thead>
        <tr>
          <th scope="col">Order</th>
          <th scope="col">Customer</th>
          <th scope="col" class="number">At stake</th>
          <th scope="col">Why</th>
          <th scope="col">Since</th>
          <th scope="col">Deadline</th>
        </tr>
      </thead>
      <tbody>
        ${byOrder(group.items).map((items) => html`<${Item} key=${items[0].order_id} items=${items} />`)}
      </tbody>
    </table>
  </section>`;
}

// The items of each order, which has one row: two stuck steps are one thing to look at.
function byOrder(items) {
  const rows = new Map();
  for (const item of items) rows.set(item.order_id, [...(rows.get(item.order_id) ?? []), item]);
  return [...rows.values()];
}

function Item({ items }) {
  const [item] = items;
  const steps = items.length > 1 ? `${items.length} steps, ` : "";
  const what = item.step_type ? `${steps}${plain(item.step_type)}: ` : "";
  return html`<tr>
    <th scope="row">
      <${Link} to=${orderPath(item.order_id)}>${item.external_reference ?? item.order_id}<//>
      ${item.external_reference && html`<span class="id">${item.order_id}</span>`}
    </th>
    <td data-label="Customer">${item.customer_id}</td>
    <td data-label="At stake" class="number">${money(item.amount, item.currency)}</td>
    <td data-label="Why">${what}${item.reason ?? "no reason was given"}</td>
    <td data-label="Since"><${Time} at=${item.since} /></td>
    <td data-label="Deadline">
      ${item.deadline ? html`<${Time} at=${item.deadline.at} />` : html`<span class="muted">none</span>`}
    </td>
  </tr>`;
}

// Sends retry-step to each order of a group, and waits until the inbox can show what became of it.
function RetryAll({ group, onDone }) {
  const [state, setState] = useState({ done: 0, failed: [], isRunning: false });
  const orders = [...new Set(group.items.map((item) => item.order_id))];
  const run = async () => {
    setState({ done: 0, failed: [], isRunning: true });
    const failed = [];
    let done = 0;
    for (const orderId of orders) {
      try {
        const path = `/v1/orders/${encodeURIComponent(orderId)}`;
        const headers = { "Idempotency-Key": newKey() };
        const { version } = await request("POST", `${path}/commands/retry-step`, { body: {}, headers });
        await get(path, { min_version: version });
        done += 1;
      } catch (error) {
        failed.push(`${orderId}: ${error.message}`);
      }
      setState({ done, failed: [...failed], isRunning: true });
    }
    setState({ done, failed, isRunning: false });
    onDone();
  };
  const label = orders.length === 1 ? "Retry" : `Retry all ${orders.length}`;
  return html`<div class="action">
    <button type="button" class="primary" disabled=${state.isRunning} onClick=${run}>${label}</button>
    <span role="status" class="small muted">${state.done > 0 && `${counted(state.done, "order")} retried`}</span>
    ${state.failed.map((one) => html`<p class="small bad-text">${one}</p>`)}
  </div>`;
}

function Parked({ orders }) {
  if (!orders.length) return null;
  return html`<section class="card">
    <h2>Parked orders <small>a read model cannot show them up to date</small></h2>
    <ul class="plain-list">
      ${orders.map(
        (one) => html`<li>
          <${Link} to=${orderPath(one.order_id)}>${one.order_id}<//> in ${plain(one.projection)}, version
          ${" "}${one.version}, since <${Time} at=${one.since} />: ${one.error}
        </li>`,
      )}
    </ul>
    <p class="muted small">Once the cause is fixed: <code>orderly projections retry</code></p>
  </section>`;
}
