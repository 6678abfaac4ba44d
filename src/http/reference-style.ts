/** The stylesheet of the reference page: light and dark, no script, nothing from elsewhere. */
export const referenceStyle = `
:root {
  color-scheme: light dark;
  --ground: #fff; --ink: #1a1f29; --soft: #596273; --line: #dde1e8; --raised: #f5f7fa;
  --link: #1456c4; --get: #0b6e4f; --post: #8a4b00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12151b; --ink: #e6e9ef; --soft: #9aa4b5; --line: #2b313c; --raised: #1a1f28;
    --link: #86b4ff; --get: #5fd0a5; --post: #f0b266;
  }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
a { color: var(--link) }
code, pre { font: 0.875em/1.5 ui-monospace, monospace }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: 6px; padding: 0.75rem 1rem; overflow-x: auto }
h1 { margin: 0 0 0.25rem; font-size: 1.6rem }
h2 { margin: 3rem 0 1rem; padding-bottom: 0.25rem; border-bottom: 1px solid var(--line); font-size: 1.3rem }
h3 { margin: 0; font-size: 1rem }
h4 { margin: 1rem 0 0.25rem; color: var(--soft); font-size: 0.875rem }
.frame { display: grid; grid-template-columns: 18rem minmax(0, 56rem); gap: 2.5rem; padding: 0 1.5rem 6rem }
nav { position: sticky; top: 0; max-height: 100vh; overflow-y: auto; padding: 1.5rem 0; font-size: 0.875rem }
nav ul { margin: 0 0 1rem; padding: 0; list-style: none }
nav a { display: block; padding: 0.125rem 0; text-decoration: none; overflow-wrap: anywhere }
main { padding-top: 1.5rem }
article { margin: 0 0 2.5rem; scroll-margin-top: 1rem }
.method { display: inline-block; min-width: 3rem; font-weight: 700; color: var(--post) }
.GET { color: var(--get) }
.role, .soft { color: var(--soft); font-size: 0.875rem }
table { width: 100%; border-collapse: collapse; font-size: 0.875rem }
th, td { padding: 0.3rem 0.75rem 0.3rem 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top }
th { color: var(--soft); font-weight: 500 }
td:first-child { white-space: nowrap }
summary { cursor: pointer; color: var(--soft); font-size: 0.875rem }
@media (max-width: 60rem) {
  .frame { grid-template-columns: minmax(0, 1fr) }
  nav { position: static; max-height: none; padding-bottom: 0 }
}
`
