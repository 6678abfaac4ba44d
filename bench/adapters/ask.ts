import postgres from 'postgres'
import type { Inspector, Tally } from './adapter.ts'

export async function withSql<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    return await work(sql)
  } finally {
    await sql.end()
  }
}

/** One row each: `settled` answers with a number `ended`, or `left` where jobs are deleted when they are done. */
export function inspectSql(url: string, questions: { settled: string; tally: string }): Inspector {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  const ask = async (question: string): Promise<Partial<Tally>> =>
    (await sql.unsafe<Partial<Tally>[]>(question))[0] ?? {}
  return {
    async settled(jobs) {
      const { ended, left } = await ask(questions.settled)
      return left === undefined ? (ended ?? 0) >= jobs : left === 0
    },
    async tally() {
      const { ended = 0, left = 0, wrong = 0 } = await ask(questions.tally)
      return { ended, left, wrong }
    },
    close: () => sql.end(),
  }
}
