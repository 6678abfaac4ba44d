import { openSync, readSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'

/**
 * Loaded into a pod: how long was its event loop blocked? By the main thread's own CPU time, as the kernel counts it, and
 * not by the clock: on a busy machine a loop that does nothing is late by hundreds of milliseconds. Between two rounds of
 * a short timer lies one turn of the loop, and what that turn took of the CPU is what it kept others waiting.
 */
const EVERY_MS = 5
const BLOCKED_MS = 100

if (isMainThread && process.platform === 'linux') {
  const file = openSync('/proc/thread-self/schedstat', 'r')
  const buffer = Buffer.alloc(128)
  /** 4 us a look. */
  const cpuMs = () =>
    Number.parseInt(buffer.toString('latin1', 0, readSync(file, buffer, 0, 128, 0)), 10) / 1e6
  let last = cpuMs()
  let longest = 0
  let over = 0
  setInterval(() => {
    const now = cpuMs()
    const took = now - last
    last = now
    longest = Math.max(longest, took)
    if (took > BLOCKED_MS) {
      over++
      process.stderr.write(`loop-watch: blocked for ${took.toFixed(0)} ms of its own\n`)
    }
  }, EVERY_MS).unref()
  process.on('SIGUSR2', () => {
    const { rss, heapUsed } = process.memoryUsage()
    process.stderr.write(
      `loop-watch: longest turn ${longest.toFixed(0)} ms, ${over} over ${BLOCKED_MS} ms; ${(rss / 2 ** 20).toFixed(0)} MB resident, ${(heapUsed / 2 ** 20).toFixed(0)} MB of heap\n`,
    )
    longest = 0
    over = 0
  })
}
