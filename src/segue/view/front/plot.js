import * as Plot from "@observablehq/plot"

/**
 * A chart. Plot names the groups in it for screen readers, where WCAG has no names: they become data (`data-mark`).
 */
export function drawPlot(options) {
  const drawn = Plot.plot(options)
  for (const part of drawn.querySelectorAll("g[aria-label], g[aria-description]")) {
    if (part.hasAttribute("aria-label")) part.dataset.mark = part.getAttribute("aria-label")
    part.removeAttribute("aria-label")
    part.removeAttribute("aria-description")
  }
  return drawn
}
