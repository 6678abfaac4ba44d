import { FleetQError } from '../client.ts'
import { FleetError } from '../errors.ts'
import { inOurWords } from '../db/failure.ts'

/** The last word of a process that could not start: a sentence for a person, and the trace only of what is our fault. */
export function fail(error: unknown): never {
  const told = inOurWords(error)
  const text =
    told instanceof FleetError
      ? `${told.message}${told.cause instanceof Error ? `\n  ${reasonOf(told.cause)}` : ''}`
      : told instanceof FleetQError
        ? [told.message, ...told.issues.map(({ at, message }) => `  ${at}: ${message}`)].join('\n')
        : told instanceof Error
          ? (told.stack ?? told.message)
          : String(told)
  process.stderr.write(`fleet-q: ${text}\n`)
  process.exit(1)
}

/** Node gathers the failures for each address of a name into one error without a message. */
const reasonOf = (cause: Error) =>
  cause instanceof AggregateError
    ? cause.errors.map((each) => String(each.message)).join('; ')
    : cause.message
