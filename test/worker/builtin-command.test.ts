import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { z } from 'zod'
import { FleetError } from '../../src/errors.ts'
import { NonRetryableError, type StepContext } from '../../src/step/handler.ts'
import { commandStep, loadCommands } from '../../src/worker/builtin/command.ts'
import { commandTable } from '../../src/worker/builtin/command.schema.ts'
import { stepContext } from '../../src/testing.ts'

/** Prints its arguments as JSON, exactly as the system handed them over. */
const ECHO = [process.execPath, '-e', 'console.log(JSON.stringify(process.argv.slice(1)))', '--']

const script = (code: string, ...rest: string[]) => ({ argv: [process.execPath, '-e', code, '--', ...rest] })

test('values take their places as whole arguments and inside of one', async (t) => {
  const commands = {
    resize: {
      argv: [...ECHO, '{input}', '-resize', '{width}x{height}', '--keep={keep}', '{{literal}}'],
      params: { input: {}, width: {}, height: {}, keep: {} },
    },
  }
  const args = { input: 'a b.png', width: 10, height: 20, keep: true }
  const result = await run(t, commands, { command: 'resize', args })
  assert.equal(result.exit_code, 0)
  assert.deepEqual(JSON.parse(result.stdout), ['a b.png', '-resize', '10x20', '--keep=true', '{literal}'])
})

test('values may also come in the order of the parameters', async (t) => {
  const commands = { echo: { argv: [...ECHO, '{b}', '{a}'], params: { a: {}, b: {} } } }
  const result = await run(t, commands, { command: 'echo', args: ['first', 2] })
  assert.deepEqual(JSON.parse(result.stdout), ['2', 'first'])
  await assertInvalid(t, commands, { command: 'echo', args: ['first'] }, /args\.b: is missing/)
  await assertInvalid(t, commands, { command: 'echo', args: ['a', 'b', 'c'] }, /args\.2: is not a parameter/)
})

test('nothing that a shell would act on is acted on: it arrives as it was sent, as one argument', async (t) => {
  const folder = temporaryFolder(t)
  const mark = join(folder, 'mark')
  const attempts = [
    `; touch ${mark}`,
    `x; touch ${mark}`,
    `$(touch ${mark})`,
    `\`touch ${mark}\``,
    `| touch ${mark}`,
    `|| touch ${mark}`,
    `&& touch ${mark}`,
    `& touch ${mark} &`,
    `> ${mark}`,
    `>> ${mark}`,
    `< /etc/passwd`,
    `<(touch ${mark})`,
    `x' ; touch ${mark} ; '`,
    `x" ; touch ${mark} ; "`,
    `'"\`$(touch ${mark})`,
    `\${IFS}touch\${IFS}${mark}`,
    `$PATH`,
    `\${HOME}`,
    `~`,
    `~root`,
    `*`,
    `/etc/*`,
    `?`,
    `[a-z]`,
    `{a,b}`,
    `{input}`,
    `{{input}}`,
    `$&`,
    `$1`,
    `$\`touch\``,
    `\\`,
    `\\; touch ${mark}`,
    `a b  c`,
    `#comment`,
    `!history`,
    `%PATH%`,
    `^touch`,
    `=cmd|'/C calc'!A0`,
    `../../etc/passwd`,
    `@/etc/passwd`,
    `+x`,
    ` -rf`,
    `％；`,
    `x\u00a0;touch`,
  ]
  assert.ok(attempts.length >= 40)
  const commands = { echo: { argv: [...ECHO, '{input}', 'in={input}'], params: { input: {} } } }
  const outcomes = await Promise.all(
    attempts.map(async (value) => {
      const result = await run(t, commands, { command: 'echo', args: { input: value } })
      assert.deepEqual(JSON.parse(result.stdout), [value, `in=${value}`])
      return result.exit_code
    }),
  )
  assert.ok(outcomes.every((code) => code === 0))
  assert.equal(existsSync(mark), false)
})

test('options, line breaks, control characters and what is too long are refused before anything runs', async (t) => {
  const commands = { echo: { argv: [...ECHO, '{input}'], params: { input: {} } } }
  const refused = [
    '-rf',
    '--help',
    '-oProxyCommand=touch x',
    '-',
    '--',
    'a\nb',
    'a\rb',
    'a\0b',
    '\0',
    'a\tb',
    'a\u001b[2Jb',
    'a\u007fb',
    'a\u0085b',
    'a\u2028b',
    'a\u2029b',
    '\ud800',
    'a\udc00',
    '',
    'x'.repeat(1025),
  ]
  for (const input of refused)
    await assertInvalid(t, commands, { command: 'echo', args: { input } }, /args\.input: /)
  await assertInvalid(t, commands, { command: 'echo', args: { input: -5 } }, /begins with "-"/)
  for (const input of [null, {}, ['a'], Number.NaN, undefined])
    await assertInvalid(t, commands, { command: 'echo', args: { input } }, /args/)
})

