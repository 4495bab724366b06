// Which cases the list shows and in which order: pure functions of the columns that the server sent.

const ORDER = { error: 0, warning: 1, note: 2 }

/** The texts that a search looks through, one per case, in small letters. */
export function searchable(cases) {
  return cases.id.map((id, n) =>
    [id, cases.patient[n], cases.split[n], cases.facts[n], ...cases.labels[n], ...cases.findings[n].map((f) => f[1])]
      .join("\n")
      .toLowerCase(),
  )
}

/** The ways to sort: name of the way to its value per case (a number, a text or null). */
export function orders(cases, verdicts) {
  const found = new Map([
    ["name", (n) => n],
    ["findings, worst first", (n) => worstFirst(cases.findings[n])],
    ["verdict", (n) => verdicts[cases.id[n]]?.verdict ?? null],
  ])
  if (!cases.findings.some((list) => list.length)) found.delete("findings, worst first")
  for (const column of cases.columns) found.set(column.name, (n) => column.values[n])
  return found
}

function worstFirst(findings) {
  if (!findings.length) return null
  return Math.min(...findings.map(([severity]) => ORDER[severity] ?? 0)) * 1000 - findings.length
}

/**
 * The numbers of the cases to show, in order.
 * `wanted`: {text, split, label, verdict, finding, by, down}; an empty string wants everything.
 */
export function choose(cases, texts, verdicts, wanted) {
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean)
  const kept = []
  for (let n = 0; n < texts.length; n++) {
    if (wanted.split && cases.split[n] !== wanted.split) continue
    if (wanted.label && !cases.labels[n].includes(wanted.label)) continue
    if (wanted.verdict && (verdicts[cases.id[n]]?.verdict ?? "none") !== wanted.verdict) continue
    if (wanted.finding && !cases.findings[n].some(([severity, what]) => severity === wanted.finding || what === wanted.finding))
      continue
    if (words.every((word) => texts[n].includes(word))) kept.push(n)
  }
  const value = orders(cases, verdicts).get(wanted.by)
  if (value === undefined || (wanted.by === "name" && !wanted.down)) return kept
  const sign = wanted.down ? -1 : 1
  return kept.sort((a, b) => compared(value(a), value(b), sign) || a - b)
}

/** Cases without a value stand last, whichever way. */
function compared(a, b, sign) {
  if (a === null || a === undefined || b === null || b === undefined) return (a ?? null) === (b ?? null) ? 0 : (a ?? null) === null ? 1 : -1
  if (typeof a === "number" && typeof b === "number") return sign * (a - b)
  return sign * String(a).localeCompare(String(b))
}
