import { html } from 'hono/html'
import type { Page, Spec } from './endpoint.ts'
import { openApiDocument } from './openapi.ts'
import { referenceStyle } from './reference-style.ts'
import { resolve, typeOf, type Html, type Schema } from './reference-type.ts'

interface Operation {
  operationId: string
  summary: string
  'x-role': string
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema: Schema }[]
  requestBody?: { required: boolean; content: { 'application/json': { schema: Schema } } }
  responses: Record<string, { description: string; content?: { 'application/json': { schema: Schema } } }>
}

interface Document {
  info: { version: string }
  tags: { name: string; description: string }[]
  paths: Record<string, Record<string, Operation & { tags: string[] }>>
  components: { schemas: Record<string, Schema> }
}

/** openapi.json, and the page that people read instead: made when first asked for, from the table of the routes. */
export function referencePages(specs: readonly Spec[], version: string): Page[] {
  const json = once(() => JSON.stringify(openApiDocument(version, specs)))
  const page = once(async () => {
    const document: Document = JSON.parse(json())
    return String(await pageOf(document))
  })
  return [
    { path: '/openapi.json', role: 'viewer', answer: () => textResponse(json(), 'application/json') },
    {
      path: '/docs',
      role: 'viewer',
      answer: async () => textResponse(await page(), 'text/html; charset=utf-8'),
    },
    {
      path: '/docs/style.css',
      role: 'viewer',
      answer: () => textResponse(referenceStyle, 'text/css; charset=utf-8'),
    },
  ]
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => (made ??= { value: make() }).value
}

const POLICY =
  "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

const textResponse = (text: string, type: string) =>
  new Response(text, { headers: { 'content-type': type, 'content-security-policy': POLICY } })

function pageOf(document: Document): Html {
  const schemas = document.components.schemas
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  )
  const doors = document.tags.map((tag) => ({
    ...tag,
    operations: operations.filter(({ operation }) => operation.tags.includes(tag.name)),
  }))
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Fleet-Q API</title>
        <link rel="stylesheet" href="/docs/style.css" />
      </head>
      <body>
        <div class="frame">
          <nav aria-label="Operations">
            ${doors.map(
              (door) =>
                html`<strong>${door.name}</strong>
                  <ul>
                    ${door.operations.map(
                      ({ path, method, operation }) =>
                        html`<li><a href="#${operation.operationId}">${methodOf(method)} ${path}</a></li>`,
                    )}
                  </ul>`,
            )}
            <a href="#schemas">Schemas</a>
          </nav>
          <main>
            <h1>Fleet-Q API</h1>
            <p class="soft">
              Version ${document.info.version}. The same for programs:
              <a href="/openapi.json">openapi.json</a>. All bodies are JSON in snake_case; unknown fields are
              errors; times are ISO 8601 in UTC. Errors look like
              ${typeOf({ $ref: '#/components/schemas/Problem' })}. Roles, each with the rights of those before
              it: viewer, producer, operator, admin.
            </p>
            ${doors.map(
              (door) =>
                html`<section>
                  <h2>${door.name} <span class="soft">${door.description}</span></h2>
                  ${door.operations.map((one) => operationOf(one, schemas))}
                </section>`,
            )}
            <h2 id="schemas">Schemas</h2>
            ${Object.entries(schemas).map(
              ([name, schema]) =>
                html`<article id="schema-${name}">
                  <h3>${name}</h3>
                  ${schema.properties ? fieldsOf(schema) : html`<p><code>${typeOf(schema)}</code></p>`}
                </article>`,
            )}
          </main>
        </div>
      </body>
    </html>`
}

const methodOf = (method: string) => html`<span class="method ${method}">${method}</span>`

interface Located {
  path: string
  method: string
  operation: Operation
}

function operationOf({ path, method, operation }: Located, schemas: Record<string, Schema>): Html {
  const body = operation.requestBody?.content['application/json'].schema
  const resolved = body && resolve(body, schemas)
  return html`<article id="${operation.operationId}">
    <h3>${methodOf(method)} <code>${path}</code></h3>
    <p>
      ${operation.summary}
      <span class="role"
        >${operation.operationId},
        ${operation['x-role'] === 'public' ? 'public' : `role ${operation['x-role']}`}</span
      >
    </p>
    <pre><code>${curlOf(path, method, operation, resolved)}</code></pre>
    ${operation.parameters && [html`<h4>Parameters</h4>`, parametersOf(operation.parameters)]}
    ${resolved && [html`<h4>Body${operation.requestBody?.required ? '' : ' (may be left out)'}</h4>`, fieldsOf(resolved)]}
    <h4>Answers</h4>
    <table>
      ${Object.entries(operation.responses).map(
        ([status, { description, content }]) =>
          html`<tr>
            <td>${status}</td>
            <td>${content ? typeOf(content['application/json'].schema) : 'nothing'}</td>
            <td>${description}</td>
          </tr>`,
      )}
    </table>
  </article>`
}

function curlOf(path: string, method: string, operation: Operation, body: Schema | undefined): string {
  const place = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => `$${name.toUpperCase()}`)
  const lines = [`curl ${method === 'GET' ? '' : `-X ${method} `}http://localhost:8000${place}`]
  if (operation['x-role'] !== 'public') lines.push('-H "Authorization: Bearer $FLEET_Q_TOKEN"')
  const example = body?.examples?.[0]
  if (example !== undefined)
    lines.push(
      '-H "Content-Type: application/json"',
      `-d '${JSON.stringify(example).replaceAll("'", String.raw`'\''`)}'`,
    )
  return lines.join(' \\\n  ')
}

const parametersOf = (parameters: NonNullable<Operation['parameters']>) =>
  fieldsOf({
    required: parameters.filter((p) => p.required).map((p) => p.name),
    properties: Object.fromEntries(
      parameters.map((p) => [
        p.name,
        { ...p.schema, description: [`in ${p.in}`, p.description].filter(Boolean).join(': ') },
      ]),
    ),
  })

function fieldsOf({ properties = {}, required = [] }: Schema): Html {
  return html`<table>
    <tr>
      <th scope="col">Field</th>
      <th scope="col">Type</th>
      <th scope="col">Meaning</th>
    </tr>
    ${Object.entries(properties).map(
      ([name, field]) =>
        html`<tr>
          <td>
            <code>${name}</code>${required.includes(name) ? '' : html` <span class="soft">optional</span>`}
          </td>
          <td>${typeOf(field)}</td>
          <td>
            ${field.description}${
              field.default === undefined
                ? ''
                : html` <span class="soft">default <code>${JSON.stringify(field.default)}</code></span>`
            }
          </td>
        </tr>`,
    )}
  </table>`
}
