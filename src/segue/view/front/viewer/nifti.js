// NIfTI files as arrays. Read here and not by NiiVue, so that numbers are those of the file (its 32-bit integers lose
// the last voxel there) and the affine is chosen as nibabel does: sform, else qform, else voxel sizes.

/**
 * @typedef {object} Image
 * @property {[number, number, number]} dims
 * @property {number} frames channels or time points after the third axis
 * @property {number} components 3 where a voxel is red, green and blue
 * @property {number[][]} affine three rows of four: voxel index to RAS millimetres
 * @property {number} slope
 * @property {number} inter
 * @property {Uint8Array|Int16Array|Uint16Array|Float32Array|Float64Array} array as stored, first axis fastest
 */

const READERS = {
  2: (view, n) => Uint8Array.from({ length: n }, (_, i) => view.getUint8(i)),
  4: (view, n, little) => Int16Array.from({ length: n }, (_, i) => view.getInt16(2 * i, little)),
  8: (view, n, little) => Float64Array.from({ length: n }, (_, i) => view.getInt32(4 * i, little)),
  16: (view, n, little) => Float32Array.from({ length: n }, (_, i) => view.getFloat32(4 * i, little)),
  64: (view, n, little) => Float64Array.from({ length: n }, (_, i) => view.getFloat64(8 * i, little)),
  128: (view, n) => Uint8Array.from({ length: n }, (_, i) => view.getUint8(i)),
  256: (view, n) => Int16Array.from({ length: n }, (_, i) => view.getInt8(i)),
  512: (view, n, little) => Uint16Array.from({ length: n }, (_, i) => view.getUint16(2 * i, little)),
  768: (view, n, little) => Float64Array.from({ length: n }, (_, i) => view.getUint32(4 * i, little)),
  1024: (view, n, little) => Float64Array.from({ length: n }, (_, i) => Number(view.getBigInt64(8 * i, little))),
  1280: (view, n, little) => Float64Array.from({ length: n }, (_, i) => Number(view.getBigUint64(8 * i, little))),
}
const BYTES = { 2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 128: 1, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8 }
// Where the file's own bytes can be taken as they lie.
const AS_STORED = { 2: Uint8Array, 4: Int16Array, 16: Float32Array, 64: Float64Array, 128: Uint8Array, 512: Uint16Array }

/** The bytes of a file, unpacked where they are gzipped. */
export async function unpacked(bytes) {
  const given = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes)
  if (given[0] !== 0x1f || given[1] !== 0x8b) return given
  const stream = new Blob([given]).stream().pipeThrough(new DecompressionStream("gzip"))
  return new Uint8Array(await new Response(stream).arrayBuffer())
}

/**
 * @param {Uint8Array} bytes an unpacked NIfTI-1 or NIfTI-2 file
 * @returns {Image}
 */
export function readNifti(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.byteLength < 348) throw new Error("This is no NIfTI file: it is too short.")
  const size = [true, false].map((little) => view.getInt32(0, little))
  const little = size[0] === 348 || size[0] === 540
  const told = little ? size[0] : size[1]
  if (told !== 348 && told !== 540) throw new Error("This is no NIfTI file.")
  const at = told === 348 ? header1(view, little) : header2(view, little)
  const bytesPer = BYTES[at.type]
  if (!bytesPer) throw new Error(`Voxels of NIfTI type ${at.type} cannot be shown.`)
  const sizes = at.dim.slice(1, at.dim[0] + 1).map((n) => Math.max(1, n))
  while (sizes.length < 3) sizes.push(1)
  const dims = sizes.slice(0, 3)
  const frames = sizes.slice(3).reduce((all, n) => all * n, 1)
  const components = at.type === 128 ? 3 : 1
  const count = dims[0] * dims[1] * dims[2] * frames * components
  if (bytes.byteLength < at.offset + count * bytesPer) throw new Error("This NIfTI file ends before its last voxel.")
  const start = bytes.byteOffset + at.offset
  const Stored = AS_STORED[at.type]
  const array =
    Stored && (little || bytesPer === 1)
      ? new Stored(bytes.buffer.slice(start, start + count * bytesPer))
      : READERS[at.type](new DataView(bytes.buffer, start, count * bytesPer), count, little)
  const scaled = Number.isFinite(at.slope) && at.slope !== 0
  return {
    dims,
    frames,
    components,
    array,
    affine: affineOf(at, dims),
    slope: scaled ? at.slope : 1,
    inter: scaled && Number.isFinite(at.inter) ? at.inter : 0,
  }
}

function header1(view, little) {
  const floats = (from, n) => Array.from({ length: n }, (_, i) => view.getFloat32(from + 4 * i, little))
  return {
    dim: Array.from({ length: 8 }, (_, i) => view.getInt16(40 + 2 * i, little)),
    type: view.getInt16(70, little),
    pixdim: floats(76, 8),
    offset: view.getFloat32(108, little),
    slope: view.getFloat32(112, little),
    inter: view.getFloat32(116, little),
    qform: view.getInt16(252, little),
    sform: view.getInt16(254, little),
    quaternion: floats(256, 3),
    origin: floats(268, 3),
    rows: [floats(280, 4), floats(296, 4), floats(312, 4)],
  }
}

function header2(view, little) {
  const floats = (from, n) => Array.from({ length: n }, (_, i) => view.getFloat64(from + 8 * i, little))
  return {
    dim: Array.from({ length: 8 }, (_, i) => Number(view.getBigInt64(16 + 8 * i, little))),
    type: view.getInt16(12, little),
    pixdim: floats(104, 8),
    offset: Number(view.getBigInt64(168, little)),
    slope: view.getFloat64(176, little),
    inter: view.getFloat64(184, little),
    qform: view.getInt32(344, little),
    sform: view.getInt32(348, little),
    quaternion: floats(352, 3),
    origin: floats(376, 3),
    rows: [floats(400, 4), floats(432, 4), floats(464, 4)],
  }
}

function affineOf(at, dims) {
  if (at.sform > 0) return at.rows
  const [x, y, z] = at.pixdim.slice(1, 4).map((step) => Math.abs(step) || 1)
  if (at.qform > 0) {
    const [b, c, d] = at.quaternion
    const a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d))
    const turn = [
      [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
      [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
      [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    const steps = [x, y, at.pixdim[0] < 0 ? -z : z]
    return turn.map((row, i) => [...row.map((value, j) => value * steps[j]), at.origin[i]])
  }
  const middle = dims.map((n) => (n - 1) / 2)
  return [
    [-x, 0, 0, x * middle[0]],
    [0, y, 0, -y * middle[1]],
    [0, 0, z, -z * middle[2]],
  ]
}
