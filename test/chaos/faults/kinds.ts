import type { FaultKind } from './fault.ts'
import { comeBacks } from './come-back.ts'
import { failpoints } from './failpoints.ts'
import { networks } from './networks.ts'
import { processes } from './processes.ts'
import { server } from './server.ts'

/** Every fault that a plan may hold. */
const all = { ...processes, ...server, ...networks, ...failpoints, ...comeBacks }

export type Kind = keyof typeof all
export const KINDS: Record<Kind, FaultKind> = all
