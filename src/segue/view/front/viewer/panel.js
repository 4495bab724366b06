// The viewer's frame: stage, buttons, lists. Names from data are set as text, never as markup.
import { KEYS } from "./keys.js"
import style from "./viewer.css"

const LAYOUT_NAMES = { planes: "Planes", axial: "Axial", coronal: "Coronal", sagittal: "Sagittal", "3d": "3-D" }
const STYLES = { outline: "outline", filled: "filled", both: "both" }
const SAY_AFTER_MS = 600

let serial = 0

/** An element with attributes, properties (`onclick`, `textContent`) and children. */
function make(tag, given = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(given)) {
    if (name in made && typeof value !== "string") made[name] = value
    else made.setAttribute(name, value)
  }
  made.append(...children)
  return made
}

export class Panel {
  constructor(element, viewer) {
    this.viewer = viewer
    this.element = element
    this.id = `segue-viewer-${++serial}`
    addStyle()
    this.marks = make("canvas", { "aria-hidden": "true", class: "sv-marks" })
    this.status = make("p", { class: "sv-status", role: "status" }, "Loading")
    this.said = make("p", { class: "sv-unseen", "aria-live": "polite" })
    this.stage = make(
      "div",
      { class: "sv-stage", tabIndex: 0, role: "application", "aria-roledescription": "image viewer", "aria-describedby": `${this.id}-hint` },
      this.marks,
      this.status,
    )
    this.stage.setAttribute("aria-label", viewer.options.name ? `Images of ${viewer.options.name}` : "Images")
    this.bar = make("div", { class: "sv-bar" })
    this.side = make("div", { class: "sv-side" })
    this.readout = make("p", { class: "sv-readout" })
    this.helpList = make("div", { class: "sv-help", id: `${this.id}-help`, hidden: true })
    const hint = make("p", { class: "sv-unseen", id: `${this.id}-hint` }, "Arrow keys move the crosshair, Page Up and Page Down go through the slices, the question mark key lists all keys.")
    this.root = make("div", { class: "sv" }, this.bar, make("div", { class: "sv-body" }, make("div", { class: "sv-main" }, this.stage, this.readout), this.side), this.helpList, hint, this.said)
    element.replaceChildren(this.root)
    const { signal } = viewer.stopped
    const focus = (focused) => () => {
      viewer.focused = focused
      if (viewer.niivue) viewer.redrawMarks()
    }
    this.stage.addEventListener("focus", focus(true), { signal })
    this.stage.addEventListener("blur", focus(false), { signal })
  }

  busy(words) {
    this.status.textContent = words
    this.status.hidden = !words
  }

  lost() {
    this.busy("The graphics card dropped the picture: close this case and open it again.")
  }

  problem(element, error) {
    element.replaceChildren(make("p", { class: "problem", role: "alert" }, String(error?.message ?? error)))
  }

  remove() {
    clearTimeout(this.timer)
    this.root.remove()
  }

  /** The canvas over the picture, as large as it, cleared by who draws. */
  markContext() {
    const { clientWidth: width, clientHeight: height } = this.stage
    const dpr = this.viewer.niivue.uiData.dpr || 1
    const [w, h] = [Math.round(width * dpr), Math.round(height * dpr)]
    if (this.marks.width !== w || this.marks.height !== h) Object.assign(this.marks, { width: w, height: h })
    const context = this.marks.getContext("2d")
    context.setTransform(dpr, 0, 0, dpr, 0, 0)
    return { context, size: [width, height] }
  }

  build() {
    const { viewer } = this
    this.bar.append(...(viewer.flat ? [] : [this.layouts()]), this.windows(), this.tools())
    if (viewer.images.length > 1 || viewer.images.some(({ image }) => image.frames > 1)) this.side.append(this.imageChoice())
    if (viewer.overlays.length) this.side.append(this.labelTable())
    if (viewer.marked) this.side.append(this.place())
    // A picture with nothing to choose beside it takes the whole width.
    this.side.hidden = !this.side.children.length
    this.root.classList.toggle("sv-alone", this.side.hidden)
    if (viewer.sheared) this.side.append(make("p", { class: "sv-note" }, "The voxel axes of this image are not at right angles: the slices are drawn as if they were. Millimetres and values are right."))
    this.fillHelp()
    viewer.on("move", (value) => this.tellValue(value))
  }

