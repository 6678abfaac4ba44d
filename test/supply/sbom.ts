import { nameOf, resolveFrom, runTime, type Lock, type Locked } from './lock.ts'

/** A bill of materials in CycloneDX 1.6: what a pod runs with, from package-lock.json alone. */
export function sbomOf(lock: Lock, timestamp: string) {
  const own = lock.packages['']
  const packages = runTime(lock)
  const refs = new Map(packages.map(([path, { version }]) => [path, purlOf(nameOf(path), version)]))
  const purl = purlOf(lock.name, lock.version)
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      timestamp,
      component: {
        type: 'application',
        'bom-ref': purl,
        name: lock.name,
        version: lock.version,
        purl,
        licenses: licencesOf(own?.license),
      },
    },
    components: packages.map(([path, locked]) => componentOf(path, locked)),
    dependencies: [
      { ref: purl, dependsOn: dependsOn('', own) },
      ...packages.map(([path, locked]) => ({
        ref: refs.get(path) ?? '',
        dependsOn: dependsOn(path, locked),
      })),
    ],
  }

  function dependsOn(path: string, locked: Locked | undefined): string[] {
    const names = Object.keys({ ...locked?.dependencies, ...locked?.optionalDependencies })
    return names.flatMap((name) => refs.get(resolveFrom(lock, path, name) ?? '') ?? []).toSorted()
  }
}

function componentOf(path: string, { version, integrity, license, optional }: Locked) {
  const [group, name = group] = nameOf(path).split('/')
  const purl = purlOf(nameOf(path), version)
  return {
    type: 'library',
    'bom-ref': purl,
    ...(name === group ? {} : { group }),
    name,
    version,
    scope: optional === true ? 'optional' : 'required',
    purl,
    hashes: hashesOf(path, integrity),
    licenses: licencesOf(license),
  }
}

/** The sign of a scope is written out, as the specification of purl asks. */
const purlOf = (name: string, version: string) => `pkg:npm/${name.replace('@', '%40')}@${version}`

const ALGORITHMS: Record<string, string> = {
  sha512: 'SHA-512',
  sha384: 'SHA-384',
  sha256: 'SHA-256',
  sha1: 'SHA-1',
}

function hashesOf(path: string, integrity: string | undefined) {
  const [, name = '', digest = ''] = /^(\w+)-(\S+)/.exec(integrity ?? '') ?? []
  const alg = ALGORITHMS[name]
  if (alg === undefined) throw new Error(`package-lock.json has no hash of ${path} that we know`)
  return [{ alg, content: Buffer.from(digest, 'base64').toString('hex') }]
}

/** One name of SPDX is an id; what puts several together is an expression. */
function licencesOf(license: string | undefined) {
  if (license === undefined) return []
  return /^[\w.+-]+$/.test(license)
    ? [{ license: { id: license } }]
    : [{ expression: license.replace(/^\((.*)\)$/, '$1') }]
}
