// The theme of a page: the system's, unless somebody chose another, which is kept. In the head, before anything is drawn.
const KEY = "segue-theme"
const THEMES = ["system", "dark", "light"]

function kept() {
  try {
    const name = localStorage.getItem(KEY)
    return THEMES.includes(name) ? name : "system"
  } catch {
    return "system" // a browser that keeps nothing for files
  }
}

function apply(name) {
  if (name === "system") delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = name
  // Pictures of which there are two.
  for (const source of document.querySelectorAll("source[media]")) {
    source.media = { dark: "all", light: "not all" }[name] ?? "(prefers-color-scheme: dark)"
  }
}

apply(kept())
document.addEventListener("DOMContentLoaded", () => {
  apply(kept())
  const place = document.querySelector("[data-themes]")
  if (!place) return
  const select = document.createElement("select")
  select.append(...THEMES.map((name) => new Option(name, name)))
  select.value = kept()
  select.addEventListener("change", () => {
    try {
      localStorage.setItem(KEY, select.value)
    } catch {
      // It holds for this page then.
    }
    apply(select.value)
  })
  const label = document.createElement("label")
  label.append("Theme ", select)
  place.replaceChildren(label)
})
