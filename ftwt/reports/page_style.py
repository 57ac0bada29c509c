"""The style sheet of the HTML page: light and dark, from a phone's width up."""

CSS = """\
:root {
  --ground: #f5f7fa; --card: #ffffff; --ink: #1f2933; --soft: #52606d; --line: #d9dfe6;
  --accent: #0072b2; --shade: rgb(31 41 51 / 22%);
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12171d; --card: #1b222b; --ink: #e4e9ee; --soft: #a3b0bd; --line: #323d49;
    --accent: #56b4e9; --shade: rgb(0 0 0 / 60%);
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .5rem; }
p { margin: 0 0 .9rem; max-width: 44rem; overflow-wrap: anywhere; }
.intro { font-size: 1.05rem; color: var(--soft); }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem; margin-top: 1.25rem;
}
.highlights {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0 0;
}
.highlights div {
  display: flex; flex-direction: column-reverse; justify-content: flex-end;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem;
}
.highlights dd {
  margin: 0; font-size: 1.6rem; font-weight: 650; line-height: 1.2; color: var(--accent);
  font-variant-numeric: tabular-nums;
}
.highlights dt { font-size: .85rem; line-height: 1.35; color: var(--soft); }
.scroll { overflow-x: auto; max-width: 100%; margin: .75rem 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
.caption, figcaption { color: var(--soft); font-size: .92rem; max-width: 44rem; }
.table {
  background:
    linear-gradient(to right, var(--card) 40%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--card) 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .9rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / .9rem 100% no-repeat scroll;
}
th, td { padding: .5rem .75rem; text-align: left; vertical-align: top; }
th {
  border-bottom: 2px solid var(--line); color: var(--soft); font-weight: 600;
  vertical-align: bottom;
}
td { border-bottom: 1px solid var(--line); }
td:first-child, .short { white-space: nowrap; }
td:last-child:not(.number) { overflow-wrap: anywhere; min-width: 9rem; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.number { white-space: normal; }
figure { margin: 1rem 0 0; }
figure + figure { margin-top: 2rem; }
.picture { background: #ffffff; border-radius: 6px; text-align: center; }
.picture img { max-width: 100%; height: auto; display: inline-block; vertical-align: top; }
@media (max-width: 40rem) {
  main { padding: 1.25rem .75rem 3rem; }
  section { padding: 1rem .8rem; }
  table { font-size: .9rem; }
  th { font-size: .8rem; }
  th, td { padding: .45rem .35rem; }
  td:last-child:not(.number) { min-width: 13rem; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