test('a parameter may allow a dash, and may not be left out, misspelt or made up', async (t) => {
  const commands = {
    nice: { argv: [...ECHO, '{level}'], params: { level: { allow_dash: true, pattern: '-?\\d+' } } },
  }
  const result = await run(t, commands, { command: 'nice', args: { level: -5 } })
  assert.deepEqual(JSON.parse(result.stdout), ['-5'])
  await assertInvalid(t, commands, { command: 'nice' }, /args\.level: is missing/)
  await assertInvalid(t, commands, { command: 'nice', args: { levle: 1 } }, /Did you mean level\?/)
  await assertInvalid(
    t,
    commands,
    { command: 'nice', args: { level: 1, constructor: 2 } },
    /args\.constructor/,
  )
})

test('a pattern has to fit the whole value, also where it has no anchors', async (t) => {
  const commands = {
    plain: { argv: [...ECHO, '{size}'], params: { size: { pattern: '\\d+x\\d+' } } },
    anchored: { argv: [...ECHO, '{size}'], params: { size: { pattern: '^\\d+x\\d+$' } } },
    either: { argv: [...ECHO, '{size}'], params: { size: { pattern: 'a|b' } } },
  }
  for (const command of ['plain', 'anchored']) {
    assert.equal((await run(t, commands, { command, args: { size: '1x2' } })).exit_code, 0)
    for (const size of ['1x2; rm', 'a1x2', '1x', '', '1x2 '])
      await assertInvalid(t, commands, { command, args: { size } }, /does not match/)
  }
  await assertInvalid(t, commands, { command: 'either', args: { size: 'ab' } }, /does not match/)
})

test('only commands of the file can be named', async (t) => {
  const commands = { resize: { argv: ECHO } }
  for (const command of ['sh', '/bin/sh', 'resise', '__proto__', 'constructor', 'toString', ''])
    await assertInvalid(t, commands, { command }, /command: is not a command of this fleet/)
  await assertInvalid(t, commands, { command: 'resise' }, /Did you mean resize\?/)
  await assertInvalid(t, commands, { command: 'resize', cwd: '/tmp' }, /cwd/)
})

test('a program sees the environment that its command names, and nothing of the pod', async (t) => {
  const print = 'console.log(JSON.stringify([process.env, process.cwd()]))'
  const folder = temporaryFolder(t)
  const commands = {
    bare: script(print),
    dressed: { ...script(print), env: { LANG: 'C.UTF-8' }, cwd: folder },
  }
  assert.deepEqual(JSON.parse((await run(t, commands, { command: 'bare' })).stdout), [{}, '/'])
  assert.deepEqual(JSON.parse((await run(t, commands, { command: 'dressed' })).stdout), [
    { LANG: 'C.UTF-8' },
    folder,
  ])
})

test('a program that fails fails the attempt with its code and its last words', async (t) => {
  const commands = {
    three: script(`for (let i = 1; i <= 30; i++) console.error('line ' + i); process.exitCode = 3`),
    killed: script(`process.kill(process.pid, 'SIGSEGV'); setInterval(() => {}, 1000)`),
    silent: script('process.exitCode = 1'),
  }
  await assert.rejects(run(t, commands, { command: 'three' }), (error) => {
    assert.ok(error instanceof Error && !(error instanceof NonRetryableError))
    assert.match(error.message, /^three ended with code 3: line 21\n[^]*line 30$/)
    return true
  })
  await assert.rejects(run(t, commands, { command: 'killed' }), /^Error: killed was ended by SIGSEGV/)
  await assert.rejects(run(t, commands, { command: 'silent' }), /^Error: silent ended with code 1$/)
})

test('the end of a long output is kept, cut between two characters, and its lines are logged', async (t) => {
  const commands = {
    long: script(`process.stdout.write('é'.repeat(200_000) + '\\nlast'); process.stderr.write('a\\r\\nb')`),
  }
  const lines: string[] = []
  const keep = (level: string) => (line: string) => lines.push(`${level} ${line}`)
  const log = { debug() {}, info: keep('info'), warn: keep('warn'), error() {} }
  const result = await run(t, commands, { command: 'long' }, { log })
  assert.equal(result.truncated, true)
  assert.match(result.stdout, /^é+\nlast$/)
  assert.ok(Buffer.byteLength(result.stdout) > 65_000 && Buffer.byteLength(result.stdout) <= 65_536)
  assert.equal(result.stderr, 'a\r\nb')
  assert.ok(lines.includes('info last') && lines.includes('warn a') && lines.includes('warn b'))
  assert.ok(lines.every((line) => line.length < 5000))
})

