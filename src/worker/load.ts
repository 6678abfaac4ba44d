import { readdirSync, type Dirent } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { FleetError } from '../errors.ts'
import { isStepDefinition, type StepDefinition } from '../step/handler.ts'

/** A step, and where a thread finds it again. */
export interface LoadedStep {
  readonly definition: StepDefinition
  readonly modulePath: string
  readonly exportName: string
}

const MODULE = /\.(js|mjs|ts)$/
const NO_MODULE = /\.(d|test|spec)\.[a-z]+$/
const MODULES_MAX = 10_000

/**
 * Imports the modules of FLEET_Q_HANDLERS and finds the steps that they export: those of the folder itself and
 * of the folders in it, in the order of their names. What begins with "." or "_" and node_modules is left out.
 */
export async function loadSteps(folder: string): Promise<LoadedStep[]> {
  const modules = modulesOf(resolve(folder))
  if (modules.length > MODULES_MAX)
    throw unusable(folder, `it holds ${modules.length} modules; at most ${MODULES_MAX} are imported`)
  const loaded: LoadedStep[] = []
  for (const modulePath of modules) {
    const exported = await importModule(modulePath)
    // In the order of their names: that of a module object is sorted already, by the language.
    for (const [exportName, definition] of Object.entries(exported)) {
      if (!isStepDefinition(definition)) continue
      const known = loaded.find((step) => step.definition.type === definition.type)
      if (known === undefined) loaded.push({ definition, modulePath, exportName })
      // The same definition under a second name, or handed on by an index file, is no second definition.
      else if (known.definition !== definition) throw duplicate(known, { definition, modulePath, exportName })
    }
  }
  return loaded
}

function modulesOf(folder: string): string[] {
  const entries = entriesOf(folder, folder)
  const folders = entries.filter((entry) => entry.isDirectory())
  return [
    ...modulesIn(folder, entries),
    ...folders.flatMap((entry) => deeper(folder, join(folder, entry.name))),
  ]
}

const deeper = (root: string, folder: string) => modulesIn(folder, entriesOf(root, folder))

const modulesIn = (folder: string, entries: Dirent[]) =>
  entries
    .filter(({ name }) => MODULE.test(name) && !NO_MODULE.test(name))
    .filter((entry) => !entry.isDirectory())
    .map(({ name }) => join(folder, name))

function entriesOf(root: string, folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter(({ name }) => !/^[._]/.test(name) && name !== 'node_modules')
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT')
      throw unusable(root, `there is no folder ${folder}. Create it, or correct the path`, error)
    if (code === 'ENOTDIR') throw unusable(root, 'it is a file. Name the folder that the file is in', error)
    throw unusable(root, `${folder} cannot be read: ${messageOf(error)}`, error)
  }
}

async function importModule(path: string): Promise<object> {
  try {
    const exported: unknown = await import(pathToFileURL(path).href)
    return typeof exported === 'object' && exported !== null ? exported : {}
  } catch (error) {
    const isUnknown = error instanceof Error && 'code' in error && error.code === 'ERR_UNKNOWN_FILE_EXTENSION'
    const advice = isUnknown
      ? 'this Node reads no TypeScript. Compile the module to JavaScript, start the pod with --import tsx, or use Node 24'
      : messageOf(error)
    throw unusable(path, advice, error)
  }
}

const duplicate = (known: LoadedStep, second: LoadedStep) =>
  new FleetError(
    'config_invalid',
    `The step type "${second.definition.type}" is defined twice: as ${known.exportName} in ${known.modulePath} and ` +
      `as ${second.exportName} in ${second.modulePath}. Rename one, or remove it from FLEET_Q_HANDLERS.`,
  )

const unusable = (path: string, reason: string, cause?: unknown) =>
  new FleetError('config_invalid', `No steps can be loaded from ${path} (FLEET_Q_HANDLERS): ${reason}.`, {
    cause,
  })

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))
