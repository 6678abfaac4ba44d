import { basename, isAbsolute } from 'node:path'
import { z } from 'zod'

const ARGUMENTS_MAX = 256
const VALUE_CHARS_MAX = 1024

/** A placeholder in an argument; doubled braces stand for single ones. */
export const PLACEHOLDER = /\{\{|\}\}|\{([A-Za-z_]\w*)\}/g

/** Programs that run an argument as code: no value may become part of it. */
const INTERPRETER =
  /^((ba|da|a|z|k|c|tc|fi|pw)?sh|busybox|python[\d.]*|node|perl|ruby|php|lua|osascript|powershell)$/
const CODE_FLAG = /^(-[a-z]*[cepr]|--(eval|print|command)|-command)$/i
const CODE_BEHIND_FLAG = /^(-[ce].|--(eval|print|command)=)/i

const text = z.string().refine((value) => !value.includes('\0'), 'must not hold NUL')
const absolutePath = text.refine(isAbsolute, 'must be an absolute path')

const pattern = z.string().transform((source, ctx) => {
  try {
    // The whole value has to match, also where the author forgot ^ and $.
    return new RegExp(`^(?:${source})$`, 'u')
  } catch (error) {
    ctx.addIssue(`is no regular expression: ${error instanceof Error ? error.message : String(error)}`)
    return z.NEVER
  }
})

/** A record whose keys say what is wrong with them. */
const named = <S extends z.ZodType>(key: RegExp, message: string, value: S) =>
  z.record(z.string(), value).superRefine((record, ctx) => {
    for (const name of Object.keys(record))
      if (!key.test(name)) ctx.addIssue({ code: 'custom', path: [name], message })
  })

const param = z.strictObject({
  pattern: pattern.optional(),
  max_length: z.int().min(1).max(65_536).default(VALUE_CHARS_MAX),
  allow_dash: z.boolean().default(false),
})

const command = z
  .strictObject({
    argv: z.tuple([absolutePath]).rest(text),
    params: named(/^[A-Za-z_]\w*$/, 'names are letters, digits and "_"', param).default({}),
    cwd: absolutePath.default('/'),
    env: named(/^[^=\0]+$/, 'is no name of a variable', text).default({}),
    uid: z.int().min(0).optional(),
    gid: z.int().min(0).optional(),
    timeout_seconds: z.number().min(0.1).max(86_400).default(600),
  })
  .superRefine(({ argv, params }, ctx) => {
    const issue = (path: (string | number)[], message: string) =>
      ctx.addIssue({ code: 'custom', path, message })
    const used = argv.map(placeholdersOf)
    const code = codeAt(argv)
    if (argv.length > ARGUMENTS_MAX) issue(['argv'], `has more than ${ARGUMENTS_MAX} arguments`)
    for (const [i, names] of used.entries()) {
      if (names.length > 0 && i === 0) issue(['argv', i], 'the program cannot be chosen by a value')
      if (names.length > 0 && i === code)
        issue(
          ['argv', i],
          'an interpreter would run the value as code; give it an argument of its own behind the code',
        )
      for (const name of names)
        if (!Object.hasOwn(params, name))
          issue(
            ['argv', i],
            `{${name}} is not in params; braces that are meant as such are written {{ and }}`,
          )
    }
    for (const name of Object.keys(params))
      if (!used.flat().includes(name)) issue(['params', name], 'stands in no argument')
  })

export type Command = z.output<typeof command>
export type CommandParam = z.output<typeof param>

/** The file of FLEET_Q_COMMANDS: commands by name. */
export const commandTable = named(
  /^[\w.-]{1,100}$/,
  'names are letters, digits, ".", "_" and "-", 100 at most',
  command,
)

export type CommandTable = Readonly<z.output<typeof commandTable>>

const placeholdersOf = (argument: string) =>
  [...argument.matchAll(PLACEHOLDER)].flatMap(([, name]) => (name === undefined ? [] : [name]))

/**
 * Which argument an interpreter, be it behind env or nice, takes for code: `sh -c <it>`, `--eval=<it>`. Behind
 * that, behind -- and behind the file of a script there are only arguments of the code.
 */
function codeAt(argv: readonly string[]): number | undefined {
  const first = argv.findIndex((argument) => INTERPRETER.test(basename(argument).toLowerCase()))
  if (first === -1) return undefined
  for (const [i, argument] of argv.entries()) {
    if (i <= first) continue
    if (CODE_FLAG.test(argument)) return i + 1
    if (CODE_BEHIND_FLAG.test(argument)) return i
    if (argument === '--' || (!argument.startsWith('-') && /[./]/.test(argument))) return undefined
  }
  return undefined
}
