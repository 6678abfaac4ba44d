/* oxlint-disable import/no-default-export -- node asks for one of a reporter */
/**
 * A reporter for node --test: what came of each test, as a line of JSON at the moment when it is known. Files and suites
 * are not told of, and tests that were left out are not either. Not TypeScript: node loads it before any loader.
 */
export default async function* tell(events) {
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue
    if (data.skip !== undefined || data.details.type === 'suite') continue
    const error = data.details.error
    yield `${JSON.stringify({ name: data.name, why: error && String(error.cause ?? error) })}\n`
  }
}
