// The table of the chosen cases: sorted by any column, as many rows as one asks for.
import { el, figure, shortened, swatch } from "./dom.js"

const ROWS = 50
const MOST_LABEL_COLUMNS = 8

/**
 * @param {object} data
 * @param {object} state `metric` and `shown` are read
 * @param {{open: (n: number) => void, hover: (n: number | null) => void}} on
 */
export function startTable(data, state, on) {
  let sort = { key: "mean", rises: true }
  let most = ROWS
  let rows = []
  const head = el("tr")
  const body = el("tbody")
  const table = el("table", { class: "cases" }, el("thead", {}, head), body)
  const scroll = el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Table of the chosen cases" }, table)
  const more = el("button", { type: "button", class: "plain", onclick: () => ((most *= 4), fill()) })
  const made = { element: el("div", {}, scroll, more), show, sorted, mark, changed: () => {} }

  function columns() {
    const labels = [...state.shown].sort((a, b) => a - b)
    const values = data.values[state.metric.name]
    const found = [{ key: "case", title: "case", text: (n) => data.cases[n] }]
    if (data.patients.some(Boolean)) found.push({ key: "patient", title: "patient", text: (n) => data.patients[n] })
    if (data.parts.length > 1) found.push({ key: "part", title: "part", text: (n) => data.parts[data.part[n]] })
    for (const fact of data.facts)
      found.push(
        fact.categories
          ? { key: `fact ${fact.name}`, title: fact.name, text: (n) => fact.categories[fact.values[n]] ?? "" }
          : { key: `fact ${fact.name}`, title: fact.name, value: (n) => fact.numbers[n], metric: {} },
      )
    if (data.truth) {
      const named = (places) => places.map((place) => data.labels[place].name).join(", ") || "nothing"
      found.push({ key: "truth", title: "truth", text: (n) => named(data.truth[n]) })
      found.push({ key: "answer", title: "answer", text: (n) => named(data.answer[n]) })
      found.push({ key: "verdict", title: "verdict", text: (n) => (data.wrong[n] ? "wrong" : "right"), strong: (n) => data.wrong[n] })
    }
    const mean = data.task === "classification" ? "probability of the truth" : data.labels.length > 1 ? "mean Dice" : "Dice"
    found.push({ key: "mean", title: mean, value: (n) => data.mean[n], metric: { unit_interval: true }, bold: true })
    if (data.task === "classification") return found
    if (labels.length <= MOST_LABEL_COLUMNS && (data.labels.length > 1 || state.metric.name !== "dice"))
      for (const place of labels) {
        const label = data.labels[place]
        const title = data.labels.length > 1 ? `${state.metric.title}, ${shortened(label.name, 24)}` : state.metric.title
        found.push({ key: `label ${place}`, title, colour: label.colour, value: (n) => values[label.name][n], metric: state.metric })
      }
    const size = data.metrics.find((metric) => metric.name === "truth_volume_ml")
    if (size && data.labels.length === 1 && state.metric.name !== "truth_volume_ml")
      found.push({ key: "size", title: `truth ${size.unit}`, value: (n) => data.values.truth_volume_ml[data.labels[0].name][n], metric: size })
    return found
  }

  function sorted(cases) {
    const column = columns().find((one) => one.key === sort.key) ?? columns().find((one) => one.key === "mean")
    const by = column.value ?? column.text
    const compare = (a, b) => {
      const [x, y] = [by(a), by(b)]
      if (x === null || y === null) return (x === null) - (y === null) || a - b // what has no figure comes last
      const order = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y
      return (sort.rises ? order : -order) || a - b
    }
    return [...cases].sort(compare)
  }

  function show(cases) {
    rows = cases
    most = ROWS
    fill()
  }

  function fill() {
    const shown = columns()
    head.replaceChildren(
      ...shown.map((column) => {
        const active = column.key === sort.key
        const arrow = active ? (sort.rises ? " ▲" : " ▼") : ""
        const button = el(
          "button",
          {
            type: "button",
            class: "sort",
            onclick: () => {
              sort = { key: column.key, rises: active ? !sort.rises : true }
              made.changed()
              ;[...head.querySelectorAll("button")].find((one) => one.dataset.key === column.key)?.focus()
            },
            "data-key": column.key,
          },
          column.colour ? swatch(column.colour) : null,
          column.title,
          el("span", { "aria-hidden": "true" }, arrow),
        )
        const order = active ? (sort.rises ? "ascending" : "descending") : null
        return el("th", { scope: "col", class: column.value ? "n" : null, "aria-sort": order }, button)
      }),
    )
    const first = sorted(rows).slice(0, most)
    body.replaceChildren(
      ...first.map((n) => {
        const row = el("tr", { "data-n": n, onpointerenter: () => on.hover(n), onpointerleave: () => on.hover(null) })
        for (const column of shown) {
          if (column.key === "case")
            row.append(el("th", { scope: "row" }, el("button", { type: "button", class: "plain", onclick: () => on.open(n), onfocus: () => on.hover(n) }, column.text(n))))
          else if (column.value) row.append(el("td", { class: column.bold ? "n strong" : "n" }, figure(column.value(n), column.metric)))
          else row.append(el("td", {}, column.strong?.(n) ? el("strong", {}, column.text(n)) : column.text(n)))
        }
        return row
      }),
    )
    more.hidden = rows.length <= most
    more.textContent = `show more: ${rows.length - most} cases are not listed`
  }

  function mark(n) {
    for (const row of body.querySelectorAll(".marked")) row.classList.remove("marked")
    if (n !== null) body.querySelector(`[data-n="${n}"]`)?.classList.add("marked")
  }

  return made
}
