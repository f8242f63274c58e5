import { language } from "./texts.js";

const formats = new Map<string, Intl.NumberFormat>();

function number(value: number, digits: number): string {
  const name = `${language()} ${digits}`;
  let format = formats.get(name);
  if (!format) formats.set(name, (format = new Intl.NumberFormat(language(), { maximumFractionDigits: digits })));
  return format.format(value);
}

/** Formats a number with about three digits, and a unit prefix. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return `${number(value / 1e9, 2)} G`;
  if (size >= 1e6) return `${number(value / 1e6, 2)} M`;
  if (size >= 1e4) return `${number(value / 1e3, 1)} k`;
  return number(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${number(value, value >= 100 || unit === 0 ? 0 : 1)} ${units[unit]}`;
}

/** 5.2 s, 3 min, 4 h, 2 d */
export function duration(seconds: number): string {
  const units: [number, string, string][] = [
    [86_400, "d", "д"],
    [3_600, "h", "ч"],
    [60, "min", "мин"],
    [1, "s", "с"],
  ];
  const [size, en, ru] = units.find(([least]) => seconds >= least) ?? [1, "s", "с"];
  return `${number(seconds / size, seconds / size >= 10 ? 0 : 1)} ${language() === "ru" ? ru : en}`;
}

export const milliseconds = (seconds: number): string => `${figure(seconds * 1000)} ${language() === "ru" ? "мс" : "ms"}`;

const two = (value: number): string => String(value).padStart(2, "0");

/** The local time of day with milliseconds. */
export function clock(time: number | string): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** A value in one line, truncated if it is long. */
export function inline(value: unknown, most = 240): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
