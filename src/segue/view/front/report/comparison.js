// Runs against each other: each case in both, and the mean differences with their intervals.
import * as Plot from "@observablehq/plot"
import { drawPlot } from "../plot.js"
import { chartFrame, makeLive } from "./chart.js"
import { el, figure, labelButtons, onWidth, shortened, titled, widthOf } from "./dom.js"

const MOST_LABELS = 8

/**
 * @param {object[]} pairs of `segue.view.comparison.comparison_data`
 * @param {Record<string, string>} reports address of the report of each run, by its letter
 */
export function startComparison(pairs, reports) {
  for (const [number, pair] of pairs.entries()) {
    const mount = document.getElementById(`paired-${number}`)
    if (mount && pair.metrics.length) startPaired(pair, mount, reports)
    const differences = document.getElementById(`differences-${number}`)
    if (differences && pair.metrics.length) startDifferences(pair, differences)
  }
}

function startPaired(pair, mount, reports) {
  // The mean says most; where there is none, the first labels.
  const shown = new Set(pair.labels.length > 1 && pair.labels[0].name === "all" ? [0] : pair.labels.map((_, n) => n).slice(0, MOST_LABELS))
  let metric = pair.metrics[0]
  const [both, change] = [chartFrame("Each case in both runs"), chartFrame("Difference of each case")]
  const select = el("select", {}, ...pair.metrics.map((one, n) => el("option", { value: n }, titled(one))))
  select.addEventListener("change", () => {
    metric = pair.metrics[Number(select.value)]
    draw()
  })
  const live = []
  const chosen = el("p", { class: "chosen", role: "status", hidden: true })
  const told = el("p", { class: "status", role: "status" })
  const labels = pair.labels.map((label) => ({ ...label, name: label.title }))
  mount.replaceChildren(
    el("div", { class: "controls" }, el("form", { class: "toolbar" }, el("label", {}, "figure ", select)),
      labels.length > 1 ? labelButtons(labels, shown, draw) : null),
    told,
    chosen,
    el("div", { class: "charts-linked" }, ...[both, change].map((frame) => el("figure", {}, el("figcaption", { class: "chart-title" }), frame))),
  )
  mount.hidden = false

  function points() {
    return [...shown].sort((a, b) => a - b).flatMap((label, column) => {
      const sides = pair.values[metric.name]?.[pair.labels[label].name]
      if (!sides) return []
      return pair.cases
        .map((_, n) => ({ n, label, column, one: sides[0][n], other: sides[1][n] }))
        .filter((point) => point.one !== null && point.other !== null)
    })
  }

  function draw() {
    live.length = 0
    const all = points()
    const better = (point) => (point.other === point.one ? 0 : (point.other > point.one) === metric.rises ? 1 : -1)
    const counts = [-1, 1].map((side) => all.filter((point) => better(point) === side).length)
    told.textContent = `Of ${all.length} points ${pair.one} is better in ${counts[0]}, ${pair.other} in ${counts[1]}.`
    const values = all.flatMap((point) => [point.one, point.other])
    const [least, most] = [Math.min(...values), Math.max(...values)]
    const pad = 0.04 * (most - least || 1)
    const domain = metric.unit_interval ? [Math.max(0, least - pad), Math.min(1, most + pad)] : [least - pad, most + pad]
    title(both, `${metric.title} of each case: above the line ${pair.other} is ${metric.rises ? "better" : "worse"}`)
    const side = Math.min(widthOf(both), 460)
    put(both, all, {
      width: side, height: side, marginBottom: 42,
      x: { domain, label: `${pair.one}: ${titled(metric)}`, grid: true },
      y: { domain, label: `${pair.other}: ${titled(metric)}`, grid: true },
      marks: [
        Plot.line([[domain[0], domain[0]], [domain[1], domain[1]]], { stroke: "currentColor", strokeDasharray: "2,3", strokeOpacity: 0.7 }),
        Plot.dot(all, look({ x: "one", y: "other" })),
      ],
    })
    const sorted = [...all].sort((a, b) => a.other - a.one - (b.other - b.one)).map((point, place) => ({ ...point, place, change: point.other - point.one }))
    title(change, `${pair.other} − ${pair.one}, cases in order of the difference`)
    put(change, sorted, {
      width: widthOf(change), height: side, marginBottom: 42,
      x: { label: `cases, ${metric.rises ? `${pair.one} better on the left, ${pair.other} on the right` : `${pair.other} better on the left, ${pair.one} on the right`}`, ticks: [] },
      y: { label: null, grid: true, nice: true },
      marks: [Plot.ruleY([0], { stroke: "currentColor" }), Plot.ruleX(sorted, { x: "place", y1: 0, y2: "change", stroke: (p) => pair.labels[p.label].colour, strokeOpacity: 0.5 }), Plot.dot(sorted, look({ x: "place", y: "change" }))],
    })
  }

  function look(channels) {
    const colour = (point) => pair.labels[point.label].colour
    return { ...channels, r: 4, fill: colour, stroke: colour, fillOpacity: 0.6 }
  }

  function put(frame, dots, options) {
    const svg = drawPlot({ marginLeft: 48, ...options, style: { background: "none", fontSize: "12px" } })
    svg.setAttribute("role", "img")
    svg.setAttribute("aria-label", `${frame.getAttribute("aria-label")} ${dots.length} points; the tables hold the figures.`)
    frame.querySelector(".plot").replaceChildren(svg)
    live.push(makeLive(frame, svg, dots, {
      words: (point) => [
        pair.cases[point.n],
        ...(pair.labels.length > 1 ? [shortened(pair.labels[point.label].title, 60)] : []),
        `${pair.one} ${figure(point.one, metric)}, ${pair.other} ${figure(point.other, metric)}`,
        `difference ${figure(point.other - point.one, metric).replace("-", "−")}`,
      ],
      open,
      select: () => {},
      hover: (n) => live.forEach((chart) => chart.mark(n)),
    }))
  }

  /** Each run's own report has the pictures of a case. */
  function open(n) {
    const name = pair.cases[n]
    const links = [pair.one, pair.other].filter((letter) => reports[letter]).map((letter) =>
      el("a", { href: `${reports[letter]}#case=${encodeURIComponent(name)}` }, `in the report of ${letter}`))
    chosen.replaceChildren(el("strong", {}, name), ...links.flatMap((link) => [" ", link]))
    chosen.hidden = false
    document.dispatchEvent(new CustomEvent("segue:open", { detail: { case: name } }))
  }

  function title(frame, text) {
    frame.closest("figure").querySelector("figcaption").textContent = text
    frame.setAttribute("aria-label", `${text}. Arrow keys go from case to case.`)
  }

  onWidth(mount, draw)
  draw()
}

