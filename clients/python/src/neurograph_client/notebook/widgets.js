// What a live widget shows in a page. The kernel sends updates; this draws them, and sends back what is clicked.

const HERE_MS = 15_000; // so often a page says that it shows the widget, which the kernel answers
const COLOURS = ["#3b82c4", "#e0762b", "#2e9e6b", "#c44e9a", "#8a6fd1", "#b08d1e", "#d1495b", "#3aa3a3"]; // on light and dark
const CHART = { height: 64, left: 8, right: 8, top: 6, bottom: 6 };
const SVG = "http://www.w3.org/2000/svg";

const element = (name, className, ...children) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
};

const button = (text, hint, act) => {
  const made = element("button", "ng-button", text);
  made.type = "button";
  made.title = hint;
  made.addEventListener("click", act);
  return made;
};

const number = (value) => {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e15)) return value.toExponential(2);
  if (size >= 1e6) return value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 4 });
  return value.toLocaleString("en", { maximumFractionDigits: size < 100 ? 2 : 0 });
};

const clock = (time) => {
  const moment = new Date(time);
  return Number.isNaN(moment.getTime()) ? "" : moment.toISOString().slice(11, 23);
};

/** A small chart for each field, with a line for each channel; all have the same time axis. */
const chart = (body) => {
  const fields = new Map(); // name -> { lines: Map(channel -> points), row, svg, paths, value }
  const note = element("div", "ng-note");
  body.append(note);
  let pointed; // the time under the pointer

  const addField = (name) => {
    const label = element("div", "ng-field", name);
    const value = element("div", "ng-number");
    const range = element("div", "ng-range");
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "ng-lines");
    svg.setAttribute("height", CHART.height);
    svg.setAttribute("role", "img");
    const row = element("div", "ng-chart", element("div", "ng-label", label, value, range), svg);
    body.insertBefore(row, note);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      pointed = (event.clientX - box.left - CHART.left) / (box.width - CHART.left - CHART.right);
      draw();
    });
    svg.addEventListener("pointerleave", () => {
      pointed = undefined;
      draw();
    });
    const made = { lines: new Map(), svg, value, range };
    fields.set(name, made);
    return made;
  };

  const extent = () => {
    let [from, to] = [Infinity, -Infinity];
    for (const { lines } of fields.values())
      for (const points of lines.values()) {
        from = Math.min(from, points[0][0]);
        to = Math.max(to, points.at(-1)[0]);
      }
    return [from, to > from ? to : from + 1];
  };

  const drawField = (name, { lines, svg, value, range }, [from, to]) => {
    const width = svg.clientWidth || 400;
    const values = [...lines.values()].flatMap((points) => points.map(([, y]) => y));
    let [low, high] = values.reduce(([low, high], y) => [Math.min(low, y), Math.max(high, y)], [Infinity, -Infinity]);
    range.textContent = `${number(low)} to ${number(high)}`;
    if (low === high) [low, high] = [low - 1, high + 1];
    const x = (at) => CHART.left + ((at - from) / (to - from)) * (width - CHART.left - CHART.right);
    const y = (one) => CHART.height - CHART.bottom - ((one - low) / (high - low)) * (CHART.height - CHART.top - CHART.bottom);
    const drawn = [];
    const shown = [];
    [...lines].forEach(([channel, points], at) => {
      const colour = COLOURS[at % COLOURS.length];
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", points.map(([t, v], n) => `${n ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join(""));
      path.setAttribute("stroke", colour);
      const time = pointed === undefined ? to : from + pointed * (to - from);
      const near = points.findLast(([t]) => t <= time) ?? points[0];
      const dot = document.createElementNS(SVG, "circle");
      dot.setAttribute("cx", x(near[0]));
      dot.setAttribute("cy", y(near[1]));
      dot.setAttribute("r", 3);
      dot.setAttribute("fill", colour);
      drawn.push(path, dot);
      const text = element("span", "", lines.size > 1 ? `${channel} ${number(near[1])}` : number(near[1]));
      if (lines.size > 1) text.style.color = colour;
      text.title = `${channel}, ${new Date(near[0]).toISOString()}`;
      shown.push(text);
    });
    svg.replaceChildren(...drawn);
    svg.setAttribute("aria-label", `${name}: ${[...shown].map((one) => one.textContent).join(", ")}`);
    value.replaceChildren(...shown);
  };

  const draw = () => {
    if (!fields.size) return;
    const span = extent();
    for (const [name, field] of fields) drawField(name, field, span);
  };

  return {
    update({ all, series, omitted, points_max: pointsMax }) {
      if (!series) return;
      if (all) {
        for (const { svg } of fields.values()) svg.parentElement.remove();
        fields.clear();
      }
      for (const [name, channel, points] of series) {
        const { lines } = fields.get(name) ?? addField(name);
        lines.set(channel, [...(lines.get(channel) ?? []), ...points].slice(-pointsMax));
      }
      note.textContent = fields.size
        ? omitted ? `${omitted} more fields or channels: choose with fields=[…]` : ""
        : "no numbers yet";
    },
    draw,
  };
};

