#!/usr/bin/env node
import { existsSync } from 'node:fs'

// A clone that nobody has built yet runs from its sources.
const built = new URL('../dist/cli.js', import.meta.url)
if (existsSync(built)) await import(built.href)
else {
  const { register } = await import('tsx/esm/api')
  register()
  await import(new URL('../src/cli.ts', import.meta.url).href)
}
