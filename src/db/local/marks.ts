import { randomBytes } from 'node:crypto'
import { codeOf } from './fail.ts'

/**
 * A mark names one holder of something on disk: its process and a random part. The random part matters in a
 * container, where the process after a restart has the very pid of the one that died.
 */
const ours = new Set<string>()

export function newMark(): string {
  const mark = `${process.pid}-${randomBytes(6).toString('hex')}`
  ours.add(mark)
  return mark
}

export const forgetMark = (mark: string) => ours.delete(mark)

export function isHeld(mark: string): boolean {
  const pid = Number.parseInt(mark, 10)
  return pid === process.pid ? ours.has(mark) : isAlive(pid)
}

export function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return codeOf(error) === 'EPERM'
  }
}
