// The volume viewer of every page: one global, `segueViewer`, loaded when the first volume is opened.
import { openViewer } from "./viewer/open.js"

globalThis.segueViewer = { open: openViewer }
