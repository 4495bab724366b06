// The viewer: what is open, where the crosshair stands, what is shown. Everything that a page may call is here.
import { shear, spacing, toMm, toVoxel, valueAt, voxelAt } from "./grid.js"
import { listenToKeys } from "./keys.js"
import { colourTable, labelAt, labelMap, middleOf } from "./labels.js"
import { PLANES, drawMarks } from "./marks.js"
import { readNifti, unpacked } from "./nifti.js"
import { Panel } from "./panel.js"
import { listenToPointer } from "./pointer.js"
import { INVERTED, LAYOUTS, leaveScene, niivueImage, takeScene } from "./scene.js"
import { presetsFor, startingWith } from "./windows.js"

const SHEARED_DEGREES = 1
const MOST_ZOOM = 40
// A picture of fewer pixels is shown as them, as an image viewer enlarges it.
const SMALL_PICTURE = 256
const LAID_OVER = "hot"
// In 3-D the labels show through the image.
const HAZE = 0.25

/**
 * @typedef {object} VolumeOptions
 * @property {string} name
 * @property {string} [unit] "HU", "SUV" or "arbitrary"
 * @property {string} [url] @property {Uint8Array|ArrayBuffer} [bytes] a NIfTI file, gzipped or not
 * @property {string} [colormap] @property {boolean} [inverted] dark is high
 * @property {number} [min] @property {number} [max] @property {number} [opacity] of the second image over the first
 *
 * @typedef {object} OverlayOptions
 * @property {string} name
 * @property {string} [url] @property {Uint8Array|ArrayBuffer} [bytes]
 * @property {Record<string, {name: string, colour: string}>} [labels] by number; others are shown in grey
 * @property {boolean} [outline] else filled
 *
 * @typedef {object} ViewerOptions
 * @property {string} [name] of the case, for a screen reader
 * @property {VolumeOptions[]} volumes the first is shown; a second in SUV over one in HU is laid over it
 * @property {OverlayOptions[]} [overlays]
 * @property {{name: string, min: number, max: number}[]} [windows] presets of the first image
 * @property {[number, number, number]} [at] RAS millimetres
 * @property {"planes"|"axial"|"coronal"|"sagittal"|"3d"} [layout]
 * @property {boolean} [marks] false for a picture whose sides nobody knows
 */

/**
 * Show volumes with label maps over them inside `element`; resolves when the first picture is drawn.
 * @param {HTMLElement} element @param {ViewerOptions} options @returns {Promise<Viewer>}
 */
export async function openViewer(element, options) {
  const viewer = new Viewer(element, options)
  try {
    await viewer.load()
  } catch (error) {
    viewer.close()
    viewer.panel.problem(element, error)
    throw error
  }
  return viewer
}

async function fetched({ name, url, bytes }) {
  if (bytes) return readNifti(await unpacked(bytes))
  const answer = await fetch(url)
  if (!answer.ok) throw new Error(`${name} could not be loaded: ${answer.status} ${answer.statusText}`)
  return readNifti(await unpacked(await answer.arrayBuffer()))
}

export class Viewer {
  /** @param {HTMLElement} element @param {ViewerOptions} options */
  constructor(element, options) {
    this.options = options
    this.images = []
    this.overlays = []
    this.layout = "planes"
    this.active = "axial"
    this.cross = [0, 0, 0]
    this.base = 0
    this.over = -1
    this.mix = 0.5
    this.frame = 0
    this.hidden = false
    this.focused = false
    this.marked = options.marks !== false
    this.closed = false
    this.listeners = new Map()
    this.stopped = new AbortController()
    this.panel = new Panel(element, this)
  }

  get niivue() {
    return this.scene?.niivue
  }

  get current() {
    return this.images[this.base]
  }

  get planesShown() {
    return this.layout === "planes" && !this.flat ? 3 : 1
  }

