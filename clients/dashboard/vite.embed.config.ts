import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Removes uPlot's path renderers other than lines: they are members of one object, so that no bundler can leave them out. */
const linesOnly: Plugin = {
  name: "lines-only",
  transform(code, id) {
    if (!id.endsWith("/uPlot.esm.js")) return null;
    const unused = /\(?(paths\.(stepped|bars|spline)|uPlot\.join)\s*=\s*\w+\)?;/g;
    if (code.match(unused)?.length !== 4) this.error("uPlot names its forms otherwise now");
    return code.replace(unused, "");
  },
};

/** The elements only subscribe to channels, and need none of the client's requests over HTTP. */
const withoutRest: Plugin = {
  name: "without-rest",
  enforce: "pre",
  resolveId: (source, importer) => (source === "./rest.js" && importer?.endsWith("/client.ts") ? at("src/embed-rest.ts") : null),
};

/** One script without imports, so that a page needs only one tag. */
export default defineConfig({
  publicDir: false,
  plugins: [linesOnly, withoutRest],
  resolve: { alias: { "neurograph-client": at("../typescript/src/index.ts") } },
  build: {
    outDir: at("../../gateway/web/static"),
    emptyOutDir: false,
    target: "es2022",
    lib: { entry: at("src/embed.ts"), formats: ["iife"], name: "neurograph", fileName: () => "embed.js" },
  },
});