test('an abort ends the program and what it started, and the step with the reason', async (t) => {
  const door = await doorOf(t)
  const child = `require('net').connect(${door.port}).on('error', () => {})`
  const commands = {
    family: script(
      `require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(child)}]); ${child}`,
    ),
  }
  const stop = new AbortController()
  const reason = new Error('cancelled')
  const ended = run(t, commands, { command: 'family' }, { signal: stop.signal })
  await door.came(2)
  stop.abort(reason)
  await assert.rejects(ended, reason)
  await door.left(2)
  await assert.rejects(run(t, commands, { command: 'family' }, { signal: stop.signal }), reason)
  assert.equal(door.count(), 2)
})

test('a program that ignores SIGTERM is killed', async (t) => {
  const door = await doorOf(t)
  const code = `process.on('SIGTERM', () => {}); require('net').connect(${door.port}).on('error', () => {})`
  const stop = new AbortController()
  const ended = run(t, { deaf: script(code) }, { command: 'deaf' }, { signal: stop.signal }, 50)
  await door.came(1)
  stop.abort(new Error('cancelled'))
  await assert.rejects(ended, /cancelled/)
  await door.left(1)
})

test('a command has a time limit of its own, after which another attempt may be made', async (t) => {
  const commands = { slow: { ...script('setInterval(() => {}, 1000)'), timeout_seconds: 0.2 } }
  await assert.rejects(run(t, commands, { command: 'slow' }), (error) => {
    assert.ok(error instanceof Error && !(error instanceof NonRetryableError))
    assert.match(error.message, /slow took longer than 200 ms and was ended/)
    return true
  })
})

test('a process left in the background neither holds the step nor outlives it', async (t) => {
  const door = await doorOf(t)
  const child = `require('net').connect(${door.port}, () => process.send('here')).on('error', () => {})`
  const options = `{ stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }`
  const parent = `require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(child)}], ${options})`
  const commands = { parent: script(`${parent}.on('message', () => process.exit(0))`) }
  const result = await run(t, commands, { command: 'parent' })
  assert.equal(result.exit_code, 0)
  await door.came(1)
  await door.left(1)
})

test('a command may run as another user', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can become another user')
  const argv = ['/bin/sh', '-c', 'id -u; id -g']
  const result = await run(t, { who: { argv, uid: 65_534, gid: 65_533 } }, { command: 'who' })
  assert.equal(result.stdout, '65534\n65533\n')
})

test('a program that cannot be started can be tried on another pod, arguments that are too long cannot', async (t) => {
  const huge = { pattern: 'x+', max_length: 65_536 }
  const names = Array.from({ length: 100 }, (_, i) => `p${i}`)
  const commands = {
    gone: { argv: ['/nonexistent/program'] },
    here: { argv: ECHO, cwd: '/nonexistent' },
    huge: {
      argv: [...ECHO, ...names.map((name) => `{${name}}`.repeat(4))],
      params: Object.fromEntries(names.map((name) => [name, huge])),
    },
  }
  for (const command of ['gone', 'here'])
    await assert.rejects(
      run(t, commands, { command }, {}, 50, 'unchecked'),
      (error) =>
        error instanceof Error &&
        !(error instanceof NonRetryableError) &&
        /could not be started/.test(error.message),
    )
  const args = Object.fromEntries(names.map((name) => [name, 'x'.repeat(65_000)]))
  await assert.rejects(
    run(t, commands, { command: 'huge', args }, {}, 50, 'unchecked'),
    (error) => error instanceof NonRetryableError && /could not be started/.test(error.message),
  )
})

