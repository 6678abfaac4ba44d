/**
 * Low-water marks: where a claim may start in each lane. A mark stays about 100 ms behind what was taken, so that a
 * submit which drew its position earlier and commits a little later is not passed; what commits later still is found
 * by a sweep from the beginning.
 */
export interface Marks {
  /** A step of this lane at this position was taken now. */
  took(laneId: number, position: bigint, nowMs: number): void
  lanes(): number[]
  positions(): string[]
  forget(): void
}

const BEHIND_MS = 100
const LANES_MAX = 10_000

export function createMarks(): Marks {
  const byLane = new Map<number, { mark: bigint | undefined; next: bigint; nextAt: number }>()
  const settled = () => [...byLane].filter(([, lane]) => lane.mark !== undefined)
  return {
    took(laneId, position, nowMs) {
      // What was put to the front of its lane lies before every mark and says nothing about the rest.
      if (position < 0n) return
      const lane = byLane.get(laneId)
      if (!lane) {
        if (byLane.size >= LANES_MAX) byLane.clear()
        byLane.set(laneId, { mark: undefined, next: position, nextAt: nowMs })
      } else if (nowMs - lane.nextAt >= BEHIND_MS) {
        if (lane.mark === undefined || lane.next > lane.mark) lane.mark = lane.next
        lane.next = position
        lane.nextAt = nowMs
      }
    },
    lanes: () => settled().map(([laneId]) => laneId),
    positions: () => settled().map(([, lane]) => String(lane.mark)),
    forget: () => byLane.clear(),
  }
}
