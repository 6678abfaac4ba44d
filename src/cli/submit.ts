import { parseArgs } from 'node:util'
import { createClient } from '../client.ts'
import { FleetError } from '../errors.ts'
import { durationText } from '../kernel/duration.ts'
import { baseUrl } from './health.ts'
import { wantsToken } from './wants-token.ts'

const COUNT_MAX = 100_000
const BATCH = 1000

export async function submit(args: string[], env: Record<string, string | undefined>): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      url: { type: 'string' },
      token: { type: 'string' },
      wait: { type: 'boolean', default: false },
      count: { type: 'string', default: '1' },
    },
  })
  const [type, text = '{}'] = positionals
  const count = Number(values.count)
  if (!type || !Number.isInteger(count) || count < 1 || count > COUNT_MAX)
    throw new FleetError(
      'invalid_input',
      `Say what to submit: fleet-q submit hello_world '{"name":"Ada"}' --wait (--count is 1 to ${COUNT_MAX})`,
    )
  const token = values.token ?? env['FLEET_Q_TOKEN']
  const client = createClient({
    baseUrl: values.url ?? baseUrl(env),
    ...(token === undefined ? {} : { token }),
  })
  const step = { type, args: parseObject(text) }
  if (count > 1) {
    for (let sent = 0; sent < count; sent += BATCH)
      await client
        .submitBatch({ steps: Array.from({ length: Math.min(BATCH, count - sent) }, () => step) })
        .catch(wantsToken)
    process.stdout.write(`${count} steps of type ${type} submitted\n`)
    return
  }
  const { step_id, warnings = [] } = await client.submitStep(step).catch(wantsToken)
  process.stdout.write(`${step_id}\n`)
  for (const warning of warnings) process.stderr.write(`${warning}\n`)
  if (!values.wait) return
  const startedAt = performance.now()
  const status = await client.waitFor(step_id)
  process.stdout.write(
    `${status.status} on ${status.claimed_by ?? 'no pod'} in ${durationText(performance.now() - startedAt)}\n`,
  )
  process.stdout.write(`${JSON.stringify(status.status === 'completed' ? status.result : status.error)}\n`)
  process.exitCode = status.status === 'completed' ? 0 : 1
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>
  } catch {
    // Said below, in words.
  }
  throw new FleetError(
    'invalid_input',
    `The arguments must be a JSON object, such as '{"name":"Ada"}'; got ${text}`,
  )
}
