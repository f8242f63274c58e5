import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** One script with all that it needs, so that a page of one's own needs one tag. */
export default defineConfig({
  publicDir: false,
  resolve: { alias: { "neurograph-client": at("../typescript/src/index.ts") } },
  build: {
    outDir: at("../../gateway/web/static"),
    emptyOutDir: false,
    target: "es2022",
    lib: { entry: at("src/embed.ts"), formats: ["iife"], name: "neurograph", fileName: () => "embed.js" },
  },
});
