// Where voxels lie. All numbers are doubles: NiiVue's own matrices are of single precision.

/** @param {number[][]} affine @param {number[]} voxel @returns {number[]} RAS millimetres */
export function toMm(affine, voxel) {
  return affine.map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3])
}

/** @param {number[][]} affine @param {number[]} mm @returns {number[]} voxel index, with fractions */
export function toVoxel(affine, mm) {
  const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = affine
  const p = [mm[0] - x, mm[1] - y, mm[2] - z]
  const minors = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ]
  const volume = a * minors[0][0] + b * minors[1][0] + c * minors[2][0]
  return minors.map((row) => (row[0] * p[0] + row[1] * p[1] + row[2] * p[2]) / volume)
}

/** The voxel that a point lies in, or null outside the image. */
export function voxelAt(image, mm) {
  const voxel = toVoxel(image.affine, mm).map((x) => Math.round(x) + 0) // no -0
  return voxel.every((n, axis) => n >= 0 && n < image.dims[axis]) ? voxel : null
}

/** Length of a voxel along each axis, in mm. */
export function spacing(affine) {
  return [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]))
}

/** By how many degrees the voxel axes are off right angles, at most. */
export function shear(affine) {
  const steps = spacing(affine)
  const angles = [[0, 1], [0, 2], [1, 2]].map(([p, q]) => {
    const dot = affine.reduce((sum, row) => sum + row[p] * row[q], 0)
    return Math.abs(90 - (Math.acos(Math.max(-1, Math.min(1, dot / (steps[p] * steps[q])))) * 180) / Math.PI)
  })
  return Math.max(...angles)
}

/** Index of a voxel in the array of one frame. */
export function offsetOf(image, voxel, frame = 0) {
  const [ni, nj, nk] = image.dims
  return voxel[0] + ni * (voxel[1] + nj * (voxel[2] + nk * frame))
}

/** What the array holds there, in the image's unit: a number, or red, green and blue. */
export function valueAt(image, voxel, frame = 0) {
  const place = offsetOf(image, voxel, frame)
  if (image.components === 3) return Array.from(image.array.subarray(3 * place, 3 * place + 3))
  return image.array[place] * image.slope + image.inter
}

/** Percentiles of a frame's finite values, from a sample of at most half a million. */
export function percentiles(image, shares, frame = 0) {
  const count = image.dims[0] * image.dims[1] * image.dims[2]
  const step = Math.max(1, Math.floor(count / 500_000))
  const found = []
  for (let i = frame * count; i < (frame + 1) * count; i += step) {
    const value = image.array[i]
    if (Number.isFinite(value)) found.push(value)
  }
  if (!found.length) return shares.map((_, i) => i)
  const sorted = Float64Array.from(found).sort()
  return shares.map((share) => sorted[Math.round(share * (sorted.length - 1))] * image.slope + image.inter)
}
