// Write a hash of the sources beside the built page: tests/unit/web/endpoints/test_page.py compares it with the sources.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const files = ["src", "public"].flatMap((folder) =>
  readdirSync(`${HERE}${folder}`, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(HERE.length)),
);
const hash = createHash("sha256");
for (const file of [...files, "index.html", "package-lock.json", "vite.config.ts", "vite.embed.config.ts", "vite.stream.config.ts"].sort()) {
  hash.update(`${file}\0`).update(readFileSync(HERE + file)).update("\0");
}
writeFileSync(`${HERE}../../gateway/web/static/sources.sha256`, `${hash.digest("hex")}\n`);
