// The external services: what waits for each, what they answered, and which callbacks came.

import { get, serverTime } from "../api.js";
import { counted, lastDays, plain, sentenceCase } from "../format.js";
import { html, useEffect } from "../html.js";
import { Badge, Card, Heading, Time, Trouble, useGet, useLoaded } from "../parts.js";
import { go, Link, orderPath, withQuery } from "../router.js";

const SECONDS = 15;
const DAYS = 7;
const PAGE = 50;
const SERVICES = ["payments", "stock", "shipping"];
const OUTCOMES = { accepted: "good", recorded: "warn", rejected: "bad", ignored: "quiet", refused: "bad" };
const NAMES = { service: "Service", outcome: "Outcome", order_id: "Order" };

export function ServicesView({ query }) {
  const { data, error, reload } = useLoaded(loadServices, "");
  useEffect(() => {
    const timer = setInterval(() => document.hidden || reload(), SECONDS * 1_000);
    return () => clearInterval(timer);
  }, [reload]);
  return html`
    <${Heading} title="Services">that take the money, keep the stock and send the parcels<//>
    <${Trouble} error=${error} onRetry=${reload} />
    ${data && html`<div class="thirds">${data.items.map((one) => html`<${Service} key=${one.name} service=${one} />`)}</div>`}
    <${Callbacks} query=${query} />
  `;
}

async function loadServices(signal) {
  const [from] = lastDays(DAYS, await serverTime());
  return get("/v1/services", { from }, { signal });
}

function Service({ service }) {
  const sum = (outcome) => service.days.reduce((total, day) => total + day[outcome], 0);
  return html`<${Card} title=${sentenceCase(service.name)} hint="the last ${DAYS} days">
    <p><${Waiting} service=${service} /></p>
    <dl class="counts">
      <div><dt>steps done</dt><dd>${sum("done")}</dd></div>
      <div><dt>declined</dt><dd>${sum("declined")}</dd></div>
      <div><dt>got stuck</dt><dd class=${sum("stuck") ? "bad-text" : ""}>${sum("stuck")}</dd></div>
    </dl>
    <h3>Last failures</h3>
    ${service.last_failures.length
      ? html`<ul class="plain-list">
          ${service.last_failures.slice(0, 3).map(
            (one) => html`<li key=${one.order_id}>
              <${Link} to=${orderPath(one.order_id)}><code>${one.step_id}</code><//> <${Time} at=${one.occurred_at} />:
              ${" "}${one.reason}
            </li>`,
          )}
        </ul>`
      : html`<p class="muted">None.</p>`}
  <//>`;
}

function Waiting({ service }) {
  if (!service.stuck_orders && !service.late_orders) return html`<${Badge} as="good">nothing waits<//>`;
  return html`
    ${service.stuck_orders > 0 &&
    html`<${Badge} as="bad">${counted(service.stuck_orders, "order")} stuck<//> <${Link} to="/">retry in the inbox<//>`}
    ${service.late_orders > 0 && html` <${Badge} as="warn">${counted(service.late_orders, "order")} late<//>`}
  `;
}

function Callbacks({ query }) {
  const parameters = { limit: PAGE };
  for (const name of [...Object.keys(NAMES), "cursor"]) parameters[name] = query.get(name) ?? "";
  const { data, error, isLoading, reload } = useGet("/v1/callbacks", parameters);
  const change = (changes) => go(withQuery(query, { cursor: "", ...changes }));
  return html`
    <${Card} title="Callbacks" hint="what the services reported, the newest first">
      <div class="selects">
        <${Choice} name="service" values=${SERVICES} query=${query} change=${change} />
        <${Choice} name="outcome" values=${Object.keys(OUTCOMES)} query=${query} change=${change} />
        ${query.get("order_id") &&
        html`<button type="button" class="chip" onClick=${() => change({ order_id: "" })}>
          Order: ${query.get("order_id")}<span aria-hidden="true"> ×</span><span class="unseen">, remove</span>
        </button>`}
        <button type="button" onClick=${reload}>Look again</button>
      </div>
      <${Trouble} error=${error} onRetry=${reload} />
      <div aria-busy=${isLoading}>${data && html`<${Rows} callbacks=${data.items} />`}</div>
      ${data?.next && html`<button type="button" onClick=${() => go(withQuery(query, { cursor: data.next }))}>Older</button>`}
    <//>
  `;
}

function Choice({ name, values, query, change }) {
  return html`<div>
    <label for="callbacks-${name}">${NAMES[name]}</label>
    <select
      id="callbacks-${name}"
      value=${query.get(name) ?? ""}
      onChange=${(event) => change({ [name]: event.target.value })}
    >
      <option value="">any</option>
      ${values.map((value) => html`<option value=${value}>${value}</option>`)}
    </select>
  </div>`;
}

function Rows({ callbacks }) {
  if (!callbacks.length) return html`<p class="empty">No callback matches.</p>`;
  return html`<table class="cards">
    <thead>
      <tr>
        <th scope="col">Callback</th>
        <th scope="col">Outcome</th>
        <th scope="col">Order</th>
        <th scope="col">Received</th>
      </tr>
    </thead>
    <tbody>
      ${callbacks.map(
        (one) => html`<tr key=${one.callback_id}>
          <th scope="row">
            ${one.type ?? (one.message_id ? "not readable" : "not signed")}
            <span class="id">${one.service}${one.message_id && `, ${one.message_id}`}</span>
          </th>
          <td data-label="Outcome">
            <${Badge} as=${OUTCOMES[one.outcome]}>${one.outcome}<//>${one.code && html` ${plain(one.code)}`}
          </td>
          <td data-label="Order">
            ${one.order_id ? html`<${Link} to=${orderPath(one.order_id)}>${one.order_id}<//>` : html`<span class="muted">none</span>`}
          </td>
          <td data-label="Received"><${Time} at=${one.received_at} /></td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}
