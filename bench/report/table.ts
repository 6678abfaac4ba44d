import { labelOf, summarise, type Measured } from './measured.ts'

const OURS = 'fleet-q'

/** One table for each case: a line for each contender and metric, and how many times as good Fleet-Q is. */
export function drawTable(measured: Measured[]): string {
  return [...new Set(measured.map(({ title }) => title))]
    .map((title) => {
      const group = measured.filter((one) => one.title === title)
      const metrics = group[0]?.metrics ?? []
      const lines = metrics.flatMap(({ key, unit, better }) => {
        const ours = group.find(({ name }) => name === OURS)
        const mine = ours && summarise(ours, key)?.median
        return group.flatMap((one) => {
          const summary = summarise(one, key)
          if (!summary)
            return metrics[0]?.key === key
              ? [`| ${labelOf(one, group)} | ${unit} | | | | | ${why(one)} |`]
              : []
          const ratio = one === ours || mine === undefined ? undefined : ratioOf(mine, summary.median, better)
          const notes = [
            one.settings,
            one.less,
            ...one.failures.map((failure) => `a run without figure: ${firstLine(failure)}`),
          ]
          return [
            `| ${labelOf(one, group)} | ${unit} | ${[summary.median, summary.min, summary.max].map(number).join(' | ')} | ${
              ratio === undefined ? '' : `${ratio.toFixed(2)} x`
            } | ${notes.filter(Boolean).join('; ')} |`,
          ]
        })
      })
      return [
        `### ${title}`,
        '',
        '| | | median | min | max | fleet-q is | |',
        '|---|---|--:|--:|--:|--:|---|',
        ...lines,
        '',
      ].join('\n')
    })
    .join('\n')
}

/** Above 1: Fleet-Q is better, whatever the metric. */
export const ratioOf = (ours: number, theirs: number, better: 'more' | 'less') =>
  better === 'more' ? ours / theirs : theirs / ours

const why = ({ unavailable, failures }: Measured) =>
  unavailable === undefined
    ? `no figure: ${firstLine(failures[0] ?? 'it was not run')}`
    : `not measured: ${unavailable}`

const firstLine = (text: string) => (text.split('\n')[0] ?? '').replaceAll('|', '/')

export function number(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en')
  if (value >= 100) return value.toFixed(0)
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
