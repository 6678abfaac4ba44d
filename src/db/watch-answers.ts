import { FleetError } from '../errors.ts'

/** Of one transaction: what it waits for, and the end of its patience. */
export interface AnswerWatch {
  /** One more answer is owed by the server, or one less. */
  owed(more: 1 | -1): void
  /** Rejected when there will be no answer. */
  readonly dead: Promise<never>
  end(): void
}

export class DiedSilently extends FleetError {
  constructor() {
    super(
      'database_unavailable',
      'The connection of this transaction died without a word: the server is not at work for it, and owes it an answer.',
      { retryAfterSeconds: 1 },
    )
  }
}

/** An answer that takes longer is asked after, and again so long after that. */
const LOOK_MS = 4000

/**
 * Tells silence from work. A handler's transaction has no deadline but that of its step, an hour by default, for users'
 * statements may be long; and a connection that died without a word (a firewall that forgot it, a server without power)
 * stays open at our end for a quarter of an hour. The chaos programme found handlers that hung in it for minutes: in
 * their first statement, in a write, in their commit. So whoever waits for some seconds asks the server, on another
 * connection, whether it is at work for him. Twice no: there will be no answer.
 */
export function watchAnswers(isAtWork: () => Promise<boolean>): AnswerWatch {
  let waitsFor = 0
  let timer: NodeJS.Timeout | undefined
  let giveUp: (error: Error) => void = () => {}
  const dead = new Promise<never>((_, reject) => (giveUp = reject))
  // It may well be that nobody waits for it.
  dead.catch(() => {})

  function lookIn(silences: number) {
    timer = setTimeout(() => void look(silences), LOOK_MS).unref()
  }

  async function look(silences: number) {
    const mine = timer
    // A database that is away altogether is no sign of anything.
    const isSilent = await isAtWork().then(
      (atWork) => !atWork,
      () => false,
    )
    // The answer came meanwhile; another one may be waited for by now.
    if (timer !== mine) return
    if (isSilent && silences > 0) giveUp(new DiedSilently())
    else lookIn(isSilent ? silences + 1 : 0)
  }

  function stop() {
    clearTimeout(timer)
    timer = undefined
  }

  return {
    owed(more) {
      waitsFor += more
      stop()
      if (waitsFor > 0) lookIn(0)
    },
    dead,
    end: stop,
  }
}
