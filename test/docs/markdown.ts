import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A fenced block of a page, and what its info string says: ```ts steps, ```json answer, ```sh not-run: why. */
export interface Block {
  page: string
  line: number
  language: string
  words: string[]
  /** Why it must not be run. */
  notRun: string | undefined
  text: string
}

/** Written by other hands for other tests, or nothing of ours. */
const LEFT_OUT = /^(node_modules|\.[^/]+|dist)$/

/** Every Markdown file of the repository below a folder. */
export function pagesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !LEFT_OUT.test(name))
    .flatMap((entry) => {
      const path = join(folder, entry.name)
      return entry.isDirectory() ? pagesIn(path) : path.endsWith('.md') ? [path] : []
    })
    .toSorted()
}

export function blocksOf(page: string, text = readFileSync(page, 'utf8')): Block[] {
  const blocks: Block[] = []
  const lines = text.split('\n')
  for (let i = 0; i < lines.length; i++) {
    const [, indent = '', fence, info = ''] = /^( *)(```+)(.*)$/.exec(lines[i] ?? '') ?? []
    if (fence === undefined) continue
    const line = i + 1
    const body: string[] = []
    for (i++; i < lines.length && !(lines[i] ?? '').startsWith(indent + fence); i++)
      body.push((lines[i] ?? '').slice(indent.length))
    const [, said = '', reason] = /^(.*?)(?:\s*not-run:\s*(.+))?$/.exec(info.trim()) ?? []
    const [language = '', ...words] = said.split(/\s+/)
    blocks.push({ page, line, language, words, notRun: reason, text: `${body.join('\n')}\n` })
  }
  return blocks
}

/** Everything of a page but its code. */
export function proseOf(text: string): string {
  return text.replaceAll(/^( *)(```+)[\s\S]*?^\1\2/gm, '').replaceAll(/`[^`\n]*`/g, '')
}
