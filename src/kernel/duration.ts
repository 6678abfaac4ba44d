import { FleetError } from '../errors.ts'

/** 1234 -> '1.2 s': for people. */
export function durationText(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  return `${(ms / 3_600_000).toFixed(1)} h`
}

const UNITS: [ms: number, names: RegExp][] = [
  [1, /^(ms|milliseconds?)$/],
  [1000, /^(s|seconds?)$/],
  [60_000, /^(m|min|minutes?)$/],
  [3_600_000, /^(h|hours?)$/],
  [86_400_000, /^(d|days?)$/],
  [604_800_000, /^(w|weeks?)$/],
]

/** '90d', '1.5 hours', '500 ms' -> milliseconds. */
export function parseDuration(text: string): number {
  const [, digits = '', name = ''] = /^(\d{1,6}(?:\.\d{1,3})?) ?([a-z]+)$/.exec(text) ?? []
  const [unitMs = 0] = UNITS.find(([, names]) => names.test(name)) ?? []
  const ms = Number(digits) * unitMs
  if (ms > 0) return ms
  throw new FleetError(
    'invalid_input',
    `"${text}" is no span of time: write a number and ms, s, m, h, d or w, such as 90d or "90 days".`,
  )
}
