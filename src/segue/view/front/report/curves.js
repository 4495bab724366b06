// Learning curves: the loss, and the score of each label on the validation cases.
import * as Plot from "@observablehq/plot"
import { drawPlot } from "../plot.js"
import { el, labelButtons, onWidth, shortened, widthOf } from "./dom.js"

/**
 * @param {object} data of `segue.view.page_data.curve_data`
 * @param {HTMLElement} mount
 */
export function startCurves(data, mount) {
  const shown = new Set(data.labels.map((_, n) => n).slice(0, 12))
  const loss = el("div", { class: "plot" })
  const scores = el("div", { class: "plot" })
  const several = data.labels.length > 1
  const buttons = several && data.looks.minutes.length ? labelButtons(data.labels, shown, draw) : null
  const parts = []
  if (data.steps.minutes.length) parts.push(part("Loss of the training", loss))
  if (data.looks.minutes.length) parts.push(part(`${data.score[0].toUpperCase()}${data.score.slice(1)} on the validation cases`, scores))
  mount.replaceChildren(buttons ?? "", el("div", { class: "charts-linked" }, ...parts))
  mount.hidden = false

  function part(title, plot) {
    return el("figure", {}, el("figcaption", { class: "chart-title" }, title), plot)
  }

  function draw() {
    const resumed = data.resumed.map((minutes) => ({ minutes }))
    if (data.steps.minutes.length) {
      const rows = data.steps.minutes.map((minutes, n) => ({ minutes, value: data.steps.loss[n], step: data.steps.step[n] })).filter((row) => row.value !== null)
      put(loss, { y: { grid: true, label: null, nice: true }, marks: [
        Plot.ruleX(resumed, { x: "minutes", stroke: "currentColor", strokeDasharray: "2,3", strokeOpacity: 0.6 }),
        Plot.lineY(rows, { x: "minutes", y: "value", stroke: "var(--accent)", strokeWidth: 1.6 }),
        Plot.tip(rows, Plot.pointerX({ x: "minutes", y: "value", title: (d) => `step ${d.step}\nloss ${d.value.toPrecision(3)}`, fill: "var(--card)", stroke: "var(--line)" })),
      ] }, "Loss over the minutes of training")
    }
    if (data.looks.minutes.length) {
      const rows = data.labels.flatMap((label, place) =>
        shown.has(place) ? data.looks.minutes.map((minutes, n) => ({ minutes, label: label.name, colour: label.colour, value: data.looks.labels[label.name][n], step: data.looks.step[n] })) : [],
      ).filter((row) => row.value !== null)
      const mean = data.looks.minutes.map((minutes, n) => ({ minutes, label: data.score, value: data.looks.score[n], step: data.looks.step[n], best: data.looks.best[n] })).filter((row) => row.value !== null)
      const kept = mean.filter((row) => row.best).slice(-1)
      const tips = several ? [...rows, ...mean] : mean
      put(scores, { y: { grid: true, label: null, nice: true }, marks: [
        Plot.ruleX(resumed, { x: "minutes", stroke: "currentColor", strokeDasharray: "2,3", strokeOpacity: 0.6 }),
        ...(several ? [Plot.line(rows, { x: "minutes", y: "value", z: "label", stroke: "colour", strokeWidth: 1.4 }), Plot.dot(rows, { x: "minutes", y: "value", fill: "colour", r: 2.2 })] : []),
        Plot.line(mean, { x: "minutes", y: "value", stroke: "currentColor", strokeWidth: 2.2 }),
        Plot.dot(mean, { x: "minutes", y: "value", fill: "currentColor", r: 2.6 }),
        Plot.dot(kept, { x: "minutes", y: "value", r: 7, stroke: "currentColor", strokeWidth: 1.5 }),
        Plot.text(kept, { x: "minutes", y: "value", text: () => "kept", dy: -14, fill: "currentColor" }),
        Plot.tip(tips, Plot.pointer({ x: "minutes", y: "value", title: (d) => `${shortened(d.label, 40)} ${d.value.toFixed(3)}\nstep ${d.step}`, fill: "var(--card)", stroke: "var(--line)" })),
      ] }, `${data.score} on the validation cases over the minutes of training`)
    }
  }

  function put(place, options, name) {
    const svg = drawPlot({
      width: widthOf(place), height: 290, marginLeft: 44, marginBottom: 42, x: { label: "minutes of training", nice: false }, ...options,
      style: { background: "none", fontSize: "12px" },
    })
    svg.setAttribute("role", "img")
    svg.setAttribute("aria-label", `${name}. The table below has the validations.`)
    place.replaceChildren(svg)
  }

  onWidth(mount, draw)
  draw()
  return mount
}