/** A table of current values. */
const values = (body) => {
  const rows = new Map();
  const head = element("tr", "", ...["channel", "field", "value", "at (UTC)"].map((name) => element("th", "", name)));
  const rest = element("tbody", "");
  const note = element("div", "ng-note");
  body.append(element("div", "ng-scroll", element("table", "ng-table", element("thead", "", head), rest)), note);
  return {
    update({ all, values: found, omitted }) {
      if (!found) return;
      if (all) {
        rows.clear();
        rest.replaceChildren();
      }
      for (const [channel, field, value, time] of found) {
        const key = JSON.stringify([channel, field]);
        let row = rows.get(key);
        if (!row) {
          row = element("tr", "", ...[channel, field, "", ""].map((text) => element("td", "", text)));
          rows.set(key, row);
          const after = [...rows.keys()].sort();
          const next = rows.get(after[after.indexOf(key) + 1]);
          rest.insertBefore(row, next?.parentElement === rest ? next : null);
        }
        row.cells[2].textContent = value;
        row.cells[3].textContent = clock(time);
      }
      note.textContent = rows.size ? (omitted ? `${omitted} more fields: choose with fields=[…]` : "") : "no events yet";
    },
    draw() {},
  };
};

/** The newest lines; it stays at the end, unless it is scrolled up. */
const tail = (body) => {
  const lines = element("div", "ng-scroll ng-tail");
  lines.tabIndex = 0;
  const note = element("div", "ng-note", "no events yet");
  body.append(lines, note);
  // As last scrolled to: a notebook takes what is out of view out of its page, and it comes back scrolled to the top.
  let isAtEnd = true;
  lines.addEventListener("scroll", () => {
    isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
  });
  return {
    update({ all, lines: found, lines_max: linesMax }) {
      if (!found) return;
      if (all) lines.replaceChildren();
      for (const [kind, time, channel, type, text] of found) {
        const parts = [element("span", "ng-time", clock(time)), element("span", "ng-channel", channel)];
        if (type) parts.push(element("span", "ng-type", type));
        lines.append(element("div", kind === "gap" ? "ng-gap" : "", ...parts, element("span", "", text)));
      }
      while (lines.childElementCount > linesMax) lines.firstElementChild.remove();
      if (isAtEnd) lines.scrollTop = lines.scrollHeight;
      note.textContent = lines.childElementCount ? "" : "no events yet";
    },
    draw() {},
  };
};

const KINDS = { chart, values, tail };

const save = ({ name, mime, text }) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: mime }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

const render = ({ model, el }) => {
  const page = crypto.getRandomValues(new Uint32Array(4)).join("-");
  const say = (type, more = {}) => model.send({ type, page, ...more });

  let state = "following";
  const dot = element("span", "ng-dot");
  const status = element("span", "ng-status", "waiting for the kernel");
  status.setAttribute("role", "status");
  const pause = button("Pause", "let the view stand still", () => say(state === "paused" ? "resume" : "pause"));
  const stop = button("Stop", "follow no longer", () => say(state === "stopped" ? "start" : "stop"));
  const csv = button("CSV", "save the newest events as CSV", () => say("export", { format: "csv" }));
  const json = button("JSON", "save the newest events as lines of JSON", () => say("export", { format: "json" }));
  const bar = element("div", "ng-bar", dot, element("b", "", model.get("title")), status, element("span", "ng-space"));
  bar.append(pause, stop, csv, json);
  const body = element("div", "ng-body");
  const frame = element("div", "ng-live", bar, body);
  el.append(frame);
  const shown = KINDS[model.get("kind")](body);

  let drawing = 0;
  const draw = () => {
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      shown.draw();
    });
  };

  let saidAt = 0;
  let heardAt = performance.now();
  const sayHere = () => {
    const now = performance.now();
    if (now - heardAt > 3 * HERE_MS) {
      status.textContent = "no answer: the kernel is busy, or has ended";
      frame.dataset.state = "stopped";
    }
    if (now - saidAt < HERE_MS / 2) return;
    saidAt = now;
    say("here");
  };

  const hear = (message) => {
    if (message.type === "file" && message.page === page) save(message);
    if (message.type !== "update") return;
    heardAt = performance.now();
    sayHere(); // timers of hidden pages hardly run
    state = message.state;
    frame.dataset.state = state;
    const gaps = message.gaps ? `, ${message.gaps.toLocaleString("en")} gaps (${message.missing.toLocaleString("en")} missing)` : "";
    const why = message.reason ? `: ${message.reason}` : "";
    status.textContent = `${state}${why} · ${message.events.toLocaleString("en")} events${gaps}`;
    pause.textContent = state === "paused" ? "Resume" : "Pause";
    pause.disabled = state === "stopped";
    stop.textContent = state === "stopped" ? "Start" : "Stop";
    shown.update(message);
    draw();
  };

  const sized = new ResizeObserver(draw);
  sized.observe(body);
  model.on("msg:custom", hear);
  const timer = setInterval(sayHere, HERE_MS);
  say("ready");
  return () => {
    clearInterval(timer);
    sized.disconnect();
    model.off("msg:custom", hear);
    say("gone");
  };
};

export default { render };
