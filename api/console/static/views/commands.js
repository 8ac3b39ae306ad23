// Commands as forms: filled in, previewed in words, then sent for the version that was previewed.

import { newKey, Problem, request } from "../api.js";
import { bodyOf, fieldsOf, initialValues, pricePlaceholder } from "../fields.js";
import { money, plain, sentenceCase } from "../format.js";
import { html, useEffect, useId, useMemo, useRef, useState } from "../html.js";
import { Card, Trouble, useGet } from "../parts.js";

// The commands most asked for, first.
const FIRST = ["retry-step", "release-order", "retry-payment", "accept-shortfall", "refund-payment", "cancel-lines"];

export function Commands({ order, onDone, onReload }) {
  const path = `/v1/orders/${encodeURIComponent(order.order_id)}/commands`;
  const { data, error, reload } = useGet(path, { min_version: order.version });
  const [chosen, setChosen] = useState(null);
  const [done, setDone] = useState("");
  if (!data) return html`<${Card} title="Commands"><${Trouble} error=${error} onRetry=${reload} /><//>`;
  const rank = (one) => (FIRST.indexOf(one.type) + 1 || FIRST.length + 1);
  const offered = [...data.commands].sort((a, b) => rank(a) - rank(b));
  const command = chosen && (offered.find((one) => one.type === chosen.type) ?? chosen);
  const finish = (result) => {
    setDone(result);
    setChosen(null);
  };
  return html`<${Card} title="Commands" hint="previewed before they are sent">
    <div class="commands">
      ${offered.map(
        (one) => html`<button
          type="button"
          key=${one.type}
          class=${one.type === offered[0].type && FIRST.includes(one.type) ? "primary" : ""}
          aria-expanded=${chosen?.type === one.type}
          onClick=${() => {
            setDone("");
            setChosen(chosen?.type === one.type ? null : one);
          }}
        >
          ${sentenceCase(plain(one.type))}
        </button>`,
      )}
    </div>
    <p role="status" class="done">${done}</p>
    ${command &&
    html`<${CommandForm}
      key=${command.type}
      command=${command}
      order=${order}
      onDone=${(result) => {
        finish(describe(result));
        onDone(result);
      }}
      onReload=${onReload}
    />`}
    <${Unavailable} commands=${data.unavailable} />
  <//>`;
}

function describe(result) {
  if (!result.events.length) return "Nothing had to change: it was so already.";
  const types = result.events.map((one) => plain(one.type)).join(", ");
  return `Done. The order is at version ${result.version}: ${types}.`;
}

// Disabled, each with its reason beside it.
function Unavailable({ commands }) {
  if (!commands.length) return null;
  return html`<details class="unavailable">
    <summary>${commands.length} commands are not possible now</summary>
    <ul class="plain-list">
      ${commands.map(
        (one) => html`<li>
          <button type="button" disabled>${sentenceCase(plain(one.type))}</button>
          <span class="small">${one.why_not}</span>
        </li>`,
      )}
    </ul>
  </details>`;
}

