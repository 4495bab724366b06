// Label maps: numbers of any size become places in a short list, which colours, toggles and outlines share.
import { offsetOf } from "./grid.js"

/**
 * @typedef {object} Label
 * @property {number} number as the file holds it
 * @property {string} name
 * @property {string} colour hex
 * @property {boolean} shown
 * @property {boolean} present whether any voxel has it
 */

/**
 * @param {import("./nifti.js").Image} image
 * @param {Record<string, {name: string, colour: string}>} declared by number
 * @returns {{image: import("./nifti.js").Image, labels: Label[]}} places in `labels` are the values of the new image, less one
 */
export function labelMap(image, declared) {
  const count = image.dims[0] * image.dims[1] * image.dims[2]
  const numbers = new Set()
  let last = NaN
  for (let i = 0; i < count; i++) {
    const value = image.array[i]
    if (value !== last) numbers.add((last = value))
  }
  const present = new Set([...numbers].map((value) => Math.round(value * image.slope + image.inter)))
  const named = Object.keys(declared).map(Number).filter((number) => number !== 0)
  const others = [...present].filter((number) => number !== 0 && !named.includes(number)).sort((a, b) => a - b)
  const labels = [...named, ...others].map((number) => ({
    number,
    name: declared[number]?.name ?? `label ${number}`,
    colour: declared[number]?.colour ?? "#9aa0a8",
    shown: true,
    present: present.has(number),
  }))
  const places = new Map(labels.map((label, place) => [label.number, place + 1]))
  const Places = labels.length < 256 ? Uint8Array : Uint16Array
  const array = new Places(count)
  let value = 0
  let place = 0
  for (let i = 0; i < count; i++) {
    if (image.array[i] !== value) {
      value = image.array[i]
      place = places.get(Math.round(value * image.slope + image.inter)) ?? 0
    }
    array[i] = place
  }
  return { image: { ...image, array, frames: 1, slope: 1, inter: 0 }, labels }
}

/** The colour table of a label map for NiiVue; what is not shown is transparent. */
export function colourTable(labels) {
  const lut = new Uint8ClampedArray(4 * (labels.length + 1))
  labels.forEach((label, place) => lut.set([...channels(label.colour), label.shown ? 255 : 0], 4 * (place + 1)))
  return { lut, min: 0, max: labels.length }
}

/** @param {string} hex @returns {[number, number, number]} */
export function channels(hex) {
  const number = Number.parseInt(hex.slice(1, 7), 16)
  return [number >> 16, (number >> 8) & 255, number & 255]
}

/** The voxel of a label that is nearest to the middle of all its voxels, or null where it has none. */
export function middleOf(image, place) {
  const [ni, nj, nk] = image.dims
  const sum = [0, 0, 0]
  let count = 0
  const each = (visit) => {
    for (let k = 0, at = 0; k < nk; k++)
      for (let j = 0; j < nj; j++) for (let i = 0; i < ni; i++, at++) if (image.array[at] === place) visit(i, j, k)
  }
  each((i, j, k) => {
    sum[0] += i
    sum[1] += j
    sum[2] += k
    count++
  })
  if (!count) return null
  const middle = sum.map((total) => total / count)
  let best = Infinity
  let found = null
  each((i, j, k) => {
    const distance = (i - middle[0]) ** 2 + (j - middle[1]) ** 2 + (k - middle[2]) ** 2
    if (distance < best) {
      best = distance
      found = [i, j, k]
    }
  })
  return found
}

/**
 * Borders of the labels in one slice, halfway between voxels (marching squares).
 * @param {(x: number, y: number) => number} at the place of the label at a pixel
 * @param {number} width @param {number} height of the slice in pixels
 * @param {(place: number) => boolean} wanted
 * @param {(place: number, x0: number, y0: number, x1: number, y1: number) => void} line in pixels, the first one's
 *   middle at 0
 */
export function borders(at, width, height, wanted, line) {
  const inside = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? at(x, y) : 0)
  for (let y = -1; y < height; y++) {
    let a = 0
    let d = 0
    for (let x = -1; x < width; x++) {
      const b = inside(x + 1, y)
      const c = inside(x + 1, y + 1)
      if (!(a === b && b === c && c === d)) {
        const corners = [a, b, c, d]
        corners.forEach((place, i) => {
          if (place && corners.indexOf(place) === i && wanted(place)) cell(corners, place, x, y, line)
        })
      }
      a = b
      d = c
    }
  }
}

function cell(corners, place, x, y, line) {
  const [a, b, c, d] = corners.map((corner) => corner === place)
  const [top, right, bottom, left] = [[x + 0.5, y], [x + 1, y + 0.5], [x + 0.5, y + 1], [x, y + 0.5]]
  const draw = (from, to) => line(place, ...from, ...to)
  if (a === c && b === d && a !== b) {
    // Two corners that touch at the middle: kept apart, as voxels that share only an edge.
    if (a) draw(left, top), draw(right, bottom)
    else draw(top, right), draw(bottom, left)
    return
  }
  const ends = []
  if (a !== b) ends.push(top)
  if (b !== c) ends.push(right)
  if (c !== d) ends.push(bottom)
  if (d !== a) ends.push(left)
  if (ends.length === 2) draw(...ends)
}

/** The label at a voxel, or null for background. */
export function labelAt(overlay, voxel) {
  const place = overlay.image.array[offsetOf(overlay.image, voxel)]
  return place ? overlay.labels[place - 1] : null
}
