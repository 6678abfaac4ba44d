/** What that part of them lies below; the values are in order. */
export const quantile = (ordered: Float64Array, part: number) =>
  ordered[Math.min(ordered.length - 1, Math.floor(ordered.length * part))] ?? 0