  async load() {
    for (const given of this.options.volumes) {
      this.panel.busy(`Loading ${given.name}`)
      this.images.push(this.asImage(given, await fetched(given)))
    }
    for (const given of this.options.overlays ?? []) {
      this.panel.busy(`Loading ${given.name}`)
      this.overlays.push(this.asOverlay(given, await fetched(given)))
    }
    if (this.closed) return
    const scene = await takeScene(this.panel.stage)
    if (this.closed) return leaveScene(scene)
    this.scene = scene
    this.niivue.afterDrawing = () => this.redrawMarks()
    const pet = this.images.findIndex((image, place) => place > 0 && image.unit === "SUV")
    if (this.current.unit === "HU" && pet > 0) this.over = pet
    this.flat = flatPlane(this.current.nv)
    if (this.flat) this.active = this.flat
    this.panel.build()
    this.arrange()
    this.setSquares(this.flat !== null && Math.max(...this.current.image.dims) <= SMALL_PICTURE)
    this.setLayout(this.flat ?? this.options.layout ?? "planes")
    this.home()
    listenToPointer(this.panel.stage, this, this.stopped.signal)
    listenToKeys(this.panel.stage, this, this.stopped.signal)
    scene.canvas.addEventListener("webglcontextlost", () => this.panel.lost(), { signal: this.stopped.signal })
    this.panel.busy("")
  }

  asImage(given, image) {
    const unit = given.unit ?? "arbitrary"
    const own = this.images.length === 0 ? (this.options.windows ?? []) : []
    const presets = startingWith(given, presetsFor(unit, image, own))
    const { min, max } = presets[0] ?? { min: 0, max: 255 }
    const plain = given.inverted ?? unit === "SUV" ? INVERTED : "gray"
    const colormap = given.colormap ?? plain
    const nv = niivueImage(finite(image), given.name, { colormap, min, max })
    nv.cal_min = min
    nv.cal_max = max
    if (given.opacity !== undefined && this.images.length) this.mix = given.opacity
    return { name: given.name, unit, image, nv, min, max, presets, colormap, over: given.colormap ?? LAID_OVER }
  }

  asOverlay(given, read) {
    const { image, labels } = labelMap(read, given.labels ?? {})
    const nv = niivueImage(image, given.name, { opacity: 0.5, min: 0, max: Math.max(1, labels.length), labels })
    const style = given.outline && sameGrid(image, this.current.image) ? "outline" : "filled"
    return { name: given.name, image, labels, nv, style, opacity: given.outline ? 1 : 0.5 }
  }

  /**
   * Put other levels of the same images and label maps in their place, where they have come: nothing else of what is
   * shown changes. Resolves to whether it was still open then.
   * @param {{url?: string, bytes?: Uint8Array|ArrayBuffer}[]} volumes one for each, in their order
   * @param {{url?: string, bytes?: Uint8Array|ArrayBuffer}[]} overlays
   */
  async refine(volumes, overlays) {
    const read = async (given, name) => (given ? await fetched({ ...given, name }) : null)
    const images = []
    for (const [place, { name }] of this.images.entries()) images.push(await read(volumes[place], name))
    const maps = []
    for (const [place, { name }] of this.overlays.entries()) maps.push(await read(overlays[place], name))
    if (this.closed) return false
    const { mm } = this.value()
    this.images.forEach((image, place) => {
      if (!images[place]) return
      const { name, min, max, colormap } = image
      Object.assign(image, { image: images[place], nv: niivueImage(finite(images[place]), name, { colormap, min, max }) })
      Object.assign(image.nv, { cal_min: min, cal_max: max })
    })
    this.overlays.forEach((overlay, place) => {
      if (!maps[place]) return
      const { image, labels } = labelMap(maps[place], this.options.overlays[place].labels ?? {})
      for (const label of labels) label.shown = overlay.labels.find(({ number }) => number === label.number)?.shown ?? true
      // Rows of the panel hold the labels that they were made with.
      const kept = labels.map((label) => Object.assign(overlay.labels.find(({ number }) => number === label.number) ?? label, label))
      Object.assign(overlay, { image, labels: kept })
      overlay.nv = niivueImage(image, overlay.name, { opacity: 0.5, min: 0, max: Math.max(1, kept.length), labels: kept })
    })
    this.arrange()
    this.at(mm)
    return true
  }

