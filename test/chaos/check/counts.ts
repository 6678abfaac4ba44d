/** Counts above this are estimates, and say so. */
const EXACT_UP_TO = 100_000

/**
 * The page of /metrics against what SQL counted, by the name of the line. Of steps it tells what waits, what is claimed
 * and what has ended; nothing waits after a run, so what SQL did not count is to be told as 0.
 */
export function compareCounts(page: string, counted: ReadonlyMap<string, number>): string[] {
  const told = new Map(
    page
      .split('\n')
      .filter((line) => line.startsWith('fleet_q_steps_'))
      .map((line): [string, number] => {
        const space = line.lastIndexOf(' ')
        return [line.slice(0, space), Number(line.slice(space))]
      }),
  )
  return [...new Set([...told.keys(), ...counted.keys()])].flatMap((name) => {
    const value = told.get(name)
    const truth = counted.get(name) ?? 0
    if (value === undefined) return [`${name} is not told, and SQL counts ${truth}`]
    const wrong = truth > EXACT_UP_TO ? Math.abs(value - truth) > truth / 5 : value !== truth
    return wrong ? [`${name} is ${value}, and SQL counts ${truth}`] : []
  })
}
