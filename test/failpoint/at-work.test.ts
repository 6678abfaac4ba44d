import { atWork } from './at-work.ts'
import { matrix } from './matrix.ts'

matrix(atWork)
