import { FleetQError } from '../client.ts'
import { FleetError } from '../errors.ts'

/** For a shell: where the token goes, rather than which header it becomes. */
export function wantsToken(error: unknown): never {
  if (error instanceof FleetQError && error.status === 401)
    throw new FleetError(
      'unauthenticated',
      'The pod wants a token that is good: hand it over as FLEET_Q_TOKEN. fleet-q token create makes one.',
    )
  throw error
}
