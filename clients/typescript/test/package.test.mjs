import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Gateway, PACKAGE } from "./support/gateway.mjs";

const PROGRAM = `
import { Client } from "neurograph-client";

const client = new Client(process.argv[2]);
void client.connect();
for await (const event of client.subscribe("metrics", { last: 1 })) {
  console.log(event.data.n);
  client.disconnect();
}
`;

/** Makes an empty project outside of this repository, and packs the package. */
function project(t) {
  const folder = mkdtempSync(join(tmpdir(), "ng-project-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const run = (command, ...rest) => execFileSync(command, rest, { cwd: folder, encoding: "utf8" });
  const packing = ["pack", PACKAGE, "--json", "--ignore-scripts", "--loglevel=error"];
  const [packed] = JSON.parse(run("npm", ...packing));
  writeFileSync(join(folder, "package.json"), '{ "name": "empty", "private": true, "type": "module" }');
  run("npm", "install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", `./${packed.filename}`);
  return { folder, run, files: packed.files.map((file) => file.path) };
}

test("the packed package installs offline and works in an empty project", async (t) => {
  const gateway = await Gateway.start(t);
  await gateway.hold("metrics", 1, 7);
  const { folder, run } = project(t);
  writeFileSync(join(folder, "main.mjs"), PROGRAM);

  assert.equal(run(process.execPath, "--experimental-websocket", "--no-warnings", "main.mjs", gateway.url), "7\n");
});

test("the packed package has types that accept the README's examples, source maps, and nothing else", (t) => {
  const { folder, run, files } = project(t);
  const tsc = join(PACKAGE, "node_modules/typescript/bin/tsc");
  const readme = readFileSync(join(PACKAGE, "README.md"), "utf8");
  const examples = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code]) => code);
  assert.equal(examples.length, 5);
  writeFileSync(join(folder, "main.mts"), examples.join("\n"));
  run(process.execPath, tsc, "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "main.mts");

  const strays = files.filter((file) => !/^(dist|src)\/[\w-]+\.(js|ts|d\.ts|js\.map|d\.ts\.map)$/.test(file));
  assert.deepEqual(strays.sort(), ["LICENSE", "README.md", "package.json"]);
  assert.ok(["dist/index.js", "dist/index.js.map", "dist/index.d.ts", "src/index.ts"].every((file) => files.includes(file)));
  const { dependencies } = JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8"));
  assert.equal(dependencies, undefined);
});

test("the lock file names no host", () => {
  assert.doesNotMatch(readFileSync(join(PACKAGE, "package-lock.json"), "utf8"), /resolved|https?:/);
});
