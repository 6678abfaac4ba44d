import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '../..')

/**
 * A script of ours and what it imports as JavaScript. With tsx in it each thread loads a compiler of its own: where one
 * process holds ten pods, that is most of what would be measured.
 */
export function build(script: string): string {
  const out = join(ROOT, '.cache/built')
  rmSync(out, { recursive: true, force: true })
  mkdirSync(out, { recursive: true })
  const project = join(out, 'tsconfig.json')
  writeFileSync(
    project,
    JSON.stringify({
      extends: '../../tsconfig.build.json',
      compilerOptions: { rootDir: ROOT, outDir: out, declaration: false },
      include: [script, join(ROOT, 'src')],
    }),
  )
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`it does not compile:\n${stdout}${stderr}`)
  copyFileSync(join(ROOT, 'package.json'), join(out, 'package.json'))
  symlinkSync(join(ROOT, 'sql'), join(out, 'sql'))
  return join(out, script.slice(ROOT.length).replace(/\.ts$/, '.js'))
}
