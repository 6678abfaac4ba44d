import type postgres from 'postgres'

/** What the driver makes of a template: it is sent when somebody awaits it, by its handler. */
export interface Query {
  handler(query: Query): unknown
  resolve(rows: unknown): void
  reject(error: unknown): void
  /** Set for a query that is read with a cursor. */
  cursorFn?: unknown
  /** Of the connection that it was sent over, and the same for each of that; null before. */
  readonly state: object | null
  readonly options: { onexecute?: () => boolean }
}

export const isQuery = (made: unknown): made is Query =>
  made instanceof Promise && 'handler' in made && typeof made.handler === 'function'

/** A pool of which each query passes by here before it is sent. */
export const eachQuery = (pool: postgres.Sql, act: (query: Query) => void): postgres.Sql =>
  new Proxy(pool, {
    apply(target, self, args) {
      const made: unknown = Reflect.apply(target, self, args)
      if (isQuery(made)) act(made)
      return made
    },
  })
