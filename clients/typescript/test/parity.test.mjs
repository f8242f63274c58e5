// Both clients have the same features under the names in the table of ../README.md.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import * as exported from "../dist/index.js";
import { Subscription } from "../dist/subscription.js";
import { PACKAGE, PYTHON, ROOT } from "./support/gateway.mjs";

const python = JSON.parse(execFileSync(PYTHON, [join(ROOT, "clients/conformance/parity.py")], { encoding: "utf8" }));
const read = (name) => readFileSync(join(PACKAGE, name), "utf8");
const names = (prototype) => Object.getOwnPropertyNames(prototype).filter((name) => name !== "constructor");

/** The names in the rows of a table in clients/README.md; — means that there is none. */
function table(heading) {
  const [, part] = readFileSync(join(ROOT, "clients/README.md"), "utf8").split(`### ${heading}\n`);
  const rows = part.split("\n### ")[0].split("\n").filter((line) => line.startsWith("| `") || line.startsWith("| —"));
  return rows.map((row) => row.split("|").slice(1, 3).map((cell) => cell.trim().replaceAll("`", "")));
}

const column = (rows, at) => rows.map((row) => row[at]).filter((name) => name !== "—").sort();

test("the table has all members of clients", () => {
  const rows = table("Clients");
  const rest = Object.getPrototypeOf(exported.Client.prototype);
  assert.deepEqual(column(rows, 0), python.client);
  assert.deepEqual(column(rows, 1), [...names(exported.Client.prototype), ...names(rest)].sort());
});

test("the table has all members of subscriptions", () => {
  const rows = table("Subscriptions");
  const internal = [...read("src/subscription.ts").matchAll(/@internal \*\/\n {2}(?:readonly )?(\w+)/g)].map(([, name]) => name);
  const offered = [...names(Subscription.prototype).filter((name) => !internal.includes(name)), "channels", "confirmed", "options"];
  assert.deepEqual(column(rows, 0), python.subscription);
  assert.deepEqual(column(rows, 1), offered.sort());
});

test("states, errors and defaults are the same", () => {
  const options = read("src/options.ts");
  const [, states] = /export type State = (.*);/.exec(options);
  assert.deepEqual(JSON.parse(`[${states.replaceAll(" | ", ",")}]`), python.states);
  const errors = Object.keys(exported).filter((name) => exported[name].prototype instanceof Error);
  assert.deepEqual(errors.sort(), python.errors);
  const source = read("src/client.ts");
  assert.equal(Number(/BUFFER = ([\d_]+)/.exec(source)[1].replaceAll("_", "")), python.buffer);
  assert.equal(/BACKOFF_MS = (\[.*?\])/.exec(source)[1].replaceAll("_", ""), JSON.stringify(python.backoff_ms).replace(",", ", "));
});
