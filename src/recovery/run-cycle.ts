import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import { repeatOnConflict, type Database } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { pass } from '../kernel/failpoint.ts'
import { answerParents, lockLetters } from '../step/wake.sql.ts'
import { POISON_AFTER } from '../step/step.ts'
import {
  beginCycle,
  closeStaleCycles,
  declareDead,
  findRunningCycle,
  finishCycle,
  foresee,
  putBack,
  takeOrphanClaims,
  STEPS_NAMED_MAX,
  type CycleReport,
  type Fate,
  type Suspect,
} from './recovery.sql.ts'

export interface CycleOptions {
  database: Database
  podId: string
  term: string
  forced?: boolean
  /** Who asked this pod for it; a chore asks itself, and a wish that was passed on is written down where it was made. */
  actor?: Actor
  /** After two dead pods a step comes back at a random moment within this time; with 15 s of silence before it, 20 s are kept. */
  spreadMs?: number
}

export interface CycleSummary extends CycleReport {
  cycleId: string
  dead: Suspect[]
}

/** Claims a batch of orphans may hold; bounds the time of its two statements. */
const CLAIMS_PER_BATCH = 50
const PODS_PER_CYCLE = 1000
/** Cycles of this process, by pod: the leader's own, and one that a person asked for, may meet. */
const underWay = new Map<string, Set<string>>()
/** A cycle that has not ended by then was left by a pod that no longer counts. */
const STALE_SECONDS = 120

/**
 * One search for dead pods and what they held. Safe to run twice, by two leaders, or to lose in the middle: every
 * batch is one transaction, and its work is found again from the tables.
 */
export async function runCycle(options: CycleOptions): Promise<CycleSummary> {
  const { database, podId, spreadMs = 4000 } = options
  const startedAt = performance.now()
  const cycleId = await begin(options)
  const report: CycleReport = {
    durationMs: 0,
    deadPods: [],
    orphaned: 0,
    requeued: 0,
    terminal: 0,
    requeuedSteps: [],
    terminalSteps: [],
    error: null,
  }
  let dead: Suspect[] = []
  const mine = underWayOf(podId).add(cycleId)
  try {
    dead = await database.run((sql) => declareDead(sql, podId, options.term, PODS_PER_CYCLE))
    report.deadPods = dead.map((pod) => pod.public_id)
    if (dead.length > 0) await pass('recovery.declared')
    for (;;) {
      const batch = await recoverBatch(database, options.term, spreadMs)
      if (batch.claims === 0) break
      await pass('recovery.after_commit')
      for (const fate of batch.fates) note(report, fate)
      for (const pod of batch.pods) if (!report.deadPods.includes(pod)) report.deadPods.push(pod)
    }
  } catch (error) {
    report.error = error instanceof Error ? error.message : String(error)
    throw error
  } finally {
    report.durationMs = Math.round(performance.now() - startedAt)
    await database.run((sql) => finishCycle(sql, cycleId, report)).catch(() => {})
    mine.delete(cycleId)
  }
  return { ...report, cycleId, dead }
}

/** What a cycle would do now. Changes nothing, and says so by having no id. */
export async function foreseeCycle(database: Database, podId: string): Promise<CycleReport> {
  const startedAt = performance.now()
  const rows = await database.run((sql) => foresee(sql, podId))
  const requeuedSteps = rows.flatMap((row) => row.requeue ?? [])
  const orphaned = rows.reduce((total, row) => total + row.held, 0)
  const terminal = rows.reduce((total, row) => total + row.terminal_count, 0)
  return {
    durationMs: Math.round(performance.now() - startedAt),
    deadPods: rows.map((row) => row.public_id),
    orphaned,
    requeued: orphaned - terminal,
    terminal,
    requeuedSteps: requeuedSteps.slice(0, STEPS_NAMED_MAX),
    terminalSteps: rows.flatMap((row) => row.terminal ?? []).slice(0, STEPS_NAMED_MAX),
    error: null,
  }
}

function underWayOf(podId: string): Set<string> {
  const mine = underWay.get(podId) ?? new Set()
  underWay.set(podId, mine)
  return mine
}

async function begin({ database, podId, term, forced = false, actor }: CycleOptions): Promise<string> {
  await database.run((sql) => closeStaleCycles(sql, STALE_SECONDS, podId, [...underWayOf(podId)]))
  const cycle = await (actor
    ? database.begin(async (tx) => {
        const [row] = await beginCycle(tx, podId, term, forced)
        if (row) await writeAudit(tx, actor, `recovery_${row.id}`, { forced })
        return row
      })
    : database.run(async (sql) => (await beginCycle(sql, podId, term, forced))[0]))
  if (cycle) return cycle.id
  const [running] = await database.run(findRunningCycle)
  throw new FleetError(
    'recovery_in_progress',
    `Recovery cycle ${running?.id ?? ''} is under way on ${running?.pod ?? 'another pod'}. Wait for it to end, then ask again.`,
  )
}

/** One transaction: claims of the dead go, and what they held is put back. Also by two leaders at once. */
export const recoverBatch = (database: Database, term: string, spreadMs: number) =>
  repeatOnConflict(() =>
    database.begin(async (tx) => {
      const claims = await takeOrphanClaims(tx, term, CLAIMS_PER_BATCH)
      if (claims.length === 0) return { claims: 0, fates: [], pods: [] }
      await pass('recovery.between')
      const stepIds = claims.flatMap((claim) => claim.step_ids)
      await lockLetters(tx, [], stepIds)
      const fates = await putBack(tx, claims, POISON_AFTER, spreadMs)
      if (fates.some(({ fate }) => fate === 'terminal')) await answerParents(tx, stepIds)
      await pass('recovery.before_commit')
      return { claims: claims.length, fates, pods: [...new Set(claims.map((claim) => claim.pod))] }
    }),
  )

function note(report: CycleReport, { fate, steps, named }: Fate) {
  report.orphaned += steps
  if (fate === 'requeued') report.requeued += steps
  else report.terminal += steps
  const sofar = fate === 'requeued' ? report.requeuedSteps : report.terminalSteps
  sofar.push(...named.slice(0, STEPS_NAMED_MAX - sofar.length))
}
