import { readFileSync } from 'node:fs'

/** package-lock.json, as far as it tells what is brought in. */
export interface Locked {
  version: string
  integrity?: string
  resolved?: string
  license?: string
  dev?: boolean
  optional?: boolean
  hasInstallScript?: boolean
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
}

export interface Lock {
  name: string
  version: string
  packages: Record<string, Locked>
}

export const readLock = (): Lock => JSON.parse(readFileSync('package-lock.json', 'utf8')) as Lock

/** 'node_modules/a/node_modules/@b/c' is @b/c. */
export const nameOf = (path: string) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)

/** What a pod runs with: everything but ourselves and what only the house needs. */
export const runTime = (lock: Lock): [path: string, Locked][] =>
  Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && dev !== true)

/** As Node looks for it: in the folder of who asks, then in those around it. */
export function resolveFrom(lock: Lock, path: string, name: string): string | undefined {
  for (let at = path; ; at = at.slice(0, Math.max(at.lastIndexOf('/node_modules/'), 0))) {
    const found = `${at === '' ? '' : `${at}/`}node_modules/${name}`
    if (found in lock.packages) return found
    if (at === '') return undefined
  }
}
