// A training that is followed: how far it is, its curves, as they grow.
import * as Plot from "@observablehq/plot"
import { drawPlot } from "../plot.js"
import { duration, make, shown } from "./make.js"

const MOST_POINTS = 2000

/** Follows the trainings of the runs in `element`; `news` takes what the server tells. */
export function followTrainings(element, runs, colours, samplesOf) {
  const trainings = new Map() // "run/fold" -> {events, state, samples}
  let shownOnce = false

  /** The patches that the network saw: kept before the first step and when it ends, so asked for then. */
  async function look(training) {
    const when = training.state.going === false ? "end" : "start"
    if (training.looked === when) return
    training.looked = when
    try {
      training.samples = await samplesOf(training.run, training.fold)
    } catch {
      training.looked = null
    }
    if (shownOnce) draw()
  }

  function news({ run, fold, events, state }) {
    const key = `${run}/${fold}`
    const known = trainings.get(key) ?? { run, fold, events: [], state }
    for (const event of events) {
      // What was lost by an interruption is done again.
      if (event.event === "resumed") known.events = known.events.filter((e) => (e.step ?? 0) <= event.step)
      known.events.push(event)
    }
    known.state = state
    trainings.set(key, known)
    if (shownOnce) draw()
  }

  function draw() {
    shownOnce = true
    const told = [...trainings.values()].filter(({ events }) => events.length)
    if (!told.length) {
      element.replaceChildren(make("p", { text: "No step of this training has been told yet." }))
      return
    }
    element.replaceChildren(...told.map((training) => one(training, runs, colours)))
    for (const training of told) if (training.events.some(({ event }) => event === "step")) look(training)
  }

  return {
    news,
    draw,
    hide() {
      shownOnce = false
    },
    /** Whether any of them is going on. */
    get going() {
      return [...trainings.values()].some(({ state }) => state.going)
    },
  }
}

function one({ run, fold, events, state, samples }, runs, colours) {
  const fold_name = runs[run].trainings[fold]
  const steps = events.filter((event) => event.event === "step" && typeof event.loss === "number")
  const validated = events.filter((event) => event.event === "validated" && typeof event.score === "number")
  const best = validated.reduce((found, event) => (found === null || event.score > found.score ? event : found), null)
  const tiles = [
    [state.going === false ? "ended" : state.going ? "going on" : "silent", "the training"],
    state.part === null ? null : [`${Math.floor(100 * state.part)} %`, "of its time or steps"],
    state.going && state.left_s !== null && state.left_s !== undefined ? [duration(state.left_s), "left, about"] : null,
    [shown(state.steps), `steps in ${duration(state.seconds ?? 0)}`],
    best && [best.score.toFixed(3), `best ${best.metric}, step ${best.step}`],
  ].filter(Boolean)
  return make(
    "section",
    { class: "training", "aria-label": `Training of ${runs[run].name} ${fold_name}` },
    make("h2", { text: [runs[run].name, fold_name].filter(Boolean).join(", ") }),
    make("div", { class: "tiles" }, ...tiles.map(([value, name]) => make("p", { class: "tile" }, make("span", { class: "value", text: value }), make("span", { class: "name", text: name })))),
    state.part === null ? null : make("progress", { max: 1, value: state.part, "aria-label": "part of the training that is done" }),
    state.going === null ? make("p", { class: "small", text: "It has said nothing for two minutes and has not ended: it was stopped, or it is busy with something long. The same command goes on with it." }) : null,
    make("div", { class: "charts" }, chart(steps, "loss", "loss"), ...scores(validated, colours)),
    samples?.samples?.length ? pictures(samples) : null,
  )
}

function pictures({ samples, told }) {
  return make(
    "div",
    { class: "samples" },
    make("h3", { text: "As the network saw them" }),
    make("p", { class: "small", text: told }),
    ...samples.map(({ src, alt, case: name, told: words }) => make("figure", {}, make("img", { src, alt }), make("figcaption", { class: "small", text: [name, words].filter(Boolean).join(": ") }))),
  )
}

function scores(validated, colours) {
  if (!validated.length) return []
  const named = validated.flatMap((event) => {
    const labels = Object.entries(event).filter(([, value]) => value && typeof value === "object" && !Array.isArray(value))
    const each = labels.flatMap(([, values]) => Object.entries(values).filter(([, v]) => typeof v === "number").map(([label, value]) => ({ step: event.step, label, value })))
    return [{ step: event.step, label: "all", value: event.score }, ...each]
  })
  return [chart(named, "value", validated[0].metric ?? "score", "label", colours)]
}

function chart(rows, y, title, by = null, colours = {}) {
  if (!rows.length) return null
  const thin = rows.length > MOST_POINTS ? rows.filter((_, n) => n % Math.ceil(rows.length / MOST_POINTS) === 0 || n === rows.length - 1) : rows
  const last = rows.at(-1)
  const named = by ? [...new Set(rows.map((row) => row[by]))] : []
  const drawn = drawPlot({
    width: 520,
    height: 260,
    marginLeft: 48,
    x: { label: "step" },
    y: { label: title, grid: true, ...(by ? { domain: [0, 1] } : {}) },
    color: by ? { legend: true, domain: named, range: named.map((name) => colours[name] ?? "currentColor") } : {},
    marks: [Plot.lineY(thin, { x: "step", y, stroke: by ?? "currentColor", strokeWidth: 1.6 }), by ? Plot.dotY(thin, { x: "step", y, fill: by, r: 2.5 }) : null],
  })
  // To a screen reader a chart is a picture with a sentence; names inside it are on elements that may have none.
  const svg = drawn.tagName === "svg" ? drawn : [...drawn.querySelectorAll("svg")].at(-1)
  svg.setAttribute("role", "img")
  svg.setAttribute("aria-label", `${title} over steps: ${rows.length} points; the last one, at step ${last.step}, is ${shown(last[y])}.`)
  for (const inner of svg.querySelectorAll("[aria-label], [aria-description]")) {
    inner.removeAttribute("aria-label")
    inner.removeAttribute("aria-description")
  }
  svg.removeAttribute("aria-description")
  return make("figure", {}, make("figcaption", { text: title }), drawn)
}
