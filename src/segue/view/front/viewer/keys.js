// The keyboard on the stage. Only while the stage has the focus, so that no key of the page is taken.
import { PLANES } from "./marks.js"

export const KEYS = [
  ["← → ↑ ↓", "move the crosshair in the plane (in 3-D: turn); with Shift ten voxels"],
  ["Page Up, Page Down", "next and previous slice"],
  ["Home", "back to where the viewer opened"],
  ["A, C, S", "axial, coronal, sagittal: the plane that the keys move in"],
  ["P, 3", "three planes, 3-D"],
  ["+ − 0", "larger, smaller, whole image"],
  ["[ ] { }", "narrower, wider, darker, brighter window"],
  ["W", "next preset of the window"],
  ["N", "voxels as squares, or smooth"],
  ["O", "hide and show all outlines and fillings"],
  ["?", "this list"],
]

export function listenToKeys(stage, viewer, signal) {
  stage.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target !== stage) return
      if (pressed(event, viewer)) event.preventDefault()
    },
    { signal },
  )
}

function pressed(event, viewer) {
  const count = event.shiftKey ? 10 : 1
  const plane = PLANES[viewer.active]
  const move = (axis, by) => {
    viewer.step(axis, by)
    return true
  }
  const turned = viewer.layout === "3d"
  const done = (action) => {
    action()
    return true
  }
  switch (event.key) {
    // The picture's left is the patient's right or front: the index grows to the left.
    case "ArrowLeft":
      return turned ? done(() => viewer.turn(10, 0)) : move(plane.across, count)
    case "ArrowRight":
      return turned ? done(() => viewer.turn(-10, 0)) : move(plane.across, -count)
    case "ArrowUp":
      return turned ? done(() => viewer.turn(0, -10)) : move(plane.up, count)
    case "ArrowDown":
      return turned ? done(() => viewer.turn(0, 10)) : move(plane.up, -count)
    case "PageUp":
      return move(plane.normal, count)
    case "PageDown":
      return move(plane.normal, -count)
    case "Home":
      return done(() => viewer.home())
    case "a":
    case "A":
      return done(() => viewer.choosePlane("axial"))
    case "c":
    case "C":
      return done(() => viewer.choosePlane("coronal"))
    case "s":
    case "S":
      return done(() => viewer.choosePlane("sagittal"))
    case "p":
    case "P":
      return done(() => viewer.setLayout("planes"))
    case "3":
      return done(() => viewer.setLayout("3d"))
    case "+":
    case "=":
      return done(() => viewer.zoom(1.25))
    case "-":
    case "−":
      return done(() => viewer.zoom(0.8))
    case "0":
      return done(() => viewer.whole())
    case "[":
      return done(() => viewer.stretchWindow(-0.1, 0))
    case "]":
      return done(() => viewer.stretchWindow(0.1, 0))
    case "{":
      return done(() => viewer.stretchWindow(0, -0.05))
    case "}":
      return done(() => viewer.stretchWindow(0, 0.05))
    case "w":
    case "W":
      return done(() => viewer.nextPreset())
    case "n":
    case "N":
      return done(() => viewer.setSquares())
    case "o":
    case "O":
      return done(() => viewer.hideOverlays())
    case "?":
      return done(() => viewer.panel.help())
    default:
      return false
  }
}
