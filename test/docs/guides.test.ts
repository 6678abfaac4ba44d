import { pagesIn } from './markdown.ts'
import { testPages } from './page.ts'

/** Pages that need a cluster or a real network, and have tests of their own: test/chart and test/worker. */
const APART = ['docs/guides/kubernetes.md', 'docs/guides/built-in-steps.md']

testPages(
  ['docs/guides', 'docs/reference', 'docs/explain'].flatMap(pagesIn).filter((page) => !APART.includes(page)),
  { 'docs/guides/secure.md': { FLEET_Q_TOKENS: 'admin:0123456789abcdef,viewer:fedcba9876543210' } },
)
