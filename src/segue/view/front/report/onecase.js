// All figures of one case, and its small picture where the page has one.
import { el, figure, swatch, titled } from "./dom.js"

/**
 * @param {object} data
 * @param {number} n
 * @param {HTMLElement} mount
 */
export function showCase(data, n, mount) {
  const picture = document.querySelector(`[data-gallery] > [data-n="${n}"] img`)
  const shown = picture ? el("img", { src: picture.getAttribute("src"), alt: picture.getAttribute("alt") }) : null
  const shut = () => {
    mount.hidden = true
    document.dispatchEvent(new CustomEvent("segue:close"))
  }
  const close = el("button", { type: "button", class: "plain", onclick: shut }, "close")
  const told = [data.parts[data.part[n]], data.patients[n]].filter(Boolean)
  for (const fact of data.facts) {
    const value = fact.categories ? fact.categories[fact.values[n]] : fact.numbers[n]
    if (value !== undefined && value !== null) told.push(`${fact.name}: ${value}`)
  }
  if (data.truth) {
    const named = (places) => places.map((place) => data.labels[place].name).join(", ") || "nothing"
    told.push(`truth: ${named(data.truth[n])}`, `answer: ${named(data.answer[n])}`)
  }
  mount.replaceChildren(
    el("div", { class: "one-head" }, el("h3", {}, data.cases[n]), close),
    el("p", { class: "small" }, told.join(" · ")),
    shown ? el("div", { class: "lightbox" }, shown) : "",
    figures(data, n),
  )
  mount.hidden = false
}

function figures(data, n) {
  const metrics = data.metrics.filter((metric) => data.labels.some((label) => data.values[metric.name][label.name][n] !== null))
  const labels = data.labels.filter((label) => metrics.some((metric) => data.values[metric.name][label.name][n] !== null))
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures of this case" },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "figure"), ...labels.map((label) => el("th", { scope: "col", class: "n" }, swatch(label.colour), label.name)))),
      el("tbody", {}, ...metrics.map((metric) =>
        el("tr", {}, el("th", { scope: "row" }, titled(metric)), ...labels.map((label) => el("td", { class: "n" }, figure(data.values[metric.name][label.name][n], metric)))),
      )),
    ),
  )
}
