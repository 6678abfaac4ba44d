import { Worker, type WorkerOptions } from 'node:worker_threads'

/**
 * Starts a worker thread from one of our modules, compiled or not. Node 20 does not carry tsx's loader into
 * a worker whose entry is a .ts file (ERR_UNKNOWN_FILE_EXTENSION, seen on 20.20.2), so such a thread boots
 * from a line of JavaScript that registers the loader first. Nor does it preload for such a line what --import names:
 * that line does it.
 */
export function startThread(url: URL, options: WorkerOptions): Worker {
  if (!url.pathname.endsWith('.ts')) return new Worker(url, options)
  const modules = JSON.stringify([...preloads(), url.href])
  const boot = `import('tsx/esm/api').then(async ({ register }) => { register(); for (const each of ${modules}) await import(each) })`
  return new Worker(boot, { ...options, eval: true })
}

const preloads = () => process.execArgv.filter((arg, i, all) => all[i - 1] === '--import' && arg !== 'tsx')
