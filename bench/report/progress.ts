/** A bar where somebody watches, a line for each finished run where a log is written. */
export interface Progress {
  say(line: string): void
  begin(what: string): void
  done(result: string): void
  end(): void
}

const WIDTH = 24

export function createProgress(total: number): Progress {
  const { stderr } = process
  const begun = performance.now()
  let finished = 0
  let current = ''

  function seconds() {
    return `${((performance.now() - begun) / 1000).toFixed(0)} s`
  }
  function wipe() {
    if (stderr.isTTY) stderr.write('\r\u001B[K')
  }
  function draw() {
    if (!stderr.isTTY) return
    const full = total === 0 ? WIDTH : Math.round((finished / total) * WIDTH)
    const bar = `${'█'.repeat(full)}${'░'.repeat(WIDTH - full)}`
    stderr.write(`\r\u001B[K${bar} ${finished}/${total}  ${seconds()}  ${current}`)
  }

  return {
    say(line) {
      wipe()
      stderr.write(`${line}\n`)
      draw()
    },
    begin(what) {
      current = what
      draw()
    },
    done(result) {
      finished++
      if (stderr.isTTY) draw()
      else stderr.write(`[${finished}/${total} ${seconds()}] ${current}: ${result}\n`)
    },
    end: wipe,
  }
}
