/** JSON as it is written, so that it can also be written as nobody should. */
export type Tree = { raw: string } | { items: Tree[] } | { entries: Entry[] }
/** The key as it stands in the text, quotes and all. */
type Entry = [key: string, value: Tree]

export type Change =
  | { kind: 'replace'; at: number; raw: string }
  | { kind: 'remove'; at: number; pick: number }
  | { kind: 'add'; at: number; key: string; raw: string }
  | { kind: 'repeat'; at: number; pick: number; times: number }
  | { kind: 'wrap'; at: number; levels: number }

export const treeOf = (value: unknown): Tree => {
  if (Array.isArray(value)) return { items: value.map(treeOf) }
  if (typeof value === 'object' && value !== null)
    return { entries: Object.entries(value).map(([key, item]) => [JSON.stringify(key), treeOf(item)]) }
  return { raw: JSON.stringify(value) }
}

export function write(tree: Tree): string {
  if ('raw' in tree) return tree.raw
  if ('items' in tree) return `[${tree.items.map(write).join(',')}]`
  return `{${tree.entries.map(([key, value]) => `${key}:${write(value)}`).join(',')}}`
}

const childrenOf = (tree: Tree): Tree[] =>
  'items' in tree ? tree.items : 'entries' in tree ? tree.entries.map(([, value]) => value) : []

const sizeOf = (tree: Tree): number => childrenOf(tree).reduce((sum, child) => sum + sizeOf(child), 1)

/** One change somewhere in it; what cannot be done there is not done. */
export function change(tree: Tree, wish: Change): Tree {
  return changeAt(tree, wish.at % sizeOf(tree), wish)
}

function changeAt(tree: Tree, at: number, wish: Change): Tree {
  if (at === 0) return changed(tree, wish)
  let left = at - 1
  const visit = (child: Tree): Tree => {
    const size = sizeOf(child)
    const mine = left >= 0 && left < size
    const result = mine ? changeAt(child, left, wish) : child
    left -= size
    return result
  }
  if ('items' in tree) return { items: tree.items.map(visit) }
  if ('entries' in tree) return { entries: tree.entries.map(([key, value]) => [key, visit(value)]) }
  return tree
}

function changed(tree: Tree, wish: Change): Tree {
  if (wish.kind === 'replace') return { raw: wish.raw }
  if (wish.kind === 'wrap') return wrapped(tree, wish.levels)
  if ('raw' in tree) return 'raw' in wish ? { raw: wish.raw } : tree
  if (wish.kind === 'add')
    return 'items' in tree
      ? { items: [...tree.items, { raw: wish.raw }] }
      : { entries: [...tree.entries, [wish.key, { raw: wish.raw }]] }
  const pick = wish.pick % Math.max(childrenOf(tree).length, 1)
  const picked = childrenOf(tree)[pick]
  const times = wish.kind === 'remove' || !picked ? 0 : Math.min(wish.times, timesThatFit(picked))
  const again = <T>(item: T, i: number): T[] => (i === pick ? Array<T>(times).fill(item) : [item])
  return 'items' in tree ? { items: tree.items.flatMap(again) } : { entries: tree.entries.flatMap(again) }
}

/** More than a body may have, by far. A megabyte a thousand times over took the fuzzer itself 6 s, in which it read no answer. */
const REPEATED_CHARACTERS_MAX = 8_000_000

const timesThatFit = (tree: Tree) =>
  Math.max(2, Math.floor(REPEATED_CHARACTERS_MAX / Math.max(1, write(tree).length)))

const wrapped = (tree: Tree, levels: number): Tree => ({
  raw: `${'{"a":['.repeat(levels)}${write(tree)}${']}'.repeat(levels)}`,
})
