// Elements made of data. Text is always text: no name that a file brings is ever read as HTML.

/** An element with attributes (a function is a listener, `text` its text, `class` its class) and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (name === "text") element.textContent = value
    else if (typeof value === "function") element.addEventListener(name, value)
    else element.setAttribute(name, value === true ? "" : value)
  }
  element.append(...children.filter((child) => child !== null && child !== undefined))
  return element
}

/** An option of a select. */
export const option = (value, text) => make("option", { value, text })

/** A number as the tables show it. */
export function shown(value) {
  if (value === null || value === undefined) return "–"
  if (typeof value !== "number") return String(value)
  if (Number.isInteger(value)) return String(value)
  const size = Math.abs(value)
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(3)
}

/** `42 s`, `3 min 05 s`, `2 h 07 min`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 100) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 100) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`
}

export const millilitres = (ml) => (ml < 0.01 ? "<0.01" : ml < 10 ? ml.toFixed(2) : ml.toFixed(1))
