import { migrate as bringUpToDate } from '../db/migrate.ts'
import { withDatabase } from './database.ts'

/** For fleets whose pods may not change tables: once, as the owner of the schema, before the pods start. */
export async function migrate(env: Record<string, string | undefined>): Promise<void> {
  const { applied, version } = await withDatabase(env, 'migrate', (database) => bringUpToDate(database))
  process.stdout.write(
    applied.length === 0
      ? `The schema is version ${version}; there was nothing to do.\n`
      : `The schema is version ${version} now (${applied.length} ${applied.length === 1 ? 'migration' : 'migrations'}).\n`,
  )
}
