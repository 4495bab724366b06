// What NiiVue draws: the images and the filled label maps. Marks, outlines and the crosshair are drawn over it.
import { NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue"
import { spacing } from "./grid.js"
import { colourTable } from "./labels.js"

const CODES = new Map([[Uint8Array, [2, 8]], [Int16Array, [4, 16]], [Uint16Array, [512, 16]], [Float32Array, [16, 32]], [Float64Array, [64, 64]]])
const RGB24 = [128, 24]
const LABELS = 1002 // NIFTI_INTENT_LABEL

export const LAYOUTS = {
  planes: SLICE_TYPE.MULTIPLANAR,
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  "3d": SLICE_TYPE.RENDER,
}

/** NiiVue without its own mouse, keys and letters, telling when it has drawn. */
class Drawing extends Niivue {
  afterDrawing = () => {}

  drawScene() {
    const told = super.drawScene()
    this.afterDrawing()
    return told
  }

  /** These volumes and no others, the first being the grid that all are drawn on. */
  layers(volumes) {
    this.volumes = volumes
    this.back = volumes[0] ?? null
    this.overlays = volumes.slice(1)
    this.updateGLVolume()
  }
}

/** Whether this browser draws with WebGL 2 at all. */
export function canDraw() {
  const gl = document.createElement("canvas").getContext("webgl2")
  gl?.getExtension("WEBGL_lose_context")?.loseContext()
  return gl !== null
}

/** @param {HTMLCanvasElement} canvas */
export async function makeScene(canvas) {
  const niivue = new Drawing({
    logLevel: "error",
    interactive: false,
    dragAndDropEnabled: false,
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    isOrientationTextVisible: false,
    isSliceMM: false,
    crosshairWidth: 0,
    multiplanarShowRender: SHOW_RENDER.NEVER,
    multiplanarPadPixels: 4,
    backColor: [0, 0, 0, 1],
    loadingText: "",
    isOrientCube: true,
  })
  await niivue.attachToCanvas(canvas, false)
  return niivue
}

/**
 * An array as NiiVue holds it.
 * @param {import("./nifti.js").Image} image
 * @returns {NVImage}
 */
export function niivueImage(image, name, { colormap = "gray", opacity = 1, min = NaN, max = NaN, labels = false } = {}) {
  const [code, bits] = image.components === 3 ? RGB24 : CODES.get(image.array.constructor)
  const made = new NVImage()
  made.hdr = {
    littleEndian: true,
    dims: [image.frames > 1 ? 4 : 3, ...image.dims, image.frames, 1, 1, 1],
    pixDims: [1, ...spacing(image.affine), 1, 0, 0, 0],
    datatypeCode: code,
    numBitsPerVoxel: bits,
    affine: [...image.affine.map((row) => [...row]), [0, 0, 0, 1]],
    scl_slope: image.slope,
    scl_inter: image.inter,
    cal_min: 0,
    cal_max: 0,
    intent_code: labels ? LABELS : 0,
    qform_code: 0,
    sform_code: 1,
    quatern_b: 0,
    quatern_c: 0,
    quatern_d: 0,
    qoffset_x: 0,
    qoffset_y: 0,
    qoffset_z: 0,
    description: "",
    intent_name: "",
  }
  const table = labels ? colourTable(labels) : null
  // In the order of NVImage.init: paired data, range, trust, percentile, zeros, qform, negative, frame, type, …
  made.init(new ArrayBuffer(1), name, colormap, opacity, null, min, max, true, 0.02, false, false, "", 0, undefined,
    NaN, NaN, false, table, 0, image.array.buffer) // prettier-ignore
  return made
}
