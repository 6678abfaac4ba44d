import { mayUse, ROLES } from '../../src/access/role.ts'
import type { Spec } from '../../src/http/endpoint.ts'
import { referencePages } from '../../src/http/reference.ts'
import { specs } from '../../src/http/specs.ts'

export const ACCESS_PAGE = 'docs/reference/access.md'

/** Each place of the door and each role: what the test of who may come in holds the product to. */
export function accessPage(): string {
  const places = [
    ...Object.values<Spec>(specs),
    ...referencePages(Object.values<Spec>(specs), '').map((page) => ({ ...page, method: 'GET' })),
    { method: 'GET', path: '/metrics', role: 'viewer' as const },
  ]
  const rows = places
    .toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.method < b.method ? -1 : 1))
    .map(({ method, path, role }) => {
      const cells = [role === 'public', ...ROLES.map((held) => mayUse(held, role))]
      return `| \`${method} ${path}\` | ${cells.map((may) => (may ? 'yes' : '')).join(' | ')} |`
    })
  return `# Access

Written by \`npm run generate\` from \`src/http/specs.ts\`; do not edit. Who may ask for what, where there are tokens. What is
not here is nobody's: another path, another spelling of one of these, another method.

| | no token | ${ROLES.join(' | ')} |
|---|---|${ROLES.map(() => '---|').join('')}
${rows.join('\n')}

Without a token the answer is 401, with a role too low 403; what does not exist is 404, and a method that a path does not
have 405, for those who have a token. Tokens and roles: [secure](../guides/secure.md).
`
}
