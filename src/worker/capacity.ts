/** How many handlers a pod runs at once: a share of what it could, at least one. */
export const capacityOf = (maxParallelism: number, percent: number) =>
  Math.max(1, Math.floor((maxParallelism * percent) / 100))
