// Attention maps of the watched questions, step by step, from the news that the run tells (see
// app.tune.values.run_news). Maps are float16 shares of the patches.
const watched = element.querySelector(".watch");
const slider = watched.querySelector("input[type=range]");
const output = watched.querySelector("output");
const cards = watched.querySelector(".cards");
const outline = watched.querySelector(".outline");
const colours = Uint8Array.from(atob(MAP_COLOURS), (letter) => letter.charCodeAt(0));
const data = { questions: [], looks: [], steps: 0 };
let pictures = [], timer = null, following = true, drawn = true;

function halves(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const words = new Uint16Array(bytes.buffer);
  return Float32Array.from(words, (word) => {
    const sign = word & 0x8000 ? -1 : 1, exponent = (word >> 10) & 31, fraction = word & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return exponent === 31 ? (fraction ? NaN : sign * Infinity) : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

// The tiles that show an area in most detail; an overview is drawn only where it is all there is.
function tilesOf(question) {
  const detailed = question.tiles.filter((tile) => !tile.overview);
  return detailed.length ? detailed : question.tiles;
}

function paint(canvas, question, picture, shares, highest) {
  const scale = picture.naturalWidth / question.width;
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const target = question.target ? halves(question.target) : null;
  for (const tile of tilesOf(question)) {
    const small = document.createElement("canvas");
    small.width = tile.columns;
    small.height = tile.rows;
    const pixels = new ImageData(tile.columns, tile.rows);
    for (let place = 0; place < tile.rows * tile.columns; place++) {
      const share = Math.min(1, shares[tile.start + place] / highest);
      const colour = Math.round(255 * share) * 3;
      pixels.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 40 + 180 * share], 4 * place);
    }
    small.getContext("2d").putImageData(pixels, 0, 0);
    const [x0, y0, x1, y1] = tile.box.map((edge) => edge * scale);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, x0, y0, x1 - x0, y1 - y0);
    if (target && outline.checked) {
      // The border of the patches of which more than a third belongs to the region.
      const inside = (row, column) =>
        row >= 0 && column >= 0 && row < tile.rows && column < tile.columns && target[tile.start + row * tile.columns + column] > 1 / 3;
      const width = (x1 - x0) / tile.columns, height = (y1 - y0) / tile.rows;
      context.beginPath();
      for (let row = 0; row < tile.rows; row++) {
        for (let column = 0; column < tile.columns; column++) {
          if (!inside(row, column)) continue;
          const x = x0 + column * width, y = y0 + row * height;
          if (!inside(row - 1, column)) { context.moveTo(x, y); context.lineTo(x + width, y); }
          if (!inside(row + 1, column)) { context.moveTo(x, y + height); context.lineTo(x + width, y + height); }
          if (!inside(row, column - 1)) { context.moveTo(x, y); context.lineTo(x, y + height); }
          if (!inside(row, column + 1)) { context.moveTo(x + width, y); context.lineTo(x + width, y + height); }
        }
      }
      for (const [colour, wide] of [["rgb(0 0 0 / .7)", 3], ["#ffffff", 1.4]]) {
        context.strokeStyle = colour;
        context.lineWidth = wide;
        context.stroke();
      }
    }
  }
}

const percent = (value) => (100 * value).toFixed(1) + " %";

function show(index) {
  const look = data.looks[index], first = data.looks[0];
  output.textContent = "step " + look.step + " of " + data.steps;
  watched.dataset.shown = look.step;
  data.questions.forEach((question, place) => {
    const card = cards.children[place];
    if (!pictures[place] || !card) return;
    const before = halves(first.maps[place]), now = halves(look.maps[place]);
    // One scale for both pictures, so that brighter means more.
    const highest = Math.max(...before, ...now) || 1;
    paint(card.querySelector("[data-map=before]"), question, pictures[place], before, highest);
    paint(card.querySelector("[data-map=now]"), question, pictures[place], now, highest);
    card.querySelector("[data-caption=before]").textContent = "step " + first.step;
    card.querySelector("[data-caption=now]").textContent = "step " + look.step;
    const inside = card.querySelector(".inside");
    inside.textContent = look.mass[place] === null ? "" : percent(look.mass[place]) + " of the attention inside (" + percent(first.mass[place]) + " at step " + first.step + ")";
    const verdict = card.querySelector(".verdict");
    verdict.textContent = look.right[place] ? "answers exactly so" : "does not answer so";
    verdict.className = "verdict " + (look.right[place] ? "right" : "wrong");
  });
}

function build() {
  cards.replaceChildren(...data.questions.map((question) => {
    const card = document.createElement("div");
    card.className = "card";
    card.innerHTML =
      '<div class="pair"><figure><canvas data-map="before"></canvas><figcaption data-caption="before"></figcaption></figure>' +
      '<figure><canvas data-map="now"></canvas><figcaption data-caption="now"></figcaption></figure></div>' +
      '<div class="facts"><div class="question"></div><div><b class="answer"></b> · <span class="verdict"></span></div><div class="inside"></div></div>';
    card.querySelector(".question").textContent = question.question;
    card.querySelector(".answer").textContent = question.answer;
    return card;
  }));
}

// News of another run, or of one that went back to a checkpoint, come whole.
async function receive(told) {
  if (told.whole) {
    data.looks = [];
    if (!told.watched) { data.questions = []; pictures = []; }
  }
  data.steps = told.steps;
  data.looks.push(...(told.looks || []));
  if (told.watched) {
    data.questions = told.watched.questions;
    pictures = [];
    following = true;
    build();
    const loaded = await Promise.all(told.watched.pictures.map(async (source) => {
      const picture = new Image();
      picture.src = source;
      await picture.decode();
      return picture;
    }));
    if (data.questions !== told.watched.questions) return; // newer ones came meanwhile
    pictures = loaded;
  }
  if (told.looks || told.watched || told.whole) refresh();
}

function refresh() {
  watched.hidden = !data.looks.length || !pictures.length;
  watched.dataset.looks = watched.hidden ? 0 : data.looks.length;
  if (watched.hidden) return;
  slider.max = data.looks.length - 1;
  if (following) slider.value = data.looks.length - 1;
  // What nobody sees is drawn when somebody comes.
  drawn = watched.offsetParent !== null;
  if (drawn) show(Number(slider.value));
}

slider.addEventListener("input", () => {
  following = Number(slider.value) === data.looks.length - 1;
  show(Number(slider.value));
});
outline.addEventListener("change", () => show(Number(slider.value)));
watched.querySelector(".play").addEventListener("click", () => {
  clearInterval(timer);
  let index = 0;
  timer = setInterval(() => {
    if (index >= data.looks.length) return clearInterval(timer);
    slider.value = index;
    show(index++);
  }, 350);
});
news.addEventListener("told", (event) => receive(event.detail));
new IntersectionObserver(() => { if (!drawn) refresh(); }).observe(watched);
