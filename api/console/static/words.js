// Events and waits in words, by the terms of the glossary. Pure: what it returns is text.

import { exactTime, money, pieces, plain, time } from "./format.js";

const SERVICES = {
  reserve: "stock",
  release: "stock",
  withdraw: "stock",
  restock: "stock",
  authorise: "payment",
  capture: "payment",
  void: "payment",
  refund: "payment",
  book: "shipping",
  stop: "shipping",
};

export function serviceOf(stepType) {
  return SERVICES[stepType] ?? "external";
}

// What a caller is called: "operator:olga" is olga, an operator.
export function actor(name) {
  const [kind, who] = name.split(/:(.*)/);
  if (kind === "operator") return who;
  if (kind === "customer") return `customer ${who}`;
  if (name === "anonymous") return "shop";
  return name === "deadline" ? "a deadline" : name;
}

const count = (lines) => (lines ?? []).reduce((sum, line) => sum + line.quantity, 0);
// Text of people, so that its direction of writing does not reach what stands around it.
const quoted = (text) => `\u2068${text}\u2069`;
const because = (reason) => (reason ? `: ${quoted(reason)}` : "");
const from = (held) => [...new Set((held ?? []).map((one) => one.location))].sort().join(" and ");

// By type of event: its sentence, from its data and a function that writes amounts.
const SENTENCES = {
  "order-opened": () => "Order opened",
  "item-added": (d, m) => `Added ${d.quantity} × ${quoted(d.title)} at ${m(d.unit_price)}`,
  "item-quantity-changed": (d) => `Changed ${d.line_id} to ${pieces(d.quantity)}`,
  "item-removed": (d) => `Removed ${d.line_id}`,
  "discount-applied": (d, m) => `Discount of ${m(d.amount)}${because(d.reason)}`,
  "discount-removed": (d) => `Discount ${d.discount_id} removed`,
  "note-added": (d) => `Note: ${quoted(d.text)}`,
  "shipping-charge-set": (d, m) => `Shipping charge set to ${m(d.amount)}`,
  "shipping-address-set": () => "Shipping address set",
  "billing-address-set": () => "Billing address set",
  "order-expired": () => "Draft expired",
  "order-placed": (d, m) => `Order placed for ${m(d.total)}`,
  "order-confirmed": () => "Order confirmed",
  "order-held": (d) => `Held${because(d.reason)}`,
  "order-released": () => "Released",
  "order-completed": () => "Order completed",
  "order-cancellation-requested": (d) => `Cancellation requested${because(d.reason)}`,
  "order-cancelled": (d) => `Order cancelled${because(d.reason)}`,
  "order-cancellation-overtaken": (d) =>
    `A shipment left first: only ${pieces(count(d.lines))} could still be cancelled`,
  "answer-not-needed": () => "The customer need not decide any more",
  "lines-cancelled": (d) => `Cancelled ${pieces(count(d.lines))}${because(d.reason)}`,
  "lines-cancellation-overtaken": (d) => `${pieces(count(d.lines))} left before they could be cancelled`,
  "order-amended": (d) => `Amended ${d.lines.length === 1 ? "one line" : `${d.lines.length} lines`}`,
  "amendment-reverted": (d) => `Amendment reverted${because(d.reason)}`,
  "stock-requested": (d) => `Asked stock to reserve ${pieces(count(d.lines))}`,
  "stock-reserved": (d) => `Stock reserved ${pieces(count(d.held))}${d.held.length ? ` at ${from(d.held)}` : ""}`,
  "stock-short": (d) => `${pieces(count(d.lines))} missing: the customer decides until ${time(d.answer_by)}`,
  "shortfall-accepted": (d) => `Customer accepts without ${pieces(count(d.lines))}`,
  "held-stock-lost": (d) => `${pieces(d.quantity)} of ${d.line_id} lost at ${d.location}`,
  "stock-release-requested": (d) => `Asked stock to release ${pieces(count(d.held))}`,
  "stock-released": () => "Stock released",
  "stock-withdrawal-requested": (d) => `Reporting ${pieces(count(d.held))} as gone from ${from(d.held)}`,
  "stock-withdrawn": () => "Stock withdrawn",
  "restock-requested": (d) => `Asked stock to take back ${pieces(count(d.held))}`,
  restocked: () => "Restocked",
  "authorisation-requested": (d, m) => `Asked payments to authorise ${m(d.amount)}`,
  "payment-authorised": (d, m) => `Payment of ${m(d.amount)} authorised as ${d.reference}`,
  "payment-declined": (d) => `Payment declined${because(d.reason)}`,
  "payment-retried": (d) => `Payment retried${d.method ? ` with ${d.method}` : ""}`,
  "advance-capture-requested": (d, m) => `Capture of ${m(d.amount)} in advance`,
  "capture-requested": (d, m) => `Asked payments to capture ${m(d.amount)}`,
  "payment-captured": (d, m) => `Captured ${m(d.amount)}`,
  "capture-refused": (d) => `Capture refused${because(d.reason)}`,
  "void-requested": () => "Asked payments to void what is left",
  "payment-voided": () => "What was left of the authorisation is void",
  "refund-granted": (d, m) => `Refund of ${m(d.amount)} granted${because(d.reason)}`,
  "refund-requested": (d, m) => `Asked payments to refund ${m(d.amount)}`,
  "payment-refunded": (d, m) => `Refunded ${m(d.amount)}`,
  "capture-reversed": (d, m) => `The bank reversed a capture of ${m(d.amount)}${because(d.reason)}`,
  "refund-reversed": (d, m) => `A refund of ${m(d.amount)} failed${because(d.reason)}`,
  "refund-recorded": (d, m) => `Payments report a refund of ${m(d.amount)} that orderly did not ask for`,
  "authorisation-reduced": (d, m) => `Authorisation reduced to ${m(d.amount)}${because(d.reason)}`,
  "chargeback-opened": (d, m) => `The customer's bank took back ${m(d.amount)}${because(d.reason)}`,
  "chargeback-closed": (d) => `Chargeback ${d.outcome}`,
  "shipment-created": (d) => `Shipment of ${pieces(count(d.lines))} from ${d.location} planned`,
  "shipment-changed": (d) => `Shipment changed to ${pieces(count(d.lines))}`,
  "shipment-booking-requested": () => "Asked shipping to book the shipment",
  "shipment-booked": (d) => `Shipment booked${d.tracking ? ` as ${d.tracking}` : ""}`,
  "shipment-stop-requested": () => "Asked shipping to stop the shipment",
  "shipment-stopped": () => "Shipment stopped",
  "shipment-dispatched": (d) =>
    `${pieces(count(d.lines))} left${d.tracking ? ` with tracking number ${d.tracking}` : ""}`,
  "shipment-delivered": (d) => `Delivered; it can be returned until ${time(d.return_by)}`,
  "delivery-failed": (d) => `Delivery failed, goods ${d.goods}${because(d.reason)}`,
  "tracking-changed": (d) => `Tracking number is now ${d.tracking}`,
  "delivery-revoked": (d) => `Not delivered after all${because(d.reason)}`,
  "return-requested": (d) => `Return of ${pieces(count(d.lines))} requested${because(d.reason)}`,
  "return-approved": () => "Return approved",
  "return-rejected": (d) => `Return rejected${because(d.reason)}`,
  "return-received": (d) => `${pieces(count(d.lines))} came back, ${d.condition}`,
  "return-window-closed": () => "The time to return is over",
  "step-stuck": (d) => `Step ${d.step_id} is stuck${because(d.reason)}`,
  "step-retried": (d) => `Step ${d.step_id} retried`,
  "step-settled": (d) => `Step ${d.step_id} settled by hand as ${d.outcome}${because(d.reason)}`,
  "discrepancy-recorded": (d) => `Discrepancy${because(d.summary)}`,
  "discrepancy-resolved": (d) => `Discrepancy resolved${because(d.reason)}`,
};

