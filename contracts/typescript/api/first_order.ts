// The README's first order, with the client of @hey-api/openapi-ts and the types of openapi-typescript. Compiled by
// `make typescript`: bodies, statuses and problems have the types that clients need.
import { createClient } from "./generated/client/client";
import { getHistory, getOrder, getWaiting, openOrder } from "./generated/client";
import type { CommandResult, NewOrder, Order, ProblemDetails } from "./generated/client";
import type { components, paths } from "./generated/types";

const order: NewOrder = {
  customer_id: "900", currency: "USD", place: true,
  lines: [{ sku: "1095275", title: "ROLLS: BAGELS", quantity: 2, unit_price: 50 }],
};

export async function placeFirstOrder(baseUrl: string): Promise<Order> {
  const client = createClient({ baseUrl });
  const placed = await openOrder({ client, body: order, headers: { "Idempotency-Key": "my-first-order" } });
  if (!placed.data) throw new Error(explained(placed.error as ProblemDetails));
  const { order_id, version } = placed.data as CommandResult;
  const path = { order_id };
  const read = await getOrder({ client, path, query: { min_version: version }, throwOnError: true });
  const { data: history } = await getHistory({ client, path, throwOnError: true });
  const { data: waiting } = await getWaiting({ client, path, throwOnError: true });
  console.log(waiting.question, ...waiting.answer, ...history.items.map((event) => event.sentence));
  return read.data;
}

function explained(problem: ProblemDetails): string {
  switch (problem.code) {
    case "malformed-request":
      return (problem.errors ?? []).map((error) => error.detail).join("; ");
    // @ts-expect-error There is no such problem.
    case "order-teleported":
      return "";
    default:
      return problem.detail;
  }
}

export function isGoingOn(shown: Order): boolean {
  // @ts-expect-error There is no such status.
  if (shown.status === "teleported") return false;
  return shown.status === "placed" || shown.status === "confirmed";
}

// The same body and response, as openapi-typescript names them.
type Opening = paths["/v1/orders"]["post"];
export const body: Opening["requestBody"]["content"]["application/json"] = order;
export type Placed = Opening["responses"][201]["content"]["application/json"];
export const statusOf = (shown: components["schemas"]["Order"]): Order["status"] => shown.status;
