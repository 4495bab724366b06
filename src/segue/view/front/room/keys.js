// Single keys. They can be switched off (WCAG 2.2, 2.1.4), and do nothing while something is typed.

const OFF = "segue-keys-off"

export const KEYS = [
  ["j", "next case"],
  ["k", "case before"],
  ["v", "accept the case"],
  ["f", "flag it: training and evaluation leave it out"],
  ["x", "exclude it"],
  ["u", "take the verdict back"],
  ["r", "write the reason"],
  ["e", "go to the next of the largest errors"],
  ["/", "search"],
  ["l", "go to the list"],
  ["?", "this help (in the images: their own keys)"],
]

const typing = (target) => target instanceof Element && target.closest("input, select, textarea, [contenteditable]")

export const keysAreOn = () => localStorage.getItem(OFF) === null
export function switchKeys(on) {
  if (on) localStorage.removeItem(OFF)
  else localStorage.setItem(OFF, "1")
}

/** Calls `actions[key]()` for the keys of KEYS. */
export function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && typing(event.target)) event.target.blur()
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || !keysAreOn()) return
    if (document.querySelector("dialog[open]")) return
    const action = actions[event.key]
    if (!action) return
    event.preventDefault()
    action()
  })
}
