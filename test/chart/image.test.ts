import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ROOT } from './chart.ts'

const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8')
const allowed = readFileSync(join(ROOT, '.dockerignore'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('!'))
  .map((line) => line.slice(1))

test('what the Dockerfile copies is there, and .dockerignore lets it through and nothing more', () => {
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, paths = '']) =>
    paths.split(' '),
  )
  for (const path of copied) assert.ok(existsSync(join(ROOT, path)), `${path} is not there`)
  assert.deepEqual(allowed.toSorted(), copied.toSorted())
})

test('the image runs node itself, as somebody who is not root', () => {
  assert.match(dockerfile, /^CMD \["node", "dist\/main\.js"\]$/m)
  assert.match(dockerfile, /^USER 10001:10001$/m)
})
