/** Ids and cursors that answers have told, so that requests reach what is there. */
export interface Known {
  hear(text: string): void
  give(name: string, pick: number): string
}

const KEPT = 50

export function createKnown(): Known {
  const byName = new Map<string, string[]>()
  return {
    hear(text) {
      for (const [, name = '', value = ''] of text.matchAll(/"(\w+_id|next_cursor)":"([^"\\]{1,200})"/g)) {
        const list = byName.get(name) ?? []
        byName.set(name, list)
        if (list.includes(value)) continue
        list.push(value)
        if (list.length > KEPT) list.shift()
      }
    },
    give(name, pick) {
      const list = byName.get(name === 'cursor' ? 'next_cursor' : name) ?? []
      return list[pick % Math.max(list.length, 1)] ?? 'none'
    },
  }
}
