import assert from 'node:assert/strict'

/**
 * Holds what a page shows against what really came. Ids, times and numbers differ from run to run: they are compared
 * by kind, and the ids of the page are remembered with the ids that came in their place.
 */

const IDS = [
  /step_\d{14}_[0-9a-z]{13,}/g,
  /pod-[A-Za-z0-9._-]*[0-9a-z]{10}\b/g,
  /idem_[0-9a-z]+_[0-9a-f]{8}/g,
]
const KINDS: [RegExp, string][] = [
  [/step_\d{14}_[0-9a-z]{13,}/g, '<step>'],
  [/pod-[A-Za-z0-9._-]*[0-9a-z]{10}\b/g, '<pod>'],
  [/idem_[0-9a-z]+_[0-9a-f]{8}/g, '<key>'],
  [/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}/g, '<uuid>'],
  [/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>'],
  [/(?:localhost|127\.0\.0\.1):\d+/g, '<host>'],
  [/\d+(?:\.\d+)?/g, '<n>'],
  [/(?:<n> min )?<n> (?:ms|s|h)\b/g, '<span>'],
]

/** In the place of a field or an element: here the page leaves something out. */
const ELIDED = '...'

export const kindOf = (text: string) =>
  KINDS.reduce((done, [pattern, kind]) => done.replaceAll(pattern, kind), text)

export class Ids {
  readonly #came = new Map<string, string>()

  /** Both texts name the same things in the same order. */
  learn(shown: string, came: string) {
    for (const pattern of IDS) {
      const real = came.match(pattern) ?? []
      for (const [i, id] of (shown.match(pattern) ?? []).entries()) {
        const other = real[i]
        if (other !== undefined && !this.#came.has(id)) this.#came.set(id, other)
      }
    }
  }

  /** The page's text with the ids that came. */
  putIn(text: string) {
    let done = text
    for (const [shown, came] of this.#came) done = done.replaceAll(shown, came)
    return done
  }
}

export function sameText(shown: string, came: string, ids: Ids) {
  const kinds = (text: string) =>
    kindOf(text.trim())
      .split('\n')
      .map((line) => line.trimEnd())
  assert.deepEqual(kinds(came), kinds(shown), `it printed:\n${came}`)
  ids.learn(shown, came)
}

export function sameShape(shown: unknown, came: unknown, ids: Ids, at = 'answer'): void {
  if (typeof shown === 'string') {
    assert.equal(typeof came, 'string', `${at} is ${JSON.stringify(came)}`)
    assert.equal(kindOf(String(came)), kindOf(shown), at)
    return ids.learn(shown, String(came))
  }
  if (typeof shown === 'number') return assert.equal(typeof came, 'number', at)
  if (Array.isArray(shown)) {
    assert.ok(Array.isArray(came), `${at} is no list`)
    const isOpen = shown.at(-1) === ELIDED
    const named = isOpen ? shown.slice(0, -1) : shown
    if (!isOpen) assert.equal(came.length, named.length, `${at} has ${came.length} elements`)
    for (const [i, element] of named.entries()) sameShape(element, came[i], ids, `${at}[${i}]`)
    return
  }
  if (typeof shown !== 'object' || shown === null) return assert.equal(came, shown, at)
  assert.ok(typeof came === 'object' && came !== null && !Array.isArray(came), `${at} is no object`)
  const fields = new Map(Object.entries(came).map(([name, value]) => [kindOf(name), value]))
  const names = Object.keys(shown).filter((name) => name !== ELIDED)
  for (const name of names) {
    assert.ok(fields.has(kindOf(name)), `${at} has no ${name}; it has ${[...fields.keys()].join(', ')}`)
    sameShape(Reflect.get(shown, name), fields.get(kindOf(name)), ids, `${at}.${name}`)
  }
  if (!(ELIDED in shown)) assert.deepEqual([...fields.keys()].toSorted(), names.map(kindOf).toSorted(), at)
}
