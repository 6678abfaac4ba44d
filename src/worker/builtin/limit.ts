/** A signal that is aborted by another one, or with `reason` after a time, whichever comes first. */
export interface TimeLimit {
  readonly signal: AbortSignal
  clear(): void
}

/** Not AbortSignal.any over AbortSignal.timeout: Node 20 may collect that pair before it fires. */
export function timeLimit(outer: AbortSignal, ms: number, reason: () => Error): TimeLimit {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(reason()), ms)
  const forward = () => controller.abort(outer.reason)
  if (outer.aborted) forward()
  else outer.addEventListener('abort', forward, { once: true })
  return {
    signal: controller.signal,
    clear() {
      clearTimeout(timer)
      outer.removeEventListener('abort', forward)
    },
  }
}
