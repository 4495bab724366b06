// The viewers of the opened case: one for each run that is shown, on the same place. What the screen needs first comes
// first; the full resolution takes its place when it is there.

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
    volumes: images.map((image, place) => ({
      name: image.name,
      unit: image.unit,
      url: address(image),
      min: image.min,
      max: image.max,
      colormap: place === 0 ? (image.inverted && images.length === 1 ? "gray_inv" : "gray") : image.unit === "SUV" ? "hot" : "gray",
      opacity: place === 0 ? 1 : image.unit === "SUV" && images[0].unit === BASE ? 0.5 : 0,
    })),
    overlays: told.masks
      .filter((mask) => mask.levels && (mask.run === null || run === null || mask.run === run))
      .map((mask) => ({
        name: mask.name,
        url: address(mask),
        labels: mask.labels,
        outline: mask.name === "prediction",
      })),
    windows: images[0]?.unit === BASE ? windows : [],
  }
}

/** Whether the case has a level that is smaller than the full one. */
const hasFirst = (told) => [...told.images, ...told.masks].some((sheet) => sheet.levels?.first)

/**
 * Show a case in `element`. `runs`: [{number, name}] that are shown beside each other (none: one viewer).
 * `moved(value, place)` is called with the viewer's value when the crosshair moves, `said(text)` with what is shown.
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
      const pane = document.createElement("div")
      pane.className = "pane"
      const place = document.createElement("div")
      place.className = "viewer"
      if (runs.length > 1) {
        const title = document.createElement("p")
        title.className = "pane-title"
        title.textContent = run.name
        pane.append(title)
      }
      pane.append(place)
      made.push({ pane, place, wanted })
    }
    element.replaceChildren(...made.map(({ pane }) => pane))
    element.dataset.panes = made.length
    const fresh = []
    for (const { place, wanted } of made) {
      const viewer = await (await viewerScript()).open(place, { ...wanted, at: at ?? undefined })
      if (mine !== turn) {
        viewer.close()
        for (const one of fresh) one.close()
        return false
      }
      fresh.push(viewer)
    }
    opened = fresh
    fresh.forEach((viewer, place) =>
      viewer.on?.("move", () => {
        if (following) return
        const value = viewer.value()
        following = true // moving the others makes them say that they moved
        for (const other of fresh) if (other !== viewer) other.at(value.mm)
        following = false
        moved(value, place)
      }),
    )
    return true
  }

  function close() {
    turn++
    for (const viewer of opened) viewer.close()
    opened = []
  }

  return {
    close,
    async show(told, runs, at) {
      close()
      const mine = turn
      const levels = hasFirst(told) ? ["first", "full"] : ["full"]
      for (const level of levels) {
        const here = opened[0]?.value?.().mm ?? at
        for (const viewer of opened) viewer.close()
        opened = []
        if (!(await fill(told, level, runs, here, mine))) return
        said(resolutionOf(told, level))
      }
    },
    at(mm) {
      for (const viewer of opened) viewer.at(mm)
    },
    where: () => opened[0]?.value?.() ?? null,
    get viewers() {
      return opened
    },
  }
}

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