  layouts() {
    const { viewer } = this
    const names = Object.keys(LAYOUT_NAMES)
    const group = make("div", { class: "sv-group", role: "group", "aria-label": "Layout" })
    const buttons = new Map()
    for (const name of names) {
      const button = make("button", { type: "button", "aria-pressed": "false", onclick: () => viewer.setLayout(name) }, LAYOUT_NAMES[name])
      buttons.set(name, button)
      group.append(button)
    }
    viewer.on("layout", (layout) => buttons.forEach((button, name) => button.setAttribute("aria-pressed", String(name === layout))))
    return group
  }

  windows() {
    const { viewer } = this
    const group = make("div", { class: "sv-group", role: "group", "aria-label": "Window of grey values" })
    const preset = make("select", { "aria-label": "Preset of the window" })
    const [low, high] = ["from", "to"].map((word) => make("input", { type: "number", step: "any", "aria-label": `Window ${word}` }))
    const unit = make("span", { class: "sv-unit" })
    const fill = () => {
      const { presets, image, unit: named } = viewer.current
      group.hidden = image.components === 3
      const own = make("option", { value: "", disabled: true }, "own")
      preset.replaceChildren(...presets.map(({ name }, i) => make("option", { value: String(i) }, name)), own)
      unit.textContent = named === "arbitrary" ? "" : named
      sync()
    }
    const sync = () => {
      const { presets, min, max } = viewer.current
      const found = presets.findIndex((one) => one.min === min && one.max === max)
      preset.value = found < 0 ? "" : String(found)
      low.value = short(min)
      high.value = short(max)
    }
    preset.onchange = () => {
      const { min, max } = viewer.current.presets[Number(preset.value)]
      viewer.window(min, max)
    }
    low.onchange = high.onchange = () => {
      const [min, max] = [low.valueAsNumber, high.valueAsNumber]
      if (max > min) viewer.window(min, max)
      else sync()
    }
    group.append(preset, low, make("span", { "aria-hidden": "true" }, "–"), high, unit)
    viewer.on("window", sync)
    viewer.on("images", fill)
    fill()
    return group
  }