// An event in one sentence; a type of a later version is named by its type.
export function sentence(type, data, currency) {
  const write = SENTENCES[type];
  const amount = (number) => (currency ? money(number, currency) : String(number));
  try {
    if (write) return write(data, amount);
  } catch {
    // Data of another version: its type says more than nothing.
  }
  const words = plain(type);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export const KNOWN_TYPES = Object.keys(SENTENCES);

// How urgent a status is: the class of its badge.
export function tone(status) {
  if (["declined", "on_hold", "awaiting_customer", "requested"].includes(status)) return "warn";
  if (["cancelled", "expired", "none", "draft", "cancelling"].includes(status)) return "quiet";
  return "good";
}

const NOUNS = {
  reserve: "Its stock waits to be reserved",
  release: "Its stock waits to be released",
  withdraw: "Stock waits to hear that pieces have left",
  restock: "Returned pieces wait to go back into stock",
  authorise: "Its payment waits to be authorised",
  capture: "Its payment waits to be captured",
  void: "Its authorisation waits to be voided",
  refund: "Its refund waits to be made",
  book: "A shipment waits to be booked",
  stop: "A shipment waits to be stopped",
};
const QUESTIONS = {
  authorise: "Why has it not been paid?",
  capture: "Why has it not been paid?",
  refund: "Why has it not been refunded?",
  void: "Why has it not ended?",
  release: "Why has it not ended?",
  stop: "Why has it not ended?",
};
const NOT_SHIPPED = "Why has it not shipped?";
const NOT_PAID = "Why has it not been paid?";
const NOT_COMPLETED = "Why is it not completed?";

// The question that people ask of an order as it is, and its answer in sentences.
export function why(order) {
  const m = (amount) => money(amount, order.currency);
  return (
    whyAttention(order, m) ??
    whyHeld(order) ??
    whyCustomer(order) ??
    whyEnding(order, m) ??
    whyGoing(order, m)
  );
}

function answer(question, tone, ...sentences) {
  return { question, tone, sentences: sentences.filter(Boolean) };
}

function whyAttention(order, m) {
  const of = (kind) => order.needs_attention.filter((one) => one.kind === kind);
  const [unpaid] = of("unpaid");
  if (unpaid) {
    const reason = order.payment.decline_reason;
    return answer(
      NOT_PAID,
      "bad",
      `Goods worth ${m(unpaid.amount)} were shipped, and their payment is missing${since(unpaid.since)}.`,
      reason && `The payment service declined: ${quoted(reason)}.`,
      "Retry the payment once the customer has another payment method.",
    );
  }
  const [chargeback] = of("chargeback");
  if (chargeback) {
    return answer(
      NOT_PAID,
      "bad",
      `The customer's bank took back ${m(chargeback.amount)}${since(chargeback.since)}: ${quoted(chargeback.reason)}.`,
      "Answer it at the payment service, which reports its outcome.",
    );
  }
  const stuck = of("stuck-step");
  if (stuck.length) return whyStuck(stuck, order);
  const [first] = order.needs_attention;
  if (!first) return null;
  return answer(NOT_COMPLETED, "bad", `${quoted(first.reason)}${since(first.since)}.`, `To settle it: ${first.remedy}.`);
}

function whyStuck(stuck, order) {
  const [first] = stuck;
  const same = stuck.filter((one) => one.type === first.type && one.reason === first.reason);
  const what =
    first.type === "book" && same.length > 1
      ? `${same.length === 2 ? "Both" : same.length} shipments wait to be booked`
      : NOUNS[first.type];
  const others = stuck.length - same.length;
  const { deadline } = order;
  return answer(
    QUESTIONS[first.type] ?? NOT_SHIPPED,
    "bad",
    `${what}: ${quoted(first.reason)}${since(first.since)}.`,
    others > 0 && `${others} other step${others > 1 ? "s are" : " is"} stuck, too.`,
    "It is tried again and again by itself, and at once when you retry the step.",
    deadline?.name === "capture" && `The payment is captured by ${exactTime(deadline.at)} at the latest.`,
  );
}

function since(instant) {
  return instant ? `, since ${time(instant)}` : "";
}

function whyHeld(order) {
  if (order.status !== "on_hold") return null;
  const reason = order.hold_reason ?? "no reason was given";
  return answer(NOT_SHIPPED, "warn", `It is held${since(order.held_since)}: ${quoted(reason)}.`, "Release it to continue.");
}

function whyCustomer(order) {
  const until = order.deadline ? ` until ${exactTime(order.deadline.at)}` : "";
  const otherwise = "Then what has not left is cancelled.";
  if (order.awaits === "payment") {
    const reason = order.payment.decline_reason ?? "no reason was given";
    return answer(
      NOT_PAID,
      "warn",
      `The payment was declined${since(order.awaits_since)}: ${quoted(reason)}.`,
      `The customer can pay by another method${until}.`,
      otherwise,
    );
  }
  if (order.awaits === "shortfall") {
    const missing = count(order.missing);
    return answer(
      NOT_SHIPPED,
      "warn",
      `${pieces(missing)} ${missing === 1 ? "is" : "are"} not in stock.`,
      `The customer decides whether to take the rest${until}.`,
      otherwise,
    );
  }
  return null;
}

function whyEnding(order, m) {
  const reason = because(order.cancel_reason);
  if (order.status === "cancelling") {
    return answer("Why has it not ended?", "quiet", `It is being cancelled${reason}.`, running(order));
  }
  if (order.status === "cancelled") {
    const { captured, refunded } = order.payment;
    return answer(
      "What became of it?",
      "quiet",
      `It was cancelled${reason}.`,
      captured ? `Of ${m(captured)} captured, ${m(refunded)} went back.` : "Nothing was captured.",
      order.payment.refund_pending > 0 && `A refund of ${m(order.payment.refund_pending)} is under way.`,
    );
  }
  if (order.status === "expired") return answer("What became of it?", "quiet", "The draft was not placed in time.");
  if (order.status === "completed") {
    return answer("What became of it?", "good", `It is completed, and ${m(order.payment.captured - order.payment.refunded)} were paid.`, running(order));
  }
  return null;
}

function whyGoing(order, m) {
  if (order.status === "draft") {
    const ends = order.deadline && `The draft expires on ${exactTime(order.deadline.at)}.`;
    return answer("Why has it not been placed?", "quiet", "It is a draft that may still change.", ends);
  }
  if (order.pending.length && order.fulfilment_status === "none") {
    return answer(NOT_SHIPPED, "good", running(order));
  }
  const travelling = order.shipments.filter((one) => one.status === "dispatched");
  const planned = order.shipments.filter((one) => one.status === "planned");
  if (planned.length) {
    const where = [...new Set(planned.map((one) => one.location))].join(" and ");
    return answer(
      NOT_SHIPPED,
      "good",
      `${planned.length === 1 ? "A booked shipment waits" : `${planned.length} booked shipments wait`} at ${where} for the carrier.`,
      order.payment.capturable > 0 && `${m(order.payment.capturable)} are authorised and captured when it leaves.`,
    );
  }
  if (travelling.length) {
    const numbers = travelling.map((one) => one.tracking).filter(Boolean);
    const by = numbers.length ? ` Tracking ${numbers.join(", ")}.` : "";
    return answer(NOT_COMPLETED, "good", `${pieces(travelling.reduce((n, one) => n + count(one.lines), 0))} are on the way.${by}`);
  }
  return whyOpen(order);
}

function whyOpen(order) {
  const asked = order.returns.find((one) => one.status === "requested");
  if (asked) return answer(NOT_COMPLETED, "warn", `A return of ${pieces(count(asked.lines))} waits for approval.`);
  const agreed = order.returns.find((one) => one.status === "approved");
  if (agreed) return answer(NOT_COMPLETED, "good", `A return of ${pieces(count(agreed.lines))} is approved, and on its way.`);
  if (order.deadline?.name === "return-window") {
    return answer(NOT_COMPLETED, "good", `It was delivered and can be returned until ${exactTime(order.deadline.at)}.`, "Then it is completed.");
  }
  return answer(NOT_COMPLETED, "good", running(order) || "Nothing of it waits for anything.");
}

function running(order) {
  const [first] = order.pending;
  return first && `${NOUNS[first.type] ?? plain(first.type)}${since(first.since)}.`;
}
