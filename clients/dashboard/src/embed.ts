// Custom elements for other pages: <neurograph-chart> and <neurograph-tail>. See the README.
import { Client, type Event, type Gap } from "neurograph-client";
import uPlot from "uplot";
import chartStyle from "uplot/dist/uPlot.min.css?inline";

const HISTORY = 300;
const DRAW_MS = 200;
const HEIGHT = 240;
const ROWS_MAX = 200;
const COLORS = ["#0f766e", "#c2410c", "#1d4ed8", "#a21caf", "#4d7c0f", "#be123c"];
const STYLE = `
:host { display: block; font: 14px/1.45 system-ui, sans-serif; }
p { margin: 0; padding: 0.1rem 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gap { color: #b3261e; }
.rows { max-height: var(--neurograph-height, 240px); overflow: auto; font-family: ui-monospace, monospace; font-size: 0.86em; }
time { opacity: 0.7; }
`;

/** The gateway that served this script. */
const HOME = new URL(".", (document.currentScript as HTMLScriptElement | null)?.src ?? location.href).href;

/** An element that subscribes to a channel for as long as it is in a page. */
abstract class Follower extends HTMLElement {
  /** Returns the token for a connection; undefined if the gateway needs none. */
  token: (() => string | Promise<string>) | null = null;
  protected readonly items: (Event | Gap)[] = [];
  protected readonly holder = document.createElement("div");
  #client: Client | null = null;
  #timer = 0;

  constructor() {
    super();
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(chartStyle + STYLE);
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    root.append(this.holder);
  }

  connectedCallback(): void {
    const { token } = this;
    const client = (this.#client = new Client(this.getAttribute("gateway") ?? HOME, token ? { token } : {}));
    const filter = this.getAttribute("filter");
    const rate = this.getAttribute("rate");
    const options = { last: this.last, gaps: true, ...(filter ? { filter } : {}), ...(rate ? { rate: Number(rate) } : {}) };
    client.on("error", (error) => this.#say(error));
    client.subscribe(this.getAttribute("channel") ?? "metrics", (item: Event | Gap) => this.#take(item), options);
    client.connect().catch(() => {}); // the error is reported as an event, too
  }

  disconnectedCallback(): void {
    this.#client?.disconnect();
    this.#client = null;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.items.length = 0;
  }

  protected abstract draw(): void;

  protected get last(): number {
    return Number(this.getAttribute("last") ?? HISTORY);
  }

  #take(item: Event | Gap): void {
    this.items.push(item);
    if (this.items.length > this.last * 1.2) this.items.splice(0, this.items.length - this.last);
    if (this.#timer) return;
    this.#timer = window.setTimeout(() => {
      this.#timer = 0;
      this.draw();
    }, DRAW_MS);
  }

  #say(error: unknown): void {
    const line = document.createElement("p");
    line.className = "gap";
    line.setAttribute("role", "alert");
    line.textContent = error instanceof Error ? error.message : String(error);
    this.holder.replaceChildren(line);
  }
}

/** A line chart of numbers in a channel's events: of `field`, or several separated by commas; with a line for each value of `key`. */
class NeurographChart extends Follower {
  #plot: uPlot | null = null;
  #names = "";

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#plot?.destroy();
    this.#plot = null;
    this.#names = "";
  }

  protected draw(): void {
    const fields = (this.getAttribute("field") ?? "cpu_percent").split(",");
    const lines = new Map<string, [number, number][]>();
    for (const item of this.items) {
      if (item.type !== "event" || item.data === null || typeof item.data !== "object") continue;
      const data = item.data as Record<string, unknown>;
      const subject = data[this.getAttribute("key") ?? "host"];
      for (const field of fields) {
        const value = data[field];
        if (typeof value !== "number") continue;
        const name = subject === undefined ? field : `${field} ${String(subject)}`;
        const line = lines.get(name) ?? [];
        lines.set(name, line);
        line.push([Date.parse(item.timestamp), value]);
      }
    }
    if (lines.size > 0) this.#show(lines);
  }

  #show(lines: Map<string, [number, number][]>): void {
    const times = [...new Set([...lines.values()].flatMap((line) => line.map(([time]) => time)))].sort((a, b) => a - b);
    const columns = [...lines.values()].map((line) => {
      const values = new Map(line);
      return times.map((time) => values.get(time) ?? null);
    });
    const names = [...lines.keys()];
    if (names.join() !== this.#names) this.#make(names);
    this.#plot?.setData([times, ...columns]);
  }

  #make(names: string[]): void {
    this.#names = names.join();
    this.#plot?.destroy();
    this.holder.replaceChildren();
    const stroke = getComputedStyle(this).color;
    const axis = { stroke, grid: { stroke: "#8883", width: 1 }, ticks: { stroke: "#8883", width: 1 } };
    const series = names.map((label, n) => ({ label, stroke: COLORS[n % COLORS.length] as string, width: 2, spanGaps: true }));
    const options: uPlot.Options = {
      width: this.clientWidth || 480,
      height: HEIGHT,
      ms: 1,
      axes: [axis, axis],
      series: [{}, ...series],
    };
    this.#plot = new uPlot(options, [[], ...names.map(() => [])], this.holder);
  }
}

/** A channel's newest events and the gaps between them, the newest first. */
class NeurographTail extends Follower {
  protected draw(): void {
    this.holder.className = "rows";
    this.holder.setAttribute("role", "log");
    this.holder.setAttribute("aria-live", "off");
    this.holder.replaceChildren(...this.items.slice(-ROWS_MAX).reverse().map(line));
  }

  protected override get last(): number {
    return Number(this.getAttribute("last") ?? 20);
  }
}

function line(item: Event | Gap): HTMLElement {
  const row = document.createElement("p");
  if (item.type === "gap") {
    row.className = "gap";
    row.textContent = `${item.channel}: ${item.count ?? "some"} events missing: ${item.reason}`;
    return row;
  }
  const time = document.createElement("time");
  time.textContent = new Date(item.timestamp).toLocaleTimeString();
  row.append(time, ` ${JSON.stringify(item.data)}`);
  return row;
}

customElements.define("neurograph-chart", NeurographChart);
customElements.define("neurograph-tail", NeurographTail);
