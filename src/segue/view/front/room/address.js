// The address holds what is shown, after the #, which no server sees: a link leads to the same case and place.

/** {case, at: [x, y, z] or null, tab}. */
export function read() {
  const given = new URLSearchParams(location.hash.slice(1))
  const at = (given.get("at") ?? "").split(",").map(Number)
  return { case: given.get("case"), at: at.length === 3 && at.every(Number.isFinite) ? at : null, tab: given.get("tab") }
}

/** Put it there; a step in the history only for another case, so that Back goes to the case before. */
export function write({ case: name, at, tab }, step) {
  const given = new URLSearchParams()
  if (name) given.set("case", name)
  if (at) given.set("at", at.map((mm) => mm.toFixed(1)).join(","))
  if (tab && tab !== "cases") given.set("tab", tab)
  // The token came with the first address; the cookie has it now.
  history[step ? "pushState" : "replaceState"](null, "", `${location.pathname}#${given}`)
}
