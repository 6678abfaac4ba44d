import { matrix } from './matrix.ts'
import { remembering } from './remembering.ts'

matrix(remembering)
