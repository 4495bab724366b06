// Case by case: filters, two linked charts, a table and the gallery, all of the same chosen cases.
import * as Plot from "@observablehq/plot"
import { drawPlot } from "../plot.js"
import { chartFrame, makeLive } from "./chart.js"
import { el, figure, labelButtons, onWidth, shortened, titled, widthOf } from "./dom.js"
import { showCase } from "./onecase.js"
import { startTable } from "./table.js"

const MOST_SHOWN_LABELS = 6
const JITTER = 0.32

/**
 * @param {object} data of `segue.view.page_data.case_data`
 * @param {HTMLElement} mount
 */
export function startExplorer(data, mount) {
  if (!data.cases.length) return null
  const state = {
    shown: new Set(data.labels.map((_, n) => n).slice(0, data.task === "classification" ? data.labels.length : MOST_SHOWN_LABELS)),
    metric: data.metrics[0],
    part: null,
    facts: new Map(),
    search: "",
    brushed: null,
    answer: null,
  }
  const status = el("p", { class: "status", role: "status" })
  const [strip, scatter] = [chartFrame("Chart of each case by label"), chartFrame("Chart of each case by size")]
  const charts = el("div", { class: "charts-linked" }, panel("strip", strip), panel("scatter", scatter))
  const one = el("div", { id: "one-case", class: "one-case", hidden: true, tabindex: "-1" })
  const table = startTable(data, state, { open, hover })
  const live = []
  const widths = new Map()
  mount.replaceChildren(toolbar(), status, charts, one, table.element)
  mount.hidden = false

  function panel(name, frame) {
    return el("figure", { class: `chart-${name}` }, el("figcaption", { class: "chart-title" }), frame)
  }

  function open(n) {
    showCase(data, n, one)
    document.dispatchEvent(
      new CustomEvent("segue:open", { detail: { case: data.cases[n], part: data.parts[data.part[n]] } }),
    )
  }

  function hover(n) {
    for (const chart of live) chart.mark(n)
    table.mark(n)
  }

  function toolbar() {
    const form = el("form", { class: "toolbar", onsubmit: (event) => event.preventDefault(), "aria-label": "Choose cases" })
    if (data.metrics.length > 1)
      form.append(choice("figure", data.metrics.map(titled), (n) => (state.metric = data.metrics[n])))
    if (data.parts.length > 1)
      form.append(choice("part", ["all", ...data.parts], (n) => (state.part = n ? n - 1 : null)))
    // What differs from case to case is a name, not something to choose by.
    const several = data.facts.filter((fact) => !fact.categories || (fact.categories.length > 1 && fact.categories.length < data.cases.length))
    for (const fact of several) form.append(factFilter(fact))
    const search = el("input", { type: "search", placeholder: "name of a case", autocomplete: "off" })
    search.addEventListener("input", () => {
      state.search = search.value.toLowerCase()
      update()
    })
    form.append(el("label", {}, "search ", search))
    form.append(
      el("button", {
        type: "button",
        class: "plain",
        onclick: () => {
          form.reset()
          Object.assign(state, { part: null, search: "", brushed: null, answer: null, metric: data.metrics[0] })
          state.facts.clear()
          update()
        },
      }, "show all"),
    )
    const labels = data.labels.length > 1 ? labelChooser() : null
    return el("div", { class: "controls" }, form, labels)
  }

  function labelChooser() {
    const buttons = labelButtons(data.labels, state.shown, update)
    if (data.labels.length <= 12) return buttons
    const all = (shown) => () => {
      state.shown.clear()
      if (shown) data.labels.forEach((_, n) => state.shown.add(n))
      for (const button of buttons.children) button.setAttribute("aria-pressed", String(shown))
      update()
    }
    return el(
      "details",
      { class: "label-list" },
      el("summary", {}, `Labels: ${data.labels.length}`),
      el("button", { type: "button", class: "plain", onclick: all(true) }, "all"),
      el("button", { type: "button", class: "plain", onclick: all(false) }, "none"),
      buttons,
    )
  }

  function choice(name, words, chosen) {
    const select = el("select", {}, ...words.map((word, n) => el("option", { value: n }, shortened(word, 60))))
    select.addEventListener("change", () => {
      chosen(Number(select.value))
      update()
    })
    return el("label", {}, `${name} `, select)
  }

  function factFilter(fact) {
    if (fact.categories)
      return choice(fact.name, ["all", ...fact.categories], (n) => {
        if (n) state.facts.set(fact.name, (place) => fact.values[place] === n - 1)
        else state.facts.delete(fact.name)
      })
    const ends = ["from", "to"].map((word) => el("input", { type: "number", step: "any", "aria-label": `${fact.name} ${word}`, placeholder: word }))
    const changed = () => {
      const [low, high] = ends.map((end) => (end.value === "" ? null : Number(end.value)))
      if (low === null && high === null) state.facts.delete(fact.name)
      else
        state.facts.set(fact.name, (place) => {
          const value = fact.numbers[place]
          return value !== null && (low === null || value >= low) && (high === null || value <= high)
        })
      update()
    }
    for (const end of ends) end.addEventListener("input", changed)
    return el("span", { class: "between" }, el("span", {}, fact.name), ...ends)
  }

  function kept() {
    return data.cases.map((_, n) => n).filter(
      (n) =>
        (state.part === null || data.part[n] === state.part) &&
        (!state.search || data.cases[n].toLowerCase().includes(state.search) || data.patients[n].toLowerCase().includes(state.search)) &&
        (!state.answer || (data.truth[n].includes(state.answer.truth) && data.answer[n].includes(state.answer.answer))) &&
        [...state.facts.values()].every((holds) => holds(n)),
    )
  }

  function update() {
    const inFilter = kept()
    const chosen = state.brushed ? inFilter.filter((n) => state.brushed.has(n)) : inFilter
    draw(inFilter, new Set(chosen))
    table.show(chosen)
    arrangeGallery(chosen)
    const told = [`${chosen.length} of ${data.cases.length} cases`]
    if (state.answer)
      told.push(`truth “${data.labels[state.answer.truth].name}”, answer “${data.labels[state.answer.answer].name}”`)
    if (data.wrong?.some(Boolean)) told.push("hollow points were answered wrongly")
    if (state.brushed) told.push("chosen in a chart; click beside the points to end the choice")
    status.textContent = told.join("; ")
  }

  function draw(inFilter, chosen) {
    live.length = 0
    // Asked for before anything is changed, so that the page is laid out once.
    for (const frame of [strip, scatter]) widths.set(frame, widthOf(frame))
    const values = data.values[state.metric.name]
    const columns = [...state.shown].sort((a, b) => a - b)
    const points = columns.flatMap((label, column) =>
      inFilter.map((n) => ({ n, label, column, value: values[data.labels[label].name][n] })).filter((p) => p.value !== null),
    )
    drawStrip(points, columns, chosen)
    drawScatter(points, chosen)
  }

  function drawStrip(points, columns, chosen) {
    title(strip, `${titled(state.metric)}, each case${points.length ? "" : ": nothing to show"}`)
    const middle = columns
      .map((label, column) => ({ label, column, value: median(points.filter((p) => p.column === column).map((p) => p.value)) }))
      .filter((row) => row.value !== null)
    for (const point of points) point.x = point.column + JITTER * scattered(point.n)
    const letters = columns.map((label) => Math.min(20, data.labels[label].name.length))
    const narrow = columns.length > 1 && 7.5 * Math.max(...letters) * columns.length > widths.get(strip) - 50
    put(strip, points, {
      width: widths.get(strip),
      height: 320,
      marginBottom: narrow ? 90 : 34,
      x: {
        domain: [-0.5, Math.max(1, columns.length) - 0.5],
        ticks: columns.map((_, n) => n),
        tickFormat: (n) => shortened(data.labels[columns[n]]?.name ?? "", narrow ? 14 : 20),
        tickRotate: narrow ? -40 : 0,
        tickSize: 0,
        label: null,
      },
      y: yScale(),
      marks: [
        Plot.dot(points, look({ x: "x", y: "value" }, chosen)),
        Plot.ruleY(middle, { x1: (d) => d.column - 0.42, x2: (d) => d.column + 0.42, y: "value", stroke: "currentColor", strokeWidth: 2 }),
      ],
    })
  }

  function drawScatter(points, chosen) {
    const sizes = data.values.truth_volume_ml
    scatter.closest("figure").hidden = !sizes || state.metric.name === "truth_volume_ml"
    if (!sizes) return
    const metric = data.metrics.find((one) => one.name === "truth_volume_ml")
    const there = points.map((p) => ({ ...p, x: sizes[data.labels[p.label].name][p.n] })).filter((p) => p.x !== null && p.x > 0)
    const [least, most] = [Math.min(...there.map((p) => p.x)), Math.max(...there.map((p) => p.x))]
    const wide = most / least > 20
    title(scatter, `${state.metric.title} against ${metric.title}`)
    put(scatter, there, {
      width: widths.get(scatter),
      height: 320,
      marginBottom: 42,
      x: { type: wide ? "log" : "linear", label: titled(metric), nice: true, ticks: 5, tickFormat: wide ? (v) => figure(v) : undefined, grid: true },
      y: yScale(),
      marks: [Plot.dot(there, look({ x: "x", y: "value" }, chosen))],
    })
  }

  function yScale() {
    if (!state.metric.unit_interval) return { label: null, grid: true, nice: true }
    // The same for every filter, so that points keep their height.
    const known = Object.values(data.values[state.metric.name]).flat().filter((value) => value !== null)
    const least = known.reduce((low, value) => Math.min(low, value), 1)
    return { label: null, grid: true, domain: [Math.max(0, Math.floor(10 * (least - 0.03)) / 10), 1] }
  }

  function look(channels, chosen) {
    const wrong = data.wrong
    return {
      ...channels,
      r: 4,
      fill: (p) => (wrong && wrong[p.n] ? "none" : data.labels[p.label].colour),
      stroke: (p) => data.labels[p.label].colour,
      strokeWidth: wrong ? 1.8 : 1,
      fillOpacity: (p) => (chosen.has(p.n) ? 0.65 : 0.08),
      strokeOpacity: (p) => (chosen.has(p.n) ? 1 : 0.15),
    }
  }

  function put(frame, points, options) {
    const svg = drawPlot({ ...options, marginLeft: 44, style: { background: "none", fontSize: "12px" } })
    svg.setAttribute("role", "img")
    svg.setAttribute("aria-label", `${frame.getAttribute("aria-label")}: ${points.length} points. The table below has the same figures.`)
    frame.querySelector(".plot").replaceChildren(svg)
    live.push(makeLive(frame, svg, points, { words, open, hover, select }))
  }

  function select(cases) {
    if (cases === null && state.brushed === null) return
    state.brushed = cases && cases.size ? cases : null
    update()
  }

  function words(point) {
    const label = data.labels[point.label].name
    const lines = [data.cases[point.n]]
    if (data.labels.length > 1 || data.task === "classification") lines.push(shortened(label, 60))
    lines.push(`${state.metric.title} ${figure(point.value, state.metric)} ${state.metric.unit}`.trim())
    if (data.answer) lines.push(`answer: ${data.answer[point.n].map((n) => data.labels[n].name).join(", ") || "nothing"}`)
    const size = data.values.truth_volume_ml
    if (size && state.metric.name !== "truth_volume_ml") {
      const metric = data.metrics.find((one) => one.name === "truth_volume_ml")
      lines.push(`truth ${figure(size[label][point.n], metric)} ${metric.unit}`)
    }
    if (data.parts.length > 1) lines.push(data.parts[data.part[point.n]])
    for (const fact of data.facts) {
      const value = fact.categories ? fact.categories[fact.values[point.n]] : figure(fact.numbers[point.n])
      if (value !== undefined && value !== "–") lines.push(`${fact.name}: ${value}`)
    }
    return lines
  }

  function title(frame, text) {
    frame.closest("figure").querySelector("figcaption").textContent = text
    frame.setAttribute("aria-label", `${text}. Arrow keys go from case to case, Enter opens one.`)
  }

  function arrangeGallery(chosen) {
    for (const list of document.querySelectorAll("[data-gallery]")) {
      const items = new Map([...list.children].map((item) => [Number(item.dataset.n), item]))
      const wanted = new Set(chosen)
      for (const [n, item] of items) item.hidden = !wanted.has(n)
      if (list.id !== "gallery") continue
      const order = table.sorted(chosen).map((n) => items.get(n)).filter(Boolean)
      const now = [...list.children].filter((item) => !item.hidden)
      if (order.some((item, place) => item !== now[place])) list.append(...order)
    }
  }

  document.addEventListener("click", (event) => {
    const item = event.target.closest?.("[data-gallery] > [data-n]")
    if (item && !event.target.closest("a, button")) open(Number(item.dataset.n))
  })
  for (const item of document.querySelectorAll("[data-gallery] > [data-n]")) {
    const name = item.querySelector(".case")
    const n = Number(item.dataset.n)
    name?.replaceChildren(el("button", { type: "button", class: "plain", onclick: () => open(n) }, name.textContent))
    item.addEventListener("pointerenter", () => hover(n))
    item.addEventListener("pointerleave", () => hover(null))
  }
  table.changed = update
  onWidth(charts, update)
  update()
  const asked = decodeURIComponent(location.hash.match(/^#case=(.+)$/)?.[1] ?? "")
  // Whoever listens for cases that are opened may start after this script.
  if (data.cases.includes(asked)) setTimeout(() => {
    open(data.cases.indexOf(asked))
    one.scrollIntoView({ block: "center" })
  })
  return {
    /** Only the cases with this truth and this answer; null for all. */
    filterAnswer(answer) {
      state.answer = answer
      update()
      mount.scrollIntoView({ block: "start" })
    },
  }
}

function median(values) {
  if (!values.length) return null
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

/** Between -1 and 1, the same for the same case: points keep their place when a filter changes. */
function scattered(n) {
  const x = Math.sin(n * 12.9898 + 4.1414) * 43758.5453
  return 2 * (x - Math.floor(x)) - 1
}
