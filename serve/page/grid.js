// The model as one canvas: a row of cells for each layer, a cell for each expert. Rows of many experts
// are wrapped. Cells are pixels of a small image that is drawn enlarged, so that a frame costs the
// same however many of them glow.

import { css, expertColour, readPalette } from './colour.js';

const GLOW_SECONDS = 0.45; // until a glow has fallen to 1/e
const LEAST = 0.02; // of a glow that is still drawn
const MARGIN = 34; // CSS pixels for the layers' numbers
const ABOVE = 4; // for the upper half of the first
const OFTEN = 0.42; // of the accent, for the expert that a layer uses most
const OFTEN_HERE = 0.8; // of its own colour, in the layer whose colours are shown

export class Grid {
  /** layers: the model's numbers of them. onPick(layer, expert, key), onPoint(layer, expert or -1),
   * onLayout(rows of a layer). */
  constructor(canvas, layers, experts, { onPick, onPoint, onLayout }) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.layers = layers;
    this.experts = experts;
    this.onPick = onPick;
    this.onPoint = onPoint;
    this.onLayout = onLayout;
    const cells = layers.length * experts;
    this.glow = new Float32Array(cells);
    this.used = new Float32Array(cells); // share of the most used of the layer
    this.layer = 0; // whose experts have their colours
    this.cursor = -1;
    this.path = []; // cells of the token that is shown
    this.off = new Set();
    this.forced = new Set();
    this.calm = matchMedia('(prefers-reduced-motion: reduce)');
    this.image = document.createElement('canvas');
    this.last = 0;
    this.frame = 0;
    this.listen();
    this.restyle();
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener('click', (event) => this.pick(this.cellAt(event), 'Enter'));
    canvas.addEventListener('pointermove', (event) => this.point(this.cellAt(event)));
    canvas.addEventListener('pointerleave', () => this.point(-1));
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('blur', () => {
      this.cursor = -1;
      this.draw();
    });
    new ResizeObserver(() => this.layout()).observe(canvas.parentElement);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.restyle());
    matchMedia('print').addEventListener('change', () => this.restyle());
  }

  restyle() {
    this.palette = readPalette();
    this.colours = Array.from({ length: this.experts }, (_, expert) => expertColour(this.palette, expert));
    this.layout();
  }

  /** Sizes of cells in pixels of the device. */
  layout() {
    const wide = this.canvas.parentElement.clientWidth;
    if (wide === 0 || this.experts === 0) {
      return;
    }
    const ratio = devicePixelRatio || 1;
    const room = Math.max(16, Math.floor((wide - MARGIN) * ratio));
    const least = Math.max(3, Math.round(4 * ratio));
    this.columns = Math.min(this.experts, Math.floor(room / least));
    this.wraps = Math.ceil(this.experts / this.columns);
    this.columns = Math.ceil(this.experts / this.wraps); // rows of about the same length
    this.cell = Math.min(room / this.columns, 72 * ratio);
    const rows = this.layers.length * this.wraps;
    this.tall = Math.max(least, Math.floor(Math.min(1.4 * this.cell, 24 * ratio, 430 * ratio / rows)));
    this.gap = Math.min(this.cell, this.tall) >= 4 ? Math.max(1, Math.round(ratio)) : 0;
    this.step = this.tall * this.wraps + (this.wraps > 1 ? Math.round(2 * ratio) : 0);
    this.left = Math.round(MARGIN * ratio);
    this.top = Math.round(ABOVE * ratio);
    this.ratio = ratio;
    this.canvas.width = this.left + this.edge(this.columns);
    this.canvas.height = this.top + this.step * this.layers.length + this.top;
    this.canvas.style.width = this.canvas.width / ratio + 'px';
    this.canvas.style.height = this.canvas.height / ratio + 'px';
    this.image.width = this.columns;
    this.image.height = rows;
    this.pixels = new ImageData(this.columns, rows);
    this.onLayout(this.wraps);
    this.draw();
  }

  // First pixel of a column: where a picture enlarged without smoothing begins to show it.
  edge(column) {
    return Math.ceil(column * this.cell - 0.5);
  }

  cellAt(event) {
    const x = event.offsetX * this.ratio - this.left;
    const y = event.offsetY * this.ratio - this.top;
    const layer = Math.floor(y / this.step);
    const row = Math.floor((y - layer * this.step) / this.tall);
    const column = Math.floor(x / this.cell);
    const expert = row * this.columns + column;
    const inside = x >= 0 && column < this.columns && row < this.wraps && expert < this.experts &&
      layer >= 0 && layer < this.layers.length;
    return inside ? layer * this.experts + expert : -1;
  }

  /** Left, top, width and height of a cell. */
  box(cell) {
    const layer = Math.floor(cell / this.experts);
    const expert = cell % this.experts;
    const row = Math.floor(expert / this.columns);
    const left = this.edge(expert % this.columns);
    return [this.left + left, this.top + layer * this.step + row * this.tall,
      this.edge(expert % this.columns + 1) - left - this.gap, this.tall - this.gap];
  }

  pick(cell, key) {
    if (cell >= 0) {
      this.onPick(Math.floor(cell / this.experts), cell % this.experts, key);
    }
  }

  point(cell) {
    this.canvas.classList.toggle('over', cell >= 0);
    this.onPoint(cell < 0 ? -1 : Math.floor(cell / this.experts), cell < 0 ? -1 : cell % this.experts);
  }

  key(event) {
    const cells = this.layers.length * this.experts;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.experts, ArrowDown: this.experts };
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    if (steps[event.key]) {
      const next = this.cursor < 0 ? this.layer * this.experts : this.cursor + steps[event.key];
      this.cursor = next >= 0 && next < cells ? next : Math.max(0, this.cursor);
      this.point(this.cursor);
      this.draw();
    } else if (this.cursor >= 0 && ['Enter', ' ', 'o', 'f'].includes(event.key)) {
      this.pick(this.cursor, event.key);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Scrolls to the layer that is shown. */
  reveal() {
    const box = this.canvas.parentElement;
    const middle = (this.top + (this.layer + 0.5) * this.step) / this.ratio;
    if (middle < box.scrollTop + 10 || middle > box.scrollTop + box.clientHeight - 10) {
      box.scrollTop = middle - box.clientHeight / 2;
    }
  }

  /** Experts that a token goes to light up. */
  light(list, token) {
    if (this.calm.matches) {
      this.glow.fill(0);
    }
    for (let layer = 0; layer < list.layers; layer++) {
      list.each(token, layer, (expert, weight, rank) => {
        this.glow[layer * this.experts + expert] = rank === 0 ? 1 : 0.8;
      });
    }
    this.animate();
  }

  animate() {
    if (!this.frame) {
      this.last = performance.now();
      this.frame = requestAnimationFrame((now) => this.tick(now));
    }
  }

  tick(now) {
    const fall = this.calm.matches ? 1 : Math.exp(-Math.max(0, now - this.last) / 1000 / GLOW_SECONDS);
    let alive = false;
    for (let cell = 0; cell < this.glow.length; cell++) {
      if (this.glow[cell] > 0) {
        this.glow[cell] = this.glow[cell] * fall > LEAST ? this.glow[cell] * fall : 0;
        alive = alive || this.glow[cell] > 0;
      }
    }
    this.last = now;
    this.frame = 0;
    this.draw();
    if (alive && !this.calm.matches) {
      this.frame = requestAnimationFrame((next) => this.tick(next));
    }
  }

  darken() {
    this.glow.fill(0);
    this.draw();
  }

  setUse(statistics) {
    for (let layer = 0; layer < this.layers.length; layer++) {
      const from = layer * this.experts;
      let most = 1;
      for (let cell = from; cell < from + this.experts; cell++) {
        most = Math.max(most, statistics.load[cell]);
      }
      for (let cell = from; cell < from + this.experts; cell++) {
        this.used[cell] = statistics.load[cell] / most;
      }
    }
    this.animate();
  }

  fill() {
    const { card, accent } = this.palette;
    const data = this.pixels.data;
    for (let cell = 0; cell < this.glow.length; cell++) {
      const layer = Math.floor(cell / this.experts);
      const expert = cell % this.experts;
      const level = Math.max(this.glow[cell], this.used[cell] * (layer === this.layer ? OFTEN_HERE : OFTEN));
      const colour = layer === this.layer ? this.colours[expert] : accent;
      const at = 4 * (layer * this.wraps * this.columns + expert);
      for (let i = 0; i < 3; i++) {
        data[at + i] = card[i] + (colour[i] - card[i]) * level;
      }
      data[at + 3] = 255;
    }
    this.image.getContext('2d').putImageData(this.pixels, 0, 0);
  }

  draw() {
    if (!this.pixels) {
      return;
    }
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.fill();
    context.imageSmoothingEnabled = false;
    for (let layer = 0; layer < this.layers.length; layer++) {
      context.drawImage(this.image, 0, layer * this.wraps, this.columns, this.wraps,
        this.left, this.top + layer * this.step, this.columns * this.cell, this.wraps * this.tall);
    }
    this.drawGaps();
    this.drawLayers();
    this.drawMarks();
  }

  drawGaps() {
    const { context, canvas, gap } = this;
    for (let column = 1; gap > 0 && column <= this.columns; column++) {
      context.clearRect(this.left + this.edge(column) - gap, 0, gap, canvas.height);
    }
    for (let row = 0; gap > 0 && row < this.layers.length * this.wraps; row++) {
      const top = this.top + Math.floor(row / this.wraps) * this.step + (row % this.wraps + 1) * this.tall;
      context.clearRect(this.left, top - gap, canvas.width, gap);
    }
  }

  drawLayers() {
    const { context, palette, ratio } = this;
    const size = 10.5 * ratio;
    const every = Math.max(1, Math.ceil(size * 1.25 / this.step));
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    this.layers.forEach((number, layer) => {
      const here = layer === this.layer;
      const near = Math.abs(layer - this.layer) < every;
      if (here || (layer % every === 0 && !near)) {
        context.font = (here ? '600 ' : '') + size + 'px system-ui, sans-serif';
        context.fillStyle = css(here ? palette.ink : palette.soft);
        context.fillText(String(number), this.left - 8 * ratio, this.top + (layer + 0.5) * this.step);
      }
    });
  }

  drawMarks() {
    const { context, palette, ratio } = this;
    context.lineWidth = Math.max(1, ratio);
    context.strokeStyle = css(palette.soft);
    for (const cell of this.off) {
      const [x, y, wide, tall] = this.box(cell);
      context.fillStyle = css(palette.paper);
      context.fillRect(x, y, wide, tall);
      context.beginPath();
      context.moveTo(x, y + tall);
      context.lineTo(x + wide, y);
      context.stroke();
    }
    context.fillStyle = css(palette.ink);
    for (const cell of this.forced) {
      const [x, y, wide, tall] = this.box(cell);
      const size = Math.max(2, Math.min(wide, tall) * 0.4);
      context.beginPath();
      context.arc(x + wide / 2, y + tall / 2, size / 2, 0, 2 * Math.PI);
      context.fill();
    }
    context.strokeStyle = css(palette.ink);
    for (const cell of this.cursor >= 0 ? [...this.path, this.cursor] : this.path) {
      const [x, y, wide, tall] = this.box(cell);
      context.lineWidth = Math.max(1, ratio) * (cell === this.cursor ? 2 : 1.5);
      context.strokeRect(x, y, wide, tall);
    }
  }
}
