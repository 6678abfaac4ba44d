import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { test } from 'node:test'
import { loadConfig } from '../../src/config.ts'
import { CHART, deployments, environment, kinds, ROOT, settings } from './chart.ts'

/**
 * The Helm chart, as far as it can be checked without a cluster. `.ci/build-chart-tools` builds the tools;
 * where one is missing, a single test says by its name that nothing was checked.
 */

const TOOLS = join(ROOT, '.cache/chart-tools')
const SCHEMAS = join(TOOLS, 'schemas')
/** Kinds of other projects: Kubernetes has no schema for them. */
const FOREIGN = ['ServiceMonitor', 'ScaledObject', 'TriggerAuthentication']
const URL_GIVEN = ['--set', 'database.existingSecret=db']

const valuesFiles = readdirSync(join(CHART, 'ci')).map((name) => join(CHART, 'ci', name))

/** From the PATH, or as .ci/build-chart-tools leaves it. */
const find = (tool: string) =>
  [...(process.env['PATH'] ?? '').split(delimiter), join(TOOLS, 'bin')]
    .map((folder) => join(folder, tool))
    .find((file) => existsSync(file))

function run(tool: string, args: string[], input = '') {
  const { status, stdout, stderr, error } = spawnSync(tool, args, {
    input,
    encoding: 'utf8',
    timeout: 60_000,
  })
  if (error) throw error
  return { ok: status === 0, stdout, said: stdout + stderr }
}

const kubernetes = existsSync(SCHEMAS) ? readdirSync(SCHEMAS).toSorted() : []
const [helm, unittest, kubeconform] = ['helm', 'helm-unittest', 'kubeconform'].map(find)
if (helm && unittest && kubeconform && kubernetes.length > 0) withTools(helm, unittest, kubeconform)
else
  test('THE HELM CHART IS NOT CHECKED: its tools are missing', (t) => {
    const found = { helm, 'helm-unittest': unittest, kubeconform, 'schemas of Kubernetes': kubernetes[0] }
    const missing = Object.entries(found).flatMap(([name, place]) => (place ? [] : [name]))
    t.diagnostic(`not found: ${missing.join(', ')}. Build them (Go is needed): .ci/build-chart-tools`)
  })

