import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  base: "./", // relative URLs: the page works behind any prefix
  resolve: { alias: { "neurograph-client": at("../typescript/src/index.ts") } },
  // Without `crossorigin`: files of the same origin do not need it, and some proxies would have to add a header for it.
  plugins: [{ name: "plain", transformIndexHtml: { order: "post", handler: (html) => html.replaceAll(" crossorigin", "") } }],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: { "/ws": { target: "ws://127.0.0.1:8000", ws: true }, "/api": "http://127.0.0.1:8000" } },
  build: {
    outDir: at("../../gateway/web/static"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false }, // it would be an inline script, which the page's policy refuses
    assetsInlineLimit: 0,
    reportCompressedSize: true,
    rollupOptions: {
      output: {
        entryFileNames: "assets/dashboard.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/dashboard[extname]",
      },
    },
  },
});
