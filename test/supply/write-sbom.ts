import { writeFileSync } from 'node:fs'
import { readLock } from './lock.ts'
import { sbomOf } from './sbom.ts'

/** npm run sbom: what a pod runs with, as CycloneDX 1.6. */
const FILE = 'sbom.cdx.json'
const sbom = sbomOf(readLock(), new Date().toISOString())
writeFileSync(FILE, `${JSON.stringify(sbom, null, 2)}\n`)
process.stdout.write(`${FILE} written: ${sbom.components.length} packages\n`)