// Keeps what is typed in each case: a rejection, an outage, another version, an expired token.
function CommandForm({ command, order, onDone, onReload }) {
  const fields = useMemo(() => fieldsOf(command, order), [command.type, order]);
  const [values, setValues] = useState(() => initialValues(fields));
  const [invalid, setInvalid] = useState(null);
  const [preview, setPreview] = useState(null);
  const [error, setError] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const form = useRef(null);
  useEffect(() => form.current?.querySelector("input, select, textarea, button")?.focus(), []);

  const change = (name, value) => {
    setValues({ ...values, [name]: value });
    setPreview(null);
    setInvalid(null);
    setError(null);
  };
  const perform = async (work) => {
    setIsBusy(true);
    setError(null);
    try {
      await work();
    } catch (failure) {
      setError(failure);
    }
    setIsBusy(false);
  };
  const look = (event) => {
    event.preventDefault();
    let body;
    try {
      body = bodyOf(fields, values, order.currency);
    } catch (mistake) {
      setInvalid(mistake);
      form.current.querySelector(`[name="${mistake.field}"]`)?.focus();
      return;
    }
    perform(async () => {
      const key = newKey();
      const headers = { "Idempotency-Key": key };
      const outcome = await request("POST", `${command.href}/preview`, { body, headers });
      setPreview({ key, body, outcome });
    });
  };
  const send = () =>
    perform(async () => {
      const { key, body, outcome } = preview;
      const headers = { "Idempotency-Key": key, "If-Match": `"${outcome.version}"` };
      onDone(await request("POST", command.href, { body, headers }));
    });
  return html`<form ref=${form} class="command" onSubmit=${look} noValidate aria-label=${sentenceCase(plain(command.type))}>
    <p class="muted small">${command.json_schema.description}</p>
    ${fields.map(
      (one) => html`<${Field}
        key=${one.name}
        field=${one}
        value=${values[one.name] ?? ""}
        currency=${order.currency}
        problem=${invalid?.field === one.name ? invalid.message : ""}
        onChange=${(value) => change(one.name, value)}
      />`,
    )}
    <${Failure} error=${error} version=${preview?.outcome.version} onReload=${() => { setPreview(null); setError(null); onReload(); }} />
    ${preview && !isChanged(error) && html`<${Preview} outcome=${preview.outcome} status=${order.status} />`}
    <div class="bar">
      ${preview && !isChanged(error)
        ? html`<button type="button" class="primary" disabled=${isBusy} onClick=${send}>
            ${sentenceCase(plain(command.type))} now
          </button>`
        : html`<button class="primary" disabled=${isBusy}>Preview</button>`}
      ${isBusy && html`<span role="status" class="muted small">One moment …</span>`}
    </div>
  </form>`;
}

function isChanged(error) {
  return error instanceof Problem && error.status === 412;
}

function Failure({ error, version, onReload }) {
  if (!error) return null;
  if (isChanged(error)) {
    const now = error.document.current_version;
    return html`<div class="notice warn" role="alert">
      <p>
        Another caller changed the order meanwhile. You previewed version ${version}, and it is at version ${now} now.
        Nothing was sent. What you typed is still there: look at what has changed, and preview it again.
      </p>
      <button type="button" onClick=${onReload}>Show version ${now}</button>
    </div>`;
  }
  if (error instanceof Problem) return html`<${Trouble} error=${error} />`;
  return html`<div class="notice bad" role="alert">
    <p>
      No answer came. The command may have arrived: send it again, under the same key it is executed only once. What you
      typed is still there.
    </p>
  </div>`;
}

function Preview({ outcome, status }) {
  const m = (amount) => money(amount, outcome.currency);
  const { events, steps } = outcome;
  return html`<div class="preview" role="status">
    <p><strong>Preview at version ${outcome.version}.</strong> <span class="muted">Nothing has happened yet.</span></p>
    ${events.length === 0 && html`<p>Nothing would change: it is so already.</p>`}
    ${outcome.total_before !== outcome.total_after &&
    html`<p>The total goes from ${m(outcome.total_before)} to <strong>${m(outcome.total_after)}</strong>.</p>`}
    ${outcome.to_authorise > 0 && html`<p><strong>${m(outcome.to_authorise)}</strong> more would be authorised.</p>`}
    ${outcome.to_refund > 0 && html`<p><strong>${m(outcome.to_refund)}</strong> would be refunded.</p>`}
    ${outcome.status !== status && html`<p>The order would be ${plain(outcome.status)}.</p>`}
    <ul>
      ${events.map((one) => html`<li>${one.sentence}</li>`)}
    </ul>
    ${steps.length > 0 &&
    html`<p>External services would be asked:</p>
      <ul>
        ${steps.map((one) => html`<li>${one.service}: ${one.summary}</li>`)}
      </ul>`}
  </div>`;
}

