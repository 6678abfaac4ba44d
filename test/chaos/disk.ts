import { spawnSync } from 'node:child_process'
import {
  mkdtempSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
  openSync,
  writeSync,
  closeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEnd } from '../support/cleanup.ts'

/** A disk of its own for the server, that can be full. */
export interface Disk {
  readonly folder: string
  fill(): void
  free(): void
}

const SIZE = '6g'
const CHUNK = Buffer.alloc(1024 * 1024)

export const mayMount = () => process.platform === 'linux' && process.getuid?.() === 0

/** Root may mount one in memory; undefined for everybody else. */
export function makeDisk(): Disk | undefined {
  if (!mayMount()) return undefined
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-chaos-'))
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'fleet-q-chaos', folder]).status !== 0) {
    rmSync(folder, { recursive: true })
    return undefined
  }
  atEnd(() => {
    spawnSync('umount', ['-l', folder])
    rmSync(folder, { recursive: true, force: true })
  })
  const ballast = join(folder, 'ballast')
  writeFileSync(ballast, '')
  return {
    folder,
    fill() {
      const file = openSync(ballast, 'a')
      try {
        for (let left = statfsSync(folder).bavail; left > 0; left = statfsSync(folder).bavail)
          writeSync(file, CHUNK)
      } catch {
        // Full: that was the wish.
      } finally {
        closeSync(file)
      }
    },
    free: () => truncateSync(ballast),
  }
}
