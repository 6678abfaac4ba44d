import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'

/**
 * A service outside of the database, in a process of its own: writes down what it is asked to do, and answers when it
 * is on the disk. node sink.ts FILE; prints its port.
 */
const [path = ''] = process.argv.slice(2)
const file = openSync(path, 'a')
let waiting: { line: string; response: ServerResponse }[] = []

/** What came in one turn of the loop goes to the disk together. */
function flush() {
  const batch = waiting
  waiting = []
  writeSync(file, batch.map(({ line }) => `${line}\n`).join(''))
  fsyncSync(file)
  for (const { response } of batch) response.writeHead(204).end()
}

const server = createServer((request, response) => {
  let line = ''
  request.on('data', (chunk: Buffer) => (line += chunk.toString()))
  request.on('end', () => {
    if (waiting.length === 0) setImmediate(flush)
    waiting.push({ line, response })
  })
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.send?.({ port: typeof address === 'object' && address ? address.port : 0 })
})
process.on('disconnect', () => {
  closeSync(file)
  process.exit(0)
})
