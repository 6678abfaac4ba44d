import { execFile } from 'node:child_process'
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { basename, delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { FleetError } from '../../errors.ts'
import { messageOf } from './fail.ts'
import type { Home } from './home.ts'
import { npmFolder } from './native.ts'

export type Source = 'system' | 'npm'

export interface Binaries {
  major: number
  initdb: string
  postgres: string
  pgCtl: string
}

const MAJOR_MIN = 14
const EXE = process.platform === 'win32' ? '.exe' : ''
const run = promisify(execFile)

/** Where packages put them when they are not in PATH, as on Debian; * stands for a version. */
const PLACES = [
  '/usr/lib/postgresql/*/bin',
  '/usr/pgsql-*/bin',
  '/usr/libexec/postgresql*',
  '/usr/local/pgsql/bin',
  '/opt/homebrew/opt/postgresql@*/bin',
  '/usr/local/opt/postgresql@*/bin',
  '/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin',
  '/Applications/Postgres.app/Contents/Versions/*/bin',
  'C:/Program Files/PostgreSQL/*/bin',
]

/**
 * The environment of every process of Postgres: nothing of ours leaks into it, and neither its messages, which
 * are read here, nor a new cluster depend on the language of the user. PATH is the one variable read outside
 * src/config.ts: it is no setting of ours.
 */
export const quietEnv = (): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC' })

/** Binaries of the major version that an existing cluster needs, or the first good ones. Costs 7 to 20 ms. */
export async function findBinaries(
  home: Home,
  wanted: number | undefined,
  prefer: Source,
): Promise<Binaries> {
  const notes: string[] = []
  for (const source of prefer === 'npm' ? (['npm', 'system'] as const) : (['system', 'npm'] as const)) {
    for (const folder of source === 'npm' ? npmFolders(home) : systemFolders()) {
      try {
        const major = await majorOf(folder, home)
        if (wanted === undefined ? major >= MAJOR_MIN : major === wanted) return binariesIn(folder, major)
        notes.push(`${major} in ${folder}`)
      } catch (error) {
        const [line] = messageOf(error).split('\n')
        notes.push(`some in ${folder} that do not run (${line})`)
      }
    }
  }
  throw missing(home, wanted, notes)
}

const binariesIn = (folder: string, major: number): Binaries => ({
  major,
  initdb: join(folder, `initdb${EXE}`),
  postgres: join(folder, `postgres${EXE}`),
  pgCtl: join(folder, `pg_ctl${EXE}`),
})

/** Run, not read from a name, and by the user of the server: that alone shows that they serve (musl, rights). */
async function majorOf(folder: string, { dir, user }: Home): Promise<number> {
  const file = join(folder, `postgres${EXE}`)
  const options = { env: quietEnv(), cwd: dir, timeout: 20_000, windowsHide: true, ...user }
  const { stdout } = await run(file, ['--version'], options)
  const major = /\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]
  if (major === undefined) throw new Error(`its version is "${stdout.trim()}"`)
  return Number(major)
}

/** Each folder once: PATH often has a link into one of the usual places. */
function systemFolders(): string[] {
  const path = (quietEnv()['PATH'] ?? '').split(delimiter).filter(Boolean)
  const folders = [...path, ...PLACES.flatMap(expand)]
    .map((folder) => join(folder, `initdb${EXE}`))
    .filter((file) => existsSync(file))
    .map((file) => dirname(realpathSync(file)))
    .filter((folder) => existsSync(join(folder, `postgres${EXE}`)))
  return [...new Set(folders)]
}

const npmFolders = (home: Home) => [npmFolder(home)].filter((folder) => folder !== undefined)

/** The folders that a pattern with one * stands for, the newest version first. */
function expand(pattern: string): string[] {
  const star = pattern.indexOf('*')
  if (star < 0) return [pattern]
  const upTo = pattern.slice(0, star)
  const parent = upTo.endsWith('/') ? upTo : dirname(upTo)
  const prefix = upTo.endsWith('/') ? '' : basename(upTo)
  if (!existsSync(parent)) return []
  return readdirSync(parent)
    .filter((name) => name.startsWith(prefix) && Number.parseFloat(name.slice(prefix.length)) > 0)
    .toSorted((a, b) => Number.parseFloat(b.slice(prefix.length)) - Number.parseFloat(a.slice(prefix.length)))
    .map((name) => join(parent, name, pattern.slice(star + 1)))
}

function missing({ cluster }: Home, wanted: number | undefined, notes: string[]): FleetError {
  const found = notes.length > 0 ? `found ${notes.join(', ')}` : 'found none at all'
  const what =
    wanted === undefined
      ? `DATABASE_URL is not set, and no Postgres ${MAJOR_MIN} or later is on this machine to start one (${found}).`
      : `${cluster} was made by Postgres ${wanted}, and no binaries of that version are here (${found}).`
  const ways = [
    'Set DATABASE_URL to a Postgres of your own',
    `install Postgres (${installLine(wanted)})`,
    'reinstall Fleet-Q with its optional dependencies (npm install --include=optional)',
  ]
  const last = wanted === undefined ? '' : ` To begin with an empty database instead, move ${cluster} away.`
  return new FleetError('postgres_missing', `${what} ${ways.join('; or ')}.${last}`)
}

function installLine(wanted: number | undefined): string {
  if (process.platform === 'darwin') return `brew install postgresql@${wanted ?? 17}`
  if (process.platform === 'win32') return `winget install PostgreSQL.PostgreSQL.${wanted ?? 17}`
  if (existsSync('/etc/alpine-release')) return `apk add postgresql${wanted ?? ''}`
  if (existsSync('/usr/bin/dnf')) return 'dnf install postgresql-server'
  return `apt install postgresql${wanted === undefined ? '' : `-${wanted}`}`
}
