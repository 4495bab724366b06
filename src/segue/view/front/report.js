// The report of a run and the comparison of runs: charts and filters over what the page shows without them too.
import { startClasses } from "./report/classes.js"
import { startComparison } from "./report/comparison.js"
import { startCurves } from "./report/curves.js"
import { startExplorer } from "./report/explorer.js"
import { startVolumes } from "./report/volumes.js"

const data = JSON.parse(document.getElementById("page-data").textContent)
const found = (id) => document.getElementById(id)

/** Start a part of the page; where it fails, what stands there without scripts stays. */
function start(mount, still, begin) {
  if (!mount) return null
  // Hidden first: a long table that nobody sees would be laid out each time that a chart asks for its width.
  still?.setAttribute("hidden", "")
  try {
    const made = begin(mount)
    if (made === null) still?.removeAttribute("hidden")
    return made
  } catch (error) {
    still?.removeAttribute("hidden")
    mount.hidden = true
    console.error(error)
    return null
  }
}

const explorer = data.cases ? start(found("explorer"), found("cases-table"), (mount) => startExplorer(data.cases, mount)) : null
if (data.curves) start(found("curves-live"), found("curves-still"), (mount) => startCurves(data.curves, mount))
if (data.classes) startClasses(data.classes, data.cases, explorer)
if (data.volumes) startVolumes(data.volumes, found("viewer"))
if (data.comparison) startComparison(data.comparison, data.reports)
document.documentElement.dataset.ready = "yes"
