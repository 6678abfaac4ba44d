import { readFileSync, writeSync } from 'node:fs'
import { arm, type Place } from '../../src/kernel/failpoint.ts'

/**
 * Loaded into a pod before the product (node --import), in each of its threads: puts something in the way of whoever
 * comes past a place. TEST_FAILPOINTS: "exchange.after=kill@3 recovery.between=delay:2000@1", where the number says
 * the how manieth passing it is. A failpoint goes off once. TEST_FAILPOINTS_FILE: the same in a file that is looked at
 * with each passing, so that a pod that runs can be armed; what begins with # only tells one arming from the next.
 */
export type Action = 'kill' | 'stop' | 'throw' | `delay:${number}`

interface Point {
  place: Place
  action: Action
  left: number
}

export const spell = (place: Place, action: Action, passing = 1) => `${place}=${action}@${passing}`

function read(text: string): Point[] {
  return text
    .split(' ')
    .filter((word) => word !== '' && !word.startsWith('#'))
    .map((word) => {
      const [, place, action, passing] = /^([a-z_.]+)=([a-z]+(?::\d+)?)@(\d+)$/.exec(word) ?? []
      if (!place || !action) throw new Error(`no failpoint: ${word}`)
      return { place: place as Place, action: action as Action, left: Number(passing) }
    })
}

function goOff({ place, action }: Point): Promise<void> | undefined {
  // Of a thread, the stream goes through the main loop, which may not turn again.
  writeSync(2, `failpoint ${place}: ${action}\n`)
  if (action === 'kill' || action === 'stop') {
    process.kill(process.pid, action === 'kill' ? 'SIGKILL' : 'SIGSTOP')
    // A signal to one's own process is delivered before the call returns; only another thread may go on a little.
    return undefined
  }
  if (action === 'throw') throw new Error(`failpoint ${place}`)
  return new Promise((resolve) => setTimeout(resolve, Number(action.slice('delay:'.length))))
}

const file = process.env['TEST_FAILPOINTS_FILE']
let text = process.env['TEST_FAILPOINTS'] ?? ''
let points = read(text)

function look(path: string) {
  const now = readFileSync(path, 'utf8')
  if (now === text) return
  text = now
  points = read(now)
}

if (file !== undefined || points.length > 0)
  arm((place) => {
    if (file !== undefined) look(file)
    const point = points.find((each) => each.place === place && each.left > 0)
    if (!point) return undefined
    point.left--
    return point.left === 0 ? goOff(point) : undefined
  })
