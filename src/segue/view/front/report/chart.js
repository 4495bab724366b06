// A chart of points that stand for cases: hovering shows the case, a click opens it, dragging selects.
import { el } from "./dom.js"

const REACH = 18 // pixels around a point that belong to it
const SVG = "http://www.w3.org/2000/svg"

/**
 * Make the dots of a drawn plot answer to pointer and keyboard.
 *
 * @param {HTMLElement} frame holds the plot, and gets the keyboard's focus
 * @param {SVGSVGElement} svg of Observable Plot; each dot carries the place of its point as `__data__`
 * @param {{n: number}[]} points `n` is the number of the case
 * @param {{words: (point: object) => string[], open: (n: number) => void, select: (chosen: Set<number> | null) => void,
 *   hover: (n: number | null) => void}} on
 * @returns {{mark: (n: number | null) => void}} rings the dots of a case
 */
export function makeLive(frame, svg, points, on) {
  const dots = [...svg.querySelectorAll("g[data-mark='dot'] circle")].map((circle) => ({
    point: points[circle.__data__],
    x: Number(circle.getAttribute("cx")),
    y: Number(circle.getAttribute("cy")),
  }))
  const rings = svg.appendChild(document.createElementNS(SVG, "g"))
  const tip = frame.querySelector(".tip") ?? frame.appendChild(el("div", { class: "tip", hidden: true }))
  // The keyboard goes from left to right, and in a column from below.
  const order = [...dots].sort((a, b) => (a.point.column ?? 0) - (b.point.column ?? 0) || b.y - a.y || a.x - b.x)
  let held = -1
  let begun = null
  let box = null

  const place = (event) => {
    const matrix = svg.getScreenCTM()?.inverse()
    const at = new DOMPoint(event.clientX, event.clientY)
    return matrix ? at.matrixTransform(matrix) : at
  }
  const nearest = (at) => {
    let best = null
    let least = REACH ** 2
    for (const dot of dots) {
      const distance = (dot.x - at.x) ** 2 + (dot.y - at.y) ** 2
      if (distance < least) [best, least] = [dot, distance]
    }
    return best
  }
  const show = (dot) => {
    on.hover(dot ? dot.point.n : null)
    tip.hidden = !dot
    if (!dot) return
    const [head, ...lines] = on.words(dot.point)
    tip.replaceChildren(el("strong", {}, head), ...lines.map((line) => el("span", {}, line)))
    const [inner, outer] = [svg.getBoundingClientRect(), frame.getBoundingClientRect()]
    const scale = inner.width / (svg.viewBox.baseVal.width || inner.width)
    const left = inner.left - outer.left + dot.x * scale + 12
    tip.style.left = `${Math.max(0, Math.min(left, outer.width - tip.offsetWidth - 4))}px`
    tip.style.top = `${inner.top - outer.top + dot.y * scale + 12}px`
  }

  svg.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType !== "touch") begun = place(event)
  })
  svg.addEventListener("pointermove", (event) => {
    const at = place(event)
    if (begun && Math.hypot(at.x - begun.x, at.y - begun.y) > 6) {
      if (!box) {
        box = svg.appendChild(document.createElementNS(SVG, "rect"))
        box.setAttribute("class", "brush")
        svg.setPointerCapture(event.pointerId)
      }
      tip.hidden = true
      const [x, y] = [Math.min(at.x, begun.x), Math.min(at.y, begun.y)]
      for (const [name, value] of [["x", x], ["y", y], ["width", Math.abs(at.x - begun.x)], ["height", Math.abs(at.y - begun.y)]])
        box.setAttribute(name, String(value))
      return
    }
    const dot = nearest(at)
    svg.style.cursor = dot ? "pointer" : "crosshair"
    show(dot)
  })
  svg.addEventListener("pointerleave", () => !box && show(null))
  svg.addEventListener("pointerup", (event) => {
    const at = place(event)
    if (box && begun) {
      const [left, right] = [Math.min(at.x, begun.x), Math.max(at.x, begun.x)]
      const [top, bottom] = [Math.min(at.y, begun.y), Math.max(at.y, begun.y)]
      box.remove()
      box = begun = null
      const inside = dots.filter((dot) => dot.x >= left && dot.x <= right && dot.y >= top && dot.y <= bottom)
      on.select(new Set(inside.map((dot) => dot.point.n)))
      return
    }
    begun = null
    const dot = nearest(at)
    if (dot) on.open(dot.point.n)
    else on.select(null)
  })

  const move = (step) => {
    if (!order.length) return
    held = (held + step + order.length) % order.length
    show(order[held])
    frame.querySelector(".said").textContent = on.words(order[held].point).join(", ")
  }
  frame.onkeydown = (event) => {
    if (event.key === "ArrowRight" || event.key === "ArrowUp") move(1)
    else if (event.key === "ArrowLeft" || event.key === "ArrowDown") move(-1)
    else if (event.key === "Enter" && held >= 0) on.open(order[held].point.n)
    else if (event.key === "Escape") {
      held = -1
      show(null)
      on.select(null)
    } else return
    event.preventDefault()
  }
  frame.onblur = () => show(null)

  return {
    mark(n) {
      rings.replaceChildren()
      if (n === null) return
      for (const dot of dots.filter((one) => one.point.n === n)) {
        const ring = rings.appendChild(document.createElementNS(SVG, "circle"))
        ring.setAttribute("cx", String(dot.x))
        ring.setAttribute("cy", String(dot.y))
        ring.setAttribute("r", "8")
        ring.setAttribute("class", "ring")
      }
    },
  }
}

/** The frame of a live chart: focusable, with words for those who do not see it. */
export function chartFrame(name) {
  return el(
    "div",
    { class: "chart-frame", tabindex: "0", role: "group", "aria-label": name },
    el("div", { class: "plot" }),
    el("div", { class: "said visually-hidden", "aria-live": "polite" }),
  )
}
