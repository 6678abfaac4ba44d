import { arm, type Place } from '../../src/kernel/failpoint.ts'

/**
 * Loaded into a pod before the product (node --import), in each of its threads: puts something in the way of whoever
 * comes past a place. TEST_FAILPOINTS: "exchange.after=kill@3 recovery.between=delay:2000@1", where the number says
 * the how manieth passing it is. A failpoint goes off once.
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
    .filter(Boolean)
    .map((word) => {
      const [, place, action, passing] = /^([a-z_.]+)=([a-z]+(?::\d+)?)@(\d+)$/.exec(word) ?? []
      if (!place || !action) throw new Error(`no failpoint: ${word}`)
      return { place: place as Place, action: action as Action, left: Number(passing) }
    })
}

function goOff({ place, action }: Point): Promise<void> | undefined {
  process.stderr.write(`failpoint ${place}: ${action}\n`)
  if (action === 'kill' || action === 'stop') {
    process.kill(process.pid, action === 'kill' ? 'SIGKILL' : 'SIGSTOP')
    // A signal to one's own process is delivered before the call returns; only another thread may go on a little.
    return undefined
  }
  if (action === 'throw') throw new Error(`failpoint ${place}`)
  return new Promise((resolve) => setTimeout(resolve, Number(action.slice('delay:'.length))))
}

const points = read(process.env['TEST_FAILPOINTS'] ?? '')
if (points.length > 0)
  arm((place) => {
    const point = points.find((each) => each.place === place && each.left > 0)
    if (!point) return undefined
    point.left--
    return point.left === 0 ? goOff(point) : undefined
  })
