// Numbers: orders by status, per day, money, and lead times. Each chart has its numbers as a table.

import { get, serverTime } from "../api.js";
import { counted, duration, lastDays, money, plain, sentenceCase } from "../format.js";
import { html } from "../html.js";
import { Card, Heading, Time, Trouble, useLoaded } from "../parts.js";
import { go, Link, withQuery } from "../router.js";

const DAYS = [7, 30, 90, 365];
const STAGES = ["opened", "placed", "confirmed", "completed", "cancelled", "expired"];
const AMOUNTS = ["placed", "captured", "refunded"];
const LEADS = ["shipped", "delivered", "completed"];
const HEIGHT = 100; // Of a chart, in units of its own: it is as wide and as high as its place.

export function NumbersView({ query }) {
  const length = DAYS.find((one) => String(one) === query.get("days")) ?? 30;
  const { data, error, reload } = useLoaded((signal) => load(length, signal), length);
  return html`
    <${Heading} title="Numbers" />
    <div class="selects">
      <div>
        <label for="days">Days, in UTC</label>
        <select id="days" value=${String(length)} onChange=${(event) => go(withQuery(query, { days: event.target.value }))}>
          ${DAYS.map((one) => html`<option value=${String(one)}>the last ${one}</option>`)}
        </select>
      </div>
    </div>
    <${Trouble} error=${error} onRetry=${reload} />
    ${data &&
    html`
      <${Statuses} statuses=${data.statuses} />
      <${Orders} days=${data.days} items=${data.orders.items} />
      <${LeadTimes} days=${data.days} leads=${data.leads} />
      ${currenciesOf(data.orders.items).map((one) => html`<${Money} key=${one} currency=${one} days=${data.days} items=${data.orders.items} />`)}
    `}
  `;
}

async function load(length, signal) {
  const days = lastDays(length, await serverTime());
  const from = days[0];
  const paths = [["statuses", {}], ["orders", { from }], ["lead-times", { from }]];
  const [statuses, orders, leads] = await Promise.all(
    paths.map(([what, parameters]) => get(`/v1/stats/${what}`, parameters, { signal })),
  );
  return { days, statuses, orders, leads };
}

function currenciesOf(items) {
  return [...new Set(items.map((one) => one.currency))].sort();
}

// How many orders there are now

function Statuses({ statuses }) {
  const most = Math.max(1, ...statuses.items.map((one) => one.orders));
  return html`<section class="card">
    <h2>Orders now <small>counted <${Time} at=${statuses.counted_at} /></small></h2>
    <table class="bars">
      <thead class="unseen">
        <tr><th scope="col">Status</th><th scope="col">Orders</th><th scope="col">Share</th></tr>
      </thead>
      <tbody>
        ${statuses.items.map(
          (one) => html`<tr key=${one.status}>
            <th scope="row"><${Link} to="/orders?status=${one.status}">${plain(one.status)}<//></th>
            <td class="number">${one.orders.toLocaleString("en-GB")}</td>
            <td>
              <svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
                <rect class="series" width=${(100 * one.orders) / most} height="10" />
              </svg>
            </td>
          </tr>`,
        )}
      </tbody>
    </table>
  </section>`;
}

// Per day

function Orders({ days, items }) {
  const series = STAGES.map((stage) => ({ name: stage, values: days.map((day) => sumOf(items, day, stage)) }));
  return html`<${Card} title="Orders per day">
    <div class="charts">
      ${series.map(({ name, values }) => {
        const total = values.reduce((sum, one) => sum + one, 0);
        return html`<${Chart} key=${name} title=${sentenceCase(name)} total=${total.toLocaleString("en-GB")} days=${days} lines=${[values]}
          format=${(value) => counted(value, "order")} />`;
      })}
    </div>
    <${Values} caption="Orders per day" days=${days} series=${series} format=${String} />
  <//>`;
}

function sumOf(items, day, field) {
  return items.reduce((sum, one) => (one.day === day ? sum + one[field] : sum), 0);
}

function Money({ currency, days, items }) {
  const own = items.filter((one) => one.currency === currency);
  const format = (amount) => money(amount, currency);
  const series = AMOUNTS.map((kind) => ({ name: kind, values: days.map((day) => sumOf(own, day, `${kind}_amount`)) }));
  return html`<${Card} title="Money per day" hint=${currency}>
    <div class="charts">
      ${series.map(
        ({ name, values }) => html`<${Chart} key=${name} title=${sentenceCase(name)} days=${days} lines=${[values]}
          total=${format(values.reduce((sum, one) => sum + one, 0))} format=${format} />`,
      )}
    </div>
    <${Values} caption="Money per day, ${currency}" days=${days} series=${series} format=${format} />
  <//>`;
}

// How long it takes

function LeadTimes({ days, leads }) {
  const byDay = new Map(leads.items.map((one) => [one.day, one]));
  const value = (day, stage, part) => byDay.get(day)?.[stage][`${part}_seconds`] ?? 0;
  const series = LEADS.flatMap((stage) =>
    ["p50", "p90"].map((part) => ({ name: `${stage}, ${part}`, stage, values: days.map((day) => value(day, stage, part)) })),
  );
  return html`<${Card} title="Lead times" hint="from placing, by the day of placing: half of the orders took less than the dark bar, nine of ten less than the light one">
    <div class="charts">
      ${LEADS.map((stage) => {
        const whole = leads.period[stage];
        const [half, most] = series.filter((one) => one.stage === stage).map((one) => one.values);
        const total = whole.orders ? `${duration(whole.p50_seconds)} · ${duration(whole.p90_seconds)}` : "–";
        return html`<${Chart} key=${stage} title="Placed → ${stage}" total=${total} days=${days} lines=${[most, half]} format=${duration} />`;
      })}
    </div>
    <${Values} caption="Lead times" days=${days} series=${series} format=${duration} />
  <//>`;
}

// Bars of one or more series, the later ones in front, from 0 to the greatest value.
function Chart({ title, total, days, lines, format }) {
  const most = Math.max(1, ...lines.flat());
  const width = 100 / days.length;
  const bars = lines.flatMap((values, front) =>
    values.map((value, index) => {
      const height = (HEIGHT * value) / most;
      return html`<rect class=${front === lines.length - 1 ? "series" : "behind"} key="${front} ${index}"
        x=${(index + 0.1) * width} width=${0.8 * width} y=${HEIGHT - height} height=${height} />`;
    }),
  );
  const areas = days.map(
    (day, index) => html`<rect class="area" key=${day} x=${index * width} width=${width} height=${HEIGHT}>
      <title>${day}: ${lines.map((values) => format(values[index])).reverse().join(" · ")}</title>
    </rect>`,
  );
  return html`<figure class="chart">
    <figcaption>${title} <strong>${total}</strong></figcaption>
    <svg viewBox="0 0 100 ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${title}: at most ${format(Math.max(...lines.flat()))} a day">
      ${bars}${areas}
    </svg>
    <p class="axis small muted"><span>${days[0]}</span><span>${format(Math.max(...lines.flat()))} at most</span><span>${days.at(-1)}</span></p>
  </figure>`;
}

function Values({ caption, days, series, format }) {
  return html`<details>
    <summary>As a table</summary>
    <div class="scroll" tabindex="0" role="region" aria-label="${caption}, as a table">
      <table>
        <thead>
          <tr>
            <th scope="col">Day</th>
            ${series.map((one) => html`<th scope="col" class="number">${one.name}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${days.map(
            (day, index) => html`<tr key=${day}>
              <th scope="row">${day}</th>
              ${series.map((one) => html`<td class="number">${format(one.values[index])}</td>`)}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </details>`;
}