test('a file of commands that could not work, or could be turned against us, stops the pod', (t) => {
  const refused: [string, unknown, RegExp][] = [
    ['no object', [], /expected record/],
    ['no argv', { a: {} }, /a\.argv/],
    ['empty argv', { a: { argv: [] } }, /a\.argv/],
    ['relative program', { a: { argv: ['convert'] } }, /a\.argv\.0: must be an absolute path/],
    ['missing program', { a: { argv: ['/nonexistent/program'] } }, /is no program that this pod can run/],
    ['chosen program', { a: { argv: ['/bin/{p}'], params: { p: {} } } }, /cannot be chosen by a value/],
    ['unknown placeholder', { a: { argv: [...ECHO, '{x}'] } }, /\{x\} is not in params/],
    ['unused parameter', { a: { argv: ECHO, params: { x: {} } } }, /a\.params\.x: stands in no argument/],
    [
      'broken pattern',
      { a: { argv: [...ECHO, '{x}'], params: { x: { pattern: '(' } } } },
      /no regular expression/,
    ],
    ['misspelt key', { a: { argv: ECHO, timeout: 5 } }, /timeout/],
    ['relative folder', { a: { argv: ECHO, cwd: 'tmp' } }, /a\.cwd/],
    ['NUL', { a: { argv: [...ECHO, 'a\0b'] } }, /NUL/],
    ['name with a slash', { 'a/b': { argv: ECHO } }, /names are letters/],
    ['code for sh', { a: { argv: ['/bin/sh', '-c', 'ls {x}'], params: { x: {} } } }, /run the value as code/],
    [
      'code for sh -ec',
      { a: { argv: ['/bin/sh', '-ec', 'ls {x}'], params: { x: {} } } },
      /run the value as code/,
    ],
    [
      'code for node',
      { a: { argv: [process.execPath, '--eval={x}'], params: { x: {} } } },
      /run the value as code/,
    ],
    [
      'code for perl',
      { a: { argv: ['/usr/bin/env', 'perl', '-e{x}'], params: { x: {} } } },
      /run the value as code/,
    ],
  ]
  for (const [what, table, message] of refused)
    assert.throws(
      () => loadCommands(fileOf(t, JSON.stringify(table))),
      (error) => {
        assert.ok(error instanceof FleetError, what)
        assert.equal(error.code, 'config_invalid')
        assert.match(error.message, message, what)
        return true
      },
    )
  assert.throws(() => loadCommands(fileOf(t, '{')), /cannot be read as JSON/)
  assert.throws(() => loadCommands('/nonexistent/commands.json'), /ENOENT/)
  const fine = { a: { argv: ['/bin/sh', '-c', 'echo "$1"', 'sh', '{x}'], params: { x: {} } } }
  assert.equal(loadCommands(fileOf(t, JSON.stringify(fine))).a?.timeout_seconds, 600)
})

test('the file that the guide shows could work', () => {
  const guide = readFileSync(new URL('../../docs/guides/built-in-steps.md', import.meta.url), 'utf8')
  const [, shown = ''] = /is loaded by a test\. -->\n```json\n([^]*?)```/.exec(guide) ?? []
  const commands = commandTable.parse(JSON.parse(shown))
  const input = commandStep(commands).input
  const args = { input: 'cat.png', size: '640x480', output: 'small.png' }
  assert.equal(input?.safeParse({ command: 'resize', args }).success, true)
  for (const path of ['../cat.png', '/etc/cat.png', '.png', 'cat.txt'])
    assert.equal(input?.safeParse({ command: 'resize', args: { ...args, input: path } }).success, false, path)
})

test('the time limit of the type does not come before that of any command', (t) => {
  const table = { slow: { argv: ECHO, timeout_seconds: 7200 } }
  const step = commandStep(loadCommands(fileOf(t, JSON.stringify(table))))
  assert.ok((step.timeoutSeconds ?? 0) > 7200)
})

const RESULT = z.strictObject({
  exit_code: z.int(),
  stdout: z.string(),
  stderr: z.string(),
  truncated: z.boolean(),
})

/** Runs the step as the runner would: the arguments pass `input` first. */
async function run(
  t: TestContext,
  table: Record<string, object>,
  args: unknown,
  known: Partial<StepContext> = {},
  killAfterMs = 5000,
  programs: 'checked' | 'unchecked' = 'checked',
) {
  const commands =
    programs === 'checked' ? loadCommands(fileOf(t, JSON.stringify(table))) : commandTable.parse(table)
  const step = commandStep(commands, { killAfterMs })
  const ctx = stepContext('command', known)
  return RESULT.parse(await step.run(step.input?.parse(args), ctx))
}

/** Refused at submit, and again by the step itself. */
async function assertInvalid(t: TestContext, table: Record<string, object>, args: unknown, message: RegExp) {
  const step = commandStep(loadCommands(fileOf(t, JSON.stringify(table))))
  const parsed = step.input?.safeParse(args)
  const said = parsed?.error?.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')
  assert.match(said ?? 'nothing was refused', message)
}

function fileOf(t: TestContext, text: string): string {
  const path = join(temporaryFolder(t), 'commands.json')
  writeFileSync(path, text)
  return path
}

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-command-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A server that processes hold a connection to while they live. */
async function doorOf(t: TestContext) {
  const server = createServer()
  const sockets: Socket[] = []
  const gone: Promise<unknown>[] = []
  server.on('connection', (socket) => {
    socket.on('error', () => undefined).resume()
    sockets.push(socket)
    gone.push(once(socket, 'close'))
    server.emit('came')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  return {
    port: address.port,
    count: () => sockets.length,
    async came(count: number) {
      while (sockets.length < count) await once(server, 'came')
    },
    left: (count: number) => Promise.all(gone.slice(0, count)),
  }
}
