import { FleetError } from '../errors.ts'
import { SubmitStep } from '../step/step.schema.ts'
import { keyOfExecution } from './read-execution.ts'
import { findLetter } from './send-back.sql.ts'
import type { StartParts } from './start-execution.ts'

/** Another execution with the input of this one, as it was or edited: what was stays as it is. */
export async function rerunExecution(
  { database, submitter, check }: StartParts,
  executionId: string,
  {
    new_execution_id: name,
    payload,
  }: { new_execution_id?: string | undefined; payload?: object | undefined },
): Promise<string> {
  const { id } = await database.run((sql) => keyOfExecution(sql, executionId))
  const [letter] = await database.run((sql) => findLetter(sql, id))
  if (!letter)
    throw new FleetError(
      'execution_not_found',
      `execution '${executionId.slice(0, 100)}' has just been forgotten`,
    )
  const { timeout_ms, key, args, ...rest } = letter
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null))
  const wish = SubmitStep.parse({
    ...given,
    args: payload ?? args,
    ...(key === '' ? {} : { key }),
    ...(timeout_ms === null ? {} : { timeout_seconds: timeout_ms / 1000 }),
  })
  check(wish)
  const { stepIds } = await submitter.submit([wish], undefined, {
    rerunOf: id,
    ...(name === undefined ? {} : { name }),
  })
  return name ?? stepIds[0] ?? ''
}
