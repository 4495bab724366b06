// Mouse, pen and fingers on the stage. One finger or the left button moves the crosshair (turns in 3-D), two fingers
// or shift move and enlarge, the right button sets the window, the wheel goes through the slices.
import { PLANES, tiles } from "./marks.js"

const WHEEL_PX = 40

export function listenToPointer(stage, viewer, signal) {
  const fingers = new Map()
  let dragged = null
  let scrolled = 0

  const place = (event) => {
    const box = stage.getBoundingClientRect()
    return [event.clientX - box.left, event.clientY - box.top]
  }
  const tileAt = ([x, y]) =>
    tiles(viewer.niivue).find(({ box: [left, top, w, h] }) => x >= left && y >= top && x <= left + w && y <= top + h)
  const cross = (tile, at) => {
    const { across, up } = PLANES[tile.plane]
    const [a, u] = tile.voxel(...at)
    const voxel = [...viewer.cross]
    voxel[across] = a
    voxel[up] = u
    viewer.activate(tile.plane)
    viewer.moveTo(voxel)
  }
  const kind = (event) => {
    if (event.button === 2) return "window"
    if (event.button === 1 || event.shiftKey) return "pan"
    return viewer.layout === "3d" ? "turn" : "cross"
  }

  stage.addEventListener(
    "pointerdown",
    (event) => {
      if (event.target.closest("button")) return
      event.preventDefault()
      stage.focus({ preventScroll: true })
      stage.setPointerCapture(event.pointerId)
      const at = place(event)
      fingers.set(event.pointerId, at)
      if (fingers.size === 2) {
        const [p, q] = [...fingers.values()]
        dragged = { kind: "pinch", tile: tileAt(p) ?? tileAt(q), span: distance(p, q), middle: middle(p, q) }
        return
      }
      const tile = tileAt(at)
      dragged = { kind: kind(event), tile, last: at }
      if (dragged.kind === "cross" && tile) cross(tile, at)
    },
    { signal },
  )
  stage.addEventListener(
    "pointermove",
    (event) => {
      if (!dragged || !fingers.has(event.pointerId)) return
      const at = place(event)
      fingers.set(event.pointerId, at)
      if (dragged.kind === "pinch") {
        const [p, q] = [...fingers.values()]
        if (!q) return
        const span = distance(p, q)
        const now = middle(p, q)
        if (dragged.tile) viewer.pan(tileAgain(dragged.tile), now[0] - dragged.middle[0], now[1] - dragged.middle[1])
        viewer.zoom(span / Math.max(1, dragged.span))
        Object.assign(dragged, { span, middle: now })
        return
      }
      const [dx, dy] = [at[0] - dragged.last[0], at[1] - dragged.last[1]]
      dragged.last = at
      if (dragged.kind === "turn") viewer.turn(-0.6 * dx, 0.6 * dy)
      else if (dragged.kind === "window") viewer.stretchWindow(dx / 200, dy / 200)
      else if (dragged.tile && dragged.kind === "pan") viewer.pan(tileAgain(dragged.tile), dx, dy)
      else if (dragged.tile) cross(tileAgain(dragged.tile), at)
    },
    { signal },
  )
  // A tile's edges stay where they are while its content moves: found anew, since zoom and pan change what it shows.
  const tileAgain = (tile) => tiles(viewer.niivue).find(({ plane }) => plane === tile.plane) ?? tile
  const release = (event) => {
    fingers.delete(event.pointerId)
    if (fingers.size === 0) dragged = null
  }
  stage.addEventListener("pointerup", release, { signal })
  stage.addEventListener("pointercancel", release, { signal })
  stage.addEventListener("contextmenu", (event) => event.preventDefault(), { signal })
  stage.addEventListener(
    "wheel",
    (event) => {
      // The page scrolls on until the stage was chosen: a reader who passes over it is not caught.
      if (!stage.contains(document.activeElement)) return
      event.preventDefault()
      if (event.ctrlKey || event.metaKey || viewer.layout === "3d") {
        viewer.zoom(Math.exp(-event.deltaY / 300))
        return
      }
      const px = event.deltaMode === 1 ? event.deltaY * WHEEL_PX : event.deltaY
      scrolled += px
      const steps = Math.trunc(scrolled / WHEEL_PX)
      if (!steps) return
      scrolled -= steps * WHEEL_PX
      const tile = tileAt(place(event))
      if (tile) viewer.step(PLANES[tile.plane].normal, -steps)
    },
    { signal, passive: false },
  )
}

const distance = (p, q) => Math.hypot(p[0] - q[0], p[1] - q[1])
const middle = (p, q) => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2]
