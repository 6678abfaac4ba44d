import { backlog, kept, pending } from './backlog.ts'
import { cost } from './cost.ts'
import { defaults, drain, drain8 } from './drain.ts'
import { checkpoint, executions } from './executions.ts'
import { fleet, idle } from './idle.ts'
import { kill, kills } from './kill.ts'
import { pickup } from './pickup.ts'
import { pinned } from './pinned.ts'
import { memory, start } from './pod.ts'
import { rates } from './rates.ts'
import { recovery } from './recovery.ts'
import type { Row } from './row.ts'
import { bulk, http, submit } from './submit.ts'

/** In the order of the table. */
export const rows: Row[] = [
  drain,
  drain8,
  defaults,
  submit,
  bulk,
  http,
  pickup,
  backlog,
  pending,
  kept,
  pinned,
  cost,
  executions,
  checkpoint,
  rates,
  idle,
  fleet,
  kill,
  kills,
  recovery,
  memory,
  start,
]
