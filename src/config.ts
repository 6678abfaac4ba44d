import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { z } from 'zod'
import { ADDRESS_FORM, isAddress } from './db/address.ts'
import { FleetError, type Issue } from './errors.ts'
import { didYouMean } from './kernel/words.ts'

/**
 * The only reader of the environment. Every setting is a FLEET_Q_ variable (and DATABASE_URL); each can be
 * given as a file instead, by its name with _FILE, so that secrets stay out of the process environment.
 */

const flag = z.enum(['0', '1', 'true', 'false', '']).transform((v) => v === '1' || v === 'true')
const count = (min: number, max: number) => z.coerce.number().int().min(min).max(max)
const seconds = (min: number, max: number) => z.coerce.number().min(min).max(max)
const list = z.string().transform((v) =>
  v
    .split(',')
    .map((item) => item.trim())
    .filter(Boolean),
)

interface Setting {
  name: string
  about: string
  secret?: boolean
  schema: z.ZodType
  fallback: string
}

const setting = <S extends z.ZodType>(
  name: string,
  schema: S,
  fallback: string,
  about: string,
  secret = false,
) => ({ name, schema, fallback, about, secret })

/** One line a setting: its variable, its type, its default and what it is for. `fleet-q config` prints this. */
const SETTINGS = {
  databaseUrl: setting(
    'DATABASE_URL',
    z.string().refine((url) => url === '' || isAddress(url), ADDRESS_FORM),
    '',
    'Postgres of yours; without it a pod brings its own',
    true,
  ),
  databasePooler: setting(
    'FLEET_Q_DATABASE_POOLER',
    flag,
    '0',
    '1 behind PgBouncer in transaction mode: no LISTEN, no prepared statements',
  ),
  databasePoolMax: setting(
    'FLEET_Q_DATABASE_POOL_MAX',
    count(3, 200),
    '10',
    'connections of this pod; beside them one for its heartbeat, one to listen, and one for each handler that uses ctx.tx',
  ),
  dataDir: setting(
    'FLEET_Q_DATA_DIR',
    z.string().min(1),
    '.fleet-q',
    'where the Postgres of a pod without DATABASE_URL keeps its data',
  ),
  apiHost: setting('FLEET_Q_API_HOST', z.string().min(1), '127.0.0.1', 'address to serve on'),
  apiPort: setting('FLEET_Q_API_PORT', count(0, 65535), '8000', 'port to serve on; 0 takes a free one'),
  apiPrefix: setting(
    'FLEET_Q_API_PREFIX',
    z.string().regex(/^(\/[A-Za-z0-9_.-]+)*$/, 'must be a path such as /api/v1, without a slash at its end'),
    '/api/v1',
    'where the executions door stands',
  ),
  tokens: setting(
    'FLEET_Q_TOKENS',
    list,
    '',
    'role:token pairs, comma separated, beside those of fleet-q token; roles viewer, producer, operator, admin',
    true,
  ),
  token: setting('FLEET_Q_TOKEN', z.string(), '', 'the token that fleet-q submit sends', true),
  insecure: setting('FLEET_Q_INSECURE', flag, '0', '1 serves beyond loopback without a token'),
  rateLimit: setting(
    'FLEET_Q_RATE_LIMIT',
    count(0, 1_000_000),
    '1000',
    'requests a second of one token, and of one address without a token; 0: no limit',
  ),
  proxyHops: setting(
    'FLEET_Q_PROXY_HOPS',
    count(0, 10),
    '0',
    'proxies of yours in front of a pod that write X-Forwarded-For; 0: nobody is believed',
  ),
  podName: setting(
    'FLEET_Q_POD_NAME',
    z.string().regex(/^[A-Za-z0-9._-]{0,100}$/, 'letters, digits, ".", "_" and "-" only, 100 at most'),
    '',
    'label of this pod; its host name if not given',
  ),
  handlers: setting('FLEET_Q_HANDLERS', z.string(), '', 'folder of modules that export steps'),
  demo: setting(
    'FLEET_Q_DEMO',
    z.enum(['0', '1', 'auto']),
    'auto',
    'demonstration types (hello_world, sleep, flaky, ...); auto: only on a Postgres of our own',
  ),
  maxParallelism: setting(
    'FLEET_Q_MAX_PARALLELISM',
    count(1, 10_000),
    '10',
    'handlers that this pod could run at once',
  ),
  capacityPercent: setting(
    'FLEET_Q_CAPACITY_PERCENT',
    count(1, 100),
    '80',
    'share of the parallelism that is used',
  ),
  heartbeatSeconds: setting(
    'FLEET_Q_HEARTBEAT_SECONDS',
    seconds(0.1, 300),
    '5',
    'time between two heartbeats',
  ),
  deadAfterSeconds: setting(
    'FLEET_Q_DEAD_AFTER_SECONDS',
    seconds(0.3, 3600),
    '15',
    'silence after which a pod is declared dead',
  ),
  recoverySeconds: setting(
    'FLEET_Q_RECOVERY_SECONDS',
    seconds(0.1, 300),
    '5',
    'time between two recovery cycles of the leader',
  ),
  stallSeconds: setting(
    'FLEET_Q_STALL_SECONDS',
    seconds(0.3, 86_400),
    '60',
    'how long a handler may block the event loop before its pod gives itself up',
  ),
  pollSeconds: setting(
    'FLEET_Q_POLL_SECONDS',
    seconds(0.05, 300),
    '5',
    'how often an idle pod looks for work that nobody announced',
  ),
  graceSeconds: setting(
    'FLEET_Q_GRACE_SECONDS',
    seconds(0, 86_400),
    '30',
    'how long handlers may finish after SIGTERM; what is left is released',
  ),
  drainDelaySeconds: setting(
    'FLEET_Q_DRAIN_DELAY_SECONDS',
    seconds(0, 300),
    '0',
    'how long to keep serving after SIGTERM, so that load balancers notice',
  ),
  stepTimeoutSeconds: setting(
    'FLEET_Q_STEP_TIMEOUT_SECONDS',
    seconds(0.1, 604_800),
    '3600',
    'time limit of an attempt whose step and type name none',
  ),
  retentionDays: setting(
    'FLEET_Q_RETENTION_DAYS',
    z.coerce.number().min(0.0001).max(36_500),
    '7',
    'how long settled steps are kept',
  ),
  auditDays: setting(
    'FLEET_Q_AUDIT_DAYS',
    z.coerce.number().min(30).max(36_500),
    '400',
    'how long it is kept who changed what',
  ),
  leaderEligible: setting('FLEET_Q_LEADER_ELIGIBLE', flag, '1', '0: this pod never leads'),
  httpAllow: setting(
    'FLEET_Q_HTTP_ALLOW',
    list,
    '',
    'hosts that steps of type http may call; none: the type is off',
  ),
  commands: setting(
    'FLEET_Q_COMMANDS',
    z.string(),
    '',
    'JSON file that names the commands steps of type command may run; none: the type is off',
  ),
  logLevel: setting(
    'FLEET_Q_LOG_LEVEL',
    z.enum(['silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace']),
    'info',
    'lines below this level are not written',
  ),
  logFormat: setting(
    'FLEET_Q_LOG_FORMAT',
    z.enum(['auto', 'json', 'pretty']),
    'auto',
    'auto: for people on a terminal or a Postgres of our own, JSON elsewhere',
  ),
} satisfies Record<string, Setting>

