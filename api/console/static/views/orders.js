// The list of orders: its filters are its address.

import { download } from "../api.js";
import { money, plain } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Badge, Heading, Time, Trouble, useGet } from "../parts.js";
import { go, Link, orderPath, withQuery } from "../router.js";

const PAGE = 50;
const words = (text) => text.split(" ");
const FILTERS = {
  status: ["Status", words("draft placed awaiting_customer confirmed on_hold cancelling completed cancelled expired")],
  payment_status: ["Payment", words("none authorised partly_captured captured partly_refunded refunded declined")],
  fulfilment_status: ["Fulfilment", words("none partly_shipped shipped partly_delivered delivered")],
  return_status: ["Returns", words("none requested partly_returned returned")],
  awaits: ["Customer decides on", words("payment shortfall")],
  needs_attention: ["Needs attention", words("true false")],
};
const TERMS = {
  search: "Search",
  customer_id: "Customer",
  sku: "SKU",
  external_reference: "Reference",
  placed_from: "Placed from",
  placed_until: "Placed before",
  total_from: "Total from",
  total_until: "Total below",
  attention_until: "Attention since before",
  deadline_until: "Deadline before",
};
const YES_NO = { true: "yes", false: "no" };

export function OrdersView({ query }) {
  const parameters = { limit: PAGE };
  for (const name of [...Object.keys(FILTERS), ...Object.keys(TERMS), "sort", "cursor"]) {
    const values = query.getAll(name);
    if (values.length) parameters[name] = values;
  }
  const { data, error, isLoading, reload } = useGet("/v1/orders", parameters);
  return html`
    <${Heading} title="Orders" />
    <${Filters} query=${query} />
    <${Trouble} error=${error} onRetry=${reload} />
    <div aria-busy=${isLoading}>${data && html`<${Table} orders=${data.items} />`}</div>
    ${data?.items.length > 0 && html`<${Csv} parameters=${parameters} />`}
    ${data && html`<${Pages} query=${query} next=${data.next} isEmpty=${!data.items.length} />`}
  `;
}

// Changes filters; a changed list begins with its first page.
function change(query, changes) {
  go(withQuery(query, { cursor: "", ...changes }));
}

function Filters({ query }) {
  const chips = [...query].filter(([name]) => name in FILTERS || name in TERMS);
  return html`<section class="filters" aria-label="Filters">
    <div class="selects">
      ${Object.entries(FILTERS).map(
        ([name, [label, values]]) => html`<div>
          <label for="filter-${name}">${label}</label>
          <select
            id="filter-${name}"
            value=${query.get(name) ?? ""}
            onChange=${(event) => change(query, { [name]: event.target.value })}
          >
            <option value="">any</option>
            ${values.map((value) => html`<option value=${value}>${YES_NO[value] ?? plain(value)}</option>`)}
          </select>
        </div>`,
      )}
    </div>
    ${chips.length > 0 &&
    html`<ul class="chips" aria-label="Chosen filters">
      ${chips.map(
        ([name, value]) => html`<li>
          <button type="button" class="chip" onClick=${() => change(query, { [name]: query.getAll(name).filter((one) => one !== value) })}>
            ${FILTERS[name]?.[0] ?? TERMS[name]}: ${YES_NO[value] ?? (name in FILTERS ? plain(value) : value)}
            <span aria-hidden="true"> ×</span><span class="unseen">, remove</span>
          </button>
        </li>`,
      )}
      <li><button type="button" class="plain" onClick=${() => go(location.pathname)}>Remove all</button></li>
    </ul>`}
  </section>`;
}

// j and k move through the rows, Enter opens one: each row's link has the focus.
function Table({ orders }) {
  const body = useRef(null);
  useEffect(() => {
    const press = (event) => {
      if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey) return;
      const step = { j: 1, k: -1 }[event.key];
      if (!step || !body.current) return;
      const links = [...body.current.querySelectorAll("th a")];
      const next = links[Math.max(0, links.indexOf(document.activeElement) + step)] ?? links.at(-1);
      next?.focus();
      next?.scrollIntoView({ block: "nearest" });
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  if (!orders.length) return html`<p class="card empty">No order matches.</p>`;
  return html`<div class="card">
    <table class="cards">
      <thead>
        <tr>
          <th scope="col">Order</th>
          <th scope="col">Customer</th>
          <th scope="col">Status</th>
          <th scope="col">Payment</th>
          <th scope="col">Fulfilment</th>
          <th scope="col">Opened</th>
          <th scope="col">Updated</th>
          <th scope="col" class="number">Total</th>
        </tr>
      </thead>
      <tbody ref=${body}>
        ${orders.map((order) => html`<${Row} key=${order.order_id} order=${order} />`)}
      </tbody>
    </table>
    <p class="small muted keys"><kbd>j</kbd> <kbd>k</kbd> move, <kbd>Enter</kbd> opens, <kbd>/</kbd> searches</p>
  </div>`;
}

function Row({ order }) {
  const attention = order.needs_attention.length;
  return html`<tr>
    <th scope="row">
      <${Link} to=${orderPath(order.order_id)}>${order.external_reference ?? order.order_id}<//>
      ${order.external_reference && html`<span class="id">${order.order_id}</span>`}
    </th>
    <td data-label="Customer">${order.customer_id}</td>
    <td data-label="Status">
      <${Badge} status=${order.status} />
      ${attention > 0 && html` <${Badge} as="bad">needs attention<//>`}
    </td>
    <td data-label="Payment"><${Badge} status=${order.payment.status} /></td>
    <td data-label="Fulfilment"><${Badge} status=${order.fulfilment_status} /></td>
    <td data-label="Opened"><${Time} at=${order.opened_at} /></td>
    <td data-label="Updated"><${Time} at=${order.updated_at} /></td>
    <td data-label="Total" class="number">${money(order.total, order.currency)}</td>
  </tr>`;
}

// All orders of the list, not only those of this page.
function Csv({ parameters }) {
  const [problem, setProblem] = useState("");
  const save = async () => {
    const { limit, cursor, ...filters } = parameters;
    setProblem("");
    try {
      await download("/v1/orders.csv", filters, "orders.csv");
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<p class="row">
    <span class="problem" role="alert">${problem}</span>
    <button type="button" onClick=${save}>Save as CSV <small class="muted">up to 10,000 orders</small></button>
  </p>`;
}

function Pages({ query, next, isEmpty }) {
  const isLater = query.has("cursor");
  if (!isLater && !next) return isEmpty ? null : html`<p class="muted small pages">These are all.</p>`;
  return html`<nav class="pages" aria-label="Pages">
    ${isLater && html`<button type="button" onClick=${() => history.back()}>Previous</button>`}
    ${next && html`<button type="button" onClick=${() => { go(withQuery(query, { cursor: next })); scrollTo(0, 0); }}>Next</button>`}
    ${!next && html`<span class="muted small">These were all.</span>`}
  </nav>`;
}
