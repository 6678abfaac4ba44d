import { leading } from './leading.ts'
import { matrix } from './matrix.ts'

matrix(leading)
