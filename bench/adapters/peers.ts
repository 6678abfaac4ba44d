import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** The peers lie in a folder of their own: none of them is a dependency of ours. */

const HERE = join(import.meta.dirname, '../peers')
const FOLDER = join(import.meta.dirname, '../../.cache/bench-peers')
const FILES = ['package.json', 'package-lock.json']

/** Does nothing where exactly these versions are there. */
export function installPeers(say: (line: string) => void): void {
  const isSame = (file: string) =>
    existsSync(join(FOLDER, file)) &&
    readFileSync(join(FOLDER, file), 'utf8') === readFileSync(join(HERE, file), 'utf8')
  if (FILES.every(isSame) && existsSync(join(FOLDER, 'node_modules/.package-lock.json'))) return
  say('installing the peers into .cache/bench-peers')
  mkdirSync(FOLDER, { recursive: true })
  for (const file of FILES) copyFileSync(join(HERE, file), join(FOLDER, file))
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-fund', '--no-audit', '--loglevel=error'], {
    cwd: FOLDER,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
}

/** What a peer's package exports, as the caller knows it. */
export async function loadPeer<Module>(name: string): Promise<Module> {
  const resolve = createRequire(join(FOLDER, 'package.json')).resolve
  return (await import(pathToFileURL(resolve(name)).href)) as Module
}

export function peerVersion(name: string): string {
  const { version } = JSON.parse(
    readFileSync(join(FOLDER, 'node_modules', name, 'package.json'), 'utf8'),
  ) as { version: string }
  return version
}

/** The folder itself, for what is not an npm package. */
export const peersFolder = FOLDER
