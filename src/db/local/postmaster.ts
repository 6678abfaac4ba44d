import { execFile } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { codeOf } from './fail.ts'

/** What postmaster.pid says; whether it is true is another question, a killed server leaves it behind. */
export interface Postmaster {
  pid: number
  port: number
  ready: boolean
}

const run = promisify(execFile)

/** Undefined: no server since the last clean stop. Lines: pid, folder, start, port, socket, host, shm, state. */
export function readPostmaster(cluster: string): Postmaster | undefined {
  const lines = readIfThere(join(cluster, 'postmaster.pid'))?.split('\n')
  if (lines === undefined) return undefined
  return { pid: Number(lines[0]), port: Number(lines[3]), ready: lines[7]?.trim() === 'ready' }
}

/**
 * The port of the run before, from the command line that a server leaves in postmaster.opts. Taken again, it
 * lets the pods that outlived a killed server find the next one.
 */
export function previousPort(cluster: string): number {
  return Number(/\bport=(\d+)/.exec(readIfThere(join(cluster, 'postmaster.opts')) ?? '')?.[1] ?? 0)
}

/** The program that the server was started from. */
export const previousProgram = (cluster: string): string | undefined =>
  /^"?([^"]*?postgres(?:\.exe)?)"? /.exec(readIfThere(join(cluster, 'postmaster.opts')) ?? '')?.[1]

/**
 * Whether the live process is the server of this cluster: after a reboot, or in a container, the pid of a dead
 * server soon belongs to something else, and Postgres itself then refuses to start. Undefined: cannot be told.
 */
export async function isServerOf(pid: number, cluster: string): Promise<boolean | undefined> {
  const args = await commandLine(pid)
  if (args === undefined) return undefined
  if (!/postgres|postmaster/i.test(args[0] ?? '')) return false
  return args.join(' ').includes(cluster) ? true : undefined
}

async function commandLine(pid: number): Promise<string[] | undefined> {
  // A zombie has an empty command line: not a server any more.
  if (process.platform === 'linux') return (readIfThere(`/proc/${pid}/cmdline`) ?? '').split('\0')
  if (process.platform === 'win32') return undefined
  try {
    return [(await run('/bin/ps', ['-p', String(pid), '-o', 'args='])).stdout]
  } catch {
    return undefined
  }
}

/** The last lines of the log that were written after the byte. */
export function readTail(log: string, from: number): string {
  const fd = openSync(log, 'r')
  try {
    const start = Math.max(from, fstatSync(fd).size - 8000)
    const buffer = Buffer.alloc(8000)
    const text = buffer.toString('utf8', 0, readSync(fd, buffer, 0, buffer.length, start))
    return text.trim().split('\n').slice(-12).join('\n')
  } finally {
    closeSync(fd)
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ESRCH') return undefined
    throw error
  }
}
