// The fields of a command's form, from its JSON schema and the order; and its body. Pure.

import { decimal, money, parseAmount, pieces, plain, sentenceCase } from "./format.js";

const AMOUNTS = new Set(["amount", "unit_price", "discount", "tax"]);
const HIDDEN = new Set(["type", "currency"]);
const GENERATED = "your id for it";

// [{name, label, kind, required, help, options, rows}]; a name such as address.city is a path.
export function fieldsOf(command, order) {
  const schema = command.json_schema;
  return fieldsOfSchema(schema, schema.$defs ?? {}, "", (name, inner, required) =>
    field(name, inner, required, command.type, order),
  );
}

function fieldsOfSchema(schema, definitions, prefix, make) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties).flatMap(([name, given]) => {
    const inner = resolved(given, definitions);
    if (HIDDEN.has(name) || inner.description?.startsWith(GENERATED)) return [];
    if (inner.properties) return fieldsOfSchema(inner, definitions, `${prefix}${name}.`, make);
    return [make(prefix + name, inner, required.has(name))];
  });
}

// Without its reference, and without "or null".
function resolved(schema, definitions) {
  const { $ref, anyOf, ...rest } = schema;
  if ($ref) return { ...definitions[$ref.split("/").at(-1)], ...rest };
  const present = anyOf?.find((one) => one.type !== "null");
  return present ? { ...resolved(present, definitions), ...rest } : schema;
}

function field(name, schema, required, command, order) {
  const last = name.split(".").at(-1);
  const base = { name, required, help: schema.description ?? "", label: sentenceCase(plain(last.replace(/_id$/, ""))) };
  if (last === "lines") return { ...base, kind: "pieces", label: "Pieces", help: "", rows: rowsOf(command, order) };
  if (last === "changes") return { ...base, kind: "amendment", label: "New terms", help: "", rows: order.lines };
  const options = optionsOf(last, command, order);
  if (options) return { ...base, kind: "select", help: "", options };
  if (schema.enum) return { ...base, kind: "select", options: schema.enum.map((one) => [one, plain(one)]) };
  if (schema.type === "boolean") return { ...base, kind: "check" };
  if (AMOUNTS.has(last)) return { ...base, kind: "amount", help: amountHelp(command, order) };
  if (schema.type === "integer") return { ...base, kind: "number" };
  if (last === "text" || last === "reason") {
    return { ...base, kind: "area", help: "It is kept for ever: no personal data." };
  }
  return { ...base, kind: "text" };
}

function amountHelp(command, order) {
  const { refundable, capturable } = order.payment;
  if (command === "refund-payment") return `At most ${money(refundable, order.currency)} can be refunded.`;
  if (command === "capture-payment") {
    return `Up to ${money(capturable, order.currency)}; without an amount, all that will be needed.`;
  }
  return "";
}

// What a command may choose from: [value, words], or null if it is typed.
function optionsOf(name, command, order) {
  const title = (id) => order.lines.find((line) => line.line_id === id)?.title ?? id;
  const shipments = (status) =>
    order.shipments
      .filter((one) => one.status === status)
      .map((one) => [one.shipment_id, `${one.shipment_id}, ${pieces(sum(one.lines))} from ${one.location}`]);
  const returns = (...statuses) =>
    order.returns
      .filter((one) => statuses.includes(one.status))
      .map((one) => [one.return_id, `${one.return_id}, ${pieces(sum(one.lines))}`]);
  switch (name) {
    case "line_id":
      return command === "add-item-to-order" ? null : order.lines.map((one) => [one.line_id, title(one.line_id)]);
    case "shipment_id":
      return shipments(command === "dispatch-shipment" ? "planned" : "dispatched");
    case "return_id":
      if (command === "approve-return") return returns("requested");
      return command === "receive-return" ? returns("approved") : returns("requested", "approved");
    case "step_id": {
      const steps = order.pending.filter((one) => command !== "retry-step" || one.reason);
      const named = steps.map((one) => [one.step_id, `${plain(one.type)} (${one.step_id})`]);
      return command === "retry-step" ? [["", "all stuck steps"], ...named] : named;
    }
    case "discrepancy_id":
      return order.needs_attention.filter((one) => one.discrepancy_id).map((one) => [one.discrepancy_id, one.reason]);
    case "discount_id":
      return order.discounts.map((one) => [one.discount_id, `${money(one.amount, order.currency)} ${one.reason ?? ""}`]);
    default:
      return null;
  }
}

