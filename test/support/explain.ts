import postgres from 'postgres'
import { connect, type Sql } from '../../src/db/connect.ts'

/** What EXPLAIN (FORMAT JSON) says of a node; the fields that tests read. */
export interface PlanNode {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  'Index Cond'?: string
  Plans?: PlanNode[]
}

export type PlanCache = 'force_custom_plan' | 'force_generic_plan'

/** A statement of ours, as it stands in src/**\/*.sql.ts. */
export type Statement = (sql: Sql) => PromiseLike<unknown>

export interface Explainer {
  /** The plan that this session has for a statement. Nothing is executed. */
  explain(statement: Statement, cache: PlanCache): Promise<PlanNode>
  end(): Promise<void>
}

/**
 * Explains our statements exactly as pods send them: the driver prepares the statement itself, so text and types are
 * its own; the session has the settings that `connect` gives to those of a pod; and EXPLAIN EXECUTE tells the plan of
 * that very prepared statement. EXPLAIN of a text with parameters would always be planned for these parameters alone,
 * and never show the generic plan that pods run.
 */
export async function createExplainer(url: string, pooler = false): Promise<Explainer> {
  const like = connect({ url, name: 'fleet-q test', max: 1, pooler, deadlineMs: 60_000 })
  const settings = await like.run(
    (sql) => sql<{ name: string; setting: string }[]>`
      select name, setting from pg_settings where source = 'client' and name not in ('client_encoding')`,
  )
  await like.close()
  let sent: unknown[] = []
  const session = postgres(url, {
    max: 1,
    onnotice: () => {},
    connection: Object.fromEntries(settings.map(({ name, setting }) => [name, setting])),
    debug: (_connection, _text, parameters) => {
      sent = parameters
    },
  })

  return {
    end: () => session.end({ timeout: 1 }),
    async explain(statement, cache) {
      // What ISql promises of a query is less than what the driver gives.
      const query = statement(session) as postgres.PendingQuery<postgres.Row[]>
      const { name } = await query.describe()
      const values = sent.length === 0 ? '' : `(${sent.map(literal).join(', ')})`
      await session.unsafe(`set plan_cache_mode = ${cache}`)
      const [row] = await session.unsafe<{ 'QUERY PLAN': { Plan: PlanNode }[] }[]>(
        `explain (format json) execute "${name}" ${values}`,
      )
      const [told] = row?.['QUERY PLAN'] ?? []
      if (!told) throw new Error('EXPLAIN told nothing')
      return told.Plan
    },
  }
}

/** As untyped text: EXECUTE gives each value the type that the prepared statement has for it. */
const literal = (value: unknown): string =>
  value === null ? 'null' : `'${inText(value).replaceAll("'", "''")}'`

function inText(value: unknown): string {
  if (Array.isArray(value)) return `{${value.map(inArray).join(',')}}`
  if (value instanceof Date) return value.toISOString()
  if (typeof value === 'string') return value
  return JSON.stringify(value)
}

const inArray = (value: unknown): string =>
  value === null ? 'null' : `"${inText(value).replaceAll(/["\\]/g, '\\$&')}"`

export const nodesOf = (plan: PlanNode): PlanNode[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)]

export const indexesOf = (plan: PlanNode): string[] =>
  nodesOf(plan).flatMap((node) => node['Index Name'] ?? [])
