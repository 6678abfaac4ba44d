import { FleetError } from '../../errors.ts'
import { decodeCursor, nextCursor } from '../../kernel/cursor.ts'
import { findLeader } from '../../pod/leader.sql.ts'
import { listCycles, listDeadLetters, type CycleReport } from '../../recovery/recovery.sql.ts'
import { redriveLetter, redriveLetters } from '../../recovery/redrive.ts'
import { relayCycle } from '../../recovery/relay.ts'
import { foreseeCycle, runCycle } from '../../recovery/run-cycle.ts'
import { errorOf } from '../../step/read.ts'
import type { Handlers } from '../server.ts'
import type { Door } from './door.ts'

type Mine =
  | 'runRecovery'
  | 'listRecoveryCycles'
  | 'listDeadLetters'
  | 'redriveDeadLetter'
  | 'redriveDeadLetters'

/** Without force, a cycle that ended so lately is answer enough. */
const RECENT_SECONDS = 1

export const recoveryRoutes = (door: Door): Pick<Handlers, Mine> => {
  const { database, podId, publicId } = door
  const onReady = () => {
    door.onReady()
    door.say('ready')
  }

  return {
    async runRecovery({ body }, caller) {
      const term = door.term()
      if (term === undefined) {
        if (body.relay) {
          const answer = await relayCycle(database, caller, publicId, body, () => door.say('recover'))
          return { body: answerOf(answer, answer.cycleId, body.dry_run) }
        }
        const [leader] = await database.run(findLeader)
        throw new FleetError(
          'not_leader',
          `This pod (${publicId}) does not lead; ${leader ? `${leader.public_id} does` : 'no pod does at the moment'}. Ask that pod, or send {"relay": true} and this one passes the wish on.`,
        )
      }
      if (body.dry_run) return { body: answerOf(await foreseeCycle(database, podId), null, true) }
      if (!body.force) {
        const [last] = await database.run((sql) => listCycles(sql, null, 1, RECENT_SECONDS))
        if (last)
          return {
            body: {
              status: 'skipped',
              message: `Recovery cycle ${cycleName(last.id)} ended a moment ago; send {"force": true} to run another.`,
              recovery_summary: summaryOf(last.id, {
                durationMs: last.duration_ms ?? 0,
                deadPods: last.dead_pods,
                orphaned: last.orphaned,
                requeued: last.requeued,
                terminal: last.terminal,
                requeuedSteps: last.requeued_steps,
                terminalSteps: last.terminal_steps,
                error: null,
              }),
            },
          }
      }
      const summary = await runCycle({ database, podId, term, forced: true, actor: caller })
      door.onCycle(summary)
      return { body: answerOf(summary, summary.cycleId, false) }
    },

    async listRecoveryCycles({ query }) {
      const rows = await database.run((sql) => listCycles(sql, decodeCursor(query.cursor), query.limit))
      return {
        body: {
          cycles: rows.map((row) => ({
            cycle_id: cycleName(row.id),
            pod_id: row.pod,
            term: row.term,
            forced: row.forced,
            started_at: row.started_at.toISOString(),
            finished_at: row.finished_at?.toISOString() ?? null,
            duration_ms: row.duration_ms,
            dead_pods_found: row.dead_pods.length,
            orphaned_steps_found: row.orphaned,
            steps_requeued: row.requeued,
            steps_marked_terminal: row.terminal,
            dead_pods: row.dead_pods,
            requeued_steps: row.requeued_steps,
            terminal_steps: row.terminal_steps,
            error: row.error,
          })),
          next_cursor: nextCursor(rows, query.limit),
        },
      }
    },

    async listDeadLetters({ query }) {
      const filter = {
        reason: query.reason ?? null,
        type: query.type ?? null,
        before: decodeCursor(query.cursor),
      }
      const rows = await database.run((sql) => listDeadLetters(sql, filter, query.limit))
      return {
        body: {
          dead_letters: rows.map((row) => ({
            step_id: row.step_id,
            type: row.type,
            reason: row.reason as 'poison',
            at: row.at.toISOString(),
            attempts: row.attempt,
            pod_id: row.pod,
            error: errorOf(row.error),
          })),
          next_cursor: nextCursor(rows, query.limit),
        },
      }
    },

    redriveDeadLetter: async ({ params }, caller) => ({
      body: await redriveLetter(database, caller, params.step_id, onReady),
    }),

    redriveDeadLetters: async ({ body }, caller) => ({
      body: await redriveLetters(database, caller, body.filter, body, onReady),
    }),
  }
}

const cycleName = (id: string) => `recovery_${id}`

const summaryOf = (cycleId: string | null, report: CycleReport) => ({
  cycle_id: cycleId === null ? 'recovery_dry_run' : cycleName(cycleId),
  dead_pods_found: report.deadPods.length,
  orphaned_steps_found: report.orphaned,
  steps_requeued: report.requeued,
  steps_marked_terminal: report.terminal,
  duration_ms: report.durationMs,
  dead_pods: report.deadPods,
  requeued_steps: report.requeuedSteps,
  terminal_steps: report.terminalSteps,
})

const answerOf = (report: CycleReport, cycleId: string | null, dryRun: boolean) => ({
  status: 'completed' as const,
  message: dryRun
    ? 'Dry run: this is what a cycle would do now; nothing was changed'
    : 'Manual recovery cycle completed successfully',
  recovery_summary: summaryOf(cycleId, report),
})
