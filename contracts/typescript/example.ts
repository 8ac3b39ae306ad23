// Compiled by `make typescript`: the types are as narrow as consumers need them.
import type { Event, EventPage } from "./events.js";

export function total(page: EventPage): number {
  return page.items.reduce((sum, event) => sum + amountOf(event), 0);
}

function amountOf(event: Event): number {
  switch (event.type) {
    case "orderly.order.item-added.v1":
      return event.data.unit_price * event.data.quantity;
    case "orderly.order.shipping-address-set.v1":
      // @ts-expect-error An address may have been erased.
      event.data.address.country;
      return "country" in event.data.address ? event.data.address.country.length : 0;
    default:
      return 0;
  }
}

// @ts-expect-error There is no such type of event.
export const unknown: Event["type"] = "orderly.order.order-teleported.v1";
