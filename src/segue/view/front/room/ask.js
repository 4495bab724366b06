// What is asked of the server. Every answer is JSON; an error is told in the server's own words.

/** The JSON at `address`; throws an Error with a sentence for the reader. */
export async function ask(address, options = {}) {
  let answer
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options })
  } catch (error) {
    if (error.name === "AbortError") throw error
    throw new Error("The command that serves this page does not answer: it has ended, or the tunnel is closed.")
  }
  if (answer.status === 403)
    throw new Error("This browser has lost its key: open the address again that segue view printed.")
  const content = await answer.json().catch(() => ({}))
  if (!answer.ok) throw new Error(content.error ?? `The server answers ${answer.status}.`)
  return content
}

/** Write a verdict; `verdict` null takes it back. Returns all verdicts that then hold. */
export async function judge(number, verdict, reason) {
  const answer = await ask(`/api/cases/${number}/verdict`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ verdict, reason }),
  })
  return answer.verdicts
}

/** News of the server: `handlers` by kind, and `lost(true|false)` when it stops or comes back. */
export function listen(handlers, lost) {
  const source = new EventSource("/api/news")
  for (const [kind, handle] of Object.entries(handlers))
    source.addEventListener(kind, (event) => handle(JSON.parse(event.data)))
  source.addEventListener("open", () => lost(false))
  source.addEventListener("error", () => lost(true))
  return source
}
