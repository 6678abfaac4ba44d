import { FleetError } from '../errors.ts'

/** 1234 -> '1.2 s': for people. */
export function durationText(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  return `${(ms / 3_600_000).toFixed(1)} h`
}

const UNIT_MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 }

/** '90d' -> milliseconds. */
export function parseDuration(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,6})([smhdw])$/.exec(text) ?? []
  const ms = Number(digits) * (UNIT_MS[unit] ?? 0)
  if (ms > 0) return ms
  throw new FleetError(
    'invalid_input',
    `"${text}" is no span of time: write a number and s, m, h, d or w, such as 90d.`,
  )
}
