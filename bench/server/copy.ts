import postgres from 'postgres'
import type { Adapter, Profile } from '../adapters/adapter.ts'
import { withChildren } from '../process/spawn.ts'
import type { Server } from './start.ts'

/** Every run starts from a fresh copy of a template: the same rows, vacuumed, analysed, and on disk. */

export const PREFIX = 'bench_'

export interface Copies {
  /** Makes the template once; later calls with the same name find it. */
  template(name: string, make: (url: string) => Promise<void>): Promise<string>
  /** A copy, gone again when the work is done. */
  withCopy<T>(template: string, work: (url: string, database: string) => Promise<T>): Promise<T>
  clean(): Promise<void>
}

export function createCopies(server: Server): Copies {
  const { admin } = server
  const templates = new Map<string, Promise<string>>()
  let count = 0

  async function drop(database: string) {
    await admin.unsafe(`drop database if exists "${database}" with (force)`)
  }

  async function make(name: string, fill: (url: string) => Promise<void>): Promise<string> {
    const database = `${PREFIX}t_${name.replaceAll(/[^a-z0-9]+/g, '_')}`
    await drop(database)
    await admin.unsafe(`create database "${database}" template template0`)
    await fill(server.urlOf(database))
    const sql = postgres(server.urlOf(database), { max: 1, onnotice: () => {} })
    await sql.unsafe('vacuum analyze')
    await sql.end()
    return database
  }

  return {
    template(name, fill) {
      const known = templates.get(name)
      if (known) return known
      const made = make(name, fill)
      templates.set(name, made)
      return made
    },
    async withCopy(template, work) {
      const database = `${PREFIX}run_${++count}`
      await drop(database)
      await admin.unsafe(`create database "${database}" template "${template}"`)
      // What the copy wrote must not be the first checkpoint of the run.
      await admin.unsafe('checkpoint')
      try {
        return await work(server.urlOf(database), database)
      } finally {
        await drop(database)
      }
    },
    async clean() {
      const left = await admin<{ datname: string }[]>`
        select datname from pg_database where datname like ${`${PREFIX.replace('_', '\\_')}%`}`
      for (const { datname } of left) await drop(datname)
    },
  }
}

/** The adapter's schema with so many jobs in it, made by a process of its own: a library may be set up once in each. */
export function filledTemplate(copies: Copies, adapter: Adapter, profile: Profile, jobs: number) {
  const name = `${adapter.name}_${adapter.storesProfile ? `${profile}_` : ''}${jobs}`
  return copies.template(name, (url) => fillFresh(adapter, url, profile, jobs))
}

/** A store with so many jobs, as fresh as the last one was. */
export async function withFilled<T>(
  copies: Copies,
  { adapter, profile }: { adapter: Adapter; profile: Profile },
  jobs: number,
  work: (url: string, database: string) => Promise<T>,
): Promise<T> {
  const template = await filledTemplate(copies, adapter, profile, jobs)
  return copies.withCopy(template, async (url, database) =>
    work((await adapter.renew?.(jobs)) ?? url, database),
  )
}

export const fillFresh = (adapter: Adapter, url: string, profile: Profile, jobs: number) =>
  withChildren([adapter.name], async ([child]) => {
    await child?.ask('fill', { adapter: adapter.name, url, profile, jobs })
  })