  tools() {
    const { viewer } = this
    this.helpButton = make("button", { type: "button", "aria-expanded": "false", "aria-controls": `${this.id}-help`, onclick: () => this.help() }, "Keys")
    const group = make(
      "div",
      { class: "sv-group sv-end", role: "group", "aria-label": "View" },
      make("button", { type: "button", onclick: () => viewer.zoom(1.25), "aria-label": "Larger" }, "+"),
      make("button", { type: "button", onclick: () => viewer.zoom(0.8), "aria-label": "Smaller" }, "−"),
      make("button", { type: "button", onclick: () => viewer.home() }, "Reset"),
    )
    if (this.root.requestFullscreen) {
      const full = make("button", { type: "button" }, "Full screen")
      full.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen().catch(() => {}))
      group.append(full)
    }
    group.append(this.helpButton)
    return group
  }

  imageChoice() {
    const { viewer } = this
    const box = make("fieldset", {}, make("legend", {}, "Images"))
    const options = () => viewer.images.map(({ name }, i) => make("option", { value: String(i) }, name))
    if (viewer.images.length > 1) {
      const base = make("select", {}, ...options())
      const over = make("select", {}, make("option", { value: "-1" }, "none"), ...options())
      const mix = make("input", { type: "range", min: "0", max: "100" })
      base.onchange = () => viewer.show(Number(base.value), viewer.over)
      over.onchange = () => viewer.show(viewer.base, Number(over.value))
      mix.oninput = () => viewer.opacity(viewer.over, mix.valueAsNumber / 100)
      const share = make("label", { class: "sv-row" }, make("span", {}, "mix"), mix)
      box.append(
        make("label", { class: "sv-row" }, make("span", {}, "shown"), base),
        make("label", { class: "sv-row" }, make("span", {}, "over it"), over),
        share,
      )
      const sync = () => {
        base.value = String(viewer.base)
        over.value = String(viewer.over)
        mix.value = String(Math.round(100 * viewer.mix))
        share.hidden = viewer.over < 0
      }
      viewer.on("images", sync)
      sync()
    }
    const frames = Math.max(...viewer.images.map(({ image }) => image.frames))
    if (frames > 1) {
      const frame = make("input", { type: "range", min: "1", max: String(frames), value: "1" })
      const told = make("output", {}, `1 of ${frames}`)
      frame.oninput = () => {
        viewer.setFrame(frame.valueAsNumber - 1)
        told.textContent = `${frame.value} of ${frames}`
      }
      box.append(make("label", { class: "sv-row" }, make("span", {}, "frame"), frame, told))
    }
    return box
  }

  labelTable() {
    const { viewer } = this
    const box = make("fieldset", { class: "sv-labels" }, make("legend", {}, "Labels"))
    const table = make("table")
    const head = make("tr", {}, make("th", { scope: "col" }, make("span", { class: "sv-unseen" }, "label")))
    const foot = []
    const boxes = []
    viewer.overlays.forEach((overlay) => {
      head.append(make("th", { scope: "col" }, overlay.name))
      const all = make("input", { type: "checkbox", "aria-label": `${overlay.name}: all labels` })
      all.onchange = () => viewer.toggleAll(overlay.name, all.checked)
      boxes.push(() => {
        const shown = overlay.labels.filter((label) => label.shown).length
        all.checked = shown === overlay.labels.length
        all.indeterminate = shown > 0 && shown < overlay.labels.length
      })
      foot.push(all)
    })
    // One row for a label, whichever of the maps has it: files of other makers call other things by the same number.
    const rows = new Map()
    viewer.overlays.forEach((overlay, column) =>
      overlay.labels.forEach((label, i) => {
        const key = `${label.number} ${label.name}`
        if (!rows.has(key)) rows.set(key, { label, cells: viewer.overlays.map(() => null) })
        rows.get(key).cells[column] = { overlay, label, place: i + 1 }
      }),
    )
    const body = make("tbody")
    if (rows.size > 1) {
      body.append(make("tr", { class: "sv-all" }, make("th", { scope: "row" }, "all"), ...foot.map((all) => make("td", {}, all))))
    }
    for (const { label, cells } of rows.values()) {
      const swatch = make("span", { class: "sv-swatch", "aria-hidden": "true" })
      swatch.style.background = label.colour
      const there = cells.find((cell) => cell?.label.present)
      const words = make("span", {}, label.name)
      const go = there
        ? make("button", { type: "button", class: "sv-go", title: "to its middle", onclick: () => viewer.goTo(there.overlay, there.place) }, swatch, words)
        : make("span", { class: "sv-go sv-absent" }, swatch, words)
      const row = make("tr", {}, make("th", { scope: "row" }, go))
      for (const cell of cells) {
        if (!cell) {
          row.append(make("td"))
          continue
        }
        const check = make("input", { type: "checkbox", "aria-label": `${cell.overlay.name}: ${label.name}` })
        check.onchange = () => viewer.toggle(cell.overlay.name, label.number, check.checked)
        boxes.push(() => (check.checked = cell.label.shown))
        row.append(make("td", cell.label.present ? {} : { class: "sv-empty", title: "not in this image" }, check))
      }
      body.append(row)
    }
    table.append(make("thead", {}, head), body)
    box.append(make("div", { class: "sv-scroll", tabIndex: rows.size > 8 ? 0 : -1, role: "region", "aria-label": "Labels" }, table))
    for (const overlay of viewer.overlays) box.append(this.styleRow(overlay))
    const sync = () => boxes.forEach((set) => set())
    viewer.on("labels", sync)
    sync()
    return box
  }

  styleRow(overlay) {
    const { viewer } = this
    const choice = make("select", { "aria-label": `${overlay.name} as` }, ...Object.keys(STYLES).map((name) => make("option", { value: name }, STYLES[name])))
    const range = make("input", { type: "range", min: "0", max: "100", "aria-label": `${overlay.name}: opacity` })
    choice.onchange = () => viewer.setStyle(overlay.name, choice.value)
    range.oninput = () => viewer.setOverlayOpacity(overlay.name, range.valueAsNumber / 100)
    const sync = () => {
      choice.value = overlay.style
      range.value = String(Math.round(100 * overlay.opacity))
    }
    viewer.on("labels", sync)
    sync()
    return make("div", { class: "sv-row" }, make("span", {}, overlay.name), choice, range)
  }

  place() {
    const { viewer } = this
    const field = make("input", { type: "text", inputmode: "text", size: "16", spellcheck: false, placeholder: "x y z", "aria-describedby": `${this.id}-wrong` })
    const wrong = make("span", { id: `${this.id}-wrong`, class: "sv-wrong", role: "alert" })
    const form = make("form", { class: "sv-row" }, make("label", { class: "sv-row" }, make("span", {}, "to mm"), field), make("button", { type: "submit" }, "Go"))
    form.onsubmit = (event) => {
      event.preventDefault()
      const mm = field.value.replaceAll("−", "-").split(/[\s,;]+/).filter(Boolean).map(Number)
      const fine = mm.length === 3 && mm.every(Number.isFinite)
      wrong.textContent = fine ? "" : "three numbers, in mm to the right, front and head"
      if (fine) viewer.at(mm)
    }
    return make("fieldset", {}, make("legend", {}, "Place"), form, wrong)
  }

  fillHelp() {
    const list = make("dl")
    for (const [keys, words] of KEYS) list.append(make("dt", {}, keys), make("dd", {}, words))
    const mouse = "Mouse: left button moves the crosshair, right button sets the window, shift and left button moves the image, the wheel goes through the slices once the images have the focus, Ctrl and wheel enlarge. Fingers: one moves the crosshair, two move and enlarge."
    this.helpList.append(make("h4", {}, "Keys, while the images have the focus"), list, make("p", {}, mouse))
  }

  help(open = this.helpList.hidden) {
    this.helpList.hidden = !open
    this.helpButton.setAttribute("aria-expanded", String(open))
  }

  tellValue({ mm, voxel, values, labels }) {
    const parts = values.map(({ name, unit, value }) => `${name} ${words(value)}${value === null || !unit || unit === "arbitrary" ? "" : ` ${unit}`}`)
    const found = labels.map(({ name, label }) => `${name}: ${label ?? "–"}`)
    const at = mm.map((x) => x.toFixed(1).replace(/^-/, "−"))
    // Nobody knows how large the pixels of a picture are.
    const where = this.viewer.marked
      ? [`x ${at[0]}  y ${at[1]}  z ${at[2]} mm`, `voxel ${voxel.join(", ")}`]
      : [`pixel ${voxel.filter((_, axis) => this.viewer.current.image.dims[axis] > 1).join(", ")}`]
    this.readout.replaceChildren(
      ...where.map((part) => make("span", {}, part)),
      ...[...parts, ...found].map((part) => make("span", { class: "sv-value" }, part)),
    )
    clearTimeout(this.timer)
    // For a screen reader: once the crosshair stands still, and only while the stage is in use.
    if (this.viewer.focused) this.timer = setTimeout(() => (this.said.textContent = [...parts, ...found, ...where].join("; ")), SAY_AFTER_MS)
  }
}

function words(value) {
  if (value === null) return "outside"
  if (Array.isArray(value)) return value.join(" ")
  return short(value).replace(/^-/, "−")
}

/** Enough digits to tell neighbours apart, none that mean nothing. */
function short(value) {
  if (Number.isInteger(value)) return String(value)
  return String(Number(value.toPrecision(Math.abs(value) >= 1000 ? 6 : 4)))
}

function addStyle() {
  if (document.getElementById("segue-viewer-style")) return
  document.head.append(make("style", { id: "segue-viewer-style" }, style))
}
