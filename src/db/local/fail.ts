import { existsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { FleetError } from '../../errors.ts'

/** The system's or Postgres's short code of a failure, '' for one that has none. */
export const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Postgres's own code for it. */
const DISK_FULL = '53100'

/** Everything a person can do about a folder that does not serve. */
export const ELSEWHERE =
  'point FLEET_Q_DATA_DIR at another folder, or set DATABASE_URL to a Postgres of your own'

export const diskFull = (dir: string, cause?: unknown) =>
  new FleetError('data_dir_unusable', `The disk that holds ${dir} is full. Make room there, ${ELSEWHERE}.`, {
    cause,
  })

/** A failure of the file system as one sentence with a way on; anything else as it was. */
export function inOurWords(error: unknown, dir: string): unknown {
  switch (codeOf(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
    case DISK_FULL:
      return diskFull(dir, error)
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new FleetError(
        'data_dir_unusable',
        `This process, ${ourName()}, cannot keep a database in ${dir}${ownerHint(dir)}: ${messageOf(error)}. ` +
          `Give it the right to write there, ${ELSEWHERE}.`,
        { cause: error },
      )
    case 'ENOTDIR':
    case 'EEXIST':
    case 'ELOOP':
    case 'ENAMETOOLONG':
      return new FleetError(
        'data_dir_unusable',
        `${dir} cannot be a folder: ${messageOf(error)}. Remove what is in the way, ${ELSEWHERE}.`,
        { cause: error },
      )
    default:
      return error
  }
}

const ourName = () => {
  const uid = process.getuid?.()
  return uid === undefined ? `pid ${process.pid}` : `uid ${uid}`
}

/** Most often the folder was made by root, or by another user: say whose it is. */
function ownerHint(dir: string): string {
  let nearest = dir
  while (!existsSync(nearest) && dirname(nearest) !== nearest) nearest = dirname(nearest)
  try {
    const { uid } = statSync(nearest)
    return uid === process.getuid?.() ? '' : ` (${nearest} belongs to uid ${uid})`
  } catch {
    return ''
  }
}
