import { styleText } from 'node:util'

const COLOURS: Record<string, 'gray' | 'cyan' | 'yellow' | 'red'> = {
  trace: 'gray',
  debug: 'gray',
  info: 'cyan',
  warn: 'yellow',
  error: 'red',
  fatal: 'red',
}

/** Log lines for a person at a terminal: time, level, sentence, and the rest as key=value. */
export function prettyLines(out: NodeJS.WriteStream): { write(line: string): void } {
  const colour = out.isTTY && out.hasColors()
  const paint = (name: 'gray' | 'cyan' | 'yellow' | 'red', text: string) =>
    colour ? styleText(name, text) : text
  return {
    write(line) {
      const { level, time, msg, err, ...rest } = JSON.parse(line) as Record<string, unknown>
      const name = String(level)
      const clock = typeof time === 'string' ? time.slice(11, 19) : ''
      const facts = Object.entries(rest)
        .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
        .join(' ')
      const failure = err as { message?: unknown } | undefined
      out.write(
        `${paint('gray', clock)} ${paint(COLOURS[name] ?? 'gray', name.padEnd(5))} ${typeof msg === 'string' ? msg : ''}` +
          `${facts ? ` ${paint('gray', facts)}` : ''}${failure ? ` ${paint('gray', String(failure.message))}` : ''}\n`,
      )
    },
  }
}