const sum = (lines) => lines.reduce((total, line) => total + line.quantity, 0);

// The lines of which a command can take pieces, with the most of each.
function rowsOf(command, order) {
  const most = {
    "cancel-lines": (line) => line.quantity - line.cancelled - line.shipped,
    "create-shipment": (line) => line.reserved,
    "request-return": (line) => line.delivered - line.returned,
    "receive-return": (line) => line.delivered - line.returned,
  }[command];
  return order.lines
    .map((line) => ({ line_id: line.line_id, title: line.title, max: most ? most(line) : line.quantity }))
    .filter((row) => row.max > 0);
}

// What a form has at first: the only option where there is no other.
export function initialValues(fields) {
  return Object.fromEntries(fields.map((one) => [one.name, initial(one)]));
}

function initial(one) {
  if (one.kind === "check") return false;
  if (one.kind === "pieces" || one.kind === "amendment") return {};
  if (one.kind === "select" && one.options.length === 1) return one.options[0][0];
  return "";
}

// The body of the command, or an Error whose message says what to change, and `field` where.
export function bodyOf(fields, values, currency) {
  const body = {};
  for (const one of fields) {
    const value = read(one, values[one.name], currency);
    if (value === undefined) {
      if (one.required) throw invalid(one, one.kind === "pieces" ? "Choose at least one piece." : "This is needed.");
      continue;
    }
    put(body, one.name.split("."), value);
  }
  return body;
}

function read(one, value, currency) {
  if (one.kind === "check") return value || undefined;
  if (one.kind === "pieces") return readPieces(one, value);
  if (one.kind === "amendment") return readAmendment(one, value, currency);
  const text = value.trim();
  if (!text) return undefined;
  if (one.kind === "number") return readCount(one, text);
  if (one.kind === "amount") return readAmount(one, text, currency);
  return one.kind === "area" ? value : text;
}

function readCount(one, text) {
  if (!/^\d+$/.test(text)) throw invalid(one, "Type a whole number.");
  return Number(text);
}

function readAmount(one, text, currency) {
  try {
    return parseAmount(text, currency);
  } catch (error) {
    throw invalid(one, error.message);
  }
}

function readPieces(one, value) {
  const lines = one.rows
    .map((row) => ({ line_id: row.line_id, quantity: value[row.line_id] ? readCount(one, value[row.line_id]) : 0 }))
    .filter((line) => line.quantity > 0);
  return lines.length ? lines : undefined;
}

// A line with another quantity or price is changed, and one with none of its pieces is removed.
function readAmendment(one, value, currency) {
  const changes = one.rows.flatMap((line) => {
    const { quantity = "", price = "" } = value[line.line_id] ?? {};
    const change = { type: "change-line", line_id: line.line_id };
    if (quantity.trim()) {
      const number = readCount(one, quantity.trim());
      if (number === 0) return [{ type: "remove-line", line_id: line.line_id }];
      if (number !== line.quantity) change.quantity = number;
    }
    if (price.trim()) {
      const amount = readAmount(one, price, currency);
      if (amount !== line.unit_price) change.unit_price = amount;
    }
    return Object.keys(change).length > 2 ? [change] : [];
  });
  return changes.length ? changes : undefined;
}

export function pricePlaceholder(line, currency) {
  return decimal(line.unit_price, currency);
}

function put(into, [name, ...rest], value) {
  if (!rest.length) into[name] = value;
  else put((into[name] ??= {}), rest, value);
}

function invalid(one, message) {
  return Object.assign(new Error(message), { field: one.name });
}