function Field({ field, value, currency, problem, onChange }) {
  const id = useId();
  const described = [field.help && `${id}-help`, problem && `${id}-problem`].filter(Boolean).join(" ");
  const common = {
    id,
    name: field.name,
    "aria-describedby": described || undefined,
    "aria-invalid": problem ? "true" : undefined,
    "aria-required": field.required,
  };
  const below = html`
    ${field.help && html`<span id="${id}-help" class="small muted">${field.help}</span>`}
    ${problem && html`<span id="${id}-problem" class="small bad-text" role="alert">${problem}</span>`}
  `;
  if (field.kind === "pieces" || field.kind === "amendment") {
    const Rows = field.kind === "pieces" ? Pieces : Amendment;
    return html`<fieldset class="field">
      <legend>${field.label}</legend>
      <${Rows} field=${field} value=${value} currency=${currency} onChange=${onChange} />
      ${below}
    </fieldset>`;
  }
  if (field.kind === "check") {
    return html`<div class="field">
      <label><input type="checkbox" ...${common} checked=${value} onChange=${(e) => onChange(e.target.checked)} /> ${field.label}</label>
      ${below}
    </div>`;
  }
  return html`<div class="field">
    <label for=${id}>${field.label}${!field.required && html` <span class="muted">(optional)</span>`}</label>
    <${Input} field=${field} common=${common} value=${value} currency=${currency} onChange=${onChange} />
    ${below}
  </div>`;
}

function Input({ field, common, value, currency, onChange }) {
  const set = (event) => onChange(event.target.value);
  if (field.kind === "select") {
    const isOpen = !field.options.some(([one]) => one === "");
    return html`<select ...${common} value=${value} onChange=${set}>
      ${isOpen && html`<option value="">choose …</option>`}
      ${field.options.map(([one, words]) => html`<option value=${one}>${words}</option>`)}
    </select>`;
  }
  if (field.kind === "area") return html`<textarea ...${common} rows="2" value=${value} onInput=${set}></textarea>`;
  if (field.kind === "amount") {
    return html`<span class="with-unit">
      <input ...${common} inputmode="decimal" autocomplete="off" placeholder="4.20" value=${value} onInput=${set} /> ${currency}
    </span>`;
  }
  const mode = field.kind === "number" ? "numeric" : undefined;
  return html`<input ...${common} inputmode=${mode} autocomplete="off" value=${value} onInput=${set} />`;
}

function Pieces({ field, value, onChange }) {
  return field.rows.map(
    (row, index) => html`<label class="piece" key=${row.line_id}>
      <span>${row.title} <span class="muted">(of ${row.max})</span></span>
      <input
        name=${index ? undefined : field.name}
        inputmode="numeric"
        autocomplete="off"
        placeholder="0"
        value=${value[row.line_id] ?? ""}
        onInput=${(event) => onChange({ ...value, [row.line_id]: event.target.value })}
      />
    </label>`,
  );
}

function Amendment({ field, value, currency, onChange }) {
  const set = (lineId, part) => (event) =>
    onChange({ ...value, [lineId]: { ...value[lineId], [part]: event.target.value } });
  return field.rows.map(
    (line, index) => html`<div class="piece" key=${line.line_id}>
      <span>${line.title}</span>
      <label>
        <span class="small muted">pieces</span>
        <input
          name=${index ? undefined : field.name}
          inputmode="numeric"
          autocomplete="off"
          placeholder=${line.quantity}
          value=${value[line.line_id]?.quantity ?? ""}
          onInput=${set(line.line_id, "quantity")}
        />
      </label>
      <label>
        <span class="small muted">${currency} each</span>
        <input
          inputmode="decimal"
          autocomplete="off"
          placeholder=${pricePlaceholder(line, currency)}
          value=${value[line.line_id]?.price ?? ""}
          onInput=${set(line.line_id, "price")}
        />
      </label>
    </div>`,
  );
}
