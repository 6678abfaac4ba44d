import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Wish } from '../arguments.ts'
import { peerVersion } from '../adapters/peers.ts'
import type { Server } from '../server/start.ts'
import { drawBars, drawLines } from './chart.ts'
import type { Measured } from './measured.ts'
import { drawTable } from './table.ts'

const PACKAGES: Record<string, string> = {
  'graphile-worker': 'graphile-worker',
  'pg-boss': 'pg-boss',
  'bullmq-pg': 'bullmq',
  'bullmq-redis': 'bullmq',
  dbos: '@dbos-inc/dbos-sdk',
  absurd: 'absurd-sdk',
}

/** Prints the table, and writes it, its charts and the raw runs into a folder. */
export async function writeReport(measured: Measured[], wish: Wish, server: Server): Promise<void> {
  const text = `${drawTable(measured)}\n${describeMachine(measured, server)}\n`
  mkdirSync(wish.out, { recursive: true })
  writeFileSync(join(wish.out, 'table.md'), text)
  writeFileSync(join(wish.out, 'runs.json'), `${JSON.stringify(measured, null, 1)}\n`)
  writeFileSync(join(wish.out, 'bars.svg'), drawBars(measured))
  const lines = drawLines(measured)
  if (lines !== undefined) writeFileSync(join(wish.out, 'lines.svg'), lines)
  console.log(text)
}

function describeMachine(measured: Measured[], server: Server): string {
  const names = [...new Set(measured.filter(({ runs }) => runs.length > 0).map(({ name }) => name))]
  const versions = names.flatMap((name) => (PACKAGES[name] ? [`${name} ${peerVersion(PACKAGES[name])}`] : []))
  const processor = cpus()[0]?.model ?? 'unknown processor'
  return [
    `${cpus().length} cores (${processor}), ${Math.round(totalmem() / 2 ** 30)} GiB; Node ${process.versions.node};`,
    `Postgres ${server.version}: ${server.settings}.`,
    versions.length > 0 ? `${versions.join(', ')}.` : '',
  ].join('\n')
}
