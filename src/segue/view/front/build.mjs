// Bundles each entry script into one classic script (IIFE): pages on file:// may load neither modules nor JSON.
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { build } from "esbuild"

const ASSETS = "../assets"
const entries = ["theme", "viewer", "report", "check", "room"].filter((name) => existsSync(`${name}.js`))

mkdirSync(ASSETS, { recursive: true })
const made = await build({
  entryPoints: entries.map((name) => `${name}.js`),
  outdir: ASSETS,
  bundle: true,
  format: "iife",
  minify: true,
  target: "es2022",
  charset: "ascii", // a page's own encoding cannot spoil it
  legalComments: "none", // all of them are in LICENSES.txt
  logLevel: "warning",
  loader: { ".css": "text" },
  metafile: true,
})

/** The licence of every package of which something was bundled. */
const folders = new Set()
for (const input of Object.keys(made.metafile.inputs)) {
  const found = input.match(/^(node_modules\/(?:@[^/]+\/)?[^/]+)\//)
  if (found) folders.add(found[1])
}
const texts = [...folders].sort().map((folder) => {
  const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
  // A package that ships no licence text has it in licences/, as its repository has it.
  const own = join("licences", `${about.name.replace("/", "+")}.txt`)
  const found = readdirSync(folder).find((name) => /^(licen[cs]e|copying)/i.test(name))
  const file = found ? join(folder, found) : existsSync(own) ? own : undefined
  const author = typeof about.author === "string" ? about.author : (about.author?.name ?? "its authors")
  const text = file ? readFileSync(file, "utf8").trim() : `Licence: ${about.license}. By ${author}.`
  return `${about.name} ${about.version} (${about.license})\n${"=".repeat(70)}\n${text}\n`
})
writeFileSync(
  join(ASSETS, "LICENSES.txt"),
  `The scripts in this folder hold code of these packages:\n\n${texts.join("\n\n")}`,
)
