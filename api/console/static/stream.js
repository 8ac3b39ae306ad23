// Server-sent events, read by fetch: EventSource can send no token.

// Feeds text to a parser as it arrives; `handle` gets {id, event, data} of each event.
export function parser(handle) {
  let rest = "";
  let fields = {};
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (fields.data !== undefined) handle(fields);
        fields = {};
        continue;
      }
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name === "data") fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`;
      else if (name) fields[name] = value;
    }
  };
}
