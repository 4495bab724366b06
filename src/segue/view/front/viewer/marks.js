// Drawn over the slices: outlines, crosshair, sides of the patient, a bar of known length.
import { borders } from "./labels.js"

export const PLANES = {
  axial: { normal: 2, across: 0, up: 1, sides: ["R", "L", "A", "P"] },
  coronal: { normal: 1, across: 0, up: 2, sides: ["R", "L", "S", "I"] },
  sagittal: { normal: 0, across: 1, up: 2, sides: ["A", "P", "S", "I"] },
}
const NAMES = ["axial", "coronal", "sagittal"] // NiiVue's numbers of the slice types
const CROSSHAIR = "#f0e442" // yellow of Okabe and Ito's colours, used for no label
const GAP_PX = 9

/**
 * The slices as they lie on the screen, in CSS pixels; voxels are those of the base image in RAS order.
 * @returns {{plane: string, box: number[], x: (voxel: number) => number, y: (voxel: number) => number,
 *   voxel: (x: number, y: number) => number[], pxPerMm: number}[]}
 */
export function tiles(niivue) {
  const base = niivue.volumes[0]
  if (!base) return []
  const dpr = niivue.uiData.dpr || 1
  return niivue.screenSlices
    .filter((tile) => NAMES[tile.axCorSag] && Number.isFinite(tile.sliceFrac))
    .map((tile) => {
      const plane = NAMES[tile.axCorSag]
      const { across, up } = PLANES[plane]
      const [left, top, width, height] = tile.leftTopWidthHeight.map((px) => px / dpr)
      const step = (axis) => base.pixDimsRAS[axis + 1]
      const first = (axis) => base.extentsMinOrtho[axis] + 0.5 * step(axis)
      const [fromX, fromY] = tile.leftTopMM
      const [spanX, spanY] = tile.fovMM
      return {
        plane,
        box: [left, top, width, height],
        x: (voxel) => left + ((first(across) + voxel * step(across) - fromX) / spanX) * width,
        y: (voxel) => top + height - ((first(up) + voxel * step(up) - fromY) / spanY) * height,
        voxel: (x, y) => [
          (fromX + ((x - left) / width) * spanX - first(across)) / step(across),
          (fromY + ((top + height - y) / height) * spanY - first(up)) / step(up),
        ],
        pxPerMm: Math.abs(width / spanX),
      }
    })
}

/** @param {CanvasRenderingContext2D} context sized to the stage, in CSS pixels */
export function drawMarks(context, viewer, size) {
  context.clearRect(0, 0, ...size)
  for (const tile of tiles(viewer.niivue)) {
    context.save()
    context.beginPath()
    context.rect(...tile.box)
    context.clip()
    viewer.overlays.forEach((overlay, place) => {
      if (overlay.style !== "filled") outline(context, viewer, overlay, tile, place)
    })
    crosshair(context, tile, viewer.cross)
    if (viewer.marked) {
      letters(context, tile)
      title(context, tile, viewer.planesShown > 1 && tile.plane === viewer.active && viewer.focused)
      scaleBar(context, tile)
    }
    context.restore()
  }
}

function outline(context, viewer, overlay, tile, order) {
  const shown = overlay.labels.map((label) => label.shown)
  if (!shown.some(Boolean)) return
  const { normal, across, up } = PLANES[tile.plane]
  const { dimsRAS, img2RASstart: start, img2RASstep: step } = overlay.nv
  const lines = new Map()
  // The grid of a label map is that of its image, or its outline would lie beside it: checked when it was opened.
  const from = start[0] + start[1] + start[2] + viewer.cross[normal] * step[normal]
  const array = overlay.image.array
  borders(
    (x, y) => array[from + x * step[across] + y * step[up]],
    dimsRAS[across + 1],
    dimsRAS[up + 1],
    (place) => shown[place - 1],
    (place, x0, y0, x1, y1) => {
      if (!lines.has(place)) lines.set(place, new Path2D())
      const path = lines.get(place)
      path.moveTo(tile.x(x0), tile.y(y0))
      path.lineTo(tile.x(x1), tile.y(y1))
    },
  )
  context.lineCap = "round"
  // The first is wide and the second thin, so that both stay visible where they agree.
  const width = order === 0 ? 2.6 : 1.3
  for (const [place, path] of lines) {
    context.globalAlpha = 0.55 * overlay.opacity
    context.strokeStyle = "#000"
    context.lineWidth = width + 1.6
    context.stroke(path)
    context.globalAlpha = overlay.opacity
    context.strokeStyle = order === 0 ? overlay.labels[place - 1].colour : lighter(overlay.labels[place - 1].colour)
    context.lineWidth = width
    context.stroke(path)
  }
  context.globalAlpha = 1
}

function lighter(colour) {
  const number = Number.parseInt(colour.slice(1, 7), 16)
  const mixed = [number >> 16, (number >> 8) & 255, number & 255].map((x) => Math.round(0.45 * x + 0.55 * 255))
  return `rgb(${mixed.join(",")})`
}

function crosshair(context, tile, cross) {
  const { across, up } = PLANES[tile.plane]
  const [left, top, width, height] = tile.box
  const x = Math.round(tile.x(cross[across])) + 0.5
  const y = Math.round(tile.y(cross[up])) + 0.5
  const path = new Path2D(`M${left} ${y}H${x - GAP_PX}M${x + GAP_PX} ${y}H${left + width}` +
    `M${x} ${top}V${y - GAP_PX}M${x} ${y + GAP_PX}V${top + height}`) // prettier-ignore
  context.strokeStyle = CROSSHAIR
  context.globalAlpha = 0.75
  context.lineWidth = 1
  context.stroke(path)
  context.globalAlpha = 1
}

function written(context, words, x, y, align = "center", baseline = "middle") {
  context.textAlign = align
  context.textBaseline = baseline
  context.lineWidth = 3
  context.lineJoin = "round"
  context.strokeStyle = "#000"
  context.strokeText(words, x, y)
  context.fillStyle = "#fff"
  context.fillText(words, x, y)
}

function letters(context, tile) {
  const [left, top, width, height] = tile.box
  const [west, east, north, south] = PLANES[tile.plane].sides
  context.font = "bold 14px system-ui, sans-serif"
  written(context, west, left + 12, top + height / 2)
  written(context, east, left + width - 12, top + height / 2)
  written(context, north, left + width / 2, top + 13)
  written(context, south, left + width / 2, top + height - 13)
}

function title(context, tile, active) {
  const [left, top, width] = tile.box
  if (width < 90) return
  context.font = "12px system-ui, sans-serif"
  written(context, active ? `▸ ${tile.plane}` : tile.plane, left + 6, top + 6, "left", "top")
}

function scaleBar(context, tile) {
  const [left, top, width, height] = tile.box
  const most = (0.3 * width) / tile.pxPerMm
  if (!(most > 0) || width < 90) return
  const power = 10 ** Math.floor(Math.log10(most))
  const length = power * [5, 2, 1].find((n) => n * power <= most * (1 + 1e-9))
  const [x, y, px] = [left + 8, top + height - 9, length * tile.pxPerMm]
  for (const [colour, thick] of [["#000", 4], ["#fff", 2]]) {
    context.strokeStyle = colour
    context.lineWidth = thick
    context.beginPath()
    context.moveTo(x, y)
    context.lineTo(x + px, y)
    context.stroke()
  }
  context.font = "11px system-ui, sans-serif"
  written(context, length >= 10 ? `${+(length / 10).toPrecision(3)} cm` : `${+length.toPrecision(3)} mm`, x, y - 5, "left", "bottom")
}