  // ---- where

  /** Move to the voxel that a point lies in. @param {number[]} mm RAS */
  at(mm) {
    const { image } = this.current
    this.moveTo(this.toRas(toVoxel(image.affine, mm)))
  }

  /** @param {number[]} voxel of the base image in RAS order; rounded, and held inside the image */
  moveTo(voxel) {
    const { dimsRAS } = this.current.nv
    this.cross = voxel.map((x, axis) => Math.min(dimsRAS[axis + 1] - 1, Math.max(0, Math.round(x))))
    this.niivue.scene.crosshairPos = this.cross.map((x, axis) => (x + 0.5) / dimsRAS[axis + 1])
    this.niivue.drawScene()
    this.tell("move", this.value())
  }

  step(axis, by) {
    const voxel = [...this.cross]
    voxel[axis] += by
    this.moveTo(voxel)
  }

  home() {
    this.whole()
    if (this.options.at) this.at(this.options.at)
    else this.moveTo(this.current.nv.dimsRAS.slice(1).map((n) => (n - 1) / 2))
  }

  /** To the middle of a label. */
  goTo(overlay, place) {
    const voxel = middleOf(overlay.image, place)
    if (voxel) this.at(toMm(overlay.image.affine, voxel))
  }

  toRas(voxel) {
    return this.current.nv.permRAS.map((axis) => {
      const from = Math.abs(axis) - 1
      return axis < 0 ? this.current.image.dims[from] - 1 - voxel[from] : voxel[from]
    })
  }

  fromRas(voxel) {
    const found = [0, 0, 0]
    this.current.nv.permRAS.forEach((axis, place) => {
      const to = Math.abs(axis) - 1
      found[to] = axis < 0 ? this.current.image.dims[to] - 1 - voxel[place] : voxel[place]
    })
    return found
  }

  /** What lies under the crosshair: its voxel's middle in mm, its index as stored, and each image's value there. */
  value() {
    const voxel = this.fromRas(this.cross)
    const mm = toMm(this.current.image.affine, voxel)
    return {
      mm,
      voxel,
      values: this.images.map(({ name, unit, image }) => {
        const there = image === this.current.image ? voxel : voxelAt(image, mm)
        const frame = Math.min(this.frame, image.frames - 1)
        return { name, unit, value: there ? valueAt(image, there, frame) : null }
      }),
      labels: this.overlays.map((overlay) => {
        const there = voxelAt(overlay.image, mm)
        const label = there ? labelAt(overlay, there) : null
        return { name: overlay.name, number: label?.number ?? 0, label: label?.name ?? null }
      }),
    }
  }

  // ---- how

  setLayout(layout) {
    if (!(layout in LAYOUTS)) throw new Error(`There is no layout named ${layout}.`)
    if (this.flat && layout !== "3d") layout = this.flat
    this.layout = layout
    if (layout in PLANES) this.active = layout
    this.arrange()
    this.niivue.setSliceType(LAYOUTS[layout])
    this.tell("layout", layout)
  }

  choosePlane(plane) {
    if (this.flat) return
    if (this.layout === "planes") {
      this.activate(plane)
      this.redrawMarks()
    } else this.setLayout(plane)
  }

  activate(plane) {
    this.active = plane
  }

  /** @param {number} [i] which image */
  window(min, max, i = this.base) {
    const image = this.images[i]
    if (!(max > min) || image.image.components === 3) return
    Object.assign(image, { min, max })
    image.nv.cal_min = min
    image.nv.cal_max = max
    this.refresh(image.nv)
    this.tell("window", { image: image.name, min, max })
  }

  /** By shares of the window's width: wider, and brighter. */
  stretchWindow(wider, brighter) {
    const shown = this.current
    const width = shown.max - shown.min
    const middle = (shown.max + shown.min) / 2 - brighter * width
    const half = Math.max(1e-6 * Math.abs(width), (width * Math.exp(wider)) / 2)
    this.window(middle - half, middle + half)
  }

