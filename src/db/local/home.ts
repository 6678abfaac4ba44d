import { createHash } from 'node:crypto'
import { accessSync, chmodSync, constants, lstatSync, mkdirSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { FleetError } from '../../errors.ts'
import { codeOf, ELSEWHERE, inOurWords } from './fail.ts'

/** Whom the server runs as; undefined: as this process does. */
export type User = { uid: number; gid: number } | undefined

/** Where everything of the local Postgres lies. */
export interface Home {
  dir: string
  cluster: string
  password: string
  log: string
  lock: string
  pods: string
  user: User
}

/** Postgres refuses to run as root; this user exists on every Linux and owns nothing. */
const NOBODY = { uid: 65534, gid: 65534 }

/** The folder is made if it is missing. As root it may come to lie elsewhere, see below. */
export function settleHome(dataDir: string): Home {
  const asked = resolve(dataDir)
  try {
    const dir = realPath(asked)
    if (process.getuid?.() !== 0) return make(dir, undefined)
    const user = ownerOf(join(dir, 'pg')) ?? NOBODY
    if (canReach(dir, user)) return make(dir, user)
    // A project below /root (0700) is closed to that user. Not the temp folder: a reboot would empty it.
    const hash = createHash('sha256').update(dir).digest('hex').slice(0, 16)
    const moved = join(realPath('/var/tmp'), `fleet-q-${hash}`)
    const home = make(moved, ownerOf(join(moved, 'pg')) ?? NOBODY)
    assertOurs(moved)
    return home
  } catch (error) {
    throw inOurWords(error, asked)
  }
}

/** Whether the user gets to the path: the x bit of everything on the way, as far as it exists, and of itself. */
export function canReach(path: string, user: User): boolean {
  if (user === undefined) {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  }
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat !== undefined) {
    const bit = stat.uid === user.uid ? 0o100 : stat.gid === user.gid ? 0o010 : 0o001
    if ((stat.mode & bit) === 0) return false
  }
  return dirname(path) === path || canReach(dirname(path), user)
}

function make(dir: string, user: User): Home {
  const first = mkdirSync(dir, { recursive: true })
  // A strict umask of root's would close to the server's user what was made just now.
  if (user !== undefined && first !== undefined)
    for (let made = dir; made.length >= first.length; made = dirname(made)) chmodSync(made, 0o755)
  accessSync(dir, constants.W_OK)
  return {
    dir,
    cluster: join(dir, 'pg'),
    password: join(dir, 'password'),
    log: join(dir, 'postgres.log'),
    lock: join(dir, 'lock'),
    pods: join(dir, 'pods'),
    user,
  }
}

/** Anybody may write in /var/tmp: a folder that was put there for us to find is not used. */
function assertOurs(dir: string) {
  const stat = lstatSync(dir)
  if (stat.isDirectory() && stat.uid === 0 && (stat.mode & 0o022) === 0) return
  throw new FleetError(
    'data_dir_unusable',
    `${dir} is needed for the database, and somebody else made it. Remove it, ${ELSEWHERE}.`,
  )
}

/** A cluster that is there decides: it belongs to whoever made it, and only that user may run it. */
function ownerOf(path: string): User {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat === undefined || stat.uid === 0 ? undefined : { uid: stat.uid, gid: stat.gid }
}

/** The path without symbolic links, so that two names of one folder are one home; its end need not exist. */
function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' || dirname(path) === path) throw error
    return join(realPath(dirname(path)), basename(path))
  }
}
