// Which grey values an image is shown between: named presets by its unit, else by its own percentiles.
import { percentiles } from "./grid.js"

const CT = [
  { name: "soft tissue", min: -160, max: 240 },
  { name: "lung", min: -1350, max: 150 },
  { name: "bone", min: -500, max: 1300 },
  { name: "brain", min: 0, max: 80 },
]
const PET = [
  { name: "SUV 0–10", min: 0, max: 10 },
  { name: "SUV 0–5", min: 0, max: 5 },
  { name: "SUV 0–20", min: 0, max: 20 },
]

/** @returns {{name: string, min: number, max: number}[]} the first is the one to begin with */
export function presetsFor(unit, image, own = []) {
  if (image.components === 3) return []
  if (own.length) return own
  if (unit === "HU") return CT
  if (unit === "SUV") return PET
  let [least, low, high, most] = percentiles(image, [0, 0.01, 0.99, 1])
  if (!(high > low)) [low, high] = [least, most]
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5]
  const found = [{ name: "1st to 99th percentile", min: low, max: high }]
  if (most > least && (most !== high || least !== low)) found.push({ name: "least to most", min: least, max: most })
  return found
}

/** The presets with the one first that the caller began with; percentiles that he took of other voxels stay one. */
export function startingWith({ min, max }, presets) {
  if (!(max > min) || !presets.length) return presets
  const same = presets.find((one) => one.min === min && one.max === max)
  if (same) return [same, ...presets.filter((one) => one !== same)]
  const [first, ...others] = presets
  const near = (a, b) => Math.abs(a - b) <= 0.1 * (first.max - first.min)
  if (near(first.min, min) && near(first.max, max)) return [{ name: first.name, min, max }, ...others]
  return [{ name: "as opened", min, max }, ...presets]
}
