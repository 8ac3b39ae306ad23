// Webhook endpoints: how each answers, and its deliveries, which can be sent again.

import { request } from "../api.js";
import { counted, plain, span } from "../format.js";
import { html, useState } from "../html.js";
import { Badge, Card, Heading, Time, Trouble, useGet } from "../parts.js";
import { go, Link, withQuery } from "../router.js";

const PAGE = 50;
const TONES = { delivering: "good", delivered: "good", paused: "quiet", down: "bad", gone: "bad", failed: "bad" };
const TEST = "orderly.test.v1";

export function WebhooksView() {
  const { data, error, reload } = useGet("/v1/webhook-endpoints");
  return html`
    <${Heading} title="Webhooks">where events are posted to<//>
    <${Trouble} error=${error} onRetry=${reload} />
    ${data && html`<${Endpoints} endpoints=${data.items} />`}
  `;
}

function Endpoints({ endpoints }) {
  if (!endpoints.length) return html`<p class="card empty">No endpoint is registered.</p>`;
  return html`<div class="card">
    <table class="cards">
      <thead>
        <tr>
          <th scope="col">Endpoint</th>
          <th scope="col">State</th>
          <th scope="col">Last error</th>
          <th scope="col">Next try</th>
          <th scope="col" class="number">Lag</th>
          <th scope="col" class="number">Delivered</th>
          <th scope="col" class="number">Failed</th>
        </tr>
      </thead>
      <tbody>
        ${endpoints.map((one) => html`<${Endpoint} key=${one.endpoint_id} endpoint=${one} />`)}
      </tbody>
    </table>
  </div>`;
}

function Endpoint({ endpoint }) {
  const { health } = endpoint;
  return html`<tr>
    <th scope="row">
      <${Link} to="/webhooks/${encodeURIComponent(endpoint.endpoint_id)}">${endpoint.url}<//>
      <span class="id">${endpoint.description ?? endpoint.endpoint_id}</span>
    </th>
    <td data-label="State"><${State} health=${health} /></td>
    <td data-label="Last error">${health.last_error ?? html`<span class="muted">none</span>`}</td>
    <td data-label="Next try"><${Time} at=${health.next_try_at} /></td>
    <td data-label="Lag" class="number">${health.lag_seconds ? span(health.lag_seconds * 1_000) : "none"}</td>
    <td data-label="Delivered" class="number">${health.delivered}</td>
    <td data-label="Failed" class="number">${health.failed}</td>
  </tr>`;
}

function State({ health }) {
  return html`<${Badge} as=${TONES[health.state]}>${health.state}<//>
    ${health.parked_orders > 0 && html` <${Badge} as="bad">${counted(health.parked_orders, "parked order")}<//>`}`;
}

export function EndpointView({ endpointId, query }) {
  const path = `/v1/webhook-endpoints/${encodeURIComponent(endpointId)}`;
  const endpoint = useGet(path);
  const cursor = query.get("cursor") ?? "";
  const deliveries = useGet(`${path}/deliveries`, { limit: PAGE, cursor });
  const { data } = endpoint;
  return html`
    <${Heading} title=${data?.url ?? endpointId}><code>${endpointId}</code><//>
    <${Trouble} error=${endpoint.error ?? deliveries.error} onRetry=${endpoint.reload} />
    ${data &&
    html`<p class="facts">
      <${State} health=${data.health} />
      <span>${data.event_types ? data.event_types.map(plain).join(", ") : "all events"}</span>
      <span>${data.customer_id ? `of customer ${data.customer_id}` : "of all customers"}</span>
      ${data.health.failing_since && html`<span>failing since <${Time} at=${data.health.failing_since} /></span>`}
    </p>`}
    ${deliveries.data &&
    html`<${Deliveries} path=${path} deliveries=${deliveries.data.items} />
      ${deliveries.data.next &&
      html`<button type="button" onClick=${() => go(withQuery(query, { cursor: deliveries.data.next }))}>Older</button>`}`}
  `;
}

function Deliveries({ path, deliveries }) {
  if (!deliveries.length) return html`<p class="card empty">Nothing has been sent to it yet.</p>`;
  return html`<${Card} title="Deliveries" hint="the newest first">
    <table class="cards">
      <thead>
        <tr>
          <th scope="col">Event</th>
          <th scope="col">Outcome</th>
          <th scope="col">When</th>
          <th scope="col" class="number">Took</th>
          <th scope="col">Answer</th>
          <th scope="col"><span class="unseen">Action</span></th>
        </tr>
      </thead>
      <tbody>
        ${deliveries.map((one) => html`<${Delivery} key=${one.delivery_id} path=${path} delivery=${one} />`)}
      </tbody>
    </table>
  <//>`;
}

function Delivery({ path, delivery }) {
  const what = delivery.event_type.replace(/^orderly\.(order\.)?/, "").replace(/\.v\d+$/, "");
  return html`<tr>
    <th scope="row">${plain(what)} <span class="id">${delivery.event_id}</span></th>
    <td data-label="Outcome"><${Badge} as=${TONES[delivery.outcome]}>${delivery.outcome}<//></td>
    <td data-label="When"><${Time} at=${delivery.attempted_at} /></td>
    <td data-label="Took" class="number">${delivery.latency_ms} ms</td>
    <td data-label="Answer">
      ${[delivery.status, delivery.error].filter(Boolean).join(": ")}
      ${delivery.answer && html`<span class="id">${delivery.answer}</span>`}
    </td>
    <td>${delivery.event_type !== TEST && html`<${Again} path=${path} delivery=${delivery} />`}</td>
  </tr>`;
}

function Again({ path, delivery }) {
  const [said, setSaid] = useState("");
  const send = async () => {
    try {
      await request("POST", `${path}/deliveries/${encodeURIComponent(delivery.delivery_id)}/redeliver`);
      setSaid("It will be delivered again.");
    } catch (error) {
      setSaid(error.message);
    }
  };
  return html`<button type="button" onClick=${send}>Deliver again</button>
    <span role="status" class="small muted block">${said}</span>`;
}

// For the inbox: endpoints that do not answer.
export function EndpointsDown() {
  const { data } = useGet("/v1/webhook-endpoints");
  const down = (data?.items ?? []).filter((one) => ["down", "gone"].includes(one.health.state));
  if (!down.length) return null;
  return html`<${Card} title="Webhook endpoints that do not answer">
    <ul class="plain-list">
      ${down.map(
        (one) => html`<li key=${one.endpoint_id}>
          <${Link} to="/webhooks/${encodeURIComponent(one.endpoint_id)}">${one.url}<//>
          ${" "}<${Badge} as="bad">${one.health.state}<//>
          ${one.health.failing_since && html` since <${Time} at=${one.health.failing_since} />`}${one.health.last_error && `: ${one.health.last_error}`}
        </li>`,
      )}
    </ul>
  <//>`;
}
