import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describeConfig } from '../../src/config.ts'

export const ROOT = join(import.meta.dirname, '../..')
export const CHART = join(ROOT, 'helm/fleet-q')

/** The environment variables that a pod knows. */
export const settings = describeConfig({}).map((line) => line.split(' ')[0] ?? '')

// Rendered manifests come from our own templates, so a few patterns do instead of a YAML parser.

export const deployments = (manifests: string) =>
  manifests.split(/^---$/m).filter((text) => kinds(text)[0] === 'Deployment')
export const kinds = (manifests: string) =>
  [...manifests.matchAll(/^kind: (\w+)$/gm)].map(([, kind]) => kind ?? '')

/** The environment of a Deployment's container; what comes out of Secrets is taken from there, or made up. */
export function environment(deployment: string, manifests: string): Record<string, string> {
  const block = /^( +)env:\n((?:\1 .*\n)+)/m.exec(deployment)?.[2] ?? ''
  const entries = [...block.matchAll(/- name: (\S+)\n +(?:value: (.*)|valueFrom:)/g)].map(
    ([, name = '', value]) => {
      if (value !== undefined) return [name, value.replace(/^"(.*)"$/, '$1')]
      if (name === 'FLEET_Q_TOKENS')
        return [name, /^  tokens: (.*)$/m.exec(manifests)?.[1] ?? `admin:${'x'.repeat(16)}`]
      return [name, name === 'DATABASE_URL' ? 'postgres://a@b/c' : 'from-kubernetes']
    },
  )
  assert.ok(entries.length > 5, `no environment found in\n${deployment}`)
  return Object.fromEntries(entries)
}
