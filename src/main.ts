import { fail } from './fleet/fail.ts'
import { runPod } from './fleet/run-pod.ts'

runPod(process.env).catch(fail)
