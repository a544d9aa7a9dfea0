// Elements, numbers as words, downloads, and bars.

// -- Elements -------------------------------------------------------------------------------------

function make(name, parent, text, attributes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key === 'class') made.className = value;
    else if (typeof value === 'function') made.addEventListener(key, value);
    else made.setAttribute(key, value);
  }
  if (parent) parent.append(made);
  return made;
}

function draw(name, parent, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function button(parent, text, act, attributes) {
  return make('button', parent, text, { type: 'button', click: act, ...attributes });
}

/** Radio-like buttons; pairs [value, name]. */
function choice(parent, legend, pairs, value, act) {
  const group = make('span', parent, undefined, { class: 'set', role: 'group', 'aria-label': legend });
  make('span', group, legend, { class: 'group' });
  for (const [key, name] of pairs) {
    button(group, name, () => act(key), { 'aria-pressed': String(key === value) });
  }
}

function list(parent, legend, names, value, act) {
  const label = make('label', parent, legend + ' ', { class: 'set' });
  const box = make('select', label, undefined, { change: () => act(box.selectedIndex) });
  names.forEach((name) => make('option', box, name));
  box.selectedIndex = value;
}

function chip(parent, expert, title, act) {
  const made = button(parent, String(expert), act, { class: 'chip', title });
  const place = colours.get(expert);
  made.dataset.p = place === undefined ? 'none' : place;
  return made;
}

// -- Numbers as words -----------------------------------------------------------------------------

const percent = (share, digits = 1) => Number.isFinite(share) ? (100 * share).toFixed(digits) + ' %' : '–';
const times = (value) => Number.isFinite(value) ? value.toFixed(value < 10 ? 2 : 1) + '×' : '–';
const whole = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, '\u202f');
const total = (numbers) => numbers.reduce((sum, n) => sum + n, 0);

// -- Downloads ------------------------------------------------------------------------------------

function save(name, type, text) {
  const link = make('a', null, undefined, { download: name });
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function csvCell(value) {
  const text = String(value);
  return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
}

const csvOf = (rows) => rows.map((row) => row.map(csvCell).join(',')).join('\n') + '\n';

const STYLED = ['fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linecap', 'opacity',
  'font-family', 'font-size', 'font-weight', 'text-anchor'];

/** A figure that stands alone: what the style sheet gives it stands in its elements. */
function aloneOf(svg) {
  const copy = svg.cloneNode(true);
  const from = [svg, ...svg.querySelectorAll('*')];
  [copy, ...copy.querySelectorAll('*')].forEach((element, i) => {
    const style = getComputedStyle(from[i]);
    if (element.tagName === 'title' || element.tagName === 'desc') return;
    STYLED.forEach((key) => element.setAttribute(key, style.getPropertyValue(key)));
    element.removeAttribute('class');
  });
  copy.removeAttribute('data-csv');
  const [, , width, height] = svg.getAttribute('viewBox').split(' ');
  copy.setAttribute('width', width);
  copy.setAttribute('height', height);
  return new XMLSerializer().serializeToString(copy);
}

/** Buttons under a figure. rows: a function that gives the CSV's rows. */
function downloads(parent, name, svg, rows) {
  const tools = make('span', parent, undefined, { class: 'tools' });
  const file = name.toLowerCase().replace(/[^a-z0-9]+/g, '-').slice(0, 60);
  button(tools, 'SVG', () => save(file + '.svg', 'image/svg+xml', typeof svg === 'function' ? svg() : aloneOf(svg)),
    { 'aria-label': name + ' as SVG' });
  button(tools, 'CSV', () => save(file + '.csv', 'text/csv', csvOf(rows())), { 'aria-label': name + ' as CSV' });
}

// -- Bars -----------------------------------------------------------------------------------------

/** Rows of { name, value, other (of the second model), level, mark, act } as bars with numbers. */
function bars(parent, title, rows, format, shownRows = ROWS) {
  const figure = make('figure', parent, undefined, { class: 'rows' });
  const caption = make('figcaption', figure);
  make('b', caption, title);
  const compared = rows.some((row) => row.other !== undefined);
  const high = compared ? 22 : 16;
  const paint = (all) => {
    figure.querySelector('svg')?.remove();
    const some = all ? rows : rows.slice(0, shownRows);
    const top = Math.max(1e-9, ...some.flatMap((row) => [row.value, row.other ?? 0, row.level ?? 0]).filter(Number.isFinite).map(Math.abs));
    const svg = draw('svg', figure, { viewBox: `0 0 360 ${some.length * high + 2}`, role: 'img', 'aria-label': title });
    some.forEach((row, i) => {
      const line = draw('g', svg, row.act ? { class: 'act', tabindex: 0, role: 'button' } : {});
      const y = i * high;
      draw('rect', line, { class: 'back', x: 0, y, width: 360, height: high });
      draw('text', line, { x: 0, y: y + 12 }, row.name.length > 19 ? row.name.slice(0, 18) + '…' : row.name);
      const bar = (value, at, height, name) => {
        const width = Number.isFinite(value) ? Math.abs(value) / top * 180 : 0;
        draw('rect', line, { class: name + (value < 0 ? ' minus' : ''), x: 116, y: at, width: width.toFixed(1), height });
      };
      bar(row.value, y + 2, compared ? 8 : 11, 'bar');
      if (compared) bar(row.other, y + 11, 8, 'bar second');
      if (row.level !== undefined) draw('path', line, { class: 'dashed', d: `M${(116 + row.level / top * 180).toFixed(1)} ${y}v${high}` });
      const number = format(row.value) + (compared ? ' / ' + format(row.other) : '') + (row.mark ?? '');
      draw('text', line, { class: 'n', x: 360, y: y + 12 }, number);
      draw('title', line, {}, `${row.name}: ${number}${row.note ? '; ' + row.note : ''}`);
      if (row.act) {
        line.addEventListener('click', row.act);
        line.addEventListener('keydown', (event) => {
          if (event.key === 'Enter' || event.key === ' ') {
            event.preventDefault();
            row.act();
          }
        });
      }
    });
    return svg;
  };
  let svg = paint(false);
  downloads(caption, title, () => aloneOf(svg), () => [['name', 'value', ...(compared ? ['second'] : [])],
    ...rows.map((row) => [row.name, row.value, ...(compared ? [row.other] : [])])]);
  if (rows.length > shownRows) {
    const more = button(figure, `all ${rows.length}`, () => {
      svg = paint(true);
      more.remove();
      figure.append(svg);
    });
  }
  return figure;
}
