import { NonRetryableError } from '../step/handler.ts'
import {
  newCheckpoint,
  type CheckpointKind,
  type CheckpointRow,
  type NewCheckpoint,
  type WrittenCheckpoint,
} from './checkpoint.sql.ts'
import type { Checkpoints } from './checkpoints.ts'
import { createStanding } from './standing.ts'
import { createReplay, type Ask, type Replay } from './replay.ts'

/** Thrown where something new is done: it cannot be what was done before. The execution is parked. */
export class Misfit extends Error {}

/** How an attempt ends by itself, its handler standing still. */
export type Standstill =
  /** Nothing runs, and what it waits for does not come in this moment. Null: no time wakes it. */
  | { kind: 'suspended'; delayMs: number | null; waits: boolean }
  /** The code is not the one that wrote what is remembered. */
  | { kind: 'misfit'; message: string }
  /** Another attempt has written in its place: this one begins again. */
  | { kind: 'superseded' }

export interface MemoryOptions {
  stepId: string
  claimId: string
  /** Nothing can be remembered yet. */
  fresh: boolean
  /** The longest that the attempt may take. */
  limitMs: number
  checkpoints: Checkpoints
  signal: AbortSignal
  onStandstill(how: Standstill): void
  /** It has failed or was cancelled, and the code stands where it stood: what was registered is to be undone. */
  onUndo(): void
}

/** What is done for a checkpoint that is new, or open. */
export interface Doing {
  readonly ask: Ask
  /** Writes it as open. */
  open(fields: Partial<NewCheckpoint>): Promise<WrittenCheckpoint>
  /** Until it is due, or, where something else than time can end it, its answer has come. Undefined: it is due. */
  stand(dueMs: number | null, waits: boolean): Promise<CheckpointRow | undefined>
  /** It as it is to be written, with a turn that was taken for it: by whoever has a transaction for that. */
  prepare(fields: Partial<NewCheckpoint>): NewCheckpoint & { turn: number }
  /** It was not written after all. */
  abandon(turn: number): void
  /** How long ago what is remembered was read. */
  readSinceMs(): number
}

/** What a checkpoint gets with its turn; written already where it has that. `value` is what the handler gets of it. */
export interface Done extends Partial<NewCheckpoint> {
  value?: unknown
}

export interface Remembered {
  value: unknown
  error: CheckpointRow['error']
  childId: string | null
  ask: Ask
}

export interface Memory {
  readonly options: MemoryOptions
  /** It has written what was not remembered before. */
  readonly gotFurther: boolean
  /**
   * What is remembered, or what `make` makes of it now, when it has its turn. `passed` is for a place that the execution
   * has come by before anything was asked there.
   */
  once(
    name: string,
    kind: CheckpointKind,
    make: (doing: Doing) => Promise<Done>,
    passed?: { value: unknown },
  ): Promise<Remembered>
  /** What the code of a handler that has returned left out. */
  missed(): Promise<string | undefined>
  /** What is to be undone, and the code of a handler that has failed for good did not come by. */
  missedUndo(): Promise<string | undefined>
  readonly hasRead: boolean
  /** That it has failed or was cancelled, in an earlier attempt or from outside; and what was undone since. */
  failure(): Promise<{ row: CheckpointRow; since: CheckpointRow[] } | undefined>
  readonly isFailing: boolean
  /** A turn behind all others. */
  takeTurn(): number
  /** What is under way ends; nothing more begins, and it goes away. */
  hold(): void
  end(): void
}

/** The database takes 200; some get a word behind them. */
const NAME_MAX = 180
export const CHECKPOINTS_MAX = 10_000
/** A replay reads all of it. */
const BYTES_MAX = 64 * 1024 * 1024
/** Not worth going away for: to come back takes a few milliseconds. */
const STAY_MS = 100
/** A part of the code that is slow to ask for what it has asked for before; the attempt must not end of its time meanwhile. */
const PATIENCE_MS = 10_000

