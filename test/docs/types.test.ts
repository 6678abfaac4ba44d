import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { blocksOf, pagesIn } from './markdown.ts'
import { execute } from './page.ts'

/** What a page shows in TypeScript compiles as strictly as our own code does. Running it does not show that. */

const FOLDER = join('.cache', 'docs', `${process.pid}-types`)

test('the TypeScript of every page compiles', async (t) => {
  t.after(() => rmSync(FOLDER, { recursive: true, force: true }))
  mkdirSync(FOLDER, { recursive: true })
  const blocks = ['README.md', ...pagesIn('docs')]
    .flatMap((page) => blocksOf(page))
    .filter(
      ({ language, notRun, text }) => language === 'ts' && notRun === undefined && text.includes('import '),
    )
  assert.ok(blocks.length > 10)
  for (const { page, line, text } of blocks)
    writeFileSync(join(FOLDER, `${page.replaceAll(/\W+/g, '-')}-${line}.ts`), text)
  const config = { extends: '../../../tsconfig.json', include: ['.'] }
  writeFileSync(join(FOLDER, 'tsconfig.json'), JSON.stringify(config))
  await execute(process.execPath, ['node_modules/typescript/bin/tsc', '-p', FOLDER], {})
})

test('no line of code on a page is wider than 110 columns', () => {
  const wide = ['README.md', 'CONTRIBUTING.md', ...pagesIn('docs')]
    .flatMap((page) => blocksOf(page))
    .filter(({ language }) => ['ts', 'sh', 'sql', 'python'].includes(language))
    .flatMap(({ page, line, text }) =>
      text.split('\n').map((code, i) => ({ code, at: `${page}:${line + 1 + i}` })),
    )
    .filter(({ code }) => code.length > 110)
  assert.deepEqual(
    wide.map(({ at }) => at),
    [],
  )
})
