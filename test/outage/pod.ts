import { fileURLToPath } from 'node:url'
import type postgres from 'postgres'
import { startPodProcess } from '../support/processes.ts'
import { type Link } from '../support/proxy.ts'

const HANDLERS = fileURLToPath(new URL('./retried', import.meta.url))

/** A pod that a busy machine does not make look dead, with a step that is tried twice. */
export const startPod = (databaseUrl: string) =>
  startPodProcess(databaseUrl, {
    FLEET_Q_HANDLERS: HANDLERS,
    FLEET_Q_HEARTBEAT_SECONDS: '0.5',
    FLEET_Q_DEAD_AFTER_SECONDS: '2.5',
  })

/** "Ready for the next one, outside of any transaction": said after the commit, never before. */
const READY = Buffer.from('Z\0\0\0\u0005I')

/** The end of an answer in which the server has said these words to this pool; what it tells of is committed. */
export function endOfAnswer(pool: 'work' | 'door', words: string) {
  const said = new WeakSet<Link>()
  return (answer: Buffer, link: Link) => {
    if (!link.name.startsWith(`fleet-q ${pool} `)) return false
    if (answer.includes(words)) said.add(link)
    return said.has(link) && answer.subarray(-READY.length).equals(READY)
  }
}

/** From here on the server says so in its answer when an attempt that is not the last has been settled. */
export const sayWhenTried = (sql: postgres.Sql) =>
  sql.unsafe(`
    create function public.say_tried() returns trigger language plpgsql as
      $$begin raise notice 'an attempt was settled'; return null; end$$;
    create trigger say_tried after insert on fleet_q.attempts for each row execute function public.say_tried();`)
