import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { forgetMark, isHeld, newMark } from './marks.ts'

/**
 * Who counts on the server, as one empty file a user. pg_stat_activity alone would miss a pod between the
 * moment it was given the address and its first connection.
 */
export function enter(folder: string): string {
  const mark = newMark()
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, mark), '')
  return mark
}

export function leave(folder: string, mark: string) {
  forgetMark(mark)
  rmSync(join(folder, mark), { force: true })
}

/** Whether anybody else is there; those who died without leaving are swept out. */
export function isAnybodyThere(folder: string): boolean {
  const marks = readdirSync(folder)
  for (const mark of marks) if (!isHeld(mark)) rmSync(join(folder, mark), { force: true })
  return marks.some(isHeld)
}
