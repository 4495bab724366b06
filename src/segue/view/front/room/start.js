// Puts the page together: what is asked, what is shown, what the keys and the address do.
import { read, write } from "./address.js"
import { ask, judge, listen } from "./ask.js"
import { caseFacts } from "./case.js"
import { choose, orders, searchable } from "./choosing.js"
import { KEYS, keysAreOn, listenToKeys, switchKeys } from "./keys.js"
import { caseList } from "./list.js"
import { make, option, shown } from "./make.js"
import { followTrainings } from "./training.js"
import { viewing } from "./volumes.js"

const at = (id) => document.getElementById(id)
const WORDS = { accept: "accepted", flag: "flagged", exclude: "excluded" }
const MARKS = { accept: "✓", flag: "⚑", exclude: "✕" }
const LATER_MS = 250

export async function start() {
  let room
  try {
    room = await ask("/api/room")
  } catch (error) {
    at("status").textContent = error.message
    at("case-title").textContent = error.message
    return
  }
  const { cases, runs } = room
  let verdicts = room.verdicts
  const texts = searchable(cases)
  const numbers = new Map(cases.id.map((id, n) => [id, n]))
  const state = { number: null, told: null, tab: "cases", errors: new Map(), next_error: 0, turn: 0 }
  const wanted = { text: "", split: "", label: "", verdict: "", finding: "", by: "name", down: false }

  const status = (text) => (at("status").textContent = text)
  const trouble = (text) => {
    at("trouble").textContent = text
    at("trouble").hidden = !text
  }
  if (room.notes.length) {
    at("notes").replaceChildren(...room.notes.map((note) => make("p", { text: note })))
    at("notes").hidden = false
  }

  // The list
  const list = caseList(
    at("list"),
    (row, n) => {
      const verdict = verdicts[cases.id[n]]
      const column = cases.columns.find((one) => one.name === wanted.by) ?? cases.columns[0]
      const worst = ["error", "warning", "note"].find((severity) => cases.findings[n].some(([s]) => s === severity))
      const below = [cases.patient[n], cases.split[n], column && column.values[n] !== null ? `${column.name} ${shown(column.values[n])}` : null].filter(Boolean).join(" · ")
      row.append(
        make("span", { class: "name", text: cases.id[n] }),
        make("span", { class: "below", text: below }),
        worst ? make("span", { class: `count ${worst}`, text: `${cases.findings[n].length} ${worst === "note" ? "notes" : "findings"}` }) : null ?? "",
        verdict ? make("span", { class: `mark ${verdict.verdict}`, text: `${MARKS[verdict.verdict]} ${WORDS[verdict.verdict]}` }) : "",
      )
    },
    (n) => open(n, null, true),
  )

  function refresh(stay = false) {
    const found = choose(cases, texts, verdicts, wanted)
    list.show(found, stay)
    const count = found.length === cases.id.length ? `${found.length} cases` : `${found.length} of ${cases.id.length} cases`
    at("count").textContent = found.length === 1 && cases.id.length === 1 ? "1 case" : count
  }

  function choices() {
    const fill = (id, values, all) => {
      const select = at(id)
      const kept = select.value
      select.replaceChildren(option("", all), ...values.map(([value, text]) => option(value, text)))
      select.value = kept
      select.closest("label").hidden = values.length < 1
    }
    const distinct = (values) => [...new Set(values)].filter(Boolean).map((value) => [value, value])
    fill("split", distinct(cases.split).length > 1 ? distinct(cases.split) : [], "every set")
    fill("label", distinct(cases.labels.flat()), "every label")
    fill("verdict", [["none", "no verdict"], ...Object.entries(WORDS)], "every verdict")
    const kinds = cases.findings.flat()
    fill("finding", [...distinct(kinds.map(([severity]) => severity)), ...distinct(kinds.map(([, what]) => what)).slice(0, 40)], "with or without findings")
    at("by").replaceChildren(...[...orders(cases, verdicts).keys()].map((name) => option(name, name)))
    at("by").value = wanted.by
  }

  let later = null
  at("search").addEventListener("input", () => {
    wanted.text = at("search").value
    clearTimeout(later)
    later = setTimeout(() => refresh(), 60)
  })
  for (const id of ["split", "label", "verdict", "finding"])
    at(id).addEventListener("change", () => {
      wanted[id] = at(id).value
      refresh()
    })
  at("by").addEventListener("change", () => {
    wanted.by = at("by").value
    refresh()
  })
  at("down").addEventListener("click", () => {
    wanted.down = !wanted.down
    at("down").setAttribute("aria-pressed", String(wanted.down))
    at("down").textContent = wanted.down ? "↓ largest first" : "↑ smallest first"
    refresh()
  })
  at("clear").addEventListener("click", () => {
    Object.assign(wanted, { text: "", split: "", label: "", verdict: "", finding: "" })
    for (const id of ["search", "split", "label", "verdict", "finding"]) at(id).value = ""
    refresh()
  })

  // The opened case
  const beside = runs.length > 1 ? runs.map((run, number) => ({ number, name: run.name })) : []
  const view = viewing(at("viewers"), {
    windows: room.windows,
    moved: (value) => {
      clearTimeout(state.later)
      state.later = setTimeout(() => keep(value.mm), LATER_MS)
    },
    said: (text, whole = null) => {
      const words = "Without a graphics card every voxel takes minutes."
      const button = whole && make("button", { type: "button", text: "Show every voxel", click: (event) => ((event.target.disabled = true), whole()) })
      at("resolution").replaceChildren(...(button ? [`${text} ${words} `, button] : [text]))
      at("resolution").hidden = !text
    },
  })

  function keep(mm, step = false) {
    state.mm = mm
    write({ case: state.number === null ? null : cases.id[state.number], at: mm, tab: state.tab }, step)
  }

  async function open(number, mm, step) {
    if (number === null || number === undefined) return
    const mine = ++state.turn
    clearTimeout(state.later)
    state.number = number
    state.next_error = 0
    state.told = null
    list.mark(number)
    title()
    keep(mm, step)
    at("case-body").append(at("facts")) // out of the viewer that is closed now
    view.close()
    at("facts").replaceChildren(make("p", { class: "small", text: "Opening …" }))
    at("viewers").setAttribute("aria-busy", "true")
    try {
      const told = await ask(`/api/cases/${number}`)
      if (mine !== state.turn) return
      state.told = told
      caseFacts(at("facts"), told, runs, number, { goto: (place) => view.at(place), errors })
      if (told.images.some((image) => image.levels)) await view.show(told, beside, mm, (viewers) => viewers.length === 1 && viewers[0].panel.side.append(at("facts")))
      else at("viewers").replaceChildren(make("p", { class: "problem", text: told.images[0]?.problem ?? "This case has no image." }))
      if (mine === state.turn) {
        status(`${cases.id[number]}, case ${list.place() + 1} of ${list.length}`)
        ahead()
      }
    } catch (error) {
      if (mine !== state.turn) return
      at("viewers").replaceChildren(make("p", { class: "problem", text: error.message }))
      at("facts").replaceChildren()
    } finally {
      if (mine === state.turn) at("viewers").removeAttribute("aria-busy")
    }
  }

  /** What comes next is made ready while this one is looked at. */
  async function ahead() {
    const next = list.beside(1)
    if (next === null) return
    const mine = state.turn
    try {
      const told = await ask(`/api/cases/${next}`, { priority: "low" })
      for (const sheet of [...told.images, ...told.masks]) {
        if (mine !== state.turn || !sheet.levels) return
        await (await fetch(sheet.levels.first ?? sheet.levels.middle ?? sheet.levels.full, { priority: "low" })).arrayBuffer()
      }
    } catch {
      // Nobody asked for it yet: whoever opens it is told.
    }
  }

  function title() {
    const { number } = state
    at("case-title").textContent = number === null ? room.title : cases.id[number]
    document.title = `${number === null ? "" : `${cases.id[number]} – `}${room.title} – segue`
    at("position").textContent = number === null ? "" : `${list.place() + 1} of ${list.length}`
    const verdict = number === null ? null : verdicts[cases.id[number]]
    for (const word of Object.keys(WORDS)) at(word).setAttribute("aria-pressed", String(verdict?.verdict === word))
    if (document.activeElement !== at("reason")) at("reason").value = verdict?.reason ?? ""
    at("take-back").disabled = !verdict
    at("verdict-by").textContent = verdict?.by ? `by ${verdict.by}` : ""
  }

  async function errors(number, run) {
    const key = `${number}/${run}`
    if (!state.errors.has(key)) state.errors.set(key, (await ask(`/api/cases/${number}/errors/${run}`)).errors)
    return state.errors.get(key)
  }

  async function nextError() {
    const { number, told } = state
    if (!told) return
    try {
      const lists = await Promise.all(told.masks.filter((mask) => mask.run !== null && mask.levels).map((mask) => errors(number, mask.run)))
      const found = lists.flat().sort((a, b) => b.ml - a.ml)
      if (!found.length) return status("No error to go to: no prediction here, or it equals the truth.")
      const error = found[state.next_error++ % found.length]
      view.at(error.mm)
      status(`${error.kind} ${error.name}, ${error.ml.toFixed(2)} ml`)
    } catch (error) {
      status(error.message)
    }
  }

  // Verdicts
  async function say(verdict) {
    const { number } = state
    if (number === null) return
    if (!room.writable) return status("Verdicts are kept beside a dataset: single files have none.")
    try {
      verdicts = await judge(number, verdict, at("reason").value)
      trouble("")
      status(`${cases.id[number]} ${verdict ? WORDS[verdict] : "has no verdict any more"}`)
    } catch (error) {
      trouble(`The verdict on ${cases.id[number]} was not written. ${error.message}`)
    }
    if (verdict === null) at("reason").value = ""
    judged()
  }
  function judged() {
    // The order stays as it is under the reader's eyes, unless the list is filtered or sorted by verdicts.
    if (wanted.verdict || wanted.by === "verdict") refresh(true)
    else list.render()
    title()
  }
  for (const word of Object.keys(WORDS)) at(word).addEventListener("click", () => say(word))
  at("take-back").addEventListener("click", () => say(null))
  at("reason").addEventListener("change", () => {
    const verdict = state.number === null ? null : verdicts[cases.id[state.number]]
    if (verdict && verdict.reason !== at("reason").value) say(verdict.verdict)
  })
  at("reason").addEventListener("keydown", (event) => event.key === "Enter" && at("reason").blur())
  at("judging").hidden = !room.writable

  const step = (by) => {
    const next = list.beside(by)
    if (next === null) status(by > 0 ? "This is the last case." : "This is the first case.")
    else open(next, null, true)
  }
  at("next").addEventListener("click", () => step(1))
  at("before").addEventListener("click", () => step(-1))

  // Training
  const follow = followTrainings(at("training"), runs, room.colours, (run, fold) => ask(`/api/runs/${run}/${fold}/samples`))
  function tab(name) {
    state.tab = name
    at("reading").hidden = name !== "cases"
    at("training").hidden = name !== "training"
    for (const one of ["cases", "training"]) at(`tab-${one}`).setAttribute("aria-selected", String(one === name))
    for (const one of ["cases", "training"]) at(`tab-${one}`).tabIndex = one === name ? 0 : -1
    if (name === "training") follow.draw()
    else follow.hide()
    write({ case: state.number === null ? null : cases.id[state.number], at: state.mm ?? null, tab: name })
  }
  at("tabs").hidden = runs.length === 0
  for (const name of ["cases", "training"]) at(`tab-${name}`).addEventListener("click", () => tab(name))
  at("tabs").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return
    tab(state.tab === "cases" ? "training" : "cases")
    at(`tab-${state.tab}`).focus()
  })

  listen(
    {
      training: (news) => {
        follow.news(news)
        at("tab-training").textContent = follow.going ? "Training, going on" : "Training"
      },
      verdicts: (news) => {
        if (news.problem) return trouble(news.problem)
        trouble("")
        verdicts = news.verdicts
        judged()
      },
    },
    (lost) => trouble(lost ? "The command that serves this page does not answer: it has ended, or the tunnel is closed." : ""),
  )

  // Keys
  const help = at("help")
  help.querySelector("tbody").replaceChildren(
    ...KEYS.map(([key, what]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", { text: key })), make("td", { text: what }))),
  )
  at("keys-on").checked = keysAreOn()
  at("keys-on").addEventListener("change", () => switchKeys(at("keys-on").checked))
  at("help-open").addEventListener("click", () => help.showModal())
  at("help-close").addEventListener("click", () => help.close())
  listenToKeys({
    j: () => step(1),
    k: () => step(-1),
    v: () => say("accept"),
    f: () => say("flag"),
    x: () => say("exclude"),
    u: () => say(null),
    r: () => at("reason").focus(),
    e: nextError,
    "/": () => at("search").focus(),
    l: () => at("list").focus(),
    "?": () => help.showModal(),
  })

  // The address
  const given = read()
  window.addEventListener("popstate", () => {
    const now = read()
    const number = numbers.get(now.case)
    if (number !== undefined && number !== state.number) open(number, now.at, false)
    else if (now.at) view.at(now.at)
  })
  choices()
  refresh()
  title()
  const first = numbers.get(given.case) ?? (given.case === null ? list.beside(0) : null)
  if (given.tab === "training" && runs.length) tab("training")
  else if (given.case === null && runs.length && room.unfinished) tab("training")
  if (first === null || first === undefined) {
    status(given.case ? `There is no case ${given.case} here.` : "There is no case here.")
    at("case-title").textContent = given.case ? `There is no case “${given.case}” here` : "There is no case here"
  } else open(first, given.at, false)
}