function withTools(helm: string, unittest: string, kubeconform: string) {
  const template = (version: string, ...args: string[]) =>
    run(helm, ['template', 'fq', CHART, '--namespace', 'work', '--kube-version', version, ...args])
  const newest = kubernetes.at(-1) ?? ''

  const rendered = (version: string, ...args: string[]) => {
    const { ok, stdout, said } = template(version, ...args)
    assert.ok(ok, said)
    return stdout
  }

  const refused = (pattern: RegExp, ...args: string[]) => {
    const { ok, said } = template(newest, ...URL_GIVEN, ...args)
    assert.equal(ok, false, `accepted: ${args.join(' ')}`)
    assert.match(said, pattern)
  }

  const replicas = (mode: string) =>
    deployments(rendered(newest, ...URL_GIVEN, '--set', `autoscaling.mode=${mode}`)).map(
      (text) => /^  replicas: (\d+)$/m.exec(text)?.[1],
    )

  const conform = (version: string, manifests: string) =>
    run(
      kubeconform,
      [
        ['-strict', '-summary', '-skip', FOREIGN.join(',')],
        ['-schema-location', join(SCHEMAS, version, '{{ .ResourceKind }}{{ .KindSuffix }}.json')],
      ].flat(),
      manifests,
    )

  for (const file of valuesFiles) {
    const name = file.slice(CHART.length + 1)

    test(`lint: ${name}`, () => {
      const { ok, said } = run(helm, ['lint', '--strict', '--kube-version', newest, CHART, '-f', file])
      assert.ok(ok, said)
    })

    for (const version of kubernetes)
      test(`Kubernetes ${version} knows every field: ${name}`, (t) => {
        const manifests = rendered(version, '-f', file)
        const { ok, said } = conform(version, manifests)
        assert.ok(ok, said)
        const foreign = kinds(manifests).filter((kind) => FOREIGN.includes(kind))
        assert.match(
          said,
          new RegExp(`Valid: ${kinds(manifests).length - foreign.length}, .*Skipped: ${foreign.length}`),
        )
        if (foreign.length > 0) t.diagnostic(`no schema to check with: ${foreign.join(', ')}`)
      })

    test(`the pods understand their environment: ${name}`, () => {
      const manifests = rendered(newest, '-f', file)
      const pods = deployments(manifests)
      assert.ok(pods.length > 0)
      for (const pod of pods) {
        const env = environment(pod, manifests)
        const ours = Object.keys(env).filter((key) => key !== 'TZ')
        assert.deepEqual(
          ours.filter((key) => !settings.includes(key.replace(/_FILE$/, ''))),
          [],
        )
        const { DATABASE_URL_FILE: urlFile, ...rest } = env
        const config = loadConfig(urlFile ? { ...rest, DATABASE_URL: 'postgres://a@b/c' } : rest)
        assert.notEqual(config.databaseUrl, '')
      }
    })
  }

  test('the schemas are strict: a field that Kubernetes does not know is an error', () => {
    const manifests = rendered(newest, ...URL_GIVEN).replace(
      /^( +)maxSurge: 1$/m,
      '$1maxSurge: 1\n$1maxSruge: 1',
    )
    assert.match(manifests, /maxSruge/)
    const { ok, said } = conform(newest, manifests)
    assert.equal(ok, false)
    assert.match(said, /maxSruge/)
  })

  test('values arrive as they were meant', () => {
    const manifests = rendered(newest, '-f', join(CHART, 'ci/everything-values.yaml'))
    const [main, big] = deployments(manifests).map((text) => loadConfig(environment(text, manifests)))
    assert.deepEqual(main?.httpAllow, ['api.example.com', 'hooks.example.com'])
    assert.deepEqual(
      [main?.maxParallelism, main?.leaderEligible, main?.graceSeconds, main?.retentionDays],
      [50, true, 0.5, 36_500],
    )
    assert.deepEqual([big?.maxParallelism, big?.leaderEligible, big?.graceSeconds], [2, false, 900])
  })

  test("the chart's own suites pass", () => {
    const { ok, said } = run(unittest, ['--strict', CHART])
    assert.ok(ok, said)
    assert.doesNotMatch(said, /Tests: +0 passed/)
  })

  test('a name that is not a value is refused', () => {
    refused(/replicaCuont/, '--set', 'replicaCuont=3')
    refused(/maxParalelism/, '--set', 'config.maxParalelism=3')
    refused(/polingSeconds/, '--set', 'autoscaling.polingSeconds=3')
    refused(/limts/, '--set', 'resources.limts.memory=1Gi')
    refused(/replicaCuont/, '--set', 'pools.big.replicaCuont=3')
    refused(/main/, '--set', 'pools.main.replicaCount=3')
  })

  test('a grace period below what the pods need is refused', () => {
    refused(/terminationGracePeriodSeconds is 30; .* is 80/, '--set', 'terminationGracePeriodSeconds=30')
    refused(/is 80; .* is 320/, '--set', 'terminationGracePeriodSeconds=80,config.graceSeconds=300')
  })

  test('no database, no chart: the message tells three ways', () => {
    const { ok, said } = template(newest)
    assert.equal(ok, false)
    for (const way of ['existingSecret', 'url', 'urlFile'])
      assert.match(said, new RegExp(`^  --set database\\.${way}=`, 'm'))
  })

  test('an autoscaler is the only one that says how many', () => {
    assert.deepEqual(replicas('none'), ['3'])
    assert.deepEqual(replicas('hpa'), [undefined])
    assert.deepEqual(replicas('keda'), [undefined])
  })
}
