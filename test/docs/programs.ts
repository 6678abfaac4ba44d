import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Where `npm run seed-clients` puts one. */
export const PYTHON_FOLDER = fileURLToPath(new URL('../../.cache/python', import.meta.url))
const OURS = [`${PYTHON_FOLDER}/bin/python`, `${PYTHON_FOLDER}/Scripts/python.exe`]

/** Behind NOT RUN in the name of a test that passes: it looked at nothing, and says so. */
export const NO_PYTHON =
  'there is no Python with httpx here (npm run seed-clients makes one, and runs this again)'
export const NO_CURL = 'there is no bash with curl here'

/** A Python that has httpx; undefined where there is none. Nothing is downloaded here: tests need Node and npm only. */
export const pythonWithHttpx: string | undefined = [
  ...OURS.filter((path) => existsSync(path)),
  'python3',
  'python',
].find((command) => runs(command, ['-c', 'import httpx']))

export const hasCurl = runs('curl', ['--version']) && runs('bash', ['--version'])

function runs(command: string, args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore', timeout: 20_000 })
    return true
  } catch {
    return false
  }
}
