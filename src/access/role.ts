/** Each may do what those before it may. */
export const ROLES = ['viewer', 'producer', 'operator', 'admin'] as const
export type TokenRole = (typeof ROLES)[number]
export type Role = 'public' | TokenRole

export const mayUse = (held: Role, needed: Role) => rank(held) >= rank(needed)
const rank = (role: Role) => (role === 'public' ? -1 : ROLES.indexOf(role))
