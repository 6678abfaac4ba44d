import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { summarise, type Measured } from './measured.ts'

/** What CI looks at: how near Fleet-Q comes to a bare loop with its own statements, now and when it was recorded. */

const FILE = join(import.meta.dirname, '../recorded.json')
/** A shared machine is easily a third slower; half is a loss that somebody has made. */
const LOSS = 0.5

export type Recorded = Record<string, number>

/** Of each case that both have run. */
export function ratiosToBare(measured: Measured[]): Recorded {
  const ratios: Recorded = {}
  for (const title of new Set(measured.map((one) => one.title))) {
    const medianOf = (name: string) => {
      const one = measured.find((each) => each.title === title && each.name === name)
      return one && summarise(one, one.metrics[0]?.key ?? '')?.median
    }
    const ours = medianOf('fleet-q')
    const bare = medianOf('bare')
    if (ours !== undefined && bare !== undefined) ratios[title] = Number((ours / bare).toFixed(3))
  }
  return ratios
}

export function record(ratios: Recorded): void {
  writeFileSync(FILE, `${JSON.stringify(ratios, null, 2)}\n`)
}

/** Prints each ratio beside the recorded one. False when one is lost, or when one could not be measured. */
export function compare(ratios: Recorded): boolean {
  const recorded = JSON.parse(readFileSync(FILE, 'utf8')) as Recorded
  const lost = Object.entries(recorded).filter(([title, before]) => {
    const now = ratios[title]
    const isLost = now === undefined || now < before * LOSS
    const said = now === undefined ? 'no figure' : `${now.toFixed(2)} x the bare loop`
    console.log(`${title}: ${said}, recorded ${before.toFixed(2)}${isLost ? ': lost' : ''}`)
    return isLost
  })
  if (lost.length > 0)
    console.log(
      `Below half of what was recorded. Where that is meant, record it: npm run bench -- keep --record`,
    )
  return lost.length === 0
}
