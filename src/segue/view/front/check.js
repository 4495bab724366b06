// The list of all findings of a check: sorted by a column, searched, filtered, drawn 200 rows at a time.
function list() {
  const source = document.getElementById("page-data")
  const table = document.getElementById("findings")
  if (!source || !table) return
  const { severities, kinds, rows } = JSON.parse(source.textContent)
  const STEP = 200
  const body = table.tBodies[0]
  const text = document.getElementById("filter-text")
  const severity = document.getElementById("filter-severity")
  const kind = document.getElementById("filter-kind")
  const shown = document.getElementById("shown")
  const more = document.getElementById("more")
  const columns = table.tHead.rows[0].cells.length
  const collator = new Intl.Collator("en", { numeric: true })
  let column = 0
  let direction = 1
  let found = rows
  let drawn = 0

  kinds.forEach(({ what }, number) => kind.add(new Option(what, String(number))))
  const searched = rows.map((row) => [row[1], kinds[row[2]].what, row[3], row[4]].join("\n").toLowerCase())

  const valueOf = (row) => (column === 2 ? kinds[row[2]].what : row[column])
  const compare = (a, b) => {
    const [one, other] = [valueOf(a), valueOf(b)]
    return direction * (typeof one === "number" ? one - other : collator.compare(one, other))
  }

  function cell(line, content) {
    const made = line.insertCell()
    if (content instanceof Node) made.append(content)
    else made.textContent = content
    return made
  }

  function draw() {
    const end = Math.min(found.length, drawn + STEP)
    for (; drawn < end; drawn += 1) {
      const row = found[drawn]
      const line = body.insertRow()
      const badge = document.createElement("span")
      badge.className = `severity ${severities[row[0]]}`
      badge.textContent = severities[row[0]]
      cell(line, badge)
      cell(line, row[1] || "the dataset")
      cell(line, kinds[row[2]].what).title = kinds[row[2]].remedy
      cell(line, row[3])
      if (columns > 4) cell(line, row[4])
    }
    more.hidden = drawn >= found.length
    shown.textContent = `${found.length} of ${rows.length} findings, ${drawn} shown`
  }

  function renew() {
    const wanted = text.value.trim().toLowerCase()
    found = rows.filter(
      (row, number) =>
        (severity.value === "" || row[0] === Number(severity.value)) &&
        (kind.value === "" || row[2] === Number(kind.value)) &&
        (wanted === "" || searched[number].includes(wanted)),
    )
    found.sort(compare)
    body.replaceChildren()
    drawn = 0
    draw()
  }

  for (const button of table.querySelectorAll(".sort")) {
    button.addEventListener("click", () => {
      const chosen = Number(button.dataset.column)
      direction = chosen === column ? -direction : 1
      column = chosen
      for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort")
      button.closest("th").setAttribute("aria-sort", direction > 0 ? "ascending" : "descending")
      renew()
    })
  }
  text.addEventListener("input", renew)
  severity.addEventListener("change", renew)
  kind.addEventListener("change", renew)
  more.addEventListener("click", () => {
    draw()
    if (more.hidden) table.parentElement.focus()
  })
  document.querySelector(".controls").hidden = false
  table.hidden = false
  document.getElementById("unscripted").remove()
  renew()
}

list()