  nextPreset() {
    const { presets, min, max } = this.current
    if (!presets.length) return
    const next = (presets.findIndex((one) => one.min === min && one.max === max) + 1) % presets.length
    this.window(presets[next].min, presets[next].max)
  }

  /** Which image is shown, and which one lies over it (-1: none). */
  show(base, over = -1) {
    const { mm } = this.value()
    this.base = base
    this.over = over === base ? -1 : over
    this.flat = flatPlane(this.current.nv)
    this.arrange()
    this.at(mm)
    this.tell("images", { base, over: this.over })
  }

  setFrame(frame) {
    this.frame = frame
    for (const { nv, image } of this.images) nv.frame4D = Math.min(frame, image.frames - 1)
    this.arrange()
    this.tell("move", this.value())
  }

  /** @param {number} i an image: how much the one that lies over the first covers it */
  opacity(i, x) {
    if (i !== this.over) return
    this.mix = Math.min(1, Math.max(0, x))
    this.arrange()
    this.tell("images", { base: this.base, over: this.over })
  }

  /** @param {string|number} overlay name or place @param {number} label number in the file */
  toggle(overlay, label, shown) {
    const found = this.overlay(overlay)
    const one = found.labels.find(({ number }) => number === label)
    if (!one) throw new Error(`${found.name} has no label ${label}.`)
    one.shown = shown ?? !one.shown
    this.recolour(found)
  }

  /** All labels of an overlay at once. */
  toggleAll(overlay, shown) {
    const found = this.overlay(overlay)
    for (const label of found.labels) label.shown = shown
    this.recolour(found)
  }

  setStyle(overlay, style) {
    const found = this.overlay(overlay)
    if (style !== "filled" && !sameGrid(found.image, this.current.image)) return
    found.style = style
    this.arrange()
    this.tell("labels", found.name)
  }

  setOverlayOpacity(overlay, x) {
    const found = this.overlay(overlay)
    found.opacity = Math.min(1, Math.max(0, x))
    this.arrange()
    this.tell("labels", found.name)
  }

  hideOverlays(hidden = !this.hidden) {
    this.hidden = hidden
    this.arrange()
    this.tell("labels", null)
  }

  overlay(named) {
    const found = typeof named === "number" ? this.overlays[named] : this.overlays.find(({ name }) => name === named)
    if (!found) throw new Error(`There is no overlay named ${named}.`)
    return found
  }

  /** Voxels as squares, or smooth between their middles. */
  setSquares(squares = !this.squares) {
    this.squares = squares
    this.niivue.setInterpolation(squares)
  }

  // ---- zoom

  zoom(factor) {
    if (this.layout === "3d") {
      this.niivue.setScale(Math.min(4, Math.max(0.4, this.niivue.scene.volScaleMultiplier * factor)))
      return
    }
    const pan = this.niivue.scene.pan2Dxyzmm
    const zoom = Math.min(MOST_ZOOM, Math.max(0.5, pan[3] * factor))
    const base = this.current.nv
    this.cross.forEach((voxel, axis) => {
      // The crosshair stays where it is on the screen.
      const mm = base.extentsMinOrtho[axis] + (voxel + 0.5) * base.pixDimsRAS[axis + 1]
      pan[axis] += mm * (pan[3] - zoom)
    })
    pan[3] = zoom
    this.niivue.drawScene()
  }

  pan(tile, dx, dy) {
    const { across, up } = PLANES[tile.plane]
    const pan = this.niivue.scene.pan2Dxyzmm
    const [x0, y0] = tile.voxel(0, 0)
    const [x1, y1] = tile.voxel(dx, dy)
    const { pixDimsRAS } = this.current.nv
    pan[across] += (x1 - x0) * pixDimsRAS[across + 1] * pan[3]
    pan[up] += (y1 - y0) * pixDimsRAS[up + 1] * pan[3]
    this.niivue.drawScene()
  }

