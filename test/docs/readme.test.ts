import { pagesIn } from './markdown.ts'
import { testPages } from './page.ts'

/** What a newcomer pastes works: README.md and docs/learn, from top to bottom. */
testPages(['README.md', ...pagesIn('docs/learn')])
