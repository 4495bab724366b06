// A list of any length: only the rows in view are elements.
import { make } from "./make.js"

const ROW = 48 // pixels, as in room.css
const SPARE = 6 // rows beyond the edge, so that a fast scroll shows no gap

/**
 * A listbox in `element`. `draw(row, number)` fills a row's element for a case; `opened(number)` is called when one is
 * chosen by a click or by Enter.
 */
export function caseList(element, draw, opened) {
  const space = make("div", { class: "space", role: "presentation" })
  element.append(space)
  let order = []
  let active = 0 // place in `order` that the arrow keys move
  let current = null // the case that is open

  function render() {
    space.style.height = `${order.length * ROW}px`
    const first = Math.max(0, Math.floor(element.scrollTop / ROW) - SPARE)
    const last = Math.min(order.length, Math.ceil((element.scrollTop + element.clientHeight) / ROW) + SPARE)
    const rows = []
    for (let place = first; place < last; place++) {
      const row = make("div", {
        role: "option",
        id: `case-${order[place]}`,
        "aria-setsize": order.length,
        "aria-posinset": place + 1,
        "aria-selected": String(order[place] === current),
        class: place === active ? "row active" : "row",
        click: () => choose(place),
      })
      row.style.transform = `translateY(${place * ROW}px)`
      draw(row, order[place])
      rows.push(row)
    }
    space.replaceChildren(...rows)
    const shown = active >= first && active < last && order.length
    if (shown) element.setAttribute("aria-activedescendant", `case-${order[active]}`)
    else element.removeAttribute("aria-activedescendant")
  }

  function into_view(place) {
    const top = place * ROW
    if (top < element.scrollTop) element.scrollTop = top
    else if (top + ROW > element.scrollTop + element.clientHeight) element.scrollTop = top + ROW - element.clientHeight
  }

  function choose(place) {
    if (place < 0 || place >= order.length) return
    active = place
    into_view(place)
    opened(order[place])
  }

  function move(place) {
    active = Math.min(order.length - 1, Math.max(0, place))
    into_view(active)
    render()
  }

  let waiting = false
  element.addEventListener("scroll", () => {
    if (waiting) return
    waiting = true
    requestAnimationFrame(() => {
      waiting = false
      render()
    })
  })
  new ResizeObserver(render).observe(element)
  element.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(element.clientHeight / ROW) - 1)
    const to = { ArrowDown: active + 1, ArrowUp: active - 1, Home: 0, End: order.length - 1, PageDown: active + page, PageUp: active - page }
    if (event.key in to) move(to[event.key])
    else if (event.key === "Enter" || event.key === " ") choose(active)
    else return
    event.preventDefault()
    event.stopPropagation()
  })

  return {
    /** Show these cases from the first one on; with `stay`, from where the open one is, if it is among them. */
    show(numbers, stay = false) {
      order = numbers
      space.style.height = `${order.length * ROW}px`
      const place = stay ? order.indexOf(current) : -1
      active = Math.max(0, place)
      if (place >= 0) into_view(place)
      else element.scrollTop = 0
      render()
    },
    /** Mark a case as the open one. */
    mark(number) {
      current = number
      const place = order.indexOf(number)
      if (place >= 0) {
        active = place
        into_view(place)
      }
      render()
    },
    /** The case so many places after the open one, in the order of the list; null at its ends. */
    beside(step) {
      const place = order.indexOf(current)
      return order[place < 0 ? 0 : place + step] ?? null
    },
    place: () => order.indexOf(current),
    render,
    get length() {
      return order.length
    },
  }
}
