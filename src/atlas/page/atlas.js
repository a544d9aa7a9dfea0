(function () {
'use strict';
var root = document.documentElement;
var data = JSON.parse(document.getElementById('routes').textContent);
var tokens = document.querySelectorAll('.t');
var panel = document.getElementById('detail');
var layer = data.start;
var current = -1;
root.className = 'js';

function paint() {
  var experts = data.experts[layer];
  for (var i = 0; i < tokens.length; i++) {
    tokens[i].setAttribute('data-e', experts[i * data.k]);
  }
}

function element(name, text, parent, className) {
  var made = document.createElement(name);
  made.textContent = text;
  if (className) { made.className = className; }
  parent.appendChild(made);
  return made;
}

function show(index) {
  var i, line, list, chip, at;
  if (current >= 0) { tokens[current].classList.remove('on'); }
  current = index;
  tokens[index].classList.add('on');
  panel.textContent = '';
  line = element('p', '', panel);
  element('code', tokens[index].textContent.replace('\n', ''), line);
  element('span', ' at layer ' + data.layers[layer] + ' goes to', line);
  list = element('ol', '', panel);
  for (i = 0; i < data.k; i++) {
    at = index * data.k + i;
    line = element('li', '', list);
    chip = element('span', data.experts[layer][at], line, 'chip');
    chip.setAttribute('data-e', data.experts[layer][at]);
    element('span', ' weight ' + (data.weights[layer][at] / 100).toFixed(2), line);
  }
  line = element('p', 'First expert by layer: ', panel, 'path');
  for (i = 0; i < data.layers.length && data.layers.length > 1; i++) {
    element('span', data.layers[i] + ' \u2192 ' + data.experts[i][index * data.k], line);
  }
  panel.hidden = false;
}

function indexOf(node) {
  while (node && node.classList && !node.classList.contains('t')) { node = node.parentNode; }
  return node && node.classList ? Array.prototype.indexOf.call(tokens, node) : -1;
}

function pointed(event) {
  var index = indexOf(event.target);
  if (index >= 0) { show(index); }
}

for (var i = 0; i < tokens.length; i++) { tokens[i].removeAttribute('title'); }
document.querySelectorAll('.text').forEach(function (text) {
  text.addEventListener('click', pointed);
  text.addEventListener('pointerover', pointed);
  text.addEventListener('keydown', function (event) {
    var step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    var first = indexOf(text.querySelector('.t'));
    var count = text.querySelectorAll('.t').length;
    var next = current < first || current >= first + count ? first : current + step;
    if (step !== 0) {
      show(Math.min(Math.max(next, first), first + count - 1));
      tokens[current].scrollIntoView({ block: 'nearest' });
      event.preventDefault();
    }
  });
});
document.querySelectorAll('input[name=xl]').forEach(function (input) {
  input.addEventListener('change', function () {
    layer = Number(input.value);
    paint();
    if (current >= 0) { show(current); }
  });
  if (input.checked) { layer = Number(input.value); }
});
paint();
})();