  whole() {
    this.niivue.scene.pan2Dxyzmm = [0, 0, 0, 1]
    if (this.layout === "3d") this.niivue.setScale(1)
    this.niivue.drawScene()
  }

  turn(azimuth, elevation) {
    const { scene } = this.niivue
    this.niivue.setRenderAzimuthElevation(scene.renderAzimuth + azimuth, scene.renderElevation + elevation)
  }

  // ---- drawing

  /** Give NiiVue the layers that are shown, in their order. */
  arrange() {
    if (!this.niivue || this.closed) return
    const solid = this.layout === "3d"
    const filled = this.hidden ? [] : this.overlays.filter((overlay) => solid || overlay.style !== "outline")
    this.current.nv._opacity = solid && filled.length ? HAZE : 1
    this.current.nv._colormap = this.current.colormap
    const layers = [this.current.nv]
    if (this.over >= 0) {
      this.images[this.over].nv._opacity = this.mix
      this.images[this.over].nv._colormap = this.images[this.over].over
      layers.push(this.images[this.over].nv)
    }
    for (const overlay of filled) {
      overlay.nv._opacity = solid ? 1 : overlay.style === "both" ? 0.5 * overlay.opacity : overlay.opacity
      overlay.nv.colormapLabel = colourTable(overlay.labels)
      layers.push(overlay.nv)
    }
    this.niivue.layers(layers)
  }

  recolour(overlay) {
    overlay.nv.colormapLabel = colourTable(overlay.labels)
    this.refresh(overlay.nv)
    this.tell("labels", overlay.name)
  }

  /** Draw one layer anew, and those over it. */
  refresh(nv) {
    const from = this.niivue.volumes.indexOf(nv)
    // The first layer over the base begins the texture that all the others are laid into.
    const first = from > 0 ? 1 : from
    if (from >= 0) for (let i = first; i < this.niivue.volumes.length; i++) this.niivue.refreshLayers(this.niivue.volumes[i], i)
    this.niivue.drawScene()
  }

  redrawMarks() {
    if (this.closed) return
    const { context, size } = this.panel.markContext()
    const overlays = this.overlays
    if (this.hidden) this.overlays = []
    drawMarks(context, this, size)
    this.overlays = overlays
  }

  // ---- the rest

  get sheared() {
    return shear(this.current.image.affine) > SHEARED_DEGREES
  }

  get spacing() {
    return spacing(this.current.image.affine)
  }

  /** @param {"move"|"window"|"labels"|"images"|"layout"|"close"} event */
  on(event, call) {
    if (!this.listeners.has(event)) this.listeners.set(event, new Set())
    this.listeners.get(event).add(call)
    return () => this.listeners.get(event).delete(call)
  }

  tell(event, told) {
    for (const call of this.listeners.get(event) ?? []) call(told)
  }

  /** Give the memory back and leave the element empty. */
  close() {
    if (this.closed) return
    this.closed = true
    this.stopped.abort()
    if (this.scene) leaveScene(this.scene)
    this.scene = null
    this.tell("close")
    this.panel.remove()
    this.images = []
    this.overlays = []
    this.listeners.clear()
  }
}

/** The plane of a picture that is one slice, or null. */
function flatPlane(nv) {
  const thin = Object.entries(PLANES).filter(([, { normal }]) => nv.dimsRAS[normal + 1] === 1)
  return thin.length ? thin[0][0] : null
}

function sameGrid(p, q) {
  const near = (a, b) => a.every((row, i) => row.every((x, j) => Math.abs(x - b[i][j]) < 1e-3))
  return p.dims.every((n, axis) => n === q.dims[axis]) && near(p.affine, q.affine)
}

/** An image without NaN and infinities, which would spoil the textures; the values that are told stay as they are. */
function finite(image) {
  if (!(image.array instanceof Float32Array || image.array instanceof Float64Array)) return image
  if (image.array.every(Number.isFinite)) return image
  return { ...image, array: image.array.map((x) => (Number.isFinite(x) ? x : 0)) }
}
