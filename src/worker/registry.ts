import { FleetError } from '../errors.ts'
import type { StepDefinition } from '../step/handler.ts'

/** A type that this pod handles; a definition that runs in a thread says which module it comes from. */
export interface Handled {
  definition: StepDefinition
  modulePath?: string | undefined
  exportName?: string | undefined
}

export type Registry = ReadonlyMap<string, Handled>

export function createRegistry(steps: Handled[]): Registry {
  const registry = new Map<string, Handled>()
  for (const step of steps) {
    const { type } = step.definition
    if (registry.has(type))
      throw new FleetError(
        'config_invalid',
        `The step type "${type}" is defined twice. Rename one, or load one folder only.`,
      )
    if (step.definition.isolation === 'thread' && step.modulePath === undefined)
      throw new FleetError(
        'config_invalid',
        `The step type "${type}" asks for a thread, but was passed in code. Put it into a module of FLEET_Q_HANDLERS, where a thread can load it.`,
      )
    registry.set(type, step)
  }
  return registry
}
