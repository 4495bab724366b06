// The viewers of the opened case: one for each run that is shown, on the same place. What the screen needs first comes
// first; the full resolution takes its place when it is there.

import { make } from "./make.js"

const BASE = "HU"

/** The script of the viewer, loaded when the first volume is opened. */
let loading = null
export function viewerScript() {
  loading ??= new Promise((resolve, reject) => {
    if (globalThis.segueViewer) return resolve(globalThis.segueViewer)
    const script = document.createElement("script")
    script.src = "/assets/viewer.js"
    script.onload = () => resolve(globalThis.segueViewer)
    script.onerror = () => reject(new Error("The viewer's script is not there: make front, or pip install . builds it."))
    document.head.append(script)
  })
  return loading
}

/** CT lies under PET, whatever the order of the channels. */
const ordered = (images) => [...images].sort((a, b) => (b.unit === BASE) - (a.unit === BASE))

function contents(told, level, run, windows) {
  const images = ordered(told.images.filter((image) => image.levels))
  const address = (sheet) => sheet.levels[nearest(sheet, level)]
  return {
    name: told.id,
    marks: !images.some((image) => image.colour),
    volumes: images.map((image) => ({
      name: image.name,
      unit: image.unit || "arbitrary",
      url: address(image),
      // A window that the server knows; of others the viewer offers the file's own percentiles.
      ...(image.unit ? { min: image.min, max: image.max } : {}),
    })),
    overlays: told.masks
      .filter((mask) => mask.levels && (mask.run === null || run === null || mask.run === run))
      .map((mask) => ({ name: mask.name, url: address(mask), labels: mask.labels, outline: mask.name === "prediction" })),
    windows: images[0]?.unit === BASE ? windows : [],
  }
}

const LEVELS = ["first", "middle", "full"]

/** The level of a sheet that is asked for, or the next finer one where that would be the same. */
const nearest = (sheet, level) => LEVELS.slice(LEVELS.indexOf(level)).find((one) => sheet.levels[one])

/** The levels of a case that differ, coarse ones first. */
function steps(told) {
  const sheets = [...told.images, ...told.masks].filter((sheet) => sheet.levels)
  return LEVELS.filter((level) => level === "full" || sheets.some((sheet) => sheet.levels[level]))
}

/** Whether the processor draws: then a hundred million voxels take minutes, in which nothing moves. */
let slow = null
function drawsSlowly() {
  if (slow === null) {
    const gl = document.createElement("canvas").getContext("webgl2")
    const told = gl?.getExtension("WEBGL_debug_renderer_info")
    slow = /swiftshader|llvmpipe|software|basic render/i.test(told ? gl.getParameter(told.UNMASKED_RENDERER_WEBGL) : "")
    gl?.getExtension("WEBGL_lose_context")?.loseContext()
  }
  return slow
}

/**
 * Show a case in `element`. `runs`: [{number, name}] that are shown beside each other (none: one viewer).
 * `moved(value)` is called with the viewer's value when the crosshair moves, `said(text)` with what is shown,
 * `show(…, drawn)` calls `drawn(viewers)` when the first picture is there.
 */
export function viewing(element, { windows, moved, said }) {
  let opened = [] // {viewer, run, pane}
  let turn = 0
  let following = false

  async function fill(told, level, runs, at, mine) {
    const made = []
    for (const run of runs.length ? runs : [null]) {
      const wanted = contents(told, level, run && run.number, windows)
      if (!wanted.volumes.length) continue
      const place = make("div", { class: "viewer" })
      made.push({ place, wanted, run, pane: make("div", { class: "pane" }, run && make("p", { class: "pane-title", text: run.name }), place) })
    }
    element.replaceChildren(...made.map(({ pane }) => pane))
    for (const { place, wanted, run } of made) {
      const viewer = await (await viewerScript()).open(place, { ...wanted, at: at ?? undefined })
      if (mine !== turn) {
        viewer.close()
        return false
      }
      opened.push({ viewer, run })
      viewer.on("move", (value) => {
        if (following) return
        following = true // moving the others makes them say that they moved
        for (const other of opened) if (other.viewer !== viewer) other.viewer.at(value.mm)
        following = false
        moved(value)
      })
    }
    return true
  }

  function close() {
    turn++
    for (const { viewer } of opened) viewer.close()
    opened = []
  }

  return {
    close,
    async show(told, runs, at, drawn = () => {}) {
      close()
      const mine = turn
      const levels = steps(told)
      if (!(await fill(told, levels[0], runs, at, mine))) return
      drawn(opened.map(({ viewer }) => viewer))
      if (!at && opened.length) toLabels(opened[0].viewer)
      // With a graphics card the middle level would only be in the way, without one the full one is, where it is larger.
      const last = drawsSlowly() && levels.includes("middle") ? "middle" : "full"
      const rest = levels.slice(1).filter((level) => level === last)
      said(resolutionOf(told, levels[0], rest.at(-1) === "full"))
      const finer = async (level) => {
        await painted()
        for (const { viewer, run } of opened) {
          const { volumes, overlays } = contents(told, level, run && run.number, windows)
          if (mine !== turn || !(await viewer.refine(volumes, overlays)) || mine !== turn) return
        }
        said(resolutionOf(told, level, false))
      }
      for (const level of rest) await finer(level)
      if (mine === turn && levels.length > 1 && rest.at(-1) !== "full") said(resolutionOf(told, rest.at(-1) ?? levels[0], false), () => finer("full"))
    },
    at(mm) {
      for (const { viewer } of opened) viewer.at(mm)
    },
    get viewers() {
      return opened.map(({ viewer }) => viewer)
    },
  }
}

/** A case opens where there is something: in the middle of the first label that it has. */
function toLabels(viewer) {
  for (const overlay of viewer.overlays) {
    const place = overlay.labels.findIndex((label) => label.present)
    if (place >= 0) return viewer.goTo(overlay, place + 1)
  }
}

/** When what was drawn is on the screen: before that, nothing heavy is begun. */
const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)))

/** What the reader should know of the resolution that is on screen; empty where all of it is. */
export function resolutionOf(told, level, coming) {
  const image = told.images.find((one) => one.levels)
  if (!image) return ""
  const name = nearest(image, level)
  if (!image.coarse[name]) return ""
  const shape = image.shown[name].join(" × ")
  const whole = image.shape.join(" × ")
  if (coming) return `Shown coarser (${shape} voxels) until all ${whole} are here.`
  const means = "Values at the cursor are means."
  return name === "full" ? `Shown coarser: ${shape} voxels of ${whole}, more than a browser holds. ${means}` : `Shown coarser: ${shape} voxels of ${whole}. ${means}`
}