type Settings = typeof SETTINGS
export type Config = { readonly [K in keyof Settings]: z.output<Settings[K]['schema']> }

type Environment = Record<string, string | undefined>

const KNOWN = Object.values(SETTINGS).map((s) => s.name)

export function loadConfig(env: Environment): Config {
  const issues: Issue[] = unknownNames(env)
  const entries = Object.entries(SETTINGS).map(([key, { name, schema, fallback }]) => {
    const parsed = schema.safeParse(valueOf(env, name, issues) ?? fallback)
    if (!parsed.success) for (const { message } of parsed.error.issues) issues.push({ at: name, message })
    return [key, parsed.data]
  })
  if (issues.length === 0) issues.push(...contradictions(Object.fromEntries(entries) as Config))
  if (issues.length > 0) {
    const lines = issues.map(({ at, message }) => `${at}: ${message}`)
    throw new FleetError('config_invalid', lines.join('\n'), { issues })
  }
  return Object.freeze(Object.fromEntries(entries)) as Config
}

/** What is in force, one line a setting, secrets masked. */
export function describeConfig(env: Environment): string[] {
  const config = loadConfig(env)
  return Object.entries(SETTINGS).map(([key, { name, about, secret }]) => {
    const value = config[key as keyof Config]
    const text = value === true ? '1' : value === false ? '0' : String(value)
    const shown = secret && text ? mask(text) : text || '(not set)'
    const given = env[name] !== undefined || env[`${name}_FILE`] !== undefined
    return `${name.padEnd(28)} ${shown.padEnd(24)} ${given ? 'set    ' : 'default'}  ${about}`
  })
}

