/**
 * Milliseconds on the monotonic clock of the machine, the same in all processes: `performance.now()` counts from the
 * start of each. It is cheap (50 ns), where hrtime.bigint() makes an object for each call.
 */
export const machineNow = () => performance.now() + OFFSET

const OFFSET = Number(process.hrtime.bigint()) / 1e6 - performance.now()
