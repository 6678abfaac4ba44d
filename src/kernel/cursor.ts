import { FleetError } from '../errors.ts'

/** A cursor is the key where the next page goes on; opaque, so that nobody counts on its shape. */
export const encodeCursor = (key: string) => Buffer.from(`k${key}`).toString('base64url')

export function decodeCursor(cursor: string | undefined): string | null {
  if (cursor === undefined) return null
  const match = /^k(\d{1,18})$/.exec(Buffer.from(cursor, 'base64url').toString())
  if (!match?.[1])
    throw new FleetError('invalid_input', 'The cursor is not one that this API gave out.', {
      issues: [{ at: 'cursor', message: 'take it from next_cursor of the page before, unchanged' }],
    })
  return match[1]
}

/** Of a list that is asked for by the key of its last row: null where it was the last page. */
export function nextCursor(rows: readonly { id: string }[], limit: number): string | null {
  const last = rows.at(-1)
  return rows.length === limit && last ? encodeCursor(last.id) : null
}
