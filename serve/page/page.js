// mixt serve's page: what belongs to what.

import { Changes } from './changes.js';
import { drawLoad, drawRepetition } from './charts.js';
import { Chat } from './chat.js';
import { getJson, setKey } from './client.js';
import { Details } from './details.js';
import { Grid } from './grid.js';
import { Statistics } from './record.js';
import { Store } from './store.js';
import { element, tokenOf, viewOf } from './text.js';
import { makeTrace } from './trace.js';

const CHARTS_EVERY = 400; // milliseconds between drawings while tokens come
const NUMBERS = ['temperature', 'top_p', 'top_k', 'min_p', 'repeat_penalty', 'max_tokens'];

const by = (id) => document.getElementById(id);

/** Everything that belongs to one page. The test reads it from here. */
export const app = {
  model: null,
  layer: 0,
  expert: -1, // that is shown, with its layer
  expertLayer: 0,
  selected: null, // the token that is shown: { view, token }
};

// ---- the server

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function askKey() {
  return new Promise((resolve) => {
    by('ask-key').addEventListener('close', () => {
      setKey(by('key').value);
      resolve();
    }, { once: true });
    by('ask-key').showModal();
  });
}

// What /props says, once the model is there.
async function readProperties() {
  for (;;) {
    try {
      return await getJson('/props');
    } catch (error) {
      if (error.status === 401) {
        await askKey();
      } else if (error.status === 503 || error.status === undefined) {
        by('facts').textContent = error.status ? 'Loading the model' : 'The server does not answer';
        await pause(1000);
      } else {
        throw error;
      }
    }
  }
}

/** The model as the page needs it, from /props. */
export function describe(properties) {
  const moe = properties.moe || {};
  const layers = moe.layers || [];
  const chosen = moe.experts_per_token || 0;
  return {
    name: properties.model_alias || 'model',
    chat: Boolean(properties.chat_template), // messages, not plain text
    layers,
    experts: moe.experts || 0,
    chosen,
    chosenMost: Math.max(chosen, moe.experts_per_token_max || 0),
    identity_experts: moe.identity_experts || 0,
    zero_experts: moe.zero_experts || 0,
    held_out: moe.held_out || '',
    router_select: moe.router_select || 'top-k',
    tokenizer_hash: moe.tokenizer_hash || '',
    stored: Boolean(properties.stored), // experts on disk
    defaults: (properties.default_generation_settings || {}).params || {},
  };
}

function showForm() {
  by('message').placeholder = app.model.chat ? 'Message' : 'Begin a text, and the model goes on';
  by('system-label').hidden = !app.model.chat;
}

function showModel(model) {
  by('name').textContent = model.name;
  document.title = model.name + ' – mixt';
  by('facts').textContent = model.layers.length === 0 ? 'A model without experts'
    : model.layers.length + (model.layers.length === 1 ? ' layer of ' : ' layers of ') + model.experts +
      ' experts, ' + model.chosen + ' for each token';
  by('plain').disabled = !model.chat;
  by('plain').checked = !model.chat;
  showForm();
  for (const name of NUMBERS) {
    const value = model.defaults[name];
    by(name).placeholder = typeof value === 'number' && value >= 0 ? String(Math.round(value * 1000) / 1000) : 'as many as fit';
  }
  by('layer').max = Math.max(0, model.layers.length - 1);
  by('layer').disabled = model.layers.length < 2;
  by('top').max = model.chosenMost;
  by('top').placeholder = String(model.chosen);
  for (const layer of model.layers) {
    element('option', 'layer ' + layer, by('top-layer')).value = layer;
  }
  by('top-layer').parentElement.hidden = model.layers.length < 2;
  by('top').title = 'at most ' + model.chosenMost + ' (mixt serve --experts-max)';
  document.body.classList.toggle('without', model.layers.length === 0);
}

// ---- settings

function numberOf(id) {
  const field = by(id);
  return field.value === '' || !field.checkValidity() ? null : Number(field.value);
}

app.settings = () => {
  const settings = {};
  for (const name of NUMBERS) {
    const number = numberOf(name) === null ? app.model.defaults[name] : numberOf(name);
    if (typeof number === 'number') {
      settings[name] = number;
    }
  }
  return settings;
};
app.seed = () => numberOf('seed');
app.system = () => (app.model.chat ? by('system').value.trim() : '');

