import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The TypeScript client's EventStream alone, as a module for pages without a build. */
export default defineConfig({
  publicDir: false,
  build: {
    outDir: at("../../gateway/web/static"),
    emptyOutDir: false,
    target: "es2022",
    minify: "oxc",
    lib: { entry: at("../typescript/src/event-stream.ts"), formats: ["es"], fileName: () => "event-stream.js" },
  },
});
