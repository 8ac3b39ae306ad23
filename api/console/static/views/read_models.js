// The read models: how far they are, what they fail on, and their rebuilds.

import { counted, span } from "../format.js";
import { html, useEffect } from "../html.js";
import { Badge, Card, Heading, Time, Trouble, useGet } from "../parts.js";
import { Link, orderPath } from "../router.js";

const SECONDS = 5;

export function ReadModelsView() {
  const { data, error, reload } = useGet("/v1/projections");
  useEffect(() => {
    const timer = setInterval(() => document.hidden || reload(), SECONDS * 1_000);
    return () => clearInterval(timer);
  }, [reload]);
  return html`
    <${Heading} title="Read models">what reads are answered from<//>
    <${Trouble} error=${error} onRetry=${reload} />
    ${data && html`<${Models} models=${data.items} /><${Parked} orders=${data.parked_orders} />`}
  `;
}

function Models({ models }) {
  return html`<div class="card">
    <table class="cards">
      <thead>
        <tr>
          <th scope="col">Read model</th>
          <th scope="col">State</th>
          <th scope="col" class="number">Lag</th>
          <th scope="col" class="number">Position</th>
          <th scope="col" class="number">Version</th>
          <th scope="col">Rebuild</th>
        </tr>
      </thead>
      <tbody>
        ${models.map((one) => html`<${Model} key=${one.name} model=${one} />`)}
      </tbody>
    </table>
  </div>`;
}

function Model({ model }) {
  const lag = model.lag_seconds ? span(model.lag_seconds * 1_000) : "none";
  return html`<tr>
    <th scope="row"><code>${model.name}</code></th>
    <td data-label="State">
      ${model.is_stopped
        ? html`<${Badge} as="bad">stopped<//>`
        : model.parked_orders
          ? html`<${Badge} as="bad">${counted(model.parked_orders, "parked order")}<//>`
          : html`<${Badge} as="good">up to date<//>`}
    </td>
    <td data-label="Lag" class="number">${lag}</td>
    <td data-label="Position" class="number">${model.position}</td>
    <td data-label="Version" class="number">${model.version}</td>
    <td data-label="Rebuild"><${Rebuild} model=${model} /></td>
  </tr>`;
}

function Rebuild({ model }) {
  const { rebuild, name } = model;
  if (!rebuild) {
    return model.previous_version === null
      ? html`<span class="muted">none</span>`
      : html`<span class="muted">version ${model.previous_version} is kept</span>`;
  }
  if (rebuild.is_filled) return "prepared";
  return html`<progress aria-label="Rebuild of ${name}" value=${rebuild.filled} max=${rebuild.events || 1}></progress>
    ${" "}${rebuild.filled} of ${counted(rebuild.events, "event")}`;
}

function Parked({ orders }) {
  if (!orders.length) return null;
  return html`<${Card} title="Parked orders" hint="the other orders continue">
    <ul class="plain-list">
      ${orders.map(
        (one) => html`<li>
          <${Link} to=${orderPath(one.order_id)}>${one.order_id}<//> in <code>${one.projection}</code>, version
          ${" "}${one.version}, since <${Time} at=${one.since} />: ${one.error}
        </li>`,
      )}
    </ul>
    <p class="muted small">Once the cause is fixed: <code>orderly projections retry</code></p>
  <//>`;
}
