import { pino, type DestinationStream, type Logger } from 'pino'

export type Log = Logger

/** Paths whose values never reach a log line. */
const SECRETS = [
  'authorization',
  'cookie',
  'password',
  'token',
  'secret',
  'dsn',
  'database_url',
  'databaseUrl',
]

export const createLog = (level: string, destination?: DestinationStream): Log =>
  pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRETS.flatMap((name) => [name, `*.${name}`, `*.headers.${name}`]), censor: '***' },
    },
    ...(destination ? [destination] : []),
  )

export const silentLog = (): Log => pino({ level: 'silent' })
