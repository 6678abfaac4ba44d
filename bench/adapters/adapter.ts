/** What the bench asks of Fleet-Q, of each peer and of each limit: the same of all. */

/**
 * throughput: its best documented settings for many small jobs. eight: the same, but at most 8 jobs held at a time.
 * ahead: at most 8 run at a time, and as many more as it likes are held ahead.
 * hundred: at most 100 held at a time, for executions, which wait for one checkpoint after the other.
 * latency: its best documented settings for a job now and then. default: nothing set. results: throughput, but with
 * every result kept, where that is not the same.
 */
export type Profile = 'throughput' | 'results' | 'ahead' | 'eight' | 'hundred' | 'latency' | 'default'

export interface Job {
  n: number
  /** Fills a job up to the size that a row asks for. */
  pad?: string
}

/** Runs the body, unless this execution remembers under that name what it returned. */
export type Remember = (name: string, body: () => Promise<Remembered>) => Promise<Remembered>

/** What the bodies of an execution return: which of which they are. */
export interface Remembered {
  n: number
  i: number
}

export interface WorkOptions {
  url: string
  profile: Profile
  /**
   * Called by the handler of each job, with its number and, from those that have them, with its checkpoints; the job ends
   * when the answer has, at once without one.
   */
  onJob(n: number, remember?: Remember): Promise<void> | undefined
  /** For rows that ask for more than a profile says: fast heartbeats, say. */
  settings?: Record<string, string>
  /** Serves and handles nothing. */
  handlesNothing?: boolean
}

export interface Worker {
  /** Where it serves HTTP, if it does. */
  address?: string | undefined
  stop(): Promise<void>
}

export interface Producer {
  /** Answers when the job is committed. */
  submit(job: Job): Promise<unknown>
  /** All of them in the quickest way that is documented. */
  submitMany(jobs: Job[]): Promise<unknown>
  close(): Promise<void>
}

export interface Tally {
  /** Jobs with their final state in the database. */
  ended: number
  /** Jobs that wait or run. */
  left: number
  /** Jobs that ended otherwise than they should have: failed, twice, or with another's result. */
  wrong: number
}

export interface Kept {
  /** Executions that have exactly so many, each with the result of its own body. */
  whole: number
  /** Executions that have more, fewer, or others'. */
  others: number
}

/** Looks at a contender's store, over a connection that is open before the clock starts. */
export interface Inspector {
  /** Every handler has run: has every job its final state? Cheap, for it is asked again and again. */
  settled(jobs: number): Promise<boolean>
  /** The same in full, when the clock has stopped. */
  tally(): Promise<Tally>
  /** What lies there of executions that should have so many checkpoints each. */
  kept?(checkpoints: number): Promise<Kept>
  close(): Promise<void>
}

export interface Adapter {
  name: string
  store: 'postgres' | 'redis' | 'none'
  /** What it does less than the others, for the table; empty where it keeps status and result. */
  less: string
  /** The settings of each profile in words, and where they are documented. */
  profiles: Partial<Record<Profile, string>>
  /** How many jobs of a drain it handles within a few seconds. */
  drainJobs: number
  /** Jobs are deleted when they are done: only the handlers know how many there were. */
  forgets?: boolean
  /** Why it cannot be measured on this machine; undefined where it can. */
  unavailable?(): Promise<string | undefined>
  /** Loads its library, so that no clock sees it. */
  load?(): Promise<unknown>
  /** Settings of a profile lie in the database: each profile has templates of its own. */
  storesProfile?: boolean
  /** Schema and queue, in an empty database. */
  prepare(url: string, profile: Profile): Promise<void>
  /** Where the store is not copied from a template: empties it, puts so many jobs there, says where it is. */
  renew?(jobs: number): Promise<string>
  /** Puts so many jobs there before the clock starts. */
  fill(url: string, jobs: number, pad?: string): Promise<void>
  work(options: WorkOptions): Promise<Worker>
  produce(url: string, profile: Profile): Promise<Producer>
  inspect(url: string): Inspector
}

const BATCH = 1000

/** Jobs 0 to `jobs` in batches of 1000, through the producer's own call. */
export async function fillByBatches(producer: Producer, jobs: number, pad?: string): Promise<void> {
  const rest = pad === undefined ? {} : { pad }
  for (let first = 0; first < jobs; first += BATCH) {
    const size = Math.min(BATCH, jobs - first)
    await producer.submitMany(Array.from({ length: size }, (_, i) => ({ n: first + i, ...rest })))
  }
  await producer.close()
}
