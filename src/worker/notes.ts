import type { Database } from '../db/connect.ts'
import { loop, type Loop } from '../kernel/loop.ts'
import type { Log } from '../kernel/log.ts'
import type { StepLog } from '../step/handler.ts'
import { insertLogs, upsertProgress, type LogLine, type ProgressNote } from '../step/notes.sql.ts'
import { json } from '../step/describe.ts'

/** What handlers say while they run: log lines and progress, gathered and written together, within bounds. */
export interface Notes {
  readonly loop: Loop
  logOf(at: { stepId: string; claimId: string; attempt: number }): StepLog
  progress(note: ProgressNote): void
}

export const LINES_PER_ATTEMPT_MAX = 1000
const LINE_CHARS_MAX = 16_000
const DATA_CHARS_MAX = 16_000
/** Lines that wait for a database that is away; beyond this they are dropped, and the count is logged. */
const LINES_WAITING_MAX = 20_000
const FLUSH_MS = 500
const BATCH_MAX = 1000

export function createNotes(database: Database, log: Log): Notes {
  let lines: LogLine[] = []
  const progress = new Map<string, ProgressNote>()
  let dropped = 0

  const writer = loop({
    name: 'notes',
    // Rung when there is something to write; resting costs nothing.
    everyMs: 3_600_000,
    async run() {
      // Gathers what is said within half a second: one statement instead of one per line.
      await new Promise((resolve) => setTimeout(resolve, lines.length >= BATCH_MAX || closing ? 0 : FLUSH_MS))
      while (lines.length > 0) {
        const batch = lines.slice(0, BATCH_MAX)
        await database.run((sql) => insertLogs(sql, batch))
        lines = lines.slice(batch.length)
      }
      if (progress.size > 0) {
        const notes = [...progress.values()]
        progress.clear()
        await database.run((sql) => upsertProgress(sql, notes))
      }
      if (dropped > 0)
        log.warn({ dropped }, 'log lines of handlers were dropped: the database was away for too long')
      dropped = 0
    },
    onError: (error) => log.debug({ err: error }, 'notes were not written'),
  })
  let closing = false

  const stop = () => {
    closing = true
    if (lines.length > 0 || progress.size > 0) writer.ring()
    return writer.stop()
  }

  return {
    loop: { ...writer, stop },
    logOf({ stepId, claimId, attempt }) {
      let line = 0
      const write = (level: string) => (message: string, data?: unknown) => {
        if (line > LINES_PER_ATTEMPT_MAX) return
        if (lines.length >= LINES_WAITING_MAX) {
          dropped++
          return
        }
        line++
        const last = line > LINES_PER_ATTEMPT_MAX
        lines.push({
          stepId,
          claimId,
          attempt,
          line,
          level: last ? 'warn' : level,
          message: last
            ? `more than ${LINES_PER_ATTEMPT_MAX} lines: the rest of this attempt is not kept`
            : bounded(message),
          data: data === undefined || last ? null : boundedData(data),
        })
        writer.ring()
      }
      return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
    },
    progress(note) {
      progress.set(note.stepId, note)
      writer.ring()
    },
  }
}

const bounded = (message: unknown) =>
  String(message).toWellFormed().replaceAll('\0', '\uFFFD').slice(0, LINE_CHARS_MAX)

function boundedData(data: unknown): string | null {
  try {
    const text = json(
      data instanceof Error ? { class: data.name, message: data.message, stack: data.stack } : data,
    )
    return text === null || text.length <= DATA_CHARS_MAX
      ? text
      : JSON.stringify({ dropped: `${text.length} characters` })
  } catch (error) {
    return JSON.stringify({ dropped: String(error) })
  }
}
