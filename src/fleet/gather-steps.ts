import type { Config } from '../config.ts'
import type { StepDefinition } from '../step/handler.ts'
import { loadSteps } from '../worker/load.ts'
import { commandStep, loadCommands } from '../worker/builtin/command.ts'
import { demoSteps } from '../worker/builtin/demo.ts'
import { httpStep } from '../worker/builtin/http.ts'
import type { Handled } from '../worker/registry.ts'

/** What this pod handles: steps passed in code, those of the folder, and the built-in types that are switched on. */
export async function gatherSteps(
  config: Config,
  inCode: StepDefinition[],
  ownPostgres: boolean,
): Promise<Handled[]> {
  const demo = config.demo === 'auto' ? ownPostgres : config.demo === '1'
  return [
    ...inCode.map((definition) => ({ definition })),
    ...(config.handlers ? await loadSteps(config.handlers) : []),
    ...(config.httpAllow.length > 0 ? [{ definition: httpStep({ allowHosts: config.httpAllow }) }] : []),
    ...(config.commands ? [{ definition: commandStep(loadCommands(config.commands)) }] : []),
    ...(demo ? demoSteps : []),
  ]
}
