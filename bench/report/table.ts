import type { Metric } from '../rows/row.ts'
import { labelOf, summarise, type Measured } from './measured.ts'

const OURS = 'fleet-q'
/** More than this share of the machine taken by something else is said beside the figure. */
const BUSY = 0.1

/** One table for each case: a line for each metric and contender, and how many times as good Fleet-Q is. */
export function drawTable(measured: Measured[]): string {
  return [...new Set(measured.map(({ title }) => title))]
    .map((title) => {
      const group = measured.filter((one) => one.title === title)
      const metrics = group[0]?.metrics ?? []
      return [
        `### ${title}`,
        '',
        '| | | median | min | max | fleet-q is | |',
        '|---|---|--:|--:|--:|--:|---|',
        ...metrics.flatMap((metric, i) => group.flatMap((one) => drawLine(one, group, metric, i === 0))),
        ...metrics.flatMap((metric) => drawTarget(group, metric)),
        '',
      ].join('\n')
    })
    .join('\n')
}

function drawLine(one: Measured, group: Measured[], metric: Metric, isFirst: boolean): string[] {
  const summary = summarise(one, metric.key)
  const name = `| ${labelOf(one, group)} | ${metric.unit} |`
  // What is the same for all metrics is said once.
  const notes = isFirst ? notesOf(one).join('; ') : ''
  if (!summary) return isFirst ? [`${name} | | | | ${notes} |`] : []
  const ours = group.find((each) => each.name === OURS)
  const mine = ours && ours !== one ? summarise(ours, metric.key)?.median : undefined
  const ratio = mine === undefined ? '' : `${ratioOf(mine, summary.median, metric.better).toFixed(2)} x`
  const figures = [summary.median, summary.min, summary.max].map(number).join(' | ')
  return [`${name} ${figures} | ${ratio} | ${notes} |`]
}

/** Below the lines: how far Fleet-Q is from what it means to be, beside whoever is best. */
function drawTarget(group: Measured[], metric: Metric): string[] {
  const ours = group.find(({ name }) => name === OURS)
  const mine = ours && summarise(ours, metric.key)?.median
  if (metric.target === undefined || mine === undefined) return []
  const nearest = group
    .flatMap((one) => {
      const theirs = one.name === OURS ? undefined : summarise(one, metric.key)?.median
      return theirs === undefined
        ? []
        : { label: labelOf(one, group), ratio: ratioOf(mine, theirs, metric.better) }
    })
    .toSorted((a, b) => a.ratio - b.ratio)[0]
  const said = nearest ? `${nearest.ratio.toFixed(2)} x ${nearest.label}` : 'beside nobody'
  return ['', `Target: ${metric.target} x the best of the others in ${metric.unit}. It is ${said}.`]
}

function notesOf({ settings, less, failures, unavailable, runs }: Measured): string[] {
  const others = runs.reduce((sum, { othersCpu }) => sum + othersCpu, 0) / Math.max(1, runs.length)
  return [
    settings,
    less,
    unavailable === undefined ? '' : `not measured: ${unavailable}`,
    ...failures.map(
      (failure) => `${runs.length > 0 ? 'a run without figure' : 'no figure'}: ${firstLine(failure)}`,
    ),
    others > BUSY ? `${Math.round(others * 100)} % of the machine was busy with other things` : '',
  ].filter(Boolean)
}

/** Above 1: Fleet-Q is better, whatever the metric. */
export const ratioOf = (ours: number, theirs: number, better: 'more' | 'less') =>
  better === 'more' ? ours / theirs : theirs / ours

const firstLine = (text: string) => (text.split('\n')[0] ?? '').replaceAll('|', '/')

function number(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en')
  if (value >= 100) return value.toFixed(0)
  if (value >= 10) return value.toFixed(1)
  return value >= 0.1 ? value.toFixed(2) : value.toPrecision(2)
}
