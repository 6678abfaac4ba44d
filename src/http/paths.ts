/** What is served where: by a path as it was sent, undecoded. */
export interface Paths<T> {
  find(method: string, path: string): { value: T; params: Record<string, string> } | undefined
  /** For Allow. */
  methodsAt(path: string): string[]
}

interface Place<T> {
  method: string
  /** With parameters in braces: '/status/{step_id}'. */
  path: string
  value: T
}

export function pathsOf<T>(places: readonly Place<T>[]): Paths<T> {
  const plain = new Map<string, T>()
  const patterns = places.map((place) => ({ ...place, pattern: patternOf(place.path) }))
  for (const { method, path, value } of places) if (!path.includes('{')) plain.set(`${method} ${path}`, value)

  return {
    find(method, path) {
      const value = plain.get(`${method} ${path}`)
      if (value !== undefined) return { value, params: {} }
      for (const place of patterns) {
        const match = place.method === method ? place.pattern.exec(path) : null
        if (match !== null) return { value: place.value, params: decoded(match.groups ?? {}) }
      }
      return undefined
    },
    methodsAt: (path) => [
      ...new Set(patterns.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method)),
    ],
  }
}

const patternOf = (path: string) =>
  new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`)

function decoded(params: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [name, decode(value)]))
}

/** What is not encoded well stands for itself. */
function decode(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}
