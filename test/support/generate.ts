import { writeFileSync } from 'node:fs'
import { VERSION } from '../../src/fleet/version.ts'
import { openApiDocument } from '../../src/http/openapi.ts'
import { ACCESS_PAGE, accessPage } from './access-page.ts'
import { SETTINGS_PAGE, settingsPage } from './settings-page.ts'

/** npm run generate: writes the files that are made from code and committed, so that a changed contract is a changed line. */
writeFileSync('openapi.json', `${JSON.stringify(openApiDocument(VERSION), null, 2)}\n`)
writeFileSync(SETTINGS_PAGE, settingsPage())
writeFileSync(ACCESS_PAGE, accessPage())
process.stdout.write(`openapi.json, ${SETTINGS_PAGE} and ${ACCESS_PAGE} written\n`)
await import('./generate-schema.ts')
