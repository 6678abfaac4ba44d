import type { Handlers } from '../server.ts'
import { accessRoutes } from './access.ts'
import type { Door } from './door.ts'
import { executionRoutes } from './executions.ts'
import { fleetRoutes } from './fleet.ts'
import { healthRoutes } from './health.ts'
import { limitRoutes } from './limits.ts'
import { pauseRoutes } from './pauses.ts'
import { recoveryRoutes } from './recovery.ts'
import { stepRoutes } from './steps.ts'
import { submitRoutes } from './submit.ts'

/** All handlers of all doors; one that is missing does not compile. */
export const openDoors = (door: Door): Handlers => ({
  ...healthRoutes(door),
  ...submitRoutes(door),
  ...stepRoutes(door),
  ...fleetRoutes(door),
  ...limitRoutes(door),
  ...pauseRoutes(door),
  ...recoveryRoutes(door),
  ...accessRoutes(door),
  ...executionRoutes(door),
})
