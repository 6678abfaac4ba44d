import { labelOf, summarise, type Measured } from './measured.ts'

/** Charts as SVG, written by hand: readable on light and on dark ground, and without any dependency. */

const WIDTH = 760
const NAME_WIDTH = 230
const BAR_WIDTH = 410
const BAR_HEIGHT = 16
const LINE_HEIGHT = 22
const GROUP_SPACE = 44
const PLOT_HEIGHT = 220

const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 13px }
  .ours { fill: #0969da; stroke: #0969da }
  .theirs { fill: #8c959f; stroke: #8c959f }
  .span { stroke: #24292f; stroke-width: 1.5 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  polyline { fill: none !important; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .ours { fill: #58a6ff; stroke: #58a6ff }
    .theirs { fill: #6e7681; stroke: #6e7681 }
    .span { stroke: #e6edf3 }
    .grid { stroke: #30363d }
  }`

const DASHES = ['', '6 3', '2 3', '8 3 2 3', '1 4', '12 4']

const svg = (height: number, title: string, parts: string[]) =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" ` +
  `role="img" aria-label="${escape(title)}">\n<style>${STYLE}\n</style>\n${parts.join('\n')}\n</svg>\n`

/** The first metric of each case: a bar for the median, a line from the lowest to the highest run. */
export function drawBars(measured: Measured[]): string {
  const parts: string[] = []
  let y = 24
  for (const title of new Set(measured.map((one) => one.title))) {
    const group = measured.filter((one) => one.title === title && one.runs.length > 0)
    const metric = group[0]?.metrics[0]
    if (!metric) continue
    const max = Math.max(...group.map((one) => summarise(one, metric.key)?.max ?? 0))
    const scale = max > 0 ? BAR_WIDTH / max : 0
    parts.push(`<text class="title" x="8" y="${y}">${escape(`${title} (${metric.unit})`)}</text>`)
    y += 10
    for (const one of group) {
      const summary = summarise(one, metric.key)
      if (!summary) continue
      const middle = y + BAR_HEIGHT / 2
      const spanAt = (value: number) => (NAME_WIDTH + value * scale).toFixed(1)
      parts.push(
        `<text x="${NAME_WIDTH - 8}" y="${middle + 4}" text-anchor="end">${escape(labelOf(one, group))}</text>`,
        `<rect class="${kindOf(one)}" x="${NAME_WIDTH}" y="${y}" width="${Math.max(1, summary.median * scale).toFixed(1)}" height="${BAR_HEIGHT}"/>`,
        `<line class="span" x1="${spanAt(summary.min)}" x2="${spanAt(summary.max)}" y1="${middle}" y2="${middle}"/>`,
        `<text x="${NAME_WIDTH + BAR_WIDTH + 12}" y="${middle + 4}">${short(summary.median)}</text>`,
      )
      y += LINE_HEIGHT
    }
    y += GROUP_SPACE - LINE_HEIGHT
  }
  return svg(y, 'Fleet-Q and its peers', parts)
}

/** Rates over the windows of a run, in tenths of its length; undefined where no row has them. */
export function drawLines(measured: Measured[]): string | undefined {
  const lines = measured.flatMap((one) =>
    one.runs.flatMap(({ series }) => (series ? [{ one, series }] : [])).slice(0, 1),
  )
  if (lines.length === 0) return undefined
  const max = Math.max(...lines.flatMap(({ series }) => series))
  const left = 64
  const right = WIDTH - 16
  const top = 20
  const bottom = top + PLOT_HEIGHT
  const yOf = (value: number) => bottom - (value / max) * PLOT_HEIGHT
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    `<line class="grid" x1="${left}" x2="${right}" y1="${yOf(max * share)}" y2="${yOf(max * share)}"/>`,
    `<text x="${left - 8}" y="${yOf(max * share) + 4}" text-anchor="end">${short(max * share)}</text>`,
  ])
  const drawn = lines.flatMap(({ one, series }, i) => {
    const xOf = (n: number) => left + ((right - left) * n) / Math.max(1, series.length - 1)
    const points = series.map((value, n) => `${xOf(n).toFixed(1)},${yOf(value).toFixed(1)}`).join(' ')
    const dash = DASHES[i % DASHES.length] ?? ''
    const y = bottom + 24 + i * LINE_HEIGHT
    return [
      `<polyline class="${kindOf(one)}" stroke-dasharray="${dash}" points="${points}"/>`,
      `<line class="${kindOf(one)}" stroke-width="2" stroke-dasharray="${dash}" x1="${left}" x2="${left + 40}" y1="${y}" y2="${y}"/>`,
      `<text x="${left + 50}" y="${y + 4}">${escape(`${one.name}: ${one.title}`)}</text>`,
    ]
  })
  const title = 'Steps a second over time'
  return svg(bottom + 36 + lines.length * LINE_HEIGHT, title, [...grid, ...drawn])
}

const kindOf = ({ name }: Measured) => (name === 'fleet-q' ? 'ours' : 'theirs')

const short = (value: number) =>
  value >= 10_000 ? `${(value / 1000).toFixed(1)}k` : value >= 100 ? value.toFixed(0) : value.toPrecision(2)

const escape = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
