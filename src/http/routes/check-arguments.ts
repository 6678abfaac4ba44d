import { FleetError } from '../../errors.ts'
import type { StepWish } from '../../step/step.ts'
import type { Door } from './door.ts'

/** Where this pod knows the type, bad arguments are refused before anything is stored. */
export function checkArguments(
  registry: Door['registry'],
  steps: Pick<StepWish, 'type' | 'args'>[],
  /** Where they stand in the body. */
  placeOf: (i: number) => (string | number)[],
): void {
  const issues = steps.flatMap((step, i) => {
    const parsed = registry.get(step.type)?.definition.input?.safeParse(step.args)
    if (!parsed || parsed.success) return []
    return parsed.error.issues.map(({ path, message }) => ({
      at: [...placeOf(i), ...path].map(String).join('.'),
      message,
    }))
  })
  const [first] = issues
  if (first)
    throw new FleetError(
      'invalid_input',
      `The arguments do not fit the type: ${first.at}: ${first.message}. Nothing was stored.`,
      { issues },
    )
}
