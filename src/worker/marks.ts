/**
 * Low-water marks: where a claim may start in each lane. A mark stays about 100 ms behind what was taken, so that a
 * submit which drew its position earlier and commits a little later is not passed; what commits later still is found
 * by a sweep from the beginning.
 */
export interface Marks {
  took(steps: { lane_id: number; position: string }[], nowMs: number): void
  any(): boolean
  all(): { markLanes: number[]; markPositions: string[] }
  forget(): void
}

const BEHIND_MS = 100
const LANES_MAX = 10_000

export function createMarks(): Marks {
  const byLane = new Map<number, { mark: bigint | undefined; next: bigint; nextAt: number }>()
  /** Lanes that have a mark. */
  let marked = 0

  function tookUpTo(laneId: number, position: bigint, nowMs: number) {
    const lane = byLane.get(laneId)
    if (!lane) {
      if (byLane.size >= LANES_MAX) forget()
      byLane.set(laneId, { mark: undefined, next: position, nextAt: nowMs })
    } else if (nowMs - lane.nextAt >= BEHIND_MS) {
      if (lane.mark === undefined) marked++
      if (lane.mark === undefined || lane.next > lane.mark) lane.mark = lane.next
      lane.next = position
      lane.nextAt = nowMs
    }
  }

  function forget() {
    byLane.clear()
    marked = 0
  }

  return {
    took(steps, nowMs) {
      // In the order of their positions: the last of each lane is the furthest.
      const last = new Map<number, string>()
      // What was put to the front of its lane lies before every mark and says nothing about the rest.
      for (const { lane_id, position } of steps) if (!position.startsWith('-')) last.set(lane_id, position)
      for (const [laneId, position] of last) tookUpTo(laneId, BigInt(position), nowMs)
    },
    any: () => marked > 0,
    all() {
      const markLanes: number[] = []
      const markPositions: string[] = []
      for (const [laneId, { mark }] of byLane) {
        if (mark === undefined) continue
        markLanes.push(laneId)
        markPositions.push(String(mark))
      }
      return { markLanes, markPositions }
    },
    forget,
  }
}
