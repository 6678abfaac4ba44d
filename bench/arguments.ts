import { parseArgs } from 'node:util'
import { adapterNames } from './adapters/find.ts'
import type { Size } from './rows/row.ts'
import { rows } from './rows/all.ts'

export interface Wish {
  rows: string[]
  only: string[]
  /** Undefined: as each row has it. */
  rounds: number | undefined
  size: Size
  out: string
  /** Of the ratios to the bare loop: compared with those that are recorded, or recorded. */
  keep: 'compare' | 'record' | undefined
}

export const USAGE = `npm run bench                                   everything that fits into ten minutes
npm run bench -- drain submit                   these rows only
npm run bench -- drain --only fleet-q,pg-boss   these contenders only
npm run bench -- pinned --minutes 10            what takes long is run by name

  --rounds N     how often each is run; 3 if not given
  --quick        a fifth of everything, one round: to see that it works
  --minutes N    length of the rows that last
  --out DIR      where the table, the chart and the raw runs go; .cache/bench if not given
  keep           the short bench of CI: ratios to the bare loop, beside those in bench/recorded.json
  --record       with keep: records them

rows: ${rows.map(({ name }) => name).join(', ')}
contenders: ${adapterNames.join(', ')}`

const MINUTES = 0.5
/** The short bench of CI. */
const KEPT = { rows: ['drain', 'submit'], only: ['fleet-q', 'bare'] }

export function parseWish(argv: string[]): Wish {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      only: { type: 'string', default: '' },
      rounds: { type: 'string' },
      minutes: { type: 'string', default: String(MINUTES) },
      out: { type: 'string', default: '.cache/bench' },
      quick: { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
    },
  })
  const isKeep = positionals.includes('keep')
  const named = isKeep ? KEPT.rows : positionals
  refuseUnknown(
    'row',
    named,
    rows.map(({ name }) => name),
  )
  const only = isKeep ? KEPT.only : values.only.split(',').filter(Boolean)
  refuseUnknown('contender', only, adapterNames)
  const share = values.quick ? 0.2 : 1
  return {
    keep: isKeep ? (values.record ? 'record' : 'compare') : undefined,
    rows: named.length > 0 ? named : rows.filter(({ byNameOnly }) => !byNameOnly).map(({ name }) => name),
    only,
    rounds: values.rounds === undefined ? (values.quick ? 1 : undefined) : positive('rounds', values.rounds),
    out: values.out,
    size: {
      quick: values.quick,
      drainJobs: 100_000 * share,
      submitMs: 2000 * (values.quick ? 0.5 : 1),
      backlogJobs: 1_000_000 * share,
      pickupSeconds: values.quick ? 2 : 6,
      minutes: positive('minutes', values.minutes),
    },
  }
}

function refuseUnknown(what: string, given: string[], known: string[]) {
  for (const name of given)
    if (!known.includes(name))
      throw new Error(`There is no ${what} "${name}". There are: ${known.join(', ')}.`)
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new Error(`--${name} must be a number above 0, not "${text}".`)
  return value
}
