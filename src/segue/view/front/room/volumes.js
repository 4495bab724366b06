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
  const address = (sheet) => sheet.levels[level] ?? sheet.levels.full
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

/** Whether the case has a level that is smaller than the full one. */
const hasFirst = (told) => [...told.images, ...told.masks].some((sheet) => sheet.levels?.first)

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
      const first = hasFirst(told)
      if (!(await fill(told, first ? "first" : "full", runs, at, mine))) return
      drawn(opened.map(({ viewer }) => viewer))
      if (!at && opened.length) toLabels(opened[0].viewer)
      said(resolutionOf(told, first ? "first" : "full"))
      if (!first) return
      await painted()
      for (const { viewer, run } of opened) {
        const { volumes, overlays } = contents(told, "full", run && run.number, windows)
        if (mine !== turn || !(await viewer.refine(volumes, overlays)) || mine !== turn) return
      }
      said(resolutionOf(told, "full"))
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
export function resolutionOf(told, level) {
  const image = told.images.find((one) => one.levels)
  if (!image) return ""
  const name = image.levels[level] ? level : "full"
  if (!image.coarse[name]) return ""
  const shape = image.shown[name].join(" × ")
  const whole = image.shape.join(" × ")
  return name === "first"
    ? `Shown coarser (${shape} voxels) until all ${whole} are here.`
    : `Shown coarser: ${shape} voxels of ${whole}, more than a browser holds. Values at the cursor are means.`
}
