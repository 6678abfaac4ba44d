import type { End } from '../keep-pod.ts'

/** Asked to, killed, ended by its own heart, declared dead, out of memory: everything else is a fault of ours. */
export function strangeEnd({ podId, code, signal, isFenced, lastWords }: End): string[] {
  if (signal === 'SIGKILL' || code === 0) return []
  if (code === 1 && isFenced) return []
  if (signal === 'SIGABRT' && lastWords.includes('heap out of memory')) return []
  return [`${podId} ended with ${code ?? signal}: ${lastWords.slice(-600)}`]
}
