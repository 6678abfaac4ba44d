import { createHash } from 'node:crypto'

/**
 * Under this idempotency key an execution submits a step: by the place where it asks for that. The place goes in as a hash,
 * for names may be longer than keys.
 */
export function childKey(parentId: string, { name, number }: { name: string; number: number }): string {
  const place = createHash('sha256').update(`${number} ${name}`).digest('base64url')
  return `child of ${parentId}: ${place}`
}
