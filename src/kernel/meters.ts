import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks'

/** What a pod counts of itself, for its metrics. Counting costs some ten nanoseconds; nothing is computed before it is asked. */
export interface Meters {
  /** Steps that this pod has claimed. */
  claimed: Counter
  /** Attempts that ended here, by type and how. */
  ended: Counter
  /** Late answers that the database refused. */
  refused: Counter
  attemptSeconds: Histogram
  exchangeSeconds: Histogram
  httpSeconds: Histogram
  /** Cycles of recovery that this pod has run, and what they put back or gave up. */
  recoverySeconds: Histogram
  recovered: Counter
  loopDelay(): LoopDelay
}

export interface Counter {
  add(labels: readonly string[], by?: number): void
  rows(): { labels: string[]; value: number }[]
}

export interface Histogram {
  readonly bounds: readonly number[]
  observe(label: string, seconds: number): void
  rows(): { label: string; series: Series }[]
}

export interface Series {
  /** Of each bound, those up to it and above the one before; the last are those above all. */
  buckets: number[]
  sum: number
  count: number
}

export interface LoopDelay {
  medianSeconds: number
  p99Seconds: number
  maxSeconds: number
}

const FINE = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const COARSE = [0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600]
/** Label values that one meter keeps apart: types are bounded by the registry, operations by the routes. */
const LABELS_MAX = 1000

export function createMeters(): Meters {
  const loop = createLoopMeter()
  return {
    claimed: createCounter(),
    ended: createCounter(),
    refused: createCounter(),
    attemptSeconds: createHistogram(COARSE),
    exchangeSeconds: createHistogram(FINE),
    httpSeconds: createHistogram(FINE),
    recoverySeconds: createHistogram(FINE),
    recovered: createCounter(),
    loopDelay: loop,
  }
}

/** No label has this character. */
const BETWEEN = '\u001F'

function createCounter(): Counter {
  const values = new Map<string, number>()
  return {
    add(labels, by = 1) {
      const key = labels.length === 1 ? (labels[0] ?? '') : labels.join(BETWEEN)
      const was = values.get(key)
      if (was !== undefined || values.size < LABELS_MAX) values.set(key, (was ?? 0) + by)
    },
    rows: () => [...values].map(([key, value]) => ({ labels: key.split(BETWEEN), value })),
  }
}

function createHistogram(bounds: readonly number[]): Histogram {
  const all = new Map<string, Series>()
  return {
    bounds,
    observe(label, seconds) {
      let series = all.get(label)
      if (!series) {
        if (all.size >= LABELS_MAX) return
        series = { buckets: Array.from({ length: bounds.length + 1 }, () => 0), sum: 0, count: 0 }
        all.set(label, series)
      }
      let place = 0
      while (place < bounds.length && seconds > (bounds[place] ?? 0)) place++
      series.buckets[place] = (series.buckets[place] ?? 0) + 1
      series.sum += seconds
      series.count++
    },
    rows: () => [...all].map(([label, series]) => ({ label, series })),
  }
}

const LOOK_MS = 100

/** Begins when somebody asks for the first time: a pod that nobody scrapes has no timer for it. */
function createLoopMeter(): () => LoopDelay {
  let histogram: IntervalHistogram | undefined
  return () => {
    if (!histogram) {
      histogram = monitorEventLoopDelay({ resolution: LOOK_MS })
      histogram.enable()
      return { medianSeconds: 0, p99Seconds: 0, maxSeconds: 0 }
    }
    // It measures from one look to the next.
    const lag = (ns: number) => Math.max(0, ns / 1e9 - LOOK_MS / 1000)
    const { max } = histogram
    const delay = {
      medianSeconds: lag(histogram.percentile(50)),
      p99Seconds: lag(histogram.percentile(99)),
      maxSeconds: lag(max),
    }
    histogram.reset()
    return histogram.count === 0 && max === 0 ? { medianSeconds: 0, p99Seconds: 0, maxSeconds: 0 } : delay
  }
}