// ---- what is shown of the experts

let chartsDue = 0;

function drawCharts() {
  chartsDue = 0;
  const { model, statistics, layer } = app;
  if (model.layers.length === 0) {
    return;
  }
  const usage = model.layers.map((_, i) => (statistics.firsts[i] ? statistics.usage(i) : NaN));
  const measured = model.layers.map((_, i) => statistics.repetition(i));
  const shares = Array.from({ length: model.experts }, (_, e) => statistics.share(layer, e) || 0);
  drawLoad(by('load'), shares, app.expert >= 0 && app.expertLayer === layer ? app.expert : -1);
  drawRepetition(by('repetition'), model.layers,
    { measured, random: model.layers.map(() => 1 / model.experts), usage }, layer);
  const most = shares.indexOf(Math.max(...shares));
  const percent = (share) => (100 * share).toFixed(1) + '\u00a0%';
  by('load-words').textContent = statistics.choices[layer] === 0 ? 'nothing yet'
    : statistics.tokens + ' tokens; most to expert ' + most + ', ' + percent(shares[most]) + '; all alike ' +
      percent(1 / model.experts);
  by('repetition-words').textContent = Number.isNaN(measured[layer]) ? 'nothing yet'
    : 'layer ' + model.layers[layer] + ': ' + percent(measured[layer]) + ' like the token before; random ' + percent(1 / model.experts) +
      ', unequal use ' + percent(usage[layer]);
  app.grid.setUse(statistics);
}

function chartsSoon() {
  if (!chartsDue) {
    chartsDue = setTimeout(drawCharts, CHARTS_EVERY);
  }
}

function setLayer(layer) {
  app.layer = layer;
  app.grid.layer = layer;
  app.grid.reveal();
  by('layer').value = layer;
  by('layer').setAttribute('aria-valuetext', 'layer ' + app.model.layers[layer]);
  by('layer-name').textContent = app.model.layers[layer];
  document.querySelectorAll('.layer-here').forEach((node) => { node.textContent = app.model.layers[layer]; });
  app.chat.views().forEach((view) => view.paint(layer));
  if (app.selected) {
    app.details.token(app.selected.view.list, app.selected.token, layer);
  }
  drawCharts();
}

function unmark() {
  if (app.selected) {
    app.selected.view.spans[app.selected.token].classList.remove('on');
  }
  if (app.expert >= 0) {
    app.chat.views().forEach((view) => view.mark(0, -1));
  }
  app.selected = null;
  app.expert = -1;
  app.grid.path = [];
}

export function showToken(view, token) {
  unmark();
  app.selected = { view, token };
  view.spans[token].classList.add('on');
  const { list } = view;
  for (let layer = 0; layer < list.layers && list.known[token]; layer++) {
    list.each(token, layer, (expert) => app.grid.path.push(layer * app.model.experts + expert));
  }
  app.details.token(list, token, app.layer);
  app.grid.draw();
  const first = list.first(token, app.layer);
  by('said').textContent = list.texts[token] + (first < 0 ? '' : ': expert ' + first);
}

export function showExpert(layer, expert) {
  unmark();
  app.expert = expert;
  app.expertLayer = layer;
  app.grid.path = [layer * app.model.experts + expert];
  setLayer(layer);
  app.chat.views().forEach((view) => view.mark(layer, expert));
  app.details.expert(layer, expert);
  app.grid.draw();
}

app.onClose = () => {
  unmark();
  app.grid.draw();
  drawCharts();
};

// ---- changes of the routing

function topLayer() {
  return Number(by('top-layer').value);
}

function showTop() {
  by('top').value = app.changes.tops.get(topLayer()) || '';
}

function showChanges() {
  const { changes, grid } = app;
  grid.off = changes.off;
  grid.forced = changes.forced;
  by('changes').replaceChildren();
  for (const [text, undo] of changes.each()) {
    const item = element('li', text, by('changes'));
    const button = element('button', '×', item);
    button.type = 'button';
    button.setAttribute('aria-label', 'Undo ' + text);
    button.addEventListener('click', () => {
      undo();
      showTop();
      showChanges();
    });
  }
  by('changed').textContent = changes.any() ? ': ' + changes.words() : '';
  grid.draw();
  showState();
}

