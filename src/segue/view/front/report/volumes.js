// Opens the volumes of a case: from file:// only classic scripts can be loaded, so that a case is a few of them.
import { el } from "./dom.js"

/**
 * @param {object} told of `segue.view.volumes.write_volumes`
 * @param {HTMLElement} section where a case opens that was chosen in the list there
 */
export function startVolumes(told, section) {
  const form = section.querySelector("form")
  const list = form.querySelector("select")
  const own = section.querySelector("[data-viewer]")
  let viewer = null
  let asked = 0
  let script = null
  // Of every case that is being loaded: one may be asked for while another one still is.
  const awaited = new Set()
  globalThis.segueVolume = (of, kind, part, parts, text) => {
    for (const { name, pieces } of awaited) {
      if (name !== of) continue
      if (!pieces.has(kind)) pieces.set(kind, new Array(parts))
      pieces.get(kind)[part] = text
    }
  }

  form.hidden = false
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    open(list.value, own)
  })
  document.addEventListener("segue:open", (event) => {
    const panel = document.getElementById("one-case")
    const shown = panel && !panel.hidden
    panel?.querySelector("[data-viewer]")?.remove()
    open(event.detail.case, shown ? panel.appendChild(el("div", { "data-viewer": true })) : own, !shown)
  })
  document.addEventListener("segue:close", close)
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest?.("[data-case]")
    if (chosen) open(chosen.dataset.case, own, true)
  })

  function close() {
    asked++
    viewer?.close()
    viewer = null
  }

  async function open(name, mount, scroll = false) {
    close()
    const turn = ++asked
    own.replaceChildren()
    const status = el("p", { role: "status" }, `Loading ${name}`)
    mount.replaceChildren(status)
    if (scroll) section.scrollIntoView({ block: "start" })
    const here = el("div")
    try {
      const options = await optionsOf(name)
      if (turn !== asked) return
      const shut = el("button", { type: "button", class: "plain", onclick: () => (close(), mount.replaceChildren()) }, "close")
      const notes = told.cases[name].notes.map((note) => el("p", { class: "small" }, note))
      mount.replaceChildren(el("div", { class: "one-head" }, el("h3", {}, `Images of ${name}`), mount === own ? shut : ""), status, here, ...notes)
      const opened = await globalThis.segueViewer.open(here, options)
      if (turn !== asked) return opened.close()
      viewer = opened
      status.textContent = ""
      mount.dataset.open = name
      // For whoever drives the page: tests, and a curious reader's console.
      mount.viewer = viewer
    } catch (error) {
      if (turn === asked) mount.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message))
    }
  }

  async function optionsOf(name) {
    const found = told.cases[name]
    if (!found) throw new Error(whyNot(name))
    script ??= load(told.script)
    await script.catch((error) => {
      script = null
      throw error
    })
    const bytesFor = await piecesOf(name, found)
    return {
      name,
      at: found.at ?? undefined,
      marks: found.marks,
      windows: told.windows,
      volumes: found.volumes.map((volume, place) => ({ ...volume, bytes: bytesFor(`image-${place}`) })),
      overlays: found.overlays.map((kind) => ({
        name: kind,
        bytes: bytesFor(kind),
        labels: told.labels,
        outline: kind === "truth" && found.overlays.length > 1,
      })),
    }
  }

  function whyNot(name) {
    if (told.problems[name]) return `${name} cannot be opened: ${told.problems[name]}`
    return `The images of ${name} are not kept beside this page, which would be too large with all of them: segue view with the run folder shows every case.`
  }

  async function piecesOf(name, found) {
    const one = { name, pieces: new Map() }
    awaited.add(one)
    try {
      for (let n = 0; n < found.files; n++) await load(`${told.folder}/${found.folder}/${n}.js`)
    } finally {
      awaited.delete(one)
    }
    return (kind) => {
      const texts = one.pieces.get(kind)
      if (!texts || texts.includes(undefined)) throw new Error(`${told.folder}/${found.folder} is incomplete: ${kind} of ${name} is missing; write it again with segue view --report and the run folder.`)
      return bytesOf(texts.join(""))
    }
  }
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64)
  const text = atob(base64)
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}

function load(address) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script")
    script.src = address
    script.onload = () => {
      script.remove()
      resolve()
    }
    script.onerror = () => {
      script.remove()
      reject(new Error(`${address} is not there: keep the folder “report” beside report.html, or write both again with segue view --report and the run folder.`))
    }
    document.head.append(script)
  })
}
