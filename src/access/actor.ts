import type { Role } from './role.ts'

/** Who changes something of the fleet, and by which operation. */
export interface Actor {
  /** 'token 7 (deploy)', 'a configured token', 'nobody known'. */
  readonly who: string
  readonly role: Role
  readonly ip: string | undefined
  readonly requestId: string
  readonly operation: string | undefined
}
