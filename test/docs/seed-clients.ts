import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { PYTHON_FOLDER } from './programs.ts'

/**
 * npm run seed-clients: a Python with httpx in .cache/python, and then every test that wants one. Apart from
 * `npm test`, which needs nothing but Node and npm. PYTHON names another Python than python3.
 */

const pins = fileURLToPath(new URL('./requirements.txt', import.meta.url))
const runner = fileURLToPath(new URL('../run.ts', import.meta.url))
const python = process.env['PYTHON'] ?? 'python3'

function must(command: string, args: string[]) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' })
  if (status === 0) return
  process.stderr.write(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}\n`)
  process.exit(1)
}

if (!existsSync(PYTHON_FOLDER)) must(python, ['-m', 'venv', PYTHON_FOLDER])
must(`${PYTHON_FOLDER}/bin/python`, [
  '-m',
  'pip',
  'install',
  '--quiet',
  '--disable-pip-version-check',
  '-r',
  pins,
])
must(process.execPath, ['--import', 'tsx', runner, 'docs'])
