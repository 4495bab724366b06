// What is known of the opened case, beside its pictures: figures, findings, facts, where the prediction is wrong.
import { make, millilitres, shown } from "./make.js"

const section = (title, ...children) => make("section", {}, make("h3", { text: title }), ...children)

/** Fill `element` with what the server told of a case. `goto(mm)` moves the viewer. */
export function caseFacts(element, told, runs, number, { goto, errors }) {
  const parts = []
  const problems = [...told.images, ...told.masks].filter((sheet) => sheet.problem)
  if (problems.length)
    parts.push(section("Cannot be shown", make("ul", { class: "problems" }, ...problems.map((p) => make("li", { text: `${p.name}: ${p.problem}` })))))
  if (told.findings.length) parts.push(section("Findings", findings(told.findings, goto)))
  for (const answer of told.answers) parts.push(section(named("Answer", answer.run, runs), pairs(without(answer, "run"))))
  if (told.figures.length) parts.push(section(told.figures.length > 1 ? "Figures, run by run" : "Figures", figures(told.figures, runs)))
  const predicted = told.masks.filter((mask) => mask.run !== null && mask.levels)
  if (predicted.length && told.masks.some((mask) => mask.name === "truth" && mask.levels))
    parts.push(section("Largest errors", errorList(predicted, runs, number, goto, errors)))
  const facts = { ...(told.patient ? { patient: told.patient } : {}), ...(told.split ? { set: told.split } : {}), ...told.facts, ...grids(told) }
  if (Object.keys(facts).length) parts.push(section("About this case", pairs(facts)))
  element.replaceChildren(...parts)
}

const named = (title, run, runs) => (runs.length > 1 ? `${title} of ${runs[run].name}` : title)
const without = (object, key) => Object.fromEntries(Object.entries(object).filter(([name]) => name !== key))

function grids(told) {
  const image = told.images.find((one) => one.levels)
  if (!image) return {}
  return { voxels: image.shape.join(" × "), "spacing, mm": image.spacing.map((mm) => +mm.toFixed(3)).join(" × ") }
}

const pairs = (facts) =>
  make("dl", {}, ...Object.entries(facts).map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: shown(value) }))))

const findings = (list, goto) =>
  make(
    "ul",
    { class: "findings" },
    ...list.map((f) =>
      make(
        "li",
        { class: f.severity },
        make("span", { class: "severity", text: f.severity }),
        ` ${f.what}${f.value ? ` (${f.value})` : ""}`,
        f.remedy ? make("span", { class: "remedy", text: ` ${f.remedy}` }) : null,
        f.at ? make("button", { type: "button", class: "link", text: "go there", click: () => goto(f.at) }) : null,
      ),
    ),
  )

/** A row per label and metric, a column per run. */
function figures(told, runs) {
  const rows = new Map()
  for (const { run, labels } of told)
    for (const [label, metrics] of Object.entries(labels))
      for (const [metric, value] of Object.entries(metrics)) {
        const key = `${label}\n${metric}`
        if (!rows.has(key)) rows.set(key, { label, metric, values: {} })
        rows.get(key).values[run] = value
      }
  const numbers = told.map(({ run }) => run)
  const paired = numbers.length === 2
  const head = [...(numbers.length > 1 ? numbers.map((run) => runs[run].name) : ["value"]), ...(paired ? ["difference"] : [])]
  let before = null
  const body = [...rows.values()].map(({ label, metric, values }) => {
    const first = label !== before
    before = label
    const [a, b] = numbers.map((run) => values[run])
    const difference = paired && typeof a === "number" && typeof b === "number" ? b - a : null
    return make(
      "tr",
      first ? { class: "first" } : {},
      make("th", { scope: "row", text: first ? `${label}: ${words(metric)}` : words(metric) }),
      ...numbers.map((run) => make("td", { text: shown(values[run]) })),
      paired ? make("td", { text: difference === null ? "–" : `${difference > 0 ? "+" : ""}${shown(difference)}` }) : null,
    )
  })
  return make(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": "Figures of this case" },
    make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col", text: "label, metric" }), ...head.map((name) => make("th", { scope: "col", text: name })))), make("tbody", {}, ...body)),
  )
}

const NAMES = { dice: "Dice", iou: "IoU", hd95_mm: "HD95, mm", assd_mm: "ASSD, mm", nsd: "NSD" }
const words = (metric) => NAMES[metric] ?? metric.replace(/_ml$/, ", ml").replace(/_mm$/, ", mm").replaceAll("_", " ")

function errorList(predicted, runs, number, goto, errors) {
  const holder = make("div", {}, make("p", { class: "small", text: "Looking for them …" }))
  Promise.all(predicted.map(async (mask) => ({ run: mask.run, found: await errors(number, mask.run) })))
    .then((lists) => {
      const items = lists.flatMap(({ run, found }) =>
        found.map((error) =>
          make(
            "li",
            {},
            make("button", {
              type: "button",
              class: "link",
              click: () => goto(error.mm),
              text: `${error.kind} ${error.name}, ${millilitres(error.ml)} ml${runs.length > 1 ? ` (${runs[run].name})` : ""}`,
            }),
          ),
        ),
      )
      holder.replaceChildren(items.length ? make("ol", { class: "errors" }, ...items) : make("p", { class: "small", text: "Truth and prediction are the same." }))
    })
    .catch((error) => holder.replaceChildren(make("p", { class: "problem", text: error.message })))
  return holder
}
