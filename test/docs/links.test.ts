import assert from 'node:assert/strict'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { test } from 'node:test'
import { pagesIn, proseOf } from './markdown.ts'

/** Every relative link in every Markdown file leads somewhere, to the right heading too. */

const pages = pagesIn('.')

/** As the place where people read them makes anchors of headings. */
const anchorsOf = (page: string) =>
  new Set(
    [
      ...readFileSync(page, 'utf8')
        .replaceAll(/^```[\s\S]*?^```/gm, '')
        .matchAll(/^#+ (.+)$/gm),
    ].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replaceAll(/\s/g, '-'),
    ),
  )

function faultOf(page: string, target: string): string | undefined {
  const [path = '', anchor] = target.split('#')
  const file = path === '' ? page : normalize(join(dirname(page), decodeURI(path)))
  if (!existsSync(file)) return `${page} links to ${target}: there is no ${file}`
  if (anchor === undefined) return undefined
  if (statSync(file).isDirectory() || !anchorsOf(file).has(anchor))
    return `${page} links to ${target}: no such heading`
  return undefined
}

const linksOf = (page: string) =>
  [...proseOf(readFileSync(page, 'utf8')).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z]+:/.test(target))

test('every relative link of every page leads to something that exists', () => {
  const faults = pages.flatMap((page) => linksOf(page).map((target) => faultOf(page, target)))
  assert.deepEqual(
    faults.filter((fault) => fault !== undefined),
    [],
  )
})

test('the check can fail: a missing file and a missing heading are found', () => {
  assert.match(faultOf('README.md', 'docs/nowhere.md') ?? '', /there is no/)
  assert.match(faultOf('README.md', '#nowhere') ?? '', /no such heading/)
  assert.equal(faultOf('README.md', '#what-is-promised'), undefined)
})

test('every page of the documentation is reached from the README', () => {
  const seen = new Set(['README.md'])
  for (const page of seen)
    for (const target of linksOf(page)) {
      const file = normalize(join(dirname(page), target.split('#')[0] ?? ''))
      if (file.endsWith('.md') && existsSync(file)) seen.add(file)
    }
  assert.deepEqual(
    pages.filter((page) => page.startsWith('docs/') && !seen.has(page)),
    [],
  )
})
