import { defaults, drain, drain8 } from './drain.ts'
import type { Row } from './row.ts'

/** In the order of the table. */
export const rows: Row[] = [drain, drain8, defaults]
