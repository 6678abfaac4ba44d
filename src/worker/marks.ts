/**
 * Low-water marks: where a claim may start in each lane. A mark stays about 100 ms behind what was taken, so that a
 * submit which drew its position earlier and commits a little later is not passed; what commits later still is found
 * by a sweep from the floor of the lane. What is put to the front of a lane, at a negative position, has marks of its
 * own.
 */
export interface Marks {
  took(steps: { lane_id: number; position: string }[], nowMs: number): void
  any(): boolean
  all(): { markLanes: number[]; markPositions: string[]; frontLanes: number[]; frontPositions: string[] }
  /** Something was put to a front. */
  forgetFronts(): void
  forget(): void
}

const BEHIND_MS = 100
const LANES_MAX = 10_000
/** A mark that spares fewer dead entries than this is not worth its place in each exchange. */
const WORTH_MARKING = 200

export function createMarks(): Marks {
  const rest = createStretch()
  const front = createStretch()
  return {
    took(steps, nowMs) {
      // In the order of their positions: the last of each lane is the furthest.
      const inRest = new Map<number, Taken>()
      const inFront = new Map<number, Taken>()
      for (const { lane_id, position } of steps) {
        const taken = position.startsWith('-') ? inFront : inRest
        const lane = taken.get(lane_id)
        if (!lane) taken.set(lane_id, { last: position, count: 1 })
        else {
          lane.last = position
          lane.count++
        }
      }
      rest.took(inRest, nowMs)
      front.took(inFront, nowMs)
    },
    any: () => rest.all().lanes.length > 0,
    all() {
      const { lanes: markLanes, positions: markPositions } = rest.all()
      const { lanes: frontLanes, positions: frontPositions } = front.all()
      return { markLanes, markPositions, frontLanes, frontPositions }
    },
    forgetFronts: () => front.forget(),
    forget() {
      rest.forget()
      front.forget()
    },
  }
}

interface Taken {
  last: string
  count: number
}

interface Lane {
  mark: bigint | undefined
  next: bigint
  nextAt: number
  taken: number
}

function createStretch() {
  const byLane = new Map<number, Lane>()

  function tookUpTo(laneId: number, { last, count }: Taken, nowMs: number) {
    const position = BigInt(last)
    const lane = byLane.get(laneId)
    if (!lane) {
      if (byLane.size >= LANES_MAX) byLane.clear()
      byLane.set(laneId, { mark: undefined, next: position, nextAt: nowMs, taken: count })
      return
    }
    lane.taken += count
    if (nowMs - lane.nextAt >= BEHIND_MS) {
      if (lane.mark === undefined || lane.next > lane.mark) lane.mark = lane.next
      lane.next = position
      lane.nextAt = nowMs
    }
  }

  return {
    took(byLaneNow: Map<number, Taken>, nowMs: number) {
      for (const [laneId, taken] of byLaneNow) tookUpTo(laneId, taken, nowMs)
    },
    all() {
      const lanes: number[] = []
      const positions: string[] = []
      for (const [laneId, { mark, taken }] of byLane) {
        if (mark === undefined || taken < WORTH_MARKING) continue
        lanes.push(laneId)
        positions.push(String(mark))
      }
      return { lanes, positions }
    },
    forget: () => byLane.clear(),
  }
}
