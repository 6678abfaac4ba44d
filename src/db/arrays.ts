import type postgres from 'postgres'

/**
 * Arrays of Postgres' own types, so that the driver need not ask for them. It does so at the start of each connection
 * and awaits the answer where nobody catches: one that is cut at that moment is an unhandled rejection, which ends the
 * process (seen with 3.4.9: 14 times in 10 s of resets). An array of another type, an enum say, is sent as
 * `${list}::text[]::my_enum[]`.
 */
const ARRAYS: [element: number, array: number][] = [
  [16, 1000], // bool
  [17, 1001], // bytea
  [19, 1003], // name
  [21, 1005], // int2
  [23, 1007], // int4
  [25, 1009], // text
  [1042, 1014], // char
  [1043, 1015], // varchar
  [20, 1016], // int8
  [700, 1021], // float4
  [701, 1022], // float8
  [26, 1028], // oid
  [869, 1041], // inet
  [1114, 1115], // timestamp
  [1082, 1182], // date
  [1083, 1183], // time
  [1184, 1185], // timestamptz
  [1186, 1187], // interval
  [1700, 1231], // numeric
  [2950, 2951], // uuid
  [114, 199], // json
  [3802, 3807], // jsonb
]

/** Types whose values need no quotes: bool and numbers. */
const BARE = new Set([16, 20, 21, 23, 26, 700, 701])

type Parse = (text: string) => unknown

/** What the driver learns from the server where it asks: how each array is read, written and called. */
export function teachArrays({ options }: postgres.Sql) {
  for (const [element, array] of ARRAYS) {
    const parse = options.parsers[element] ?? ((text: string) => text)
    const serialize = options.serializers[element]
    options.parsers[array] = (text: string) => readArray(text, parse)
    const write = BARE.has(element) ? writeBareArray : writeArray
    options.serializers[array] = (value: unknown) =>
      Array.isArray(value) ? write(value, serialize ?? String) : value
    typeArrays(options)[element] = array
  }
}

/** The driver's own list of them, which `sql.array` reads; its types leave it out. */
const typeArrays = (options: object): Record<number, number> =>
  (options as { shared: { typeArrayMap: Record<number, number> } }).shared.typeArrayMap

export function writeArray(values: readonly unknown[], serialize: (value: unknown) => unknown): string {
  const written = values.map((value) => {
    if (value === null || value === undefined) return 'null'
    if (Array.isArray(value)) return writeArray(value, serialize)
    const text = String(serialize(value))
    return TO_ESCAPE.test(text) ? `"${text.replace(ESCAPED, '\\$&')}"` : `"${text}"`
  })
  return `{${written.join(',')}}`
}

const TO_ESCAPE = /["\\]/
const ESCAPED = /["\\]/g

/** A batch of 500 reports is 2500 of these: quoting each, or adding text to text, cost a tenth of a pod's time. */
function writeBareArray(values: readonly unknown[], serialize: (value: unknown) => unknown): string {
  const arePlain = values.every((value) => typeof value === 'string' || typeof value === 'number')
  return arePlain ? `{${values.join(',')}}` : writeArray(values, serialize)
}

/**
 * An array of JSON texts, as `${jsonTexts(list)}::text[]`. What JSON escapes in a JSON text, quotes and backslashes, is
 * what an array escapes, and in the same way; other text may hold a line break, which is not.
 */
export const jsonTexts = (texts: readonly (string | null)[]): string =>
  `{${JSON.stringify(texts).slice(1, -1)}}`

/** `{1,NULL,"a \"b\"",{2,3}}`, and `[0:1]={1,2}` for one whose bounds are not the usual. */
export function readArray(text: string, parse: Parse): unknown[] {
  let at = text.indexOf('{')

  function list(): unknown[] {
    const values: unknown[] = []
    at++
    while (at < text.length && text[at] !== '}') {
      if (text[at] === '{') values.push(list())
      else if (text[at] === '"') values.push(parse(quoted()))
      else values.push(plain())
      if (text[at] === ',') at++
    }
    at++
    return values
  }

  function quoted(): string {
    let value = ''
    for (at++; at < text.length && text[at] !== '"'; at++) {
      if (text[at] === '\\') at++
      value += text[at]
    }
    at++
    return value
  }

  function plain(): unknown {
    const begun = at
    while (at < text.length && text[at] !== ',' && text[at] !== '}') at++
    const value = text.slice(begun, at)
    return value === 'NULL' ? null : parse(value)
  }

  return list()
}
