import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { clock, figure } from "./format.js";
import { language, t } from "./texts.js";

export interface Series {
  name: string;
  /** Time in ms and value, in order. */
  points: [number, number][];
}

export const COLORS = 8;
const HEIGHT = 320;
const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** A line chart over time, in the colours of the page's theme; drag to zoom. */
export function Chart({ series, label, theme }: { series: Series[]; label: string; theme: string }): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  /** Whether the user has zoomed: then new data do not move the range. */
  const isZoomed = useRef(false);
  const names = series.map(({ name }) => name).join("\n");
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string): string => style.getPropertyValue(name).trim();
    const axis = {
      stroke: color("--quiet"),
      grid: { stroke: color("--line"), width: 1 },
      ticks: { stroke: color("--line"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    const isPercent = series.every(({ name }) => name.includes("percent")); // small changes should look small
    const options: uPlot.Options = {
      width: element.clientWidth,
      height: HEIGHT,
      ms: 1,
      legend: { show: false },
      cursor: { points: { size: 6 } },
      hooks: { setSelect: [({ select }) => void (isZoomed.current = select.width > 0)] },
      scales: { x: { time: true }, y: { range: isPercent ? fromZero : uPlotRange } },
      axes: [{ ...axis, space: 80, values: (_, times) => times.map(timeLabel(times)) }, { ...axis, size: 64, values: (_, values) => values.map((value) => figure(value)) }],
      series: [
        {},
        ...series.map(({ name }, n) => ({
          label: name,
          stroke: color(`--series-${n % COLORS}`),
          width: 2,
          spanGaps: true,
          points: { show: false },
        })),
      ],
    };
    const made = new uPlot(options, aligned(series), element);
    plot.current = made;
    isZoomed.current = false;
    made.over.addEventListener("dblclick", () => void (isZoomed.current = false));
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [names, theme]);
  useEffect(() => {
    const made = plot.current;
    if (!made) return;
    made.setData(aligned(series), !isZoomed.current);
    if (isZoomed.current) made.redraw();
  });
  return (
    <figure class="chart">
      <div ref={holder} role="img" aria-label={label} />
      <figcaption class="quiet">{t("chart.zoom")}</figcaption>
    </figure>
  );
}

const fromZero: uPlot.Scale.Range = (_, min, max) => [Math.min(min, 0), Math.max(max * 1.1, 1)];
const uPlotRange: uPlot.Scale.Range = (_, min, max) => uPlot.rangeNum(min, max, 0.1, true);

/** Formats times on the axis, as precisely as their distance requires. */
function timeLabel(times: readonly number[]): (time: number) => string {
  const step = (times[1] ?? 0) - (times[0] ?? 0);
  if (step >= DAY_MS) return (time) => new Date(time).toLocaleDateString(language(), { day: "numeric", month: "short" });
  return (time) => clock(time).slice(0, step >= MINUTE_MS ? 5 : step >= SECOND_MS ? 8 : 12);
}

/** Aligns all series on the union of their times. */
function aligned(series: Series[]): uPlot.AlignedData {
  const times = [...new Set(series.flatMap(({ points }) => points.map(([time]) => time)))].sort((a, b) => a - b);
  const place = new Map(times.map((time, n) => [time, n]));
  const columns = series.map(({ points }) => {
    const column: (number | null)[] = new Array<null>(times.length).fill(null);
    for (const [time, value] of points) column[place.get(time) as number] = value;
    return column;
  });
  return [times, ...columns];
}
