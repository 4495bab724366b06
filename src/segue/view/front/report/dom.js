// Elements from names and text: whatever comes from data is text, never markup.

/**
 * @param {string} tag
 * @param {Record<string, unknown>} attributes `class`, `onclick` and the like; null and false are left out
 * @param {...(Node | string | null | undefined)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith("on") && typeof value === "function") made.addEventListener(name.slice(2), value)
    else made.setAttribute(name, value === true ? "" : String(value))
  }
  made.append(...children.filter((child) => child !== null && child !== undefined))
  return made
}

/** A colour next to a name; the colour comes from the data of the page, where Python put it. */
export function swatch(colour) {
  const made = el("span", { class: "swatch", "aria-hidden": "true" })
  made.style.background = colour
  return made
}

/** Buttons of labels that are shown or not; `shown` is a set that they change. */
export function labelButtons(labels, shown, changed) {
  const list = el("div", { class: "chips", role: "group", "aria-label": "Labels" })
  for (const [place, label] of labels.entries()) {
    const button = el(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": String(shown.has(place)),
        onclick: () => {
          if (shown.has(place)) shown.delete(place)
          else shown.add(place)
          button.setAttribute("aria-pressed", String(shown.has(place)))
          changed()
        },
      },
      swatch(label.colour),
      shortened(label.name, 40),
    )
    list.append(button)
  }
  return list
}

export function shortened(text, most) {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`
}

/** A number with the digits that a reader wants: 0.873, 12.3, 1480, <0.01; a dash where there is none. */
export function figure(value, metric = {}) {
  if (value === null || value === undefined) return "–"
  if (metric.unit_interval) return value.toFixed(3)
  const size = Math.abs(value)
  const digits = Number.isInteger(value) && !metric.unit ? 0 : size < 10 ? 2 : size < 100 ? 1 : 0
  if (value !== 0 && size < 0.005) return value < 0 ? ">−0.01" : "<0.01"
  return value.toFixed(digits).replace("-", "−")
}

/** The name of a metric with its unit. */
export function titled(metric) {
  return metric.unit ? `${metric.title} (${metric.unit})` : metric.title
}

/** How wide a chart may be drawn in an element, in pixels. */
export function widthOf(element, most = 1100) {
  return Math.max(260, Math.min(most, Math.floor(element.clientWidth || 640)))
}

/** Draw again when the element gets another width. */
export function onWidth(element, draw) {
  let last = widthOf(element)
  new ResizeObserver(() => {
    const width = widthOf(element)
    if (Math.abs(width - last) < 2) return
    last = width
    draw()
  }).observe(element)
}