export const podName = (config: Config) =>
  config.podName ||
  hostname()
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, 100) ||
  'pod'

/** Addresses that only this machine can reach. */
export const isLoopback = (host: string) =>
  host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)

function valueOf(env: Environment, name: string, issues: Issue[]): string | undefined {
  const file = env[`${name}_FILE`]
  if (file === undefined) return env[name]
  if (env[name] !== undefined)
    issues.push({ at: name, message: `is set, and so is ${name}_FILE; keep one of the two` })
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    issues.push({ at: `${name}_FILE`, message: `cannot be read: ${(error as Error).message}` })
    return undefined
  }
}

/** Checks that need more than one setting. */
function contradictions(config: Config): Issue[] {
  const issues: Issue[] = []
  const beats = config.deadAfterSeconds / config.heartbeatSeconds
  if (beats < 3)
    issues.push({
      at: 'FLEET_Q_DEAD_AFTER_SECONDS',
      message: `${config.deadAfterSeconds} s is only ${beats.toFixed(1)} heartbeats of ${config.heartbeatSeconds} s; a pod needs at least 3, or one slow answer of the database kills it`,
    })
  if (config.stallSeconds < config.deadAfterSeconds)
    issues.push({
      at: 'FLEET_Q_STALL_SECONDS',
      message: `${config.stallSeconds} s is below FLEET_Q_DEAD_AFTER_SECONDS (${config.deadAfterSeconds} s)`,
    })
  for (const pair of config.tokens)
    if (!/^(viewer|producer|operator|admin):.{16,}$/.test(pair))
      issues.push({
        at: 'FLEET_Q_TOKENS',
        message:
          'each entry is role:token, the role one of viewer, producer, operator, admin, the token 16 characters or more',
      })
  return issues
}

function unknownNames(env: Environment): Issue[] {
  const allowed = new Set(KNOWN.flatMap((name) => [name, `${name}_FILE`]))
  return Object.keys(env)
    .filter((name) => /^FLEET_?Q_/.test(name) && !allowed.has(name))
    .map((name) => ({ at: name, message: `is not a setting.${didYouMean(name, KNOWN)}` }))
}

/** What stays is what a person checks: user, host and database of an address, the roles of tokens. */
function mask(text: string): string {
  if (/^\w+:\/\//.test(text))
    return text.replace(/^(\w+:\/\/[^:@/]*):.*@/, '$1:***@').replaceAll(/(password=)[^&]*/gi, '$1***')
  return text
    .split(',')
    .map((pair) => (/^(viewer|producer|operator|admin):/.test(pair) ? pair.replace(/:.*/, ':***') : '***'))
    .join(',')
}
