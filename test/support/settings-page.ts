import { describeConfig } from '../../src/config.ts'

export const SETTINGS_PAGE = 'docs/reference/settings.md'

const HEAD = `# Settings

Written by \`npm run generate\` from \`src/config.ts\`; do not edit. \`fleet-q config\` prints what is in force on your
machine.

Every setting is an environment variable, and each can come from a file instead: \`DATABASE_URL_FILE=/run/secrets/url\`
for \`DATABASE_URL\`. A variable that begins with \`FLEET_Q_\` and is not in this list stops the pod, with a suggestion.
Flags are 1 and 0. In code, \`createPod({ settings: { FLEET_Q_API_PORT: '0' } })\` takes the same names; the
environment is not read there.

| Setting | Default | |
|---|---|---|
`

const FOOT = `
## Which depend on each other

- \`FLEET_Q_DEAD_AFTER_SECONDS\` must be three heartbeats or more, or one slow answer of the database would kill a pod.
- \`FLEET_Q_STALL_SECONDS\` must not be below \`FLEET_Q_DEAD_AFTER_SECONDS\`.
- Beyond loopback (\`FLEET_Q_API_HOST\`) a pod wants a token, in the database or in \`FLEET_Q_TOKENS\`, or \`FLEET_Q_INSECURE=1\`.
- A pod runs \`FLEET_Q_MAX_PARALLELISM\` × \`FLEET_Q_CAPACITY_PERCENT\` steps at once, rounded down, and at least one.
- Whatever stops a pod has to wait longer than \`FLEET_Q_DRAIN_DELAY_SECONDS\` + \`FLEET_Q_GRACE_SECONDS\`.

## Two variables of the command line

| | |
|---|---|
| \`FLEET_Q_TOKEN\` | the token that \`fleet-q submit\` sends |
| \`FLEET_Q_API_HOST\`, \`FLEET_Q_API_PORT\` | where \`fleet-q submit\` and \`fleet-q health\` look for a pod; \`--url\` says otherwise |
`

/** The page of all settings, from the lines that `fleet-q config` prints where nothing is set. */
export function settingsPage(): string {
  const rows = describeConfig({}).map((line) => {
    const [, name, value, about] = /^(\S+)\s+(.*?)\s+default\s+(.*)$/.exec(line) ?? []
    if (name === undefined || value === undefined || about === undefined)
      throw new Error(`fleet-q config prints a line that this cannot read: ${line}`)
    return `| \`${name}\` | ${value === '(not set)' ? '' : `\`${value}\``} | ${about.replaceAll('|', '\\|')} |\n`
  })
  return HEAD + rows.join('') + FOOT
}
