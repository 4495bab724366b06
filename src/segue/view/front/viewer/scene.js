// What NiiVue draws: the images and the filled label maps. Marks, outlines and the crosshair are drawn over it.
import { NVImage, Niivue, SHOW_RENDER, SLICE_TYPE, cmapper } from "@niivue/niivue"
import { spacing } from "./grid.js"
import { colourTable } from "./labels.js"

const CODES = new Map([[Uint8Array, [2, 8]], [Int16Array, [4, 16]], [Uint16Array, [512, 16]], [Float32Array, [16, 32]], [Float64Array, [64, 64]]])
const RGB24 = [128, 24]
const LABELS = 1002 // NIFTI_INTENT_LABEL

// NiiVue's own inversion of a colour map inverts its transparency too.
export const INVERTED = "gray, dark is high"
cmapper.addColormap(INVERTED, { R: [255, 0], G: [255, 0], B: [255, 0], A: [0, 128], I: [0, 255] })

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

/** @typedef {{box: HTMLElement, canvas: HTMLCanvasElement, niivue: Drawing}} Scene */

const FROM = [110, 15] // azimuth and elevation of 3-D, in degrees
// The last one that was closed waits for the next volume: a browser allows few WebGL contexts, and each compiles its
// programs for a second.
let spare = null

/**
 * A drawing inside `stage`, before its other children.
 * @param {HTMLElement} stage @returns {Promise<Scene>}
 */
export async function takeScene(stage) {
  if (spare && !spare.niivue.gl.isContextLost()) {
    const scene = spare
    spare = null
    stage.prepend(scene.box)
    scene.niivue.setRenderAzimuthElevation(...FROM)
    scene.niivue.setScale(1)
    scene.niivue.resizeListener()
    return scene
  }
  const canvas = document.createElement("canvas")
  // The very context that NiiVue asks for next.
  if (!canvas.getContext("webgl2", { alpha: true, antialias: false })) {
    throw new Error("This browser cannot draw volumes: it offers no WebGL 2.")
  }
  canvas.setAttribute("aria-hidden", "true")
  const box = document.createElement("div")
  box.className = "sv-drawn"
  box.append(canvas)
  stage.prepend(box)
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
  niivue.setRenderAzimuthElevation(...FROM)
  return { box, canvas, niivue }
}

/** Give the volumes' memory back, and the context too where one waits already. @param {Scene} scene */
export function leaveScene(scene) {
  const { niivue, box } = scene
  niivue.afterDrawing = () => {}
  const lost = niivue.gl.isContextLost()
  // What NiiVue holds on the graphics card is replaced by these: it deletes a texture when it makes the next.
  if (!lost) niivue.layers([nothing(), nothing()])
  box.remove()
  if (!spare && !lost) {
    spare = scene
    return
  }
  niivue.cleanup()
  niivue.gl.getExtension("WEBGL_lose_context")?.loseContext()
  niivue.volumes = []
  niivue.back = null
  niivue.overlays = []
}

function nothing() {
  const affine = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
  const image = { dims: [2, 2, 2], frames: 1, components: 1, affine, slope: 1, inter: 0, array: new Uint8Array(8) }
  return niivueImage(image, "nothing", { min: 0, max: 1 })
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
