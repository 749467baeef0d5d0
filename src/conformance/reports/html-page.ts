/** How the HTML report looks and what it does: style and script, both inside the page. */

export const PAGE_STYLE = `
:root { color-scheme: light dark; --pass: #1a7f4b; --fail: #c2410c; --dead: #9d174d; --skip: #7a7f87;
  --line: #d7dae0; --paper: #fff; --ink: #1c2026; --soft: #f4f5f7; }
@media (prefers-color-scheme: dark) { :root { --pass: #3fb57b; --fail: #f08a4b; --dead: #f472b6; --skip: #8b919b;
  --line: #343a43; --paper: #16191e; --ink: #e6e8ec; --soft: #1f242b; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem;
  background: var(--paper); color: var(--ink); }
h1 { font-size: 1.6rem; margin: 0 0 .6rem; } h2 { font-size: 1.1rem; margin: 0 0 .6rem; } h3 { font-size: .95rem; margin: 1rem 0 .2rem; }
code, pre { font: 13px/1.4 ui-monospace, monospace; }
[hidden] { display: none !important; }
.legend { margin: 0 0 1.2rem; font-size: 14px; max-width: none; display: grid; grid-template-columns: auto 1fr; gap: .1rem .8rem; }
.legend b { font-weight: 600; }
pre { overflow-x: auto; background: var(--soft); padding: .6rem; border-radius: .4rem; margin: .3rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: 1rem; margin-bottom: 1.2rem; }
.card { border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem; }
.counts { width: 100%; border-collapse: collapse; } .counts th { text-align: left; font-weight: 500; padding-right: .8rem; }
.counts td:nth-child(2) { width: 100%; } .counts td:last-child { text-align: right; padding-left: .6rem; }
.bar { display: flex; gap: 2px; } .bar i { font-style: normal; font-size: 12px; color: #fff; text-align: center;
  min-width: 1.6em; border-radius: 3px; padding: 1px 0; }
.bar .pass { background: #1a7f4b; } .bar .fail { background: #c2410c; } .bar .dead { background: #9d174d; } .bar .skip { background: #7a7f87; }
.card dl { display: grid; grid-template-columns: auto 1fr; gap: .1rem .8rem; margin: .5rem 0 0; font-size: 13px; }
dd { margin: 0; overflow-wrap: anywhere; } summary { cursor: pointer; font-size: 13px; margin-top: .5rem; }
.filters { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; position: sticky; top: 0;
  background: var(--paper); padding: .6rem 0; border-bottom: 1px solid var(--line); z-index: 1; }
.filters span { border-left: 1px solid var(--line); height: 1.2rem; }
.filters label { white-space: nowrap; } .filters output { color: var(--skip); font-size: 14px; }
.filters input[type=search] { font: inherit; padding: .15rem .5rem; width: 13rem; }
.scroll { overflow-x: clip; }
.cases { border-collapse: separate; border-spacing: 0; width: 100%; table-layout: fixed; }
.cases th { text-align: left; padding: .4rem .5rem; vertical-align: bottom; overflow-wrap: break-word; }
.cases thead th { position: sticky; top: var(--filters, 3rem); background: var(--paper); border-bottom: 1px solid var(--line); z-index: 1; }
.cases td { border-top: 1px solid var(--line); padding: .35rem .5rem; vertical-align: top; overflow-wrap: break-word; }
.cases .level { width: 6.2rem; } .cases td.level { font-size: 14px; }
.area th { padding-top: 1.2rem; font-size: 1.05rem; vertical-align: baseline; }
.area .sum { font-size: 13px; font-weight: 400; text-align: center; }
.head { cursor: pointer; } .head:hover, .head:focus { background: var(--soft); outline: none; }
.verdict { font-weight: 600; text-align: center; } .cases th.backend { text-align: center; width: 8.5rem; font-size: 14px; }
.verdict.pass, .verdict.skip { font-weight: 400; }
.pass { color: var(--pass); } .fail { color: var(--fail); } .dead { color: var(--dead); } .skip { color: var(--skip); }
.verdict.fail, .verdict.dead { background: color-mix(in srgb, currentColor 12%, transparent); }
.more td { border-top: 0; padding-bottom: 1rem; } .more p { margin: .2rem 0; max-width: 60rem; }
.results { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr)); gap: 0 1.2rem; }
.results section { min-width: 0; }
@media (max-width: 60rem) { .filters { position: static; } .scroll { overflow-x: auto; } .cases { min-width: 48rem; }
  .cases thead th { position: static; } .cases th.backend { width: 6.5rem; } }
@media print { .filters { display: none; } .cases thead th { position: static; } }
`;

export const PAGE_SCRIPT = `
const form = document.querySelector('.filters');
const chosen = (name) => new Set([...form.elements[name]].filter((box) => box.checked).map((box) => box.value));
function filter() {
  const levels = chosen('level'), verdicts = chosen('verdict');
  const words = form.elements.words.value.toLowerCase().trim();
  let shown = 0;
  for (const row of document.querySelectorAll('.case')) {
    const seen = row.dataset.verdicts.split(' ');
    const isShown = levels.has(row.dataset.level) && seen.some((verdict) => verdicts.has(verdict)) &&
      (!form.elements.different.checked || new Set(seen).size > 1) && row.dataset.words.includes(words);
    row.hidden = !isShown;
    if (isShown) shown += 1;
  }
  for (const area of document.querySelectorAll('.area')) {
    let next = area.nextElementSibling, isEmpty = true;
    for (; next && !next.classList.contains('area'); next = next.nextElementSibling) if (!next.hidden) isEmpty = false;
    area.hidden = isEmpty;
  }
  form.querySelector('output').textContent = shown + (shown === 1 ? ' case' : ' cases');
}
form.addEventListener('input', filter);
form.addEventListener('submit', (event) => event.preventDefault());
const toggle = (head) => {
  const more = head.nextElementSibling;
  more.hidden = !more.hidden;
  head.setAttribute('aria-expanded', String(!more.hidden));
};
const root = document.documentElement;
new ResizeObserver(() => root.style.setProperty('--filters', form.offsetHeight - 1 + 'px')).observe(form);
for (const head of document.querySelectorAll('.head')) {
  head.addEventListener('click', () => toggle(head));
  head.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    toggle(head);
  });
}
filter();
`;
