// Of a classification: ROC curves, calibration, and the confusion matrix as a filter.
import * as Plot from "@observablehq/plot"
import { drawPlot } from "../plot.js"
import { el, labelButtons, onWidth, shortened, widthOf } from "./dom.js"

/**
 * @param {object} data of `segue.view.page_data.class_data`, by part
 * @param {object} cases of `segue.view.page_data.case_data`
 * @param {{filterAnswer: (answer: object) => void} | null} explorer
 */
export function startClasses(data, cases, explorer) {
  for (const [part, found] of Object.entries(data)) {
    const roc = holder("roc", part)
    if (roc && found.roc.length) startRoc(found.roc, roc, part)
    const calibration = holder("calibration", part)
    if (calibration && found.calibration.answers.length) startCalibration(found.calibration, calibration, part)
  }
  if (!explorer) return
  for (const cell of document.querySelectorAll("#confusion td[data-truth]")) {
    const number = cell.querySelector(".number")
    if (!Number(number.textContent)) continue
    const answer = { truth: Number(cell.dataset.truth), answer: Number(cell.dataset.answer) }
    const words = `${number.textContent} images of ${cases.labels[answer.truth].name} answered ${cases.labels[answer.answer].name}: show them`
    number.replaceChildren(el("button", { type: "button", class: "plain", "aria-label": words, onclick: () => explorer.filterAnswer(answer) }, number.textContent))
  }
}

function holder(section, part) {
  const found = [...document.querySelectorAll(`#${section} [data-part]`)].find((one) => one.dataset.part === part)
  return found?.querySelector(".live") ?? null
}

function begin(mount) {
  mount.parentElement.querySelector(".still")?.setAttribute("hidden", "")
  mount.hidden = false
}

function startRoc(curves, mount, part) {
  const shown = new Set(curves.map((_, n) => n))
  const plot = el("div", { class: "plot" })
  mount.replaceChildren(curves.length > 1 ? labelButtons(curves, shown, draw) : "", plot)
  begin(mount)
  function draw() {
    const points = curves.flatMap((curve, n) => (shown.has(n) ? curve.false.map((x, k) => ({ name: curve.name, colour: curve.colour, auc: curve.auc, x, y: curve.found[k] })) : []))
    const side = widthOf(plot, 460)
    const svg = drawPlot({
      width: side, height: side, marginLeft: 48, marginBottom: 40, style: { background: "none", fontSize: "12px" },
      x: { domain: [0, 1], label: "false alarms (1 − specificity)", grid: true },
      y: { domain: [0, 1], label: "found (sensitivity)", grid: true },
      marks: [
        Plot.line([[0, 0], [1, 1]], { stroke: "currentColor", strokeDasharray: "2,3", strokeOpacity: 0.6 }),
        Plot.line(points, { x: "x", y: "y", z: "name", stroke: "colour", strokeWidth: 1.8 }),
        Plot.tip(points, Plot.pointer({ x: "x", y: "y", fill: "var(--card)", stroke: "var(--line)",
          title: (d) => `${shortened(d.name, 40)}${d.auc === null ? "" : `, AUC ${d.auc.toFixed(3)}`}\nfound ${(100 * d.y).toFixed(1)} %\nfalse alarms ${(100 * d.x).toFixed(1)} %` })),
      ],
    })
    named(svg, `ROC curves of the ${part} images: ${curves.map((curve) => `${curve.name} ${curve.auc?.toFixed(3) ?? "–"}`).join(", ")}`)
    plot.replaceChildren(svg)
  }
  onWidth(mount, draw)
  draw()
}

function startCalibration(found, mount, part) {
  const [above, below] = [el("div", { class: "plot" }), el("div", { class: "plot" })]
  mount.replaceChildren(above, below)
  begin(mount)
  const rows = found.confidence.map((confidence, n) => ({ confidence, accuracy: found.accuracy[n], answers: found.answers[n] }))
  const low = Math.max(0, Math.min(found.lowest, ...found.confidence) - 0.03)
  const share = (value) => `${(100 * value).toFixed(0)} %`
  function draw() {
    const width = widthOf(mount, 460)
    const shared = { width, marginLeft: 48, style: { background: "none", fontSize: "12px" } }
    const svg = drawPlot({
      ...shared, height: Math.round(0.8 * width), x: { domain: [low, 1], label: null, tickFormat: share, ticks: 6 },
      y: { domain: [0, 1], label: "share of right answers", tickFormat: share, grid: true },
      marks: [
        Plot.line([[low, low], [1, 1]], { stroke: "currentColor", strokeDasharray: "2,3", strokeOpacity: 0.6 }),
        Plot.ruleX(rows, { x: "confidence", y1: "confidence", y2: "accuracy", stroke: "var(--band)", strokeWidth: 2.4 }),
        Plot.line(rows, { x: "confidence", y: "accuracy", stroke: "var(--accent)", strokeWidth: 1.6 }),
        Plot.dot(rows, { x: "confidence", y: "accuracy", fill: "var(--accent)", r: 4 }),
        Plot.tip(rows, Plot.pointer({ x: "confidence", y: "accuracy", fill: "var(--card)", stroke: "var(--line)",
          title: (d) => `${d.answers} answers with ${share(d.confidence)} confidence\n${share(d.accuracy)} of them are right` })),
      ],
    })
    named(svg, `Share of right answers by confidence on the ${part} images`)
    const bars = drawPlot({
      ...shared, height: 110, marginBottom: 36, x: { domain: [low, 1], label: "confidence: the probability of the answer", tickFormat: share, ticks: 6 },
      y: { label: "answers", grid: true, ticks: 3 },
      marks: [Plot.rectY(rows, { x1: (d) => d.confidence - 0.014, x2: (d) => d.confidence + 0.014, y: "answers", fill: "var(--accent)" })],
    })
    named(bars, "Number of answers by confidence")
    above.replaceChildren(svg)
    below.replaceChildren(bars)
  }
  onWidth(mount, draw)
  draw()
}

function named(svg, words) {
  svg.setAttribute("role", "img")
  svg.setAttribute("aria-label", words)
}
