import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  base: "./", // relative addresses: the page works behind any prefix
  resolve: { alias: { "neurograph-client": at("../typescript/src/index.ts") } },
  // `crossorigin` on files of our own says nothing, and some proxies add what it then needs.
  plugins: [{ name: "plain", transformIndexHtml: { order: "post", handler: (html) => html.replaceAll(" crossorigin", "") } }],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: { "/ws": { target: "ws://127.0.0.1:8000", ws: true }, "/api": "http://127.0.0.1:8000" } },
  build: {
    outDir: at("../../gateway/web/static"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false }, // it would be an inline script for the page's policy to refuse
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