/** What one attempt remembers, and asks to be remembered. */
export function createMemory(options: MemoryOptions): Memory {
  const { stepId, claimId, checkpoints, signal } = options
  let reading: Promise<Replay> | undefined
  let readAt = performance.now()
  let asks = 0
  /** Bodies that run, and writes under way. */
  let busy = 0
  let over = false
  let gotFurther = false
  let bytes = 0
  const standing = createStanding({ signal, answers: () => checkpoints.answer(stepId) })
  let failed: { row: CheckpointRow; since: CheckpointRow[] } | undefined
  let isHeld = false
  /** It has asked for something new while it was held. */
  let isTurnedAway = false
  const patienceMs = Math.min(PATIENCE_MS, options.limitMs / 2)
  let replay = options.fresh ? replayOf([]) : undefined

  function replayOf(rows: CheckpointRow[]): Replay {
    readAt = performance.now()
    bytes = rows.reduce((total, row) => total + row.stored_bytes, 0)
    const failure = rows.find(({ kind }) => kind === 'failure')
    const failedAt = failure?.turn ?? Number.POSITIVE_INFINITY
    if (failure) failed = { row: failure, since: rows.filter(({ turn }) => (turn ?? 0) > failedAt) }
    const known = failure ? rows.filter(({ turn }) => turn !== null && turn < failedAt) : rows
    return createReplay(known, {
      onRest,
      patienceMs,
      onMisfit: (next, asked) =>
        void halt({
          kind: 'misfit',
          message: `the code asks for "${asked}" where it asked for "${next.name}" before`,
        }),
    })
  }

  async function read(): Promise<Replay> {
    reading ??= checkpoints.of(stepId).then((rows) => (replay = replayOf(rows)))
    return reading
  }

  function halt(how: Standstill): Promise<never> {
    if (!over) {
      end()
      options.onStandstill(how)
    }
    return never()
  }

  function end() {
    over = true
    replay?.end()
    standing.end()
  }

  function onRest() {
    if (over || busy > 0) return
    if (failed) return options.onUndo()
    const delayMs = standing.dueInMs
    if (isHeld && (isTurnedAway || delayMs !== undefined))
      return void halt({ kind: 'suspended', delayMs: 0, waits: false })
    if (delayMs === undefined || (delayMs !== null && delayMs < STAY_MS)) return
    void halt({ kind: 'suspended', delayMs, waits: standing.waits })
  }

  /** Everything that is asked for comes by here, in the order of asking. */
  async function enter(name: string, kind: CheckpointKind): Promise<{ ask: Ask; its: Replay }> {
    if (over) return never()
    signal.throwIfAborted()
    if (typeof name !== 'string' || name.length < 1 || name.length > NAME_MAX)
      throw new NonRetryableError(`the name of a checkpoint has 1 to ${NAME_MAX} characters`)
    if (name.startsWith('$') && kind !== 'now' && kind !== 'random')
      throw new NonRetryableError(`the name of a checkpoint may not begin with $: "${name}" is one of ours`)
    if (++asks > CHECKPOINTS_MAX)
      throw new NonRetryableError(
        `more than ${CHECKPOINTS_MAX} checkpoints: give a part of this work to steps of their own (ctx.submit)`,
      )
    const its = replay ?? (await read())
    const ask = its.ask(name)
    const was = ask.remembered?.kind
    if (was === undefined || was === kind) return { ask, its }
    return halt({
      kind: 'misfit',
      message: `the code asks for "${name}" as ${kind}, and it is remembered as ${was}`,
    })
  }

  async function write(checkpoint: NewCheckpoint) {
    if (over) return never()
    const written = await checkpoints.write(checkpoint)
    if (over) return never()
    return written ?? halt({ kind: 'superseded' })
  }

  /** The execution is not at work meanwhile. */
  async function stand(ask: Ask, its: Replay, dueMs: number | null, waits: boolean) {
    busy--
    its.look()
    try {
      return await standing.until(ask, dueMs, waits)
    } finally {
      busy++
    }
  }

  return {
    options,
    get gotFurther() {
      return gotFurther
    },
    async once(name, kind, make, passed) {
      const { ask, its } = await enter(name, kind)
      const { remembered } = ask
      if (remembered?.turn) {
        await its.handed(remembered.turn)
        return {
          value: remembered.empty ? undefined : remembered.result,
          error: remembered.error,
          childId: remembered.child_id,
          ask,
        }
      }
      if (passed && !remembered && ask.isReplaying) return { ...passed, error: null, childId: null, ask }
      await ask.frontier()
      // From here on it is undone, and nothing more is done; or it is paused, and nothing more begins.
      if (isHeld) isTurnedAway = true
      if (failed || isHeld) return never()
      busy++
      let mayStand = remembered !== undefined
      /** One that is refused for what it carries leaves no gap: others come after it. */
      const writeAs = (turn: number, fields: Partial<NewCheckpoint>) =>
        write(checkpoint({ ...fields, turn })).catch((error: unknown) => {
          its.dropTurn(turn)
          throw error
        })
      const checkpoint = (fields: Partial<NewCheckpoint>) =>
        newCheckpoint({
          claimId,
          stepId,
          name,
          number: ask.number,
          kind,
          after: ask.after,
          mayStand,
          ...fields,
        })
      try {
        const { value, ...fields } = await make({
          ask,
          async open(opened) {
            const written = await write(checkpoint(opened))
            mayStand = true
            return written
          },
          stand: (dueMs, waits) => stand(ask, its, dueMs, waits),
          prepare: (prepared) => ({ ...checkpoint(prepared), turn: its.takeTurn() }),
          abandon: (turn) => its.dropTurn(turn),
          readSinceMs: () => performance.now() - readAt,
        })
        bytes += fields.result?.length ?? 0
        if (bytes > BYTES_MAX)
          throw new NonRetryableError(
            `results of more than ${BYTES_MAX / 1024 / 1024} MiB are to be remembered: store them elsewhere and return where they lie`,
          )
        const turn = fields.turn ?? its.takeTurn()
        const written = fields.turn ? undefined : await writeAs(turn, fields)
        // A failure is forgotten before the next attempt, where nobody caught it.
        if (!fields.error) gotFurther = true
        await its.handed(turn)
        const error = fields.error ? (JSON.parse(fields.error) as CheckpointRow['error']) : null
        return { value: kind === 'now' ? written?.at : value, error, childId: fields.childId ?? null, ask }
      } catch (error) {
        if (error instanceof Misfit) return halt({ kind: 'misfit', message: error.message })
        throw error
      } finally {
        busy--
        its.look()
      }
    },
    async missed() {
      const [row] = (replay ?? (await read())).missed()
      return row && `the code returned without asking for "${row.name}", which is remembered`
    },
    async missedUndo() {
      const row = (replay ?? (await read())).missed().find(({ kind }) => kind === 'undo')
      return row && `the code failed before it asked for "${row.name}", which is to be undone`
    },
    get hasRead() {
      return replay !== undefined
    },
    async failure() {
      if (!replay) await read()
      return failed
    },
    get isFailing() {
      return failed !== undefined
    },
    takeTurn: () => (replay ??= replayOf([])).takeTurn(),
    hold() {
      isHeld = true
      replay?.look()
    },
    end,
  }
}

const never = () => new Promise<never>(() => {})
