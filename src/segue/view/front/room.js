// The reading room: a list of cases at the left, the opened one at the right, a training that is followed live.
import { start } from "./room/start.js"

start()
