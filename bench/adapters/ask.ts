import postgres from 'postgres'
import type { Inspector, Kept, Tally } from './adapter.ts'

export async function withSql<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    return await work(sql)
  } finally {
    await sql.end()
  }
}

export interface Questions {
  /** One row: a number `ended`, or `left` where jobs are deleted when they are done. */
  settled: string
  /** One row. */
  tally: string
  /** All that is remembered: `execution`, `name`, and `result` as jsonb, null where a body did not return. */
  kept?: string
}

export function inspectSql(url: string, { settled, tally, kept }: Questions): Inspector {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  const question = kept === undefined ? '' : countWhole(kept)
  const ask = async (text: string): Promise<Partial<Tally>> =>
    (await sql.unsafe<Partial<Tally>[]>(text))[0] ?? {}
  return {
    async settled(jobs) {
      const { ended, left } = await ask(settled)
      return left === undefined ? (ended ?? 0) >= jobs : left === 0
    },
    async tally() {
      const { ended = 0, left = 0, wrong = 0 } = await ask(tally)
      return { ended, left, wrong }
    },
    ...(kept === undefined
      ? {}
      : {
          async kept(checkpoints: number): Promise<Kept> {
            const [row] = await sql.unsafe<Kept[]>(question, [checkpoints])
            return row ?? { whole: 0, others: 0 }
          },
        }),
    close: () => sql.end(),
  }
}

/** The same question to everybody's rows: checkpoint ci of execution n has the result {n, i}, and n is in none other. */
const countWhole = (rows: string) => `
  select count(distinct n) filter (where is_whole)::int as whole, count(*) filter (where not is_whole)::int as others
  from (
    select min(result ->> 'n') as n,
      count(*) = $1::int and count(*) filter (where name = 'c' || (result ->> 'i')) = $1::int
        and count(distinct name) = $1::int and count(distinct result ->> 'n') = 1 as is_whole
    from (${rows}) as checkpoint
    group by execution
  ) as execution`