function startDifferences(pair, mount) {
  const plot = el("div", { class: "plot" })
  // One scale holds figures of one kind only: the first, of every label.
  const metric = pair.metrics[0]
  const rows = pair.differences
    .filter((row) => row.metric === metric.name)
    .map((row) => {
      const label = pair.labels.find((one) => one.name === row.label)
      return { ...row, title: shortened(label?.title ?? row.label, 28), colour: label?.colour, low: row.low_high?.[0], high: row.low_high?.[1] }
    })
  if (!rows.length) return
  mount.replaceChildren(el("figure", {}, el("figcaption", { class: "chart-title" }, `Mean difference of ${titled(metric)}, ${pair.other} − ${pair.one}, with its 95 % interval`), plot))
  mount.hidden = false
  const draw = () => {
    const svg = drawPlot({
      width: widthOf(plot, 760), height: 60 + 26 * rows.length, marginLeft: 150, marginBottom: 36, style: { background: "none", fontSize: "12px" },
      x: { label: metric.rises ? `${pair.other} better →` : `← ${pair.other} better`, labelArrow: "none", grid: true, nice: true },
      y: { label: null, domain: rows.map((row) => row.title) },
      marks: [
        Plot.ruleX([0], { stroke: "currentColor" }),
        Plot.ruleY(rows.filter((row) => row.low_high), { y: "title", x1: "low", x2: "high", stroke: "colour", strokeWidth: 3 }),
        Plot.dot(rows, { x: "difference", y: "title", fill: "colour", r: 5 }),
      ],
    })
    svg.setAttribute("role", "img")
    svg.setAttribute("aria-label", `Mean differences of ${metric.title}; the table below has them.`)
    plot.replaceChildren(svg)
  }
  onWidth(plot, draw)
  draw()
}
