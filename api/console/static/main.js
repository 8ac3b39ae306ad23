// The console: its frame and its views.

import { get, signOut, subject } from "./api.js";
import { html, render, useEffect, useState } from "./html.js";
import { go, Link, ROOT, useAddress } from "./router.js";
import { handOver, isReturn } from "./sign_in.js";
import { FeedView } from "./views/feed.js";
import { InboxView } from "./views/inbox.js";
import { NumbersView } from "./views/numbers.js";
import { OrderView } from "./views/order.js";
import { OrdersView } from "./views/orders.js";
import { ReadModelsView } from "./views/read_models.js";
import { ServicesView } from "./views/services.js";
import { SignIn } from "./views/sign_in.js";
import { EndpointView, WebhooksView } from "./views/webhooks.js";

const INBOX_SECONDS = 30;
const VIEWS = [
  ["/", "Inbox"],
  ["/orders", "Orders"],
  ["/feed", "Live feed"],
  ["/services", "Services"],
  ["/webhooks", "Webhooks"],
  ["/read-models", "Read models"],
  ["/numbers", "Numbers"],
];

function App() {
  const { path, query } = useAddress();
  const [waiting, setWaiting] = useState(null);
  useEffect(() => watchInbox(setWaiting), []);
  useEffect(() => addShortcuts(), []);
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header class="top">
      <${Link} to="/" class="brand">orderly<//>
      <nav aria-label="Views">
        ${VIEWS.map(
          ([to, name]) => html`<${Link} to=${to} aria-current=${isCurrent(to, path) ? "page" : undefined}>
            ${name}${to === "/" && waiting > 0 && html` <span class="count">${waiting}</span>`}
          <//>`,
        )}
      </nav>
      <${Search} />
      <${Account} />
    </header>
    <main id="main"><${View} key=${path} path=${path} query=${query} /></main>
    <${SignIn} />
  `;
}

function isCurrent(to, path) {
  return to === "/" ? path === "/" : path.startsWith(to);
}

function View({ path, query }) {
  const [, view, id] = path.split("/");
  if (path === "/") return html`<${InboxView} />`;
  if (view === "orders" && id) return html`<${OrderView} orderId=${decodeURIComponent(id)} query=${query} />`;
  if (view === "orders") return html`<${OrdersView} query=${query} />`;
  if (view === "feed") return html`<${FeedView} query=${query} />`;
  if (view === "numbers") return html`<${NumbersView} query=${query} />`;
  if (view === "services") return html`<${ServicesView} query=${query} />`;
  if (view === "webhooks" && id) return html`<${EndpointView} endpointId=${decodeURIComponent(id)} query=${query} />`;
  if (view === "webhooks") return html`<${WebhooksView} />`;
  if (view === "read-models") return html`<${ReadModelsView} />`;
  return html`<h1>There is no such page</h1><p><${Link} to="/">Go to the inbox<//></p>`;
}

// One box for all that people know an order by; a single find is opened at once.
function Search() {
  const [problem, setProblem] = useState("");
  const search = async (event) => {
    event.preventDefault();
    const term = event.target.elements.term.value.trim();
    if (!term) return;
    setProblem("");
    try {
      const { items } = await get("/v1/orders", { search: term, limit: 2 });
      const [only, more] = items;
      if (only && !more) go(`${ROOT}/orders/${encodeURIComponent(only.order_id)}`);
      else go(`${ROOT}/orders?${new URLSearchParams({ search: term })}`);
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<form class="search" role="search" onSubmit=${search}>
    <input
      id="search"
      name="term"
      type="search"
      aria-label="Search orders by id, reference, customer, SKU, tracking number or payment reference"
      placeholder="Reference, customer, SKU, tracking …"
      autocomplete="off"
    />
    <span class="problem" role="alert">${problem}</span>
  </form>`;
}

function Account() {
  const [name, setName] = useState("");
  useEffect(() => {
    const timer = setInterval(() => setName(subject()), 1_000);
    return () => clearInterval(timer);
  }, []);
  if (!name) return null;
  const leave = () => {
    signOut();
    location.assign(`${ROOT}/`);
  };
  return html`<span class="account">${name} <button type="button" class="plain" onClick=${leave}>Sign out</button></span>`;
}

function watchInbox(setWaiting) {
  const look = () =>
    get("/v1/inbox", { limit: 500 })
      .then((inbox) => setWaiting(inbox.orders + inbox.parked_orders.length))
      .catch(() => setWaiting(null));
  const soon = setTimeout(look, 500);
  const timer = setInterval(() => document.hidden || look(), INBOX_SECONDS * 1_000);
  return () => {
    clearTimeout(soon);
    clearInterval(timer);
  };
}

function addShortcuts() {
  const press = (event) => {
    const isTyping = event.target.closest("input, textarea, select, dialog");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      document.getElementById("search").focus();
    }
  };
  addEventListener("keydown", press);
  return () => removeEventListener("keydown", press);
}

const box = document.getElementById("app");
if (isReturn()) handOver(box);
else render(html`<${App} />`, box);
