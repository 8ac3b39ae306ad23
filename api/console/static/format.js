// Amounts, times and counts, as people write them. Pure.

// ISO 4217; all others have two digits. The same table as orders/money.py.
const DIGITS = {
  ...digits("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF", 0),
  ...digits("BHD IQD JOD KWD LYD OMR TND", 3),
};

function digits(codes, number) {
  return Object.fromEntries(codes.split(" ").map((code) => [code, number]));
}

export function minorDigits(currency) {
  return DIGITS[currency] ?? 2;
}

// 1917 minor units of EUR are "19.17", as the service writes them; exact, as it never divides.
export function decimal(amount, currency) {
  const places = minorDigits(currency);
  const text = String(Math.abs(amount)).padStart(places + 1, "0");
  const units = text.slice(0, text.length - places).replace(/\B(?=(\d{3})+$)/g, ",");
  const sign = amount < 0 ? "−" : "";
  return sign + (places ? `${units}.${text.slice(-places)}` : units);
}

export function money(amount, currency) {
  return `${decimal(amount, currency)} ${currency}`;
}

// The minor units of a typed amount such as 4.20, 4,20 or 1,234.50; an Error says what is wrong with it.
export function parseAmount(text, currency) {
  const places = minorDigits(currency);
  const typed = text.replace(/[\s\u00a0\u202f]/g, "");
  if (/^\d{1,3},\d{3}$/.test(typed)) {
    throw new Error(`Type ${typed.replace(",", "")} or ${typed.replace(",", ".")}: a comma can mean either.`);
  }
  const match = /^(\d+|\d{1,3}(?:,\d{3})+)(?:\.(\d+))?$/.exec(typed) ?? /^(\d+),(\d+)$/.exec(typed);
  if (!match) throw new Error(`Type an amount such as ${example(places)}.`);
  const [, units, fraction = ""] = match;
  if (fraction.length > places) {
    const most = places ? `at most ${places} digits after the point` : "no digits after a point";
    throw new Error(`${currency} has ${most}.`);
  }
  return Number(units.replaceAll(",", "") + fraction.padEnd(places, "0"));
}

function example(places) {
  return places ? `4.${"20".padEnd(places, "0").slice(0, places)}` : "420";
}

export function pieces(number) {
  return `${number} piece${number === 1 ? "" : "s"}`;
}

export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

const DAY = { day: "numeric", month: "short", year: "numeric" };
const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

// In the viewer's time zone: today the time alone, else with the day.
export function time(instant, now = new Date()) {
  const at = new Date(instant);
  const isToday = at.toDateString() === now.toDateString();
  const { year, ...day } = DAY;
  const shown = at.getFullYear() === now.getFullYear() ? day : DAY;
  return at.toLocaleString("en-GB", isToday ? CLOCK : { ...shown, ...CLOCK });
}

export function exactTime(instant) {
  return new Date(instant).toLocaleString("en-GB", { ...DAY, ...CLOCK, second: "2-digit" });
}

export function utc(instant) {
  return `${new Date(instant).toISOString().replace("T", " ").slice(0, 19)} UTC`;
}

// How long ago, or how far ahead, in one unit: "3 min", "2 h", "5 days".
export function span(milliseconds) {
  const minutes = Math.round(Math.abs(milliseconds) / 60_000);
  if (minutes < 1) return "less than a minute";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

// Seconds in the two units that matter: "3 d 4 h", "2 h 5 min", "40 s".
export function duration(seconds) {
  const units = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const [smaller, part] = units[first + 1] ?? [];
  const rest = part && Math.floor((seconds % size) / part);
  return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${smaller}` : ""}`;
}

// The days up to today, in UTC as in the statistics.
export function lastDays(length, now) {
  const today = Math.floor(now.getTime() / 86_400_000);
  return Array.from({ length }, (_, index) =>
    new Date((today - length + 1 + index) * 86_400_000).toISOString().slice(0, 10),
  );
}

// "stuck-step" and "partly_shipped" as words.
export function plain(code) {
  return code.replaceAll(/[-_]/g, " ");
}

export function sentenceCase(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
