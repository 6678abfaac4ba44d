/** ' Did you mean X?' for the nearest of the words, or nothing when none is near. */
export function didYouMean(word: string, words: readonly string[]): string {
  const nearest = words
    .map((candidate) => ({ candidate, steps: editSteps(word.toLowerCase(), candidate.toLowerCase()) }))
    .toSorted((a, b) => a.steps - b.steps)[0]
  const near = nearest !== undefined && nearest.steps <= Math.max(2, Math.ceil(word.length / 4))
  return near ? ` Did you mean ${nearest.candidate}?` : ''
}

/** Levenshtein's distance. */
function editSteps(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(
        (row[j] ?? 0) + 1,
        (next[j - 1] ?? 0) + 1,
        (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
      )
    row = next
  }
  return row[b.length] ?? 0
}
