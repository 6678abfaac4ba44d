import { fileURLToPath } from 'node:url'
import type postgres from 'postgres'
import type { DatabaseProxy, Link } from '../support/proxy.ts'
import { startPodProcess } from '../support/processes.ts'

const HANDLERS = fileURLToPath(new URL('./handlers', import.meta.url))

/** A pod that a busy machine does not make look dead, with the steps of this folder. */
export const startPod = (databaseUrl: string, env: Record<string, string> = {}) =>
  startPodProcess(databaseUrl, {
    FLEET_Q_HANDLERS: HANDLERS,
    FLEET_Q_HEARTBEAT_SECONDS: '0.5',
    FLEET_Q_DEAD_AFTER_SECONDS: '2.5',
    ...env,
  })

/** "Ready for the next one, outside of any transaction": said after the commit, never before. */
const READY = Buffer.from('Z\0\0\0\u0005I')

/**
 * Once: an answer in which the server has said these words to this pool of a pod does not arrive, and its connection
 * is reset. What it tells of is committed.
 */
export function loseAnswer(proxy: DatabaseProxy, pool: 'work' | 'door', words: string): Promise<void> {
  const said = new WeakSet<Link>()
  return proxy.swallowAnswer((answer, link) => {
    if (!link.name.startsWith(`fleet-q ${pool} `)) return false
    if (answer.includes(words)) said.add(link)
    return said.has(link) && answer.subarray(-READY.length).equals(READY)
  })
}

/** From here on the server says so in its answer when an attempt has been settled. */
export const sayWhenSettled = (sql: postgres.Sql) =>
  sql.unsafe(`
    create function public.say_settled() returns trigger language plpgsql as
      $$begin raise notice 'settled in %', tg_table_name; return null; end$$;
    create trigger say_settled after insert on fleet_q.outcomes for each row execute function public.say_settled();
    create trigger say_settled after insert on fleet_q.attempts for each row execute function public.say_settled();`)
