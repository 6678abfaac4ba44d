import { createHash, randomBytes } from 'node:crypto'

/**
 * fq_<43 letters of chance><6 of checksum>. The front is for scanners that look for secrets in repositories; the
 * checksum tells them, and us, what was mistyped or made up without asking anybody.
 */
const PREFIX = 'fq_'
const CHANCE_BYTES = 32
const CHANCE_LETTERS = 43
const CHECK_LETTERS = 6
const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

export function newToken(): string {
  const chance = PREFIX + base62(randomBytes(CHANCE_BYTES), CHANCE_LETTERS)
  return chance + checkOf(chance)
}

/** Whether it can be a token of ours at all. */
export const isToken = (text: string): boolean =>
  /^fq_[0-9A-Za-z]{49}$/.test(text) && checkOf(text.slice(0, -CHECK_LETTERS)) === text.slice(-CHECK_LETTERS)

export const digestOf = (token: string): Buffer => createHash('sha256').update(token).digest()

/** 32 of 2^32 fit six letters: 62^6 is 5.7e10. */
const checkOf = (chance: string) => base62(digestOf(chance).subarray(0, 4), CHECK_LETTERS)

function base62(bytes: Uint8Array, letters: number): string {
  let rest = BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
  let text = ''
  for (let i = 0; i < letters; i++) {
    text = `${LETTERS[Number(rest % 62n)]}${text}`
    rest /= 62n
  }
  return text
}
