import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { FleetError } from '../../errors.ts'
import { codeOf } from './fail.ts'
import { forgetMark, isHeld, newMark } from './marks.ts'

/** Longer than a first start on a slow disk and a crash recovery together. */
const WAIT_MS = 240_000
/** Nobody holds it that long: the pid in it must have passed to another process, as it does after a reboot. */
const STALE_MS = 300_000
/** Between creating a file and writing into it lie microseconds. */
const EMPTY_MS = 5000

/** Does the work while no other process that asks for the same file does. Costs 0.3 ms where nobody else does. */
export async function locked<T>(path: string, work: () => Promise<T>): Promise<T> {
  const mark = newMark()
  try {
    await acquire(path, mark)
    return await work()
  } finally {
    if (read(path) === mark) rmSync(path, { force: true })
    forgetMark(mark)
  }
}

async function acquire(path: string, mark: string) {
  const until = performance.now() + WAIT_MS
  while (!create(path, mark) && !takeOver(path, mark)) {
    if (performance.now() > until)
      throw new FleetError(
        'postgres_failed',
        `Another process (${read(path)}) has been starting or stopping the local Postgres for ` +
          `${WAIT_MS / 1000} s and holds ${path}. End it and start again.`,
      )
    await sleep(10)
  }
}

/**
 * The lock of a dead process is replaced by renaming another file over it. That other file is made by one
 * taker alone, and only its maker may replace the lock, so what it found stale is still what it replaces: two
 * takers cannot remove each other's fresh lock.
 */
function takeOver(path: string, mark: string): boolean {
  if (!isStale(path)) return false
  const taking = `${path}.taking`
  if (!create(taking, mark)) {
    if (isStale(taking)) rmSync(taking, { force: true })
    return false
  }
  if (isStale(path)) {
    renameSync(taking, path)
    return true
  }
  rmSync(taking, { force: true })
  return false
}

function isStale(path: string): boolean {
  const mark = read(path)
  if (mark === undefined) return false
  const ageMs = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now())
  return mark === '' ? ageMs > EMPTY_MS : ageMs > STALE_MS || !isHeld(mark)
}

function create(path: string, mark: string): boolean {
  try {
    writeFileSync(path, mark, { flag: 'wx' })
    return true
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false
    throw error
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}
