// Markup as tagged templates: html`<p class=${kind}>${text}</p>` is a tree for render.js to show.
// Text in a template is always text: nothing is ever parsed that a person typed.
//
// A tag may be a component (`<${Card} title="Money">…<//>`), an attribute a value or text with values,
// and `...${props}` adds all of an object. An element without content ends with `/>`.

export { render, useCallback, useEffect, useId, useMemo, useRef, useState } from "./render.js";

const parsed = new WeakMap(); // What was written is parsed once, whatever values it gets.

export function html(strings, ...values) {
  if (!parsed.has(strings)) parsed.set(strings, parse(strings));
  const roots = parsed.get(strings).map((one) => filled(one, values));
  return roots.length > 1 ? roots : roots[0];
}

// A part of a template that a value fills.
class Value {
  constructor(index) {
    this.index = index;
  }
}

function filled(node, values) {
  if (node instanceof Value) return values[node.index];
  if (typeof node !== "object") return node;
  const props = {};
  for (const [name, parts] of node.attributes) {
    if (name === "...") Object.assign(props, filled(parts, values));
    else if (parts.length === 1) props[name] = filled(parts[0], values);
    else props[name] = parts.map((part) => filled(part, values)).join("");
  }
  const { key, ...others } = props;
  const children = node.children.map((child) => filled(child, values));
  return { type: filled(node.type, values), key, props: others, children };
}

// The nodes of a template: texts, values, and {type, attributes, children}.
function parse(strings) {
  const open = [{ children: [] }];
  const reader = new Reader(strings);
  while (!reader.isAtEnd()) {
    const inner = open.at(-1).children;
    if (reader.isAtValue()) {
      inner.push(reader.value());
    } else if (reader.skip(/<\/[^>]*>/y)) {
      open.pop();
    } else if (reader.skip(/</y)) {
      const type = reader.isAtValue() ? reader.value() : reader.take(/[\w-]+/y);
      const node = { type, attributes: [], children: [] };
      inner.push(node);
      if (readAttributes(reader, node.attributes)) open.push(node);
    } else {
      // As in JSX, line breaks and what indents lines are no text.
      const text = reader.take(/[^<]+/y).replace(/^\s*\n\s*|\s*\n\s*$/g, "");
      if (text) inner.push(text);
    }
  }
  return open[0].children;
}

// Reads up to the end of a tag; whether the element has content.
function readAttributes(reader, attributes) {
  for (;;) {
    reader.skip(/\s+/y);
    if (reader.skip(/\/>/y)) return false;
    if (reader.skip(/>/y)) return true;
    if (reader.skip(/\.\.\./y)) {
      attributes.push(["...", reader.value()]);
      continue;
    }
    const name = reader.take(/[^\s=>/]+/y);
    if (!name) throw new SyntaxError(`A template has no attribute at: ${reader}`);
    attributes.push([name, reader.skip(/=/y) ? readParts(reader) : [true]]);
  }
}

function readParts(reader) {
  if (!reader.skip(/"/y)) return [reader.isAtValue() ? reader.value() : reader.take(/[^\s>]+/y)];
  const parts = [];
  while (!reader.skip(/"/y)) parts.push(reader.isAtValue() ? reader.value() : reader.take(/[^"]+/y));
  return parts.length ? parts : [""];
}

// Reads the strings of a template, between which its values are.
class Reader {
  constructor(strings) {
    this.strings = strings;
    this.index = 0;
    this.position = 0;
  }

  isAtValue() {
    return this.position === this.strings[this.index].length && this.index < this.strings.length - 1;
  }

  isAtEnd() {
    return this.position === this.strings[this.index].length && !this.isAtValue();
  }

  value() {
    this.position = 0;
    return new Value(this.index++);
  }

  // The text here that matches a sticky pattern, or undefined.
  take(pattern) {
    pattern.lastIndex = this.position;
    const [text] = pattern.exec(this.strings[this.index]) ?? [];
    if (text !== undefined) this.position += text.length;
    return text;
  }

  skip(pattern) {
    return this.take(pattern) !== undefined;
  }

  toString() {
    return this.strings[this.index].slice(this.position);
  }
}
