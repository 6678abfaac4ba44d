import type { Config } from '../config.ts'
import type { StepDefinition } from '../step/handler.ts'
import { loadSteps } from '../worker/load.ts'
import { demoSteps } from '../worker/builtin/demo.ts'
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
    ...(config.httpAllow.length > 0 ? [await httpDefinition(config.httpAllow)] : []),
    ...(config.commands ? [await commandDefinition(config.commands)] : []),
    ...(demo ? demoSteps : []),
  ]
}

/** What is switched off is not loaded: an HTTP client alone is 5 MB of a pod. */
async function httpDefinition(allowHosts: string[]): Promise<Handled> {
  const { httpStep } = await import('../worker/builtin/http.ts')
  return { definition: httpStep({ allowHosts }) }
}

async function commandDefinition(folder: string): Promise<Handled> {
  const { commandStep, loadCommands } = await import('../worker/builtin/command.ts')
  return { definition: commandStep(loadCommands(folder)) }
}
