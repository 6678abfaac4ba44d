/**
 * The smallest part of `all` that still fails, by leaving out halves, quarters and so on (ddmin): of what is left, no
 * single one can be left out. `all` is taken to fail.
 */
export function smallest<T>(all: readonly T[], fails: (some: readonly T[]) => boolean): readonly T[] {
  if (all.length === 0 || fails([])) return []
  let some = all
  for (let parts = 2; some.length > 1;) {
    const size = Math.ceil(some.length / parts)
    const without = Array.from({ length: Math.ceil(some.length / size) }, (_, part) =>
      some.filter((_each, at) => Math.floor(at / size) !== part),
    )
    // The empty rest was tried at the start.
    const smaller = without.find((rest) => rest.length > 0 && fails(rest))
    if (smaller) {
      some = smaller
      parts = Math.max(2, parts - 1)
    } else if (size === 1) break
    else parts = Math.min(some.length, parts * 2)
  }
  return some
}
