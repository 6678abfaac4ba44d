import { accessSync, constants, readFileSync } from 'node:fs'
import { z } from 'zod'
import { FleetError, type Issue } from '../../errors.ts'
import { durationText } from '../../kernel/duration.ts'
import { didYouMean } from '../../kernel/words.ts'
import { defineStep, NonRetryableError, type StepContext } from '../../step/handler.ts'
import {
  commandTable,
  PLACEHOLDER,
  type Command,
  type CommandParam,
  type CommandTable,
} from './command.schema.ts'
import { timeLimit } from './limit.ts'
import { runProgram, type Ended } from './program.ts'

export interface CommandResult {
  exit_code: number
  /** The last 64 KiB of each, as text. */
  stdout: string
  stderr: string
  truncated: boolean
}

type Values = Readonly<Record<string, string | number | boolean>> | readonly (string | number | boolean)[]

const ERROR_LINES_MAX = 10
const ERROR_CHARS_MAX = 2000
/** Before the attempt is handed in without it (800 ms): the program must not run beside its next attempt. */
const KILL_AFTER_MS = 600

/** Reads the file of FLEET_Q_COMMANDS. */
export function loadCommands(path: string): CommandTable {
  const parsed = commandTable.safeParse(readJson(path))
  if (!parsed.success)
    throw unusable(
      path,
      parsed.error.issues.map(({ path: at, message }) => ({ at: at.join('.'), message })),
    )
  const issues = Object.entries(parsed.data).flatMap(([name, { argv }]) => missingProgram(name, argv[0]))
  if (issues.length > 0) throw unusable(path, issues)
  return Object.freeze(parsed.data)
}

/**
 * Steps of type command: run a program that the operator has named. The submitter chooses a name and fills in
 * values; no shell reads them. Off where no file names a command.
 */
export function commandStep(commands: CommandTable, { killAfterMs = KILL_AFTER_MS } = {}) {
  const value = z.union([z.string(), z.number(), z.boolean()])
  const input = z
    .strictObject({
      command: z.string().describe('a name from the file of FLEET_Q_COMMANDS'),
      args: z
        .union([z.record(z.string(), value), z.array(value)])
        .default({})
        .describe('values by the name of their parameter, or in the order of the parameters'),
    })
    .superRefine(({ command, args }, ctx) => {
      for (const { at, message } of fill(commands, command, args).issues)
        ctx.addIssue({ code: 'custom', path: at.split('.'), message })
    })
    .describe('Runs a command that the operator of the fleet has named')

  async function run({ command: name, args }: z.output<typeof input>, ctx: StepContext) {
    const { command, argv, issues } = fill(commands, name, args)
    if (command === undefined || issues.length > 0)
      throw new NonRetryableError(issues.map(({ at, message }) => `${at}: ${message}`).join('; '))
    const limitMs = command.timeout_seconds * 1000
    const reason = () => new Error(`${name} took longer than ${durationText(limitMs)} and was ended`)
    const limit = timeLimit(ctx.signal, limitMs, reason)
    const { cwd, env, uid, gid } = command
    const onLine = (line: string, isError: boolean) => (isError ? ctx.log.warn(line) : ctx.log.info(line))
    try {
      return judge(name, await runProgram({ argv, cwd, env, uid, gid, killAfterMs, onLine }, limit.signal))
    } catch (error) {
      throw startFailure(name, error)
    } finally {
      limit.clear()
    }
  }

  // The limit of each command is kept here; that of the type must not come before it.
  const limits = Object.values(commands).map((command) => command.timeout_seconds)
  const timeoutSeconds = Math.max(0, ...limits) + killAfterMs / 1000 + 5
  return defineStep('command', { input, timeoutSeconds }, run)
}

interface Filled {
  command: Command | undefined
  argv: string[]
  issues: Issue[]
}

/** Puts values into the arguments of a command; `issues` says why that cannot be. */
function fill(commands: CommandTable, name: string, given: Values): Filled {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) {
    const message = `is not a command of this fleet.${didYouMean(name, Object.keys(commands))}`
    return { command, argv: [], issues: [{ at: 'command', message }] }
  }
  const names = Object.keys(command.params)
  const values = new Map<string, string>()
  const issues: Issue[] = []
  const entries = Array.isArray(given)
    ? given.map((value, i) => [names[i] ?? String(i), value])
    : Object.entries(given)
  for (const [param, value] of entries) values.set(String(param), String(value))
  for (const param of values.keys())
    if (!names.includes(param))
      issues.push({
        at: `args.${param}`,
        message: `is not a parameter of ${name}.${didYouMean(param, names)}`,
      })
  for (const [param, rule] of Object.entries(command.params)) {
    const refusal = valueRefusal(rule, values.get(param))
    if (refusal !== undefined) issues.push({ at: `args.${param}`, message: refusal })
  }
  const argv = command.argv.map((argument) =>
    argument.replace(PLACEHOLDER, (found, param) => put(found, values.get(param))),
  )
  return { command, argv, issues }
}

/** Never a replacement string: '$&' in a value must stay what it is. */
const put = (found: string, value: string | undefined) =>
  found === '{{' ? '{' : found === '}}' ? '}' : (value ?? '')

function valueRefusal({ pattern, max_length, allow_dash }: CommandParam, value: string | undefined) {
  if (value === undefined) return 'is missing'
  if (value.length > max_length) return `is longer than ${max_length} characters`
  if (/[\p{Cc}\p{Cs}\u2028\u2029]/u.test(value)) return 'holds NUL, a line break or another control character'
  if (value.startsWith('-') && !allow_dash) return 'begins with "-": a program would take it for an option'
  if (pattern === undefined) return value === '' ? 'is empty' : undefined
  return pattern.test(value) ? undefined : `does not match ${pattern.source}`
}

function judge(name: string, { exitCode, exitSignal, stdout, stderr, truncated }: Ended): CommandResult {
  if (exitCode === 0) return { exit_code: exitCode, stdout, stderr, truncated }
  const lastLines = stderr.trimEnd().split('\n').slice(-ERROR_LINES_MAX).join('\n').slice(-ERROR_CHARS_MAX)
  const how = exitCode === null ? `was ended by ${exitSignal}` : `ended with code ${exitCode}`
  throw new Error(`${name} ${how}${lastLines === '' ? '' : `: ${lastLines}`}`)
}

/** Another pod may have the program, the memory or the free process; none has room for more arguments. */
function startFailure(name: string, error: unknown): unknown {
  if (!(error instanceof Error && 'syscall' in error)) return error
  const message = `${name} could not be started: ${error.message}`
  const isTooLong = 'code' in error && error.code === 'E2BIG'
  return isTooLong ? new NonRetryableError(message, { cause: error }) : new Error(message, { cause: error })
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw unusable(path, [{ at: path, message: `cannot be read as JSON: ${reason}` }], error)
  }
}

function missingProgram(name: string, program: string): Issue[] {
  try {
    accessSync(program, constants.X_OK)
    return []
  } catch {
    return [{ at: `${name}.argv.0`, message: `${program} is no program that this pod can run` }]
  }
}

function unusable(path: string, issues: Issue[], cause?: unknown) {
  const lines = issues.map(({ at, message }) => `${at}: ${message}`)
  const message = `The commands of ${path} (FLEET_Q_COMMANDS) cannot be used:\n${lines.join('\n')}`
  return new FleetError('config_invalid', message, { issues, cause })
}
