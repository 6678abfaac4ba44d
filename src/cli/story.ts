import { styleText } from 'node:util'
import type { Client } from '../client.ts'
import { durationText } from '../kernel/duration.ts'
import type { FleetPod } from './spawn-pod.ts'

export interface Story {
  say(text: string): void
  started(pod: FleetPod): void
  died(pod: FleetPod): void
  heard(number: number, line: Record<string, unknown>): void
  pulse(pods: FleetPod[], load: { submitted: number; refused: number }): Promise<void>
  /** Watches what the dead pod held until all of it runs elsewhere, and tells how long it took. */
  follow(dead: FleetPod, url: string): Promise<void>
}

const FOLLOW_LIMIT_MS = 120_000
const STEPS_SHOWN = 8

/** What happens, told for a person at a terminal. */
export function createStory(out: NodeJS.WriteStream, clientOf: (url: string) => Client): Story {
  const colour = out.isTTY && out.hasColors()
  const paint = (style: 'bold' | 'red' | 'green' | 'yellow' | 'gray', text: string) =>
    colour ? styleText(style, text) : text
  const startedAt = performance.now()
  const clock = () => paint('gray', `${((performance.now() - startedAt) / 1000).toFixed(1).padStart(6)} s `)
  let pulsing = ''

  const say = (text: string) => {
    if (colour && pulsing) out.write('\r\u001B[K')
    out.write(`${clock()} ${text}\n`)
    if (colour && pulsing) out.write(pulsing)
  }

  return {
    say,
    started: (pod) =>
      say(`${paint('green', `pod ${pod.number} is up`)}: ${pod.id}, process ${pod.pid}, ${pod.url}`),
    died: (pod) =>
      say(
        paint(
          'red',
          `pod ${pod.number} is dead: ${pod.id}. It said no goodbye; the others notice when its heartbeat stays away.`,
        ),
      ),

    heard(number, line) {
      if (line['msg'] === 'leading')
        say(paint('yellow', `pod ${number} leads the fleet (term ${String(line['term'])})`))
      if (line['msg'] === 'recovered what dead pods held')
        say(
          paint('bold', `pod ${number} noticed`) +
            `: ${(line['dead'] as string[]).join(', ') || 'orphaned claims'} declared dead; put back ${String(line['requeued'])}, given up ${String(line['terminal'])}, in ${String(line['durationMs'])} ms`,
        )
      else if (line['level'] === 'warn') say(paint('yellow', `pod ${number}: ${String(line['msg'])}`))
      if (line['level'] === 'error' || line['level'] === 'fatal')
        say(paint('red', `pod ${number}: ${String(line['msg'])}`))
    },

    async pulse(pods, load) {
      const [pod] = pods
      if (!pod) return
      try {
        const { pending_steps, claimed_steps, completed_steps, failed_steps, pod_capacity } = await clientOf(
          pod.url,
        ).getQueue()
        const bars = pods.map((each) => {
          const slots = pod_capacity[each.id]
          return `${each.number} ${slots ? '#'.repeat(slots.current).padEnd(slots.max, '.') : '?'}`
        })
        pulsing = `        ${bars.join('  ')}   waiting ${pending_steps}  running ${claimed_steps}  done ${completed_steps}  failed ${failed_steps}  refused ${load.refused}`
        if (colour) out.write(`\r\u001B[K${pulsing}`)
        else if (Math.round((performance.now() - startedAt) / 1000) % 5 === 0) out.write(`${pulsing}\n`)
      } catch {
        // The pod that was asked may be the one that just died.
      }
    },

    async follow(dead, url) {
      const client = clientOf(url)
      const since = performance.now()
      const held = (await stepsOf(client, dead.id)).map((step) => step.step_id)
      if (held.length === 0) {
        say(`it held no step at that moment`)
        return
      }
      say(`it held ${held.length} ${held.length === 1 ? 'step' : 'steps'}`)
      const moved = new Map<string, string>()
      while (moved.size < held.length && performance.now() - since < FOLLOW_LIMIT_MS) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        for (const id of held) {
          if (moved.has(id)) continue
          const status = await client.getStatus({ step_id: id }).catch(() => undefined)
          const by = status?.claimed_by
          if (!status || !by || (by === dead.id && status.status !== 'completed')) continue
          moved.set(id, by)
          if (moved.size <= STEPS_SHOWN)
            say(
              `  ${id} ${by === dead.id ? 'had ended before' : `runs on ${by}`}, attempt ${status.retry_count + 1}`,
            )
        }
      }
      const took = durationText(performance.now() - since)
      say(
        moved.size === held.length
          ? paint(
              'green',
              `everything that pod ${dead.number} held runs elsewhere or has ended: ${took} after its death, none lost`,
            )
          : paint(
              'red',
              `${held.length - moved.size} of ${held.length} steps still wait for a slot after ${took}`,
            ),
      )
    },
  }
}

const stepsOf = async (client: Client, pod: string) =>
  (await client.listSteps({ pod, status: 'claimed', limit: 100 }).catch(() => ({ steps: [] }))).steps
