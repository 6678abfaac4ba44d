import { describeConfig } from './config.ts'
import { fail } from './fleet/fail.ts'
import { runPod } from './fleet/run-pod.ts'
import { VERSION } from './fleet/version.ts'
import { fleet } from './cli/fleet.ts'
import { health } from './cli/health.ts'
import { migrate } from './cli/migrate.ts'
import { submit } from './cli/submit.ts'
import { token } from './cli/token.ts'
import { didYouMean } from './kernel/words.ts'

const HELP = `fleet-q ${VERSION}: a step queue for a fleet of pods, on Postgres alone

  fleet-q start                     a pod; without DATABASE_URL it brings its own Postgres
  fleet-q fleet [--pods 3]          several pods on one database, under a demonstration load
  fleet-q fleet kill N              kills pod N of a running fleet with SIGKILL, and watch what happens
  fleet-q submit TYPE [JSON]        submits a step; --wait shows how it ends, --count N submits N
  fleet-q health [--url URL]        asks a pod how it is; exit code 0 or 1
  fleet-q token create --role ROLE  makes a token; token list and token revoke NUMBER
  fleet-q migrate                   brings the schema up to date, for pods that may not
  fleet-q config                    every setting, its value and what it is for
  fleet-q version

Settings are environment variables: fleet-q config lists them.
`

const COMMANDS: Record<string, (args: string[]) => Promise<void> | void> = {
  start: () => runPod(process.env),
  fleet: (args) => fleet(args, process.env),
  submit: (args) => submit(args, process.env),
  token: (args) => token(args, process.env),
  migrate: () => migrate(process.env),
  health: (args) => health(args, process.env),
  config: () => void process.stdout.write(`${describeConfig(process.env).join('\n')}\n`),
  version: () => void process.stdout.write(`${VERSION}\n`),
  help: () => void process.stdout.write(HELP),
}

const [name = 'help', ...args] = process.argv.slice(2)
const command = COMMANDS[name.replace(/^--?/, '')]
if (command)
  try {
    await command(args)
  } catch (error) {
    fail(error)
  }
else {
  process.stderr.write(
    `fleet-q: "${name}" is no command.${didYouMean(name, Object.keys(COMMANDS))} fleet-q help lists them.\n`,
  )
  process.exit(2)
}
