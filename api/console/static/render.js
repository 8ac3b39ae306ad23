// Shows trees of html.js in the page, and changes only what differs from what is shown.
//
// A tree consists of texts, elements and components ({type, key, props, children}), lists of them, and
// holes (null, false). A component is a function of its props; hooks keep what it remembers between
// calls. A node is what is shown of one part of a tree: it stays, with its state, its focus and what was
// typed in it, as long as the same type, with the same key, is in the same place, or has the same key in
// the same list.

const SVG = "http://www.w3.org/2000/svg";
// Properties, as their attributes are only what they were at first.
const PROPERTIES = new Set(["value", "checked"]);

export function render(tree, container) {
  const root = newNode(null, container);
  patchChildren(root, [tree]);
  place(root);
  runEffects();
}

function newNode(parent, dom = null) {
  return { parent, dom, tree: undefined, children: [], hooks: [], isGone: false };
}

// Nodes

function create(parent, tree) {
  const node = newNode(parent);
  if (typeof tree === "string") node.dom = document.createTextNode(tree);
  else if (typeof tree.type === "string") node.dom = createElement(parent, tree.type);
  patch(node, tree);
  if (tree.props?.ref) tree.props.ref.current = node.dom;
  return node;
}

function createElement(parent, type) {
  const isSvg = type === "svg" || host(parent).dom.namespaceURI === SVG;
  return isSvg ? document.createElementNS(SVG, type) : document.createElement(type);
}

function patch(node, tree) {
  const before = node.tree;
  node.tree = tree;
  if (typeof tree === "string") {
    if (node.dom.data !== tree) node.dom.data = tree;
  } else if (Array.isArray(tree)) {
    patchChildren(node, tree);
  } else if (typeof tree.type === "function") {
    renderComponent(node);
  } else {
    patchAttributes(node.dom, before?.props ?? {}, tree.props);
    patchChildren(node, tree.children);
    place(node);
    patchProperties(node.dom, tree.props); // Last: the value of a choice is one of its children.
  }
}

function patchChildren(node, trees) {
  const before = node.children;
  const byKey = new Map();
  for (const child of before) {
    const key = child?.tree.key;
    if (key !== undefined) byKey.set(key, child);
  }
  const kept = new Set();
  node.children = trees.map(shown).map((tree, index) => {
    if (tree === null) return null;
    const known = tree.key === undefined ? before[index] : byKey.get(tree.key);
    if (!known || kept.has(known) || !isSame(known.tree, tree)) return create(node, tree);
    kept.add(known);
    patch(known, tree);
    return known;
  });
  for (const child of before) if (child && !kept.has(child)) remove(child);
}

function shown(tree) {
  if (tree === undefined || tree === null || typeof tree === "boolean") return null;
  return typeof tree === "object" ? tree : String(tree);
}

function isSame(one, other) {
  if (typeof one === "string" || typeof other === "string") return typeof one === typeof other;
  return one.type === other.type && one.key === other.key; // Lists have neither.
}

function remove(node) {
  for (const dom of domOf(node)) dom.remove();
  forget(node);
}

function forget(node) {
  node.isGone = true;
  for (const hook of node.hooks) hook.cleanUp?.();
  if (node.tree.props?.ref) node.tree.props.ref.current = null;
  for (const child of node.children) if (child) forget(child);
}

// The node of the element that this one is inside of, or is.
function host(node) {
  return node.dom ? node : host(node.parent);
}

// The outermost elements and texts of a node.
function domOf(node) {
  if (!node) return [];
  return node.dom ? [node.dom] : node.children.flatMap(domOf);
}

// Puts the children of an element in order; what is in its place is not touched, and keeps the focus.
function place(node) {
  let next = node.dom.firstChild;
  for (const dom of node.children.flatMap(domOf)) {
    if (dom === next) next = next.nextSibling;
    else node.dom.insertBefore(dom, next);
  }
}

// Attributes

function patchAttributes(dom, before, after) {
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (before[name] === after[name] || PROPERTIES.has(name) || name === "ref") continue;
    if (name.startsWith("on")) listen(dom, name.slice(2).toLowerCase(), after[name]);
    else setAttribute(dom, name, after[name]);
  }
}

