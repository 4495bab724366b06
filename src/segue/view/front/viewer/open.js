import { NVImage, Niivue, SLICE_TYPE } from "@niivue/niivue"

/** The bytes of a NIfTI file, unpacked where they are gzipped. */
async function nifti({ bytes, url }) {
  let found = bytes ?? (await (await fetch(url)).arrayBuffer())
  if (found instanceof ArrayBuffer) found = new Uint8Array(found)
  if (found[0] !== 0x1f || found[1] !== 0x8b) return found.slice().buffer
  const stream = new Blob([found]).stream().pipeThrough(new DecompressionStream("gzip"))
  return new Response(stream).arrayBuffer()
}

/** Show volumes with overlays inside `element`; resolves when the first picture is drawn. */
export async function openViewer(element, { volumes, overlays = [], at = null }) {
  const frame = document.createElement("div")
  frame.style.cssText = "position:relative;width:100%;height:60vh;min-height:20rem"
  const canvas = document.createElement("canvas")
  frame.append(canvas)
  element.replaceChildren(frame)
  const niivue = new Niivue({ logLevel: "error", dragAndDropEnabled: false, isRadiologicalConvention: true })
  await niivue.attachToCanvas(canvas)
  for (const volume of volumes) {
    niivue.addVolume(
      await NVImage.new(await nifti(volume), `${volume.name}.nii`, volume.colormap ?? "gray", volume.opacity ?? 1, null, volume.min, volume.max),
    )
  }
  for (const overlay of overlays) {
    const image = await NVImage.new(await nifti(overlay), `${overlay.name}.nii`, "red", 0.5)
    niivue.addVolume(image)
  }
  niivue.setSliceType(SLICE_TYPE.MULTIPLANAR)
  if (at) niivue.scene.crosshairPos = niivue.mm2frac(at)
  niivue.drawScene()
  return {
    canvas,
    close() {
      niivue.gl.getExtension("WEBGL_lose_context")?.loseContext()
      niivue.cleanup()
      element.replaceChildren()
    },
  }
}