app.onChange = (layer, expert, what) => {
  app.changes.toggle(layer, expert, what);
  showChanges();
  if (app.expert === expert && app.expertLayer === layer) {
    app.details.expert(layer, expert);
  }
};

function pickCell(layer, expert, key) {
  const mode = document.querySelector('input[name=click]:checked').value;
  const what = key === 'o' ? 'off' : key === 'f' ? 'force' : mode;
  if (what === 'look') {
    showExpert(layer, expert);
  } else {
    app.onChange(layer, expert, what);
  }
}

function pointCell(layer, expert) {
  if (layer < 0) {
    by('pointed').textContent = '';
    return;
  }
  const cell = layer * app.model.experts + expert;
  const share = app.statistics.share(layer, expert);
  by('pointed').textContent = 'layer ' + app.model.layers[layer] + ', expert ' + expert +
    (app.changes.off.has(cell) ? ', off' : app.changes.forced.has(cell) ? ', forced' : '') +
    (share >= 0 ? ', ' + (100 * share).toFixed(1) + '\u00a0%' : '');
}

// ---- the chat

app.onToken = (answer, list, token) => {
  if (answer.counted) {
    app.statistics.add(list, token);
  }
  app.grid.light(list, token);
};

app.onFlush = () => {
  if (app.expert >= 0 && !app.chat.running) {
    app.chat.views().forEach((view) => view.mark(app.expertLayer, app.expert));
  }
  chartsSoon();
};

app.onRecount = () => {
  if (app.selected || app.expert >= 0) {
    unmark();
    by('detail').hidden = true;
  }
  app.statistics.count(app.chat.lists());
  drawCharts();
};

app.onState = () => showState();
app.lists = () => app.chat.lists();

function showState() {
  const { chat, changes } = app;
  const running = chat.running;
  by('welcome').hidden = chat.turns.length > 0;
  by('send').hidden = running;
  by('stop').hidden = !running;
  by('send').disabled = running || by('message').value.trim() === '';
  by('save').disabled = running || chat.turns.length === 0 || app.model.layers.length === 0;
  by('compare').disabled = running || !changes.any() || chat.turns.length === 0;
  by('undo').disabled = !changes.any();
  document.querySelectorAll('.turn-actions').forEach((row) => row.remove());
  if (chat.last && !running) {
    const row = element('p', '', chat.last.section, 'turn-actions row');
    for (const [word, key, act] of [['Write anew', 'Alt R', regenerate], ['Edit', 'Up', edit]]) {
      const button = element('button', word, row);
      button.type = 'button';
      button.title = key;
      button.addEventListener('click', act);
    }
  }
}

// A field that cannot be is shown, not passed over.
function fieldsAreFine() {
  const wrong = [...NUMBERS, 'seed', 'top'].map(by).find((field) => !field.checkValidity());
  if (wrong) {
    wrong.closest('details').open = true;
    wrong.reportValidity();
  }
  return !wrong;
}

function send() {
  const text = app.model && app.model.chat ? by('message').value.trim() : by('message').value;
  if (app.model && text.trim() !== '' && !app.chat.running && fieldsAreFine()) {
    by('message').value = '';
    grow();
    app.chat.ask(text, by('both').checked && app.changes.any());
  }
}

function regenerate() {
  if (fieldsAreFine()) {
    app.chat.again(app.chat.last.answers.length === 2 && app.changes.any());
  }
}

function edit() {
  const text = app.chat.edit();
  if (text !== null) {
    by('message').value = text;
    grow();
    by('message').focus();
  }
}

function fresh() {
  app.chat.clear();
  app.grid.darken();
  by('message').focus();
}

// The field is as high as its text, up to what page.css allows.
function grow() {
  const field = by('message');
  field.style.height = 'auto';
  field.style.height = field.scrollHeight + 2 + 'px';
  by('send').disabled = field.value.trim() === '' || !app.model || app.chat.running;
}

export function traceOfChat() {
  const documents = app.chat.turns.flatMap((turn) => turn.answers.flatMap((answer, number) => [
    { domain: 'prompt', list: number === 0 ? answer.prompt : { length: 0 } },
    { domain: answer.changed === '' ? 'answer' : 'answer, changed', list: answer.list },
  ]));
  const changed = app.chat.turns.some((turn) => turn.answers.some((answer) => answer.changed !== ''));
  const remarks = [app.model.held_out, changed ? 'the routing in the domain "answer, changed" was changed by hand' : ''];
  return makeTrace(app.model, documents, remarks.filter((remark) => remark !== '').join('; and '));
}

