import { executionSpecs } from './specs/executions.ts'
import { fleetSpecs } from './specs/fleet.ts'

/**
 * Every operation of every door. Only schemas are imported here, so that the client can carry this table
 * into a browser.
 */
export const specs = { ...fleetSpecs, ...executionSpecs }

export type Specs = typeof specs