function setAttribute(dom, name, value) {
  const isShown = value !== undefined && value !== null && (value !== false || name.startsWith("aria-"));
  if (!isShown) dom.removeAttribute(name);
  else dom.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : value);
}

function patchProperties(dom, props) {
  for (const name of PROPERTIES) {
    const value = props[name];
    if (value === undefined || value === null) continue;
    if (!(name in dom)) setAttribute(dom, name, value);
    else if (dom[name] !== value && String(dom[name]) !== String(value)) dom[name] = value;
  }
}

const handlers = new WeakMap();

// One listener for each type of event, which calls the newest handler.
function listen(dom, type, handler) {
  if (!handlers.has(dom)) handlers.set(dom, {});
  const of = handlers.get(dom);
  if (!(type in of)) dom.addEventListener(type, (event) => of[type]?.(event));
  of[type] = handler;
}

// Components

let current = null; // The node whose component is being called.
let hookIndex = 0;
let effects = [];
let isScheduled = false;
const changed = new Set();

function renderComponent(node) {
  changed.delete(node);
  const { type, props, children } = node.tree;
  const outer = [current, hookIndex];
  [current, hookIndex] = [node, 0];
  let tree;
  try {
    tree = type(children.length ? { ...props, children } : props);
  } finally {
    [current, hookIndex] = outer;
  }
  patchChildren(node, [tree]);
  // Those of its children come first.
  effects.push(...node.hooks.filter((hook) => hook.isDue));
}

// Renders a component again soon, with all others that have changed by then.
function renderSoon(node) {
  changed.add(node);
  if (!isScheduled) queueMicrotask(renderChanged);
  isScheduled = true;
}

function renderChanged() {
  isScheduled = false;
  const depth = (node) => (node.parent ? 1 + depth(node.parent) : 0);
  // Outer ones first: they may render or remove inner ones.
  for (const node of [...changed].sort((one, other) => depth(one) - depth(other))) {
    if (!changed.delete(node) || node.isGone) continue;
    renderComponent(node);
    place(host(node));
  }
  runEffects();
}

function runEffects() {
  const due = effects;
  effects = [];
  for (const hook of due) {
    if (!hook.isDue || hook.node.isGone) continue;
    hook.isDue = false;
    hook.cleanUp?.();
    const cleanUp = hook.run();
    hook.cleanUp = typeof cleanUp === "function" ? cleanUp : undefined;
  }
}

// Hooks: a component calls the same ones in the same order each time.

function hookOf(start) {
  const index = hookIndex++;
  current.hooks[index] ??= start(current);
  return current.hooks[index];
}

function isChanged(before, after) {
  return !before || !after || after.some((value, index) => !Object.is(value, before[index]));
}

// A value, and a function that sets it to another one or to a function of it.
export function useState(initial) {
  const hook = hookOf((node) => {
    const made = { value: typeof initial === "function" ? initial() : initial };
    made.set = (change) => {
      const value = typeof change === "function" ? change(made.value) : change;
      if (Object.is(value, made.value)) return;
      made.value = value;
      renderSoon(node);
    };
    return made;
  });
  return [hook.value, hook.set];
}

export function useRef(initial) {
  return hookOf(() => ({ current: initial }));
}

// What a function makes, until one of `inputs` changes.
export function useMemo(make, inputs) {
  const hook = hookOf(() => ({}));
  if (isChanged(hook.inputs, inputs)) Object.assign(hook, { inputs, value: make() });
  return hook.value;
}

export function useCallback(callback, inputs) {
  return useMemo(() => callback, inputs);
}

// Calls a function once all is shown, whenever one of `inputs` has changed; what it returns, before the
// next call and in the end.
export function useEffect(run, inputs) {
  const hook = hookOf((node) => ({ node }));
  if (isChanged(hook.inputs, inputs)) Object.assign(hook, { inputs, run, isDue: true });
}

let ids = 0;

export function useId() {
  return hookOf(() => ({ id: `id-${++ids}` })).id;
}
