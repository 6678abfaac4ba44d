import { asked } from './asked.ts'
import { matrix } from './matrix.ts'

matrix(asked)
