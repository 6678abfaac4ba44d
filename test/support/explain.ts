import postgres from 'postgres'
import type { Database, Sql } from '../../src/db/connect.ts'
import { atEnd } from './cleanup.ts'

/** What EXPLAIN (FORMAT JSON) says of one node; the fields that tests read. */
export interface PlanNode {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  'Plan Rows'?: number
  'Actual Rows'?: number
  Plans?: PlanNode[]
}

export type PlanCache = 'force_custom_plan' | 'force_generic_plan'

export interface Explainer {
  /** The plan of a statement of ours, as the product's own connection would make it. Executes nothing. */
  explain(statement: (sql: Sql) => PromiseLike<unknown>, cache: PlanCache): Promise<PlanNode>
}

/**
 * Explains our statements exactly as they are sent: the driver prepares the statement itself (text and types are
 * its own, nothing is copied), on a session with the settings that `database` gives its connections, and
 * EXPLAIN EXECUTE asks for the plan of that very prepared statement. EXPLAIN of the text with parameters would
 * always be planned for these parameters alone, and never show the generic plan that pods run after five calls.
 */
export async function createExplainer(url: string, database: Database): Promise<Explainer> {
  const settings = await database.run(
    (sql) => sql<{ name: string; setting: string }[]>`
      /* test.settings */ select name, setting from pg_settings where source = 'client'`,
  )
  let sent: unknown[] = []
  const session = postgres(url, {
    max: 1,
    onnotice: () => {},
    debug: (_connection, _text, parameters) => (sent = parameters),
    connection: Object.fromEntries(settings.map(({ name, setting }) => [name, setting])),
  })
  atEnd(() => session.end({ timeout: 1 }))

  return {
    async explain(statement, cache) {
      const query = statement(session) as postgres.PendingQuery<postgres.Row[]>
      const { name } = await query.describe()
      const values = sent.length === 0 ? '' : `(${sent.map(literal).join(', ')})`
      await session.unsafe(`set plan_cache_mode = ${cache}`)
      const [row] = await session.unsafe(`explain (format json) execute "${name}" ${values}`)
      return (row?.['QUERY PLAN'] as [{ Plan: PlanNode }])[0].Plan
    },
  }
}

/** As untyped text: EXECUTE gives each the type that the prepared statement has for it. */
function literal(value: unknown): string {
  if (value === null) return 'null'
  return `'${inText(value).replaceAll("'", "''")}'`
}

function inText(value: unknown): string {
  if (Array.isArray(value)) return `{${value.map(inArray).join(',')}}`
  if (value instanceof Date) return value.toISOString()
  if (Buffer.isBuffer(value)) return `\\x${value.toString('hex')}`
  return String(value)
}

const inArray = (value: unknown) =>
  value === null ? 'null' : `"${inText(value).replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`

export function nodesOf(plan: PlanNode): PlanNode[] {
  return [plan, ...(plan.Plans ?? []).flatMap(nodesOf)]
}

/** Tables that a plan reads from end to end. */
export const scannedWhole = (plan: PlanNode): string[] =>
  nodesOf(plan)
    .filter((node) => node['Node Type'] === 'Seq Scan')
    .map((node) => node['Relation Name'] ?? '?')

export const indexesOf = (plan: PlanNode): string[] =>
  nodesOf(plan).flatMap((node) => node['Index Name'] ?? [])
