// A dashboard in React's StrictMode with a panel for each channel; the test controls it by `board`.
import { Client } from "neurograph-client";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import { useNeurograph } from "hook";

interface Shown {
  count: number;
  filter?: string;
}

const errors: string[] = [];
const found: Record<string, number[]> = {};
let show = (_: Shown): void => {};

function Panel({ client, name, filter }: { client: Client; name: string; filter?: string }) {
  const options = filter ? { filter } : {};
  const confirmed = useNeurograph(client, name, (event) => (found[name] ??= []).push((event.data as { n: number }).n), options);
  return <i data-confirmed={confirmed && (filter ?? "all")}>{name}</i>;
}

function Board({ client, first }: { client: Client; first: Shown }) {
  const [{ count, filter }, setShown] = useState(first);
  show = setShown;
  return Array.from({ length: count }, (_, at) => <Panel key={at} client={client} name={`panel.n${at}`} filter={filter} />);
}

/** Returns the milliseconds until all panels that are shown are confirmed. */
async function confirmed({ count, filter = "all" }: Shown): Promise<number> {
  const start = performance.now();
  while (document.querySelectorAll(`i[data-confirmed="${CSS.escape(filter)}"]`).length !== count) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return performance.now() - start;
}

Object.assign(window, {
  board: {
    found,
    errors,
    async open(url: string, first: Shown): Promise<number> {
      const client = new Client(url, { backoffMs: [10, 50] });
      client.on("error", (error) => errors.push(String(error)));
      Object.assign(this, { client });
      client.connect().catch(() => {}); // reported by the event `error`
      const root = document.body.appendChild(document.createElement("main"));
      createRoot(root).render(<StrictMode><Board client={client} first={first} /></StrictMode>);
      return confirmed(first);
    },
    async show(shown: Shown): Promise<number> {
      show(shown);
      return confirmed(shown);
    },
  },
});
