import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { FleetError } from '../../src/errors.ts'
import { loadSteps } from '../../src/worker/load.ts'

const HANDLER_MODULE = JSON.stringify(new URL('../../src/step/handler.ts', import.meta.url).href)
const step = (type: string) => `defineStep('${type}', {}, () => '${type}')`
const module = (...lines: string[]) => [`import { defineStep } from ${HANDLER_MODULE}`, ...lines].join('\n')

test('every step that a module of the folder exports is found, with the place where it is', async (t) => {
  const folder = folderOf(t, {
    'mail.mjs': module(
      `export const send = ${step('mail.send')}`,
      `export const read = ${step('mail.read')}`,
    ),
    'bill.js': module(`export const bill: unknown = 1`).replace(': unknown', ''),
    'pay.ts': module(
      `const type: string = 'pay'`,
      `export const pay = defineStep(type, {}, (): string => type)`,
    ),
    'default.mjs': module(`export default ${step('only')}`),
    'package.json': '{ "type": "module" }',
  })
  const found = (await loadSteps(folder)).map(({ definition, modulePath, exportName }) => [
    definition.type,
    modulePath,
    exportName,
  ])
  assert.deepEqual(found, [
    ['only', join(folder, 'default.mjs'), 'default'],
    ['mail.read', join(folder, 'mail.mjs'), 'read'],
    ['mail.send', join(folder, 'mail.mjs'), 'send'],
    ['pay', join(folder, 'pay.ts'), 'pay'],
  ])
})

test('folders in the folder are looked into, folders in those are not', async (t) => {
  const folder = folderOf(t, {
    'b.mjs': module(`export const b = ${step('b')}`),
    'a/a.mjs': module(`export const a = ${step('a')}`),
    'a/deep/c.mjs': module(`export const c = ${step('c')}`),
  })
  assert.deepEqual(await typesOf(folder), ['b', 'a'])
})

test('what is no module of steps is not even imported', async (t) => {
  const bomb = 'throw new Error("imported")'
  const folder = folderOf(t, {
    'node_modules/x.mjs': bomb,
    '.hidden/x.mjs': bomb,
    '_shared/x.mjs': bomb,
    '.x.mjs': bomb,
    '_x.mjs': bomb,
    'x.test.mjs': bomb,
    'x.spec.ts': bomb,
    'x.d.ts': bomb,
    'x.cjs': bomb,
    'x.json': bomb,
    'README.md': bomb,
    'a.mjs': module(`export const a = ${step('a')}`, 'export const other = 7', 'export const none = null'),
  })
  assert.deepEqual(await typesOf(folder), ['a'])
})

test('a definition that is handed on under a second name is one definition', async (t) => {
  const folder = folderOf(t, {
    'charge.mjs': module(`export const charge = ${step('charge')}`, 'export const alias = charge'),
    'index.mjs': `export * from './charge.mjs'`,
  })
  assert.deepEqual(await typesOf(folder), ['charge'])
})

test('a type that is defined twice is refused with both places', async (t) => {
  const folder = folderOf(t, {
    'a.mjs': module(`export const first = ${step('same')}`),
    'b.mjs': module(`export const second = ${step('same')}`),
  })
  await assertRefused(folder, /"same" is defined twice: as first in .*a\.mjs and as second in .*b\.mjs/)
})

test('a folder that is not there, is a file or is empty is told apart', async (t) => {
  const folder = folderOf(t, { 'a.mjs': '' })
  await assertRefused(join(folder, 'gone'), /there is no folder .*gone\. Create it, or correct the path/)
  await assertRefused(join(folder, 'a.mjs'), /it is a file/)
  assert.deepEqual(await loadSteps(folder), [])
})

test('a module that cannot be imported is named with the reason', async (t) => {
  await assertRefused(folderOf(t, { 'a.mjs': 'throw new Error("no key")' }), /a\.mjs .*: no key/)
  await assertRefused(folderOf(t, { 'a.mjs': 'import "./gone.mjs"' }), /a\.mjs .*gone\.mjs/)
  await assertRefused(folderOf(t, { 'a.mjs': 'export const = 1' }), /a\.mjs /)
  const noTypeScript = `throw Object.assign(new Error('x'), { code: 'ERR_UNKNOWN_FILE_EXTENSION' })`
  await assertRefused(folderOf(t, { 'a.mjs': noTypeScript }), /reads no TypeScript\. Compile the module/)
})

const typesOf = async (folder: string) => (await loadSteps(folder)).map(({ definition }) => definition.type)

const assertRefused = (folder: string, message: RegExp) =>
  assert.rejects(loadSteps(folder), (error) => {
    assert.ok(error instanceof FleetError)
    assert.equal(error.code, 'config_invalid')
    assert.match(error.message, message)
    return true
  })

function folderOf(t: TestContext, files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-steps-'))
  t.after(() => rmSync(folder, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}
