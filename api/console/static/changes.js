// What differs between two versions of an order. Pure.

const HIDDEN = new Set(["version", "updated_at", "allowed_commands"]);
// A list is compared entry by entry under the id of its entries.
const IDS = [
  "line_id",
  "discount_id",
  "note_id",
  "shipment_id",
  "return_id",
  "step_id",
  "discrepancy_id",
  "authorisation_id",
];

// [{path, before, after}]; undefined where a version has no such field.
export function changes(before, after) {
  const old = flat(before);
  const fresh = flat(after);
  const paths = [...new Set([...old.keys(), ...fresh.keys()])];
  return paths
    .map((path) => ({ path, before: old.get(path), after: fresh.get(path) }))
    .filter((one) => one.before !== one.after);
}

function flat(value, path = "", into = new Map()) {
  if (Array.isArray(value)) {
    value.forEach((entry, index) => flat(entry, join(path, keyOf(entry) ?? index), into));
  } else if (value && typeof value === "object") {
    for (const [name, inner] of Object.entries(value)) {
      if (path || !HIDDEN.has(name)) flat(inner, join(path, name), into);
    }
  } else if (value !== null && value !== undefined) {
    into.set(path, value);
  }
  return into;
}

function keyOf(entry) {
  const id = IDS.find((name) => entry && typeof entry === "object" && entry[name]);
  return id && entry[id];
}

function join(path, name) {
  return path ? `${path} › ${name}` : String(name);
}
