import type { Report } from '../step/settle.sql.ts'

/** What one exchange carries: reports, and claims of which nothing is open after them. */
export interface Mail {
  reports: Report[]
  ended: string[]
}

/** Reports that wait to be handed in, and how many steps of each claim are still open. */
export interface Outbox {
  readonly isEmpty: boolean
  /** Something waits for the next exchange. */
  readonly hasMail: boolean
  /** A step was taken under this claim. */
  opened(claimId: string): void
  add(report: Report): void
  /** It was handed in with its own transaction. */
  closed(claimId: string): void
  take(most: number): Mail
  delivered(mail: Mail): void
  /** It goes again: the answer was lost, or another outcome stands in its way. */
  returned(mail: Mail): void
  openClaims(): string[]
}

export function createOutbox(): Outbox {
  let waiting: Report[] = []
  let underWay = 0
  /** Steps of each claim that are not known to be handed in. */
  const open = new Map<string, number>()
  /** Claims that can end: nothing of them is open. */
  const emptied = new Set<string>()

  function close(claimId: string, steps: number) {
    const left = (open.get(claimId) ?? steps) - steps
    open.set(claimId, left)
    if (left === 0) emptied.add(claimId)
  }

  return {
    get isEmpty() {
      return waiting.length + underWay + emptied.size === 0
    },
    get hasMail() {
      return waiting.length + emptied.size > 0
    },
    opened: (claimId) => open.set(claimId, (open.get(claimId) ?? 0) + 1),
    add: (report) => waiting.push(report),
    closed: (claimId) => close(claimId, 1),
    take(most) {
      const reports = waiting.length <= most ? waiting : waiting.slice(0, most)
      waiting = waiting.length <= most ? [] : waiting.slice(most)
      underWay += reports.length
      const ended = [...emptied]
      emptied.clear()
      // A claim ends with these reports only if no other exchange under way has some of it.
      for (const [claimId, steps] of countByClaim(reports))
        if (open.get(claimId) === steps) ended.push(claimId)
      return { reports, ended }
    },
    delivered({ reports, ended }) {
      underWay -= reports.length
      for (const [claimId, steps] of countByClaim(reports)) close(claimId, steps)
      for (const claimId of ended) {
        open.delete(claimId)
        emptied.delete(claimId)
      }
    },
    returned({ reports, ended }) {
      underWay -= reports.length
      for (const report of reports) report.mayStand = true
      waiting = [...reports, ...waiting]
      for (const claimId of ended) if (open.get(claimId) === 0) emptied.add(claimId)
    },
    openClaims: () => [...open.keys()],
  }
}

function countByClaim(reports: Report[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { claimId } of reports) counts.set(claimId, (counts.get(claimId) ?? 0) + 1)
  return counts
}