function save() {
  const blob = traceOfChat();
  if (blob === null) {
    by('facts').textContent = 'No experts are known of this chat';
    return;
  }
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = 'chat-' + new Date().toISOString().slice(0, 19).replace(/[:T]/g, '-') + '.safetensors';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// ---- events

function walk(event) {
  const view = viewOf(event.target);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (view && step && view.spans.length > 0) {
    const at = app.selected && app.selected.view === view ? app.selected.token + step : 0;
    showToken(view, Math.min(Math.max(at, 0), view.spans.length - 1));
    view.spans[app.selected.token].scrollIntoView({ block: 'nearest' });
    event.preventDefault();
  }
}

function keys(event) {
  if (event.key === 'Escape') {
    if (app.chat.running) {
      app.chat.stop();
    } else if (!by('detail').hidden) {
      app.details.close();
    } else {
      openSheet(false);
    }
  } else if (event.altKey && event.code === 'KeyN') {
    fresh();
    event.preventDefault();
  } else if (event.altKey && event.code === 'KeyR' && app.chat.last) {
    regenerate();
    event.preventDefault();
  }
}

function openSheet(open) {
  document.body.classList.toggle('open', open);
  by('sheet').setAttribute('aria-expanded', open);
  by('sheet').textContent = open ? 'Chat' : 'Experts';
}

function listen() {
  by('compose').addEventListener('submit', (event) => {
    event.preventDefault();
    send();
  });
  by('message').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === 'ArrowUp' && by('message').value === '') {
      edit();
    }
  });
  by('message').addEventListener('input', grow);
  by('log').addEventListener('click', (event) => {
    const found = tokenOf(event.target);
    if (found && String(getSelection()) === '') {
      showToken(found.view, found.token);
    }
  });
  by('log').addEventListener('keydown', walk);
  by('stop').addEventListener('click', () => app.chat.stop());
  by('fresh').addEventListener('click', fresh);
  by('save').addEventListener('click', save);
  by('sheet').addEventListener('click', () => openSheet(!document.body.classList.contains('open')));
  by('plain').addEventListener('change', () => {
    app.model.chat = !by('plain').checked;
    showForm();
  });
  by('layer').addEventListener('input', () => setLayer(Number(by('layer').value)));
  by('numbers').addEventListener('change', () => document.body.classList.toggle('numbered', by('numbers').checked));
  by('top').addEventListener('input', () => {
    app.changes.setTop(topLayer(), numberOf('top'));
    showChanges();
  });
  by('top-layer').addEventListener('change', showTop);
  by('undo').addEventListener('click', () => {
    app.changes.clear();
    by('top-layer').value = '-1';
    showTop();
    showChanges();
  });
  by('compare').addEventListener('click', () => fieldsAreFine() && app.chat.again(true));
  document.addEventListener('keydown', keys);
  addEventListener('resize', chartsSoon);
}

async function start() {
  try {
    app.model = describe(await readProperties());
  } catch (error) {
    by('facts').textContent = error.message;
    return;
  }
  const { model } = app;
  app.statistics = new Statistics(model.layers.length, model.experts);
  app.changes = new Changes(model);
  app.chat = new Chat(by('log'), by('said'), app);
  app.onExpert = showExpert;
  app.details = new Details(by('detail'), app);
  app.grid = new Grid(by('grid'), model.layers, model.experts, {
    onPick: pickCell,
    onPoint: pointCell,
    onLayout: (rows) => {
      by('axis').textContent = (rows > 1 ? 'each ' + rows + ' rows a layer' : 'each row a layer') + ', each cell an expert';
    },
  });
  showModel(model);
  if (model.stored) {
    app.store = new Store({
      panel: by('store'), rate: by('store-rate'), warning: by('store-warning'), table: by('store-facts'),
      figure: by('store-figure'), chart: by('store-curve'), words: by('store-words'), button: by('store-survey'),
    });
    app.store.begin();
  }
  listen();
  if (model.layers.length > 0) {
    setLayer(Math.floor((model.layers.length - 1) / 2));
  }
  grow();
  showState();
  document.documentElement.classList.add('ready');
}

start();
